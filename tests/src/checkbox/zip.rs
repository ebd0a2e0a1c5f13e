//! A zip archive of stored (uncompressed) files, as pieces that share the files' bytes.

use bytes::{BufMut, Bytes, BytesMut};

/// Midnight of 1 January 1980, the first day a zip can name.
const FIRST_DAY: u16 = 0x21;

/// The archive of these files, piece by piece. Files and the archive must stay under 4 GiB.
pub fn archive(files: &[(String, Bytes)]) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(files.len() * 2 + 1);
    let mut directory = BytesMut::new();
    let mut offset = 0_u32;
    for (name, content) in files {
        let entry = entry(name, content);
        directory.put_slice(b"PK\x01\x02");
        directory.put_u16_le(20);
        directory.put_slice(&entry);
        directory.put_slice(&[0; 10]); // comment, disk, attributes
        directory.put_u32_le(offset);
        directory.put_slice(name.as_bytes());

        let mut header = BytesMut::new();
        header.put_slice(b"PK\x03\x04");
        header.put_slice(&entry);
        header.put_slice(name.as_bytes());
        offset += size(header.len()) + size(content.len());
        pieces.push(header.freeze());
        pieces.push(content.clone());
    }
    let directory_size = size(directory.len());
    directory.put_slice(b"PK\x05\x06\0\0\0\0");
    for _ in 0..2 {
        directory.put_u16_le(u16::try_from(files.len()).unwrap_or(u16::MAX));
    }
    directory.put_u32_le(directory_size);
    directory.put_u32_le(offset);
    directory.put_u16_le(0);
    pieces.push(directory.freeze());
    pieces
}

/// The fields that a file's own header and its line in the directory have in common.
fn entry(name: &str, content: &[u8]) -> BytesMut {
    let mut entry = BytesMut::new();
    entry.put_u16_le(20); // version needed
    entry.put_u16_le(0x0800); // the name is UTF-8
    entry.put_u16_le(0); // stored
    entry.put_u16_le(0);
    entry.put_u16_le(FIRST_DAY);
    entry.put_u32_le(crc32(content));
    entry.put_u32_le(size(content.len()));
    entry.put_u32_le(size(content.len()));
    entry.put_u16_le(u16::try_from(name.len()).unwrap_or(u16::MAX));
    entry.put_u16_le(0); // no extra field
    entry
}

fn size(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The checksum that zip and Express's entity tags use.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8))
}

const TABLE: [u32; 256] = table();

#[expect(clippy::cast_possible_truncation, reason = "the index stays below 256")]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_has_its_published_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn another_program_reads_the_archive() {
        let files =
            [("a.txt".to_owned(), Bytes::from_static(b"first")), ("b/ü.bin".to_owned(), vec![7; 100_000].into())];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("votes.zip");
        std::fs::write(&path, archive(&files).concat()).unwrap();
        let read = "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; \
                    print([(i.filename,i.file_size) for i in z.infolist()])";
        let output = std::process::Command::new("python3").args(["-c", read]).arg(&path).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            "[('a.txt', 5), ('b/ü.bin', 100000)]",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
