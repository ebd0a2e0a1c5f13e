//! Random well-formed response streams, and another reader to hold serin's against.

use rand::RngExt as _;
use rand::rngs::StdRng;

/// What may come before the response.
pub(super) const INTERIM: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";

/// A well-formed response, before it is written.
#[derive(Debug)]
pub(super) struct Model {
    /// Whether it answers a `HEAD`.
    pub(super) to_head: bool,
    pub(super) interim: usize,
    pub(super) status: u16,
    http_11: bool,
    connection: &'static str,
    pub(super) framing: Framing,
    pub(super) body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Framing {
    Length,
    Chunked,
    Close,
}

impl Model {
    pub(super) fn random(rng: &mut StdRng) -> Self {
        let framing = [Framing::Length, Framing::Chunked, Framing::Close][rng.random_range(0..7) % 3];
        let http_11 = framing == Framing::Chunked || rng.random_range(0..5) > 0;
        Self {
            to_head: rng.random_range(0..8) == 0,
            interim: rng.random_range(0..6) / 4,
            status: [200, 200, 200, 404, 500, 304][rng.random_range(0..6)],
            http_11,
            connection: ["", "", "", "keep-alive", "close", "x-a, Keep-Alive"][rng.random_range(0..6)],
            framing,
            body: (0..rng.random_range(0..300)).map(|_| b"abc\r\n0: HTTP/1.1"[rng.random_range(0..16)]).collect(),
        }
    }

    pub(super) fn has_no_body(&self) -> bool {
        self.to_head || self.status == 304
    }

    pub(super) fn ends_with_connection(&self) -> bool {
        self.framing == Framing::Close && !self.has_no_body()
    }

    /// The body as the reader must see it.
    pub(super) fn body_seen(&self) -> Vec<u8> {
        if self.has_no_body() { Vec::new() } else { self.body.clone() }
    }

    pub(super) fn is_reusable(&self) -> bool {
        let kept = self.connection.to_ascii_lowercase().contains("keep-alive");
        self.connection != "close" && (self.http_11 || kept) && !self.ends_with_connection()
    }

    pub(super) fn write(&self, rng: &mut StdRng) -> Vec<u8> {
        let mut wire = INTERIM.repeat(self.interim);
        let version = if self.http_11 { "1.1" } else { "1.0" };
        wire.extend_from_slice(format!("HTTP/{version} {} Said so\r\n", self.status).as_bytes());
        let mut fields = vec!["Server: model".to_owned(), format!("X-A:{}b", " ".repeat(rng.random_range(0..3)))];
        if !self.connection.is_empty() {
            fields.push(format!("Connection: {}", self.connection));
        }
        match self.framing {
            Framing::Length => fields.push(format!("Content-Length: {}", self.body.len())),
            Framing::Chunked => fields.push("transfer-encoding:chunked ".to_owned()),
            Framing::Close => {}
        }
        let turn = rng.random_range(0..fields.len());
        fields.rotate_left(turn);
        for field in fields {
            wire.extend_from_slice(field.as_bytes());
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"\r\n");
        match self.framing {
            _ if self.has_no_body() => {}
            Framing::Chunked => write_chunks(rng, &self.body, &mut wire),
            Framing::Length | Framing::Close => wire.extend_from_slice(&self.body),
        }
        wire
    }
}

fn write_chunks(rng: &mut StdRng, body: &[u8], wire: &mut Vec<u8>) {
    let mut rest = body;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rng.random_range(1..=rest.len()));
        let extension = ["", "", ";a", ";a=\"b;c\""][rng.random_range(0..4)];
        let size = if rng.random() { format!("{:X}", piece.len()) } else { format!("{:03x}", piece.len()) };
        wire.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
        wire.extend_from_slice(piece);
        wire.extend_from_slice(b"\r\n");
        rest = after;
    }
    wire.extend_from_slice(
        ["0\r\n\r\n", "0\r\n\r\n", "0\r\nX-T: 1\r\n\r\n", "000;x\r\n\r\n"][rng.random_range(0..4)].as_bytes(),
    );
}

pub(super) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The body of a stream that is exactly one response with one reading, found in another way than
/// serin's: line by line over the whole. Knows nothing of `Connection`.
pub(super) fn other_reader(mut wire: &[u8], to_head: bool) -> Option<Vec<u8>> {
    loop {
        let end = find(wire, b"\r\n\r\n")?;
        let (head, rest) = (String::from_utf8_lossy(&wire[..end]).into_owned(), &wire[end + 4..]);
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.")?;
        let (minor, status) = (status.get(..2)?, status.get(2..5)?.parse::<u16>().ok()?);
        let fields: Vec<(String, &str)> = lines
            .map(|line| {
                line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim_matches([' ', '\t'])))
            })
            .collect::<Option<_>>()?;
        if head.replace("\r\n", "").contains(['\r', '\n', '\0']) || fields.iter().any(|(name, _)| name.contains(' ')) {
            return None;
        }
        if (100..200).contains(&status) && status != 101 {
            wire = rest;
            continue;
        }
        let all = |wanted: &str| fields.iter().filter(|(name, _)| name == wanted).map(|(_, v)| *v).collect::<Vec<_>>();
        let none = to_head || matches!(status, 204 | 304);
        return match (&all("content-length")[..], &all("transfer-encoding")[..]) {
            ([] | [_], [] | [_]) if none && rest.is_empty() => Some(Vec::new()),
            ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                (length.parse() == Ok(rest.len())).then(|| rest.to_vec())
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") && minor == "1 " => dechunk(rest),
            _ => None,
        };
    }
}

/// The body of a stream of chunks that ends exactly where it ends.
fn dechunk(mut wire: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = find(wire, b"\r\n")?;
        let text = String::from_utf8_lossy(&wire[..line]);
        let digits = text.split(';').next()?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) || text.contains(['\r', '\n']) {
            return None;
        }
        let size = usize::from_str_radix(digits, 16).ok()?;
        wire = &wire[line + 2..];
        if size == 0 {
            break;
        }
        body.extend_from_slice(wire.get(..size)?);
        wire = wire.get(size..)?.strip_prefix(b"\r\n")?;
    }
    while let Some(line) = find(wire, b"\r\n").filter(|line| *line > 0) {
        let name = &wire[..wire[..line].iter().position(|byte| *byte == b':')?];
        if name.is_empty() || name.contains(&b' ') || wire[..line].contains(&b'\n') {
            return None;
        }
        wire = &wire[line + 2..];
    }
    (wire == b"\r\n").then_some(body)
}
