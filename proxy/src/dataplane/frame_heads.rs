//! Where frames of HTTP/2 begin in bytes that come piece by piece: their first nine bytes, and nothing of what they
//! carry (RFC 9113, 4.1).

/// What a frame of headers is, and what it says when nothing follows it on its stream.
pub(crate) const HEADERS: u8 = 1;
pub(crate) const END_STREAM: u8 = 0x1;
/// A frame's length, kind, flags and stream.
const LENGTH: usize = 9;

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// 0 = the connection.
    pub(crate) stream: u32,
    /// How many bytes follow.
    pub(crate) length: usize,
}

/// Finds the heads of frames.
#[derive(Debug)]
pub(crate) struct FrameHeads {
    /// Bytes until the next one begins.
    skip: usize,
    /// The beginning of one.
    head: [u8; LENGTH],
    filled: usize,
}

impl FrameHeads {
    /// Of frames that begin behind so many bytes.
    pub(crate) const fn behind(skip: usize) -> Self {
        Self { skip, head: [0; LENGTH], filled: 0 }
    }

    /// Takes in bytes up to the end of the next head, and gives that; none when all of them are taken in.
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Option<FrameHead> {
        let (skipped, rest) = bytes.split_at(self.skip.min(bytes.len()));
        let (taken, rest) = rest.split_at((LENGTH - self.filled).min(rest.len()));
        *bytes = rest;
        self.skip -= skipped.len();
        self.head[self.filled..self.filled + taken.len()].copy_from_slice(taken);
        self.filled += taken.len();
        if self.filled < LENGTH {
            return None;
        }
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        (self.skip, self.filled) = (length, 0);
        Some(FrameHead { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, length })
    }

    /// Whether all of the last frame has come.
    pub(crate) const fn is_complete(&self) -> bool {
        self.skip == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_their_bytes_are_cut() {
        let mut wire = b"preface".to_vec();
        wire.extend_from_slice(&[0, 0, 3, 1, 4, 0x80, 0, 0, 5, 9, 9, 9]);
        wire.extend_from_slice(&[0, 0, 0, 4, 1, 0, 0, 0, 0]);
        wire.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 1, 2]);
        wire.extend_from_slice(&[7; 256]);
        let head = |kind, flags, stream, length| FrameHead { kind, flags, stream, length };
        let wanted = [head(1, 4, 5, 3), head(4, 1, 0, 0), head(0, 0, 258, 256)];
        for size in 1..=wire.len() {
            let (mut heads, mut found) = (FrameHeads::behind("preface".len()), Vec::new());
            for mut piece in wire.chunks(size) {
                assert!(!heads.is_complete() || found.len() < 3, "in pieces of {size}");
                while let Some(head) = heads.next(&mut piece) {
                    found.push(head);
                }
            }
            assert!(heads.is_complete() && found == wanted, "in pieces of {size}: {found:?}");
        }
    }
}
