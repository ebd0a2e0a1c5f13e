//! Ways to give a well-formed stream a second reading, or none.

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::model::{Framing, INTERIM, Model, find};

/// A mutation: its name, the streams that it fits, and what it does in one of several ways.
pub(super) struct Mutation {
    pub(super) name: &'static str,
    fits: fn(&Model) -> bool,
    edit: Edit,
}

/// `{n}` in a text is the length of the body, `{less}` and `{more}` are other lengths, `{status}`
/// is the status.
enum Edit {
    /// Puts in another field.
    Field(&'static str),
    /// Puts something in front of the final head, of the body, or behind the end.
    Front(&'static [&'static str]),
    Body(&'static [&'static str]),
    Behind(&'static [&'static str]),
    /// Writes another text for one in the final head.
    Head(&'static str, &'static [&'static str]),
    /// Writes another last chunk.
    LastChunk(&'static [&'static str]),
}

const fn of(name: &'static str, fits: fn(&Model) -> bool, edit: Edit) -> Mutation {
    Mutation { name, fits, edit }
}

fn any(_: &Model) -> bool {
    true
}

fn length(model: &Model) -> bool {
    model.framing == Framing::Length
}

fn chunked(model: &Model) -> bool {
    model.framing == Framing::Chunked
}

fn some_length(model: &Model) -> bool {
    length(model) && !model.has_no_body() && !model.body.is_empty()
}

fn some_chunks(model: &Model) -> bool {
    chunked(model) && !model.has_no_body()
}

fn speaks_of_a_body(model: &Model) -> bool {
    chunked(model) || length(model) && !model.body.is_empty()
}

/// All of them.
pub(super) const ALL: [Mutation; 17] = [
    of("the same length twice", length, Edit::Field("Content-Length: {n}")),
    of("two lengths", length, Edit::Field("Content-Length: {more}")),
    of("a length beside chunks", chunked, Edit::Field("Content-Length: {n}")),
    of("chunks beside a length", length, Edit::Field("Transfer-Encoding: chunked")),
    of(
        "an odd length",
        length,
        Edit::Head(
            "-Length: {n}",
            &[
                "-Length: +{n}",
                "-Length: -{n}",
                "-Length: {n}, {n}",
                "-Length: 0x{n}",
                "-Length: {n} 1",
                "-Length:",
                "-Length: {n};a",
                "-Length: 1_{n}",
            ],
        ),
    ),
    of("a wrong length", some_length, Edit::Head("-Length: {n}", &["-Length: {less}", "-Length: {more}"])),
    of(
        "an odd coding",
        chunked,
        Edit::Head(
            "encoding:chunked",
            &[
                "encoding:xchunked",
                "encoding:gzip, chunked",
                "encoding:chunked, chunked",
                "encoding:chunked;a",
                "encoding:identity",
                "encoding:",
                "encoding:\u{b}chunked",
            ],
        ),
    ),
    of("chunks of an old version", chunked, Edit::Head("HTTP/1.1 ", &["HTTP/1.0 "])),
    of("a bare line feed", any, Edit::Head("model\r\n", &["model\n"])),
    of("a space before a colon", any, Edit::Head("Server:", &["Server :", "Server\t:"])),
    of("a folded line", any, Edit::Head("Server: ", &["Server:\r\n ", "Server:\r\n\t"])),
    of("a stray byte", any, Edit::Head("Server: ", &["Server: \0", "Server: \r", "Ser\0ver: ", ": "])),
    of("a body where there is none", speaks_of_a_body, Edit::Head(" {status} ", &[" 204 "])),
    of("a switch in front", any, Edit::Front(&["HTTP/1.1 101 Switching Protocols\r\n\r\n"])),
    of(
        "an odd chunk size",
        some_chunks,
        Edit::Body(&["+", "-", "0x", " ", "\t", "g", ";", "\r\n", "00000000000000000"]),
    ),
    of(
        "an odd last chunk",
        some_chunks,
        Edit::LastChunk(&[
            "0\n\r\n",
            "0\r\n\n",
            "0\r\r\n\r\n",
            "0 \r\n\r\n",
            "0\r\nx\r\n\r\n",
            "0\r\n x: y\r\n\r\n",
            "0\r\n",
        ]),
    ),
    of("something behind it", any, Edit::Behind(&["\r\n", "0", "\0", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])),
];

impl Mutation {
    /// Mutates the stream of a model; none where it doesn't fit.
    pub(super) fn apply(&self, rng: &mut StdRng, model: &Model, wire: &[u8]) -> Option<Vec<u8>> {
        if !(self.fits)(model) {
            return None;
        }
        let n = model.body.len();
        let fill = |text: &str| {
            let text = text.replace("{n}", &n.to_string()).replace("{status}", &model.status.to_string());
            text.replace("{less}", &(n / 2).to_string()).replace("{more}", &(n + 3).to_string())
        };
        let mut way = |ways: &[&str]| fill(ways[rng.random_range(0..ways.len())]);
        let start = INTERIM.len() * model.interim;
        let head_end = start + find(&wire[start..], b"\r\n\r\n")? + 2;
        let (from, to, text) = match self.edit {
            Edit::Field(field) => (head_end, head_end, fill(field) + "\r\n"),
            Edit::Front(ways) => (start, start, way(ways)),
            Edit::Body(ways) => (head_end + 2, head_end + 2, way(ways)),
            Edit::Behind(ways) => (wire.len(), wire.len(), way(ways)),
            Edit::Head(old, ways) => {
                let old = fill(old);
                let at = start + find(&wire[start..head_end], old.as_bytes())?;
                (at, at + old.len(), way(ways))
            }
            Edit::LastChunk(ways) => (wire.strip_suffix(b"0\r\n\r\n")?.len(), wire.len(), way(ways)),
        };
        Some([&wire[..from], text.as_bytes(), &wire[to..]].concat())
    }
}
