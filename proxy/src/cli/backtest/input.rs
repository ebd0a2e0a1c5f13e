//! Logs as lines: from files one after the other, plain or gzip, or from standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use flate2::bufread::MultiGzDecoder;

/// A longer line is no line of an access log: it is passed over, and never held.
const LONGEST: usize = 256 << 10;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A line's place: the file's number among those given, from 0, and the line, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) line: u64,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// A line, without its end.
    Line(Vec<u8>),
    /// A line that is too long to be held.
    TooLong,
    /// A file can't be read on, for this reason; the next one follows.
    Cut(io::Error),
}

/// All lines of several files.
pub(super) struct Logs {
    paths: Vec<PathBuf>,
    place: Place,
    open: Option<Box<dyn BufRead>>,
}

impl Logs {
    /// Files in their order; `-` is standard input. All must be there before the first is read.
    pub(super) fn new(paths: Vec<PathBuf>) -> Result<Self, (PathBuf, io::Error)> {
        for path in paths.iter().filter(|path| !is_stdin(path)) {
            let readable = File::open(path).and_then(|file| file.metadata()).and_then(|found| match found.is_dir() {
                true => Err(io::ErrorKind::IsADirectory.into()),
                false => Ok(()),
            });
            readable.map_err(|error| (path.clone(), error))?;
        }
        Ok(Self { paths, place: Place::default(), open: None })
    }

    /// The next line and its place; none at the end of the last file.
    pub(super) fn next(&mut self) -> Option<(Place, Next)> {
        while self.place.file < self.paths.len() {
            let read = match self.open() {
                Ok(from) => take_line(from),
                Err(error) => Err(error),
            };
            self.place.line += 1;
            match read {
                Ok(Some(next)) => return Some((self.place, next)),
                Ok(None) => self.leave(),
                Err(error) => {
                    let at = self.place;
                    self.leave();
                    return Some((at, Next::Cut(error)));
                }
            }
        }
        None
    }

    fn open(&mut self) -> io::Result<&mut (dyn BufRead + 'static)> {
        if self.open.is_none() {
            let path = &self.paths[self.place.file];
            let mut from: Box<dyn BufRead> =
                if is_stdin(path) { Box::new(io::stdin().lock()) } else { Box::new(BufReader::new(File::open(path)?)) };
            if from.fill_buf()?.starts_with(&GZIP) {
                from = Box::new(BufReader::new(MultiGzDecoder::new(from)));
            }
            self.open = Some(from);
        }
        self.open.as_deref_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn leave(&mut self) {
        self.open = None;
        self.place = Place { file: self.place.file + 1, line: 0 };
    }
}

fn is_stdin(path: &std::path::Path) -> bool {
    path.as_os_str() == "-"
}

/// A line without its end, in bounded memory; none at the end.
fn take_line(from: &mut dyn BufRead) -> io::Result<Option<Next>> {
    let (mut line, mut too_long, mut any) = (Vec::new(), false, false);
    loop {
        let there = from.fill_buf()?;
        if there.is_empty() {
            break;
        }
        any = true;
        let end = memchr::memchr(b'\n', there);
        let part = &there[..end.unwrap_or(there.len())];
        too_long |= line.len() + part.len() > LONGEST;
        if !too_long {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        from.consume(used);
        if end.is_some() {
            break;
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(any.then_some(if too_long { Next::TooLong } else { Next::Line(line) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn lines(mut logs: Logs) -> Vec<(usize, u64, String)> {
        std::iter::from_fn(|| logs.next())
            .map(|(place, next)| {
                let text = match next {
                    Next::Line(line) => String::from_utf8(line).expect("UTF-8"),
                    Next::TooLong => "too long".to_owned(),
                    Next::Cut(_) => "cut".to_owned(),
                };
                (place.file, place.line, text)
            })
            .collect()
    }

    #[test]
    fn files_are_read_in_their_order_also_where_they_are_gzip_or_end_early() {
        let dir = tempfile::tempdir().expect("a folder");
        let (plain, gzip, cut) = (dir.path().join("a.log"), dir.path().join("b.log.gz"), dir.path().join("c.gz"));
        std::fs::write(&plain, "one\r\n\nthree").expect("a file");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"four\nfive\n").expect("memory");
        let packed = packed.finish().expect("memory");
        std::fs::write(&gzip, &packed).expect("a file");
        std::fs::write(&cut, &packed[..packed.len() - 9]).expect("a file");
        let logs = Logs::new(vec![plain, gzip, cut]).expect("all are there");
        let found = lines(logs);
        let text = |file: usize, line, text: &str| (file, line, text.to_owned());
        let first: Vec<_> =
            vec![text(0, 1, "one"), text(0, 2, ""), text(0, 3, "three"), text(1, 1, "four"), text(1, 2, "five")];
        assert_eq!(found[..5], first);
        assert_eq!(found.last().map(|last| &*last.2), Some("cut"), "{found:?}");
    }

    #[test]
    fn a_line_without_end_is_passed_over_and_the_next_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("long.log");
        std::fs::write(&path, format!("{}\nnext\n", "x".repeat(LONGEST + 1))).expect("a file");
        let found = lines(Logs::new(vec![path]).expect("it is there"));
        assert_eq!(found, [(0, 1, "too long".to_owned()), (0, 2, "next".to_owned())]);
    }

    #[test]
    fn a_file_that_is_not_there_is_named_before_anything_is_read() {
        let missing = PathBuf::from("/nowhere/access.log");
        assert_eq!(Logs::new(vec![missing.clone()]).err().expect("no file").0, missing);
    }
}
