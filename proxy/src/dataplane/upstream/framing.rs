//! Where a response ends: RFC 9112 section 6.3, read strictly.
//!
//! This is a security boundary: an endpoint and serin that disagree on where a
//! response ends hand one user another's answer. What is in doubt is refused.

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{HeaderName, HeaderValue};

use crate::dataplane::trailers;

/// A response that breaks the rules, or leaves room for two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// The head can't be parsed.
    #[error("the response head can't be parsed")]
    Head,
    /// The head is larger than allowed.
    #[error("the response head is too large")]
    HeadTooLarge,
    /// A line ends without CR.
    #[error("a line of the response head ends without CR")]
    BareLineFeed,
    /// `Content-Length` isn't one decimal number.
    #[error("the response's Content-Length isn't one number")]
    ContentLength,
    /// `Transfer-Encoding` is anything but `chunked`, or meets `Content-Length` or HTTP/1.0.
    #[error("the response's Transfer-Encoding leaves its end in doubt")]
    TransferEncoding,
    /// A flood of 1xx.
    #[error("more interim responses than anybody waits for")]
    Interim,
    /// 101 to a request that offered no other protocol, or not this one, or before all of the request was sent.
    #[error("a switch of protocols that wasn't offered")]
    Switch,
    /// An agreement to a WebSocket that doesn't answer the key of the request.
    #[error("an agreement to a WebSocket without the right Sec-WebSocket-Accept")]
    Accept,
    /// A chunk that breaks RFC 9112 section 7.1.
    #[error("a malformed chunk")]
    Chunk,
    /// A violation of HTTP/2, by RFC 9113.
    #[error("a violation of HTTP/2")]
    Http2,
}

/// How the end of a response body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    /// After so many bytes more.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// When the endpoint closes.
    Close,
}

/// What a response head says of its framing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FramingHeaders {
    length: Option<u64>,
    chunked: bool,
}

impl FramingHeaders {
    /// Takes in one `Content-Length` field.
    pub(crate) fn content_length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        let digits = !value.is_empty() && value.len() <= 19 && value.iter().all(u8::is_ascii_digit);
        if !digits || self.length.is_some() {
            return Err(Malformed::ContentLength);
        }
        self.length = Some(value.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')));
        Ok(())
    }

    /// Takes in one `Transfer-Encoding` field.
    pub(crate) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Malformed> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Malformed::TransferEncoding);
        }
        self.chunked = true;
        Ok(())
    }

    /// Whether a response of this status says of a body what can't be: then more may come than
    /// its end allows.
    pub(crate) const fn contradicts(self, status: u16) -> bool {
        status == 204 && (self.chunked || !matches!(self.length, None | Some(0)))
    }

    /// How the body ends, for a response of this status to a `HEAD` or another request.
    pub(crate) fn body_end(self, status: u16, to_head: bool, http_11: bool) -> Result<BodyEnd, Malformed> {
        if self.chunked && (self.length.is_some() || !http_11) {
            return Err(Malformed::TransferEncoding);
        }
        if to_head || status == 204 || status == 304 {
            return Ok(BodyEnd::Length(0));
        }
        Ok(match (self.chunked, self.length) {
            (true, _) => BodyEnd::Chunked,
            (false, Some(length)) => BodyEnd::Length(length),
            (false, None) => BodyEnd::Close,
        })
    }
}

/// The longest line of a chunk's size and extensions, or of a trailer.
const MAX_LINE: usize = 4_096;

/// Takes chunked coding off a body: RFC 9112 section 7.1. Extensions are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkDecoder {
    /// Before a chunk's size line.
    Size,
    /// So many bytes of the chunk are to come.
    Data(u64),
    /// Before the CRLF that ends a chunk's data.
    DataEnd,
    /// In the trailers, so many bytes of them read.
    Trailers(usize),
    /// After the last line.
    Done,
}

/// What the decoder made of the bytes at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// Some of the body.
    Data(Bytes),
    /// A field behind the body.
    Trailer(HeaderName, HeaderValue),
    /// The body is complete.
    End,
    /// More bytes are needed.
    NeedMore,
}

impl ChunkDecoder {
    /// Takes what it can from the front of `input`.
    pub(crate) fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, Malformed> {
        loop {
            match *self {
                Self::Size => {
                    let Some(line) = take_line(input, MAX_LINE)? else { return Ok(Decoded::NeedMore) };
                    let size = chunk_size(&line)?;
                    *self = if size == 0 { Self::Trailers(0) } else { Self::Data(size) };
                }
                Self::Data(left) => {
                    if input.is_empty() {
                        return Ok(Decoded::NeedMore);
                    }
                    let n = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                    let left = left - n as u64;
                    *self = if left == 0 { Self::DataEnd } else { Self::Data(left) };
                    return Ok(Decoded::Data(input.split_to(n).freeze()));
                }
                Self::DataEnd => match input.get(..2) {
                    Some(b"\r\n") => {
                        input.advance(2);
                        *self = Self::Size;
                    }
                    Some(_) => return Err(Malformed::Chunk),
                    None => return Ok(Decoded::NeedMore),
                },
                Self::Trailers(read) => {
                    let Some(line) = take_line(input, MAX_LINE)? else { return Ok(Decoded::NeedMore) };
                    if line.is_empty() {
                        *self = Self::Done;
                    } else if read + line.len() > trailers::MAX {
                        return Err(Malformed::Chunk);
                    } else {
                        // With the end of its line.
                        *self = Self::Trailers(read + line.len() + 2);
                        let (name, value) = field(&line).ok_or(Malformed::Chunk)?;
                        return Ok(Decoded::Trailer(name, value));
                    }
                }
                Self::Done => return Ok(Decoded::End),
            }
        }
    }
}

/// A line without its CRLF; none if it isn't complete yet.
fn take_line(input: &mut BytesMut, max: usize) -> Result<Option<BytesMut>, Malformed> {
    let Some(end) = input.iter().take(max).position(|byte| *byte == b'\n') else {
        return if input.len() >= max { Err(Malformed::Chunk) } else { Ok(None) };
    };
    let mut line = input.split_to(end + 1);
    if !line.ends_with(b"\r\n") {
        return Err(Malformed::Chunk);
    }
    line.truncate(end - 1);
    if line.contains(&b'\r') || line.contains(&0) {
        return Err(Malformed::Chunk);
    }
    Ok(Some(line))
}

/// The field that a line is.
fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
}

/// The size at the head of a chunk: 1 to 16 hex digits, then nothing or an extension.
fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits == 0 || digits > 16 || !matches!(line.get(digits), None | Some(b';')) {
        return Err(Malformed::Chunk);
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| Malformed::Chunk)?;
    u64::from_str_radix(text, 16).map_err(|_| Malformed::Chunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    /// Decodes a body that arrives in pieces; what is left over comes back too.
    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool, Vec<u8>), Malformed> {
        let (mut decoder, mut input, mut body) = (ChunkDecoder::Size, BytesMut::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut input)? {
                    Decoded::Data(data) => body.extend_from_slice(&data),
                    Decoded::Trailer(..) => {}
                    Decoded::End => return Ok((body, true, input.to_vec())),
                    Decoded::NeedMore => break,
                }
            }
        }
        Ok((body, false, input.to_vec()))
    }

    #[test]
    fn chunks_are_put_together_however_they_are_cut() {
        let wire = b"4;name=value\r\nserF\r\n0a\r\n0123456789\r\n0\r\nTrailer: dropped\r\n\r\nHTTP/1.1";
        let mut rng = StdRng::seed_from_u64(11);
        for _ in 0..500 {
            let (a, b) = (rng.random_range(0..wire.len()), rng.random_range(0..wire.len()));
            let (a, b) = (a.min(b), a.max(b));
            let (body, complete, _) = decode(&[&wire[..a], &wire[a..b], &wire[b..]]).expect("well formed");
            assert_eq!((body.as_slice(), complete), (b"serF0123456789".as_slice(), true), "cut at {a} and {b}");
        }
        assert_eq!(decode(&[wire]).expect("well formed").2, b"HTTP/1.1");
    }

    #[test]
    fn an_unfinished_body_is_not_complete() {
        for wire in [b"5\r\nhel".as_slice(), b"5\r\nhello", b"5\r\nhello\r\n", b"0\r\n", b"0\r\nA: b\r\n"] {
            assert!(!decode(&[wire]).expect("well formed so far").1, "{wire:?}");
        }
    }

    #[test]
    fn a_chunk_that_could_be_read_in_two_ways_is_refused() {
        for wire in [
            "+4\r\nserF\r\n",
            "-4\r\nserF\r\n",
            "0x4\r\nserF\r\n",
            "0_4\r\nserF\r\n",
            " 4\r\nserF\r\n",
            "4 \r\nserF\r\n",
            "\r\n",
            "4\nserF\r\n",
            "4\r\nserFxx",
            "4\r\nserF\n0",
            "11111111111111111\r\n",
            "4;a\rb\r\nserF\r\n",
            "4;a\nb\r\nserF\r\n",
            "g\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\nno trailer\r\n\r\n",
            "0\r\n A: b\r\n\r\n",
            "0\r\n: b\r\n\r\n",
            "0\r\nA: b\u{1}\r\n\r\n",
            "0\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert!(decode(&[wire.as_bytes()]).is_err(), "{wire:?}");
        }
        let endless = format!("4;{}", "a".repeat(MAX_LINE));
        assert_eq!(decode(&[endless.as_bytes()]), Err(Malformed::Chunk));
        let flood = format!("0\r\n{}", "A: b\r\n".repeat(trailers::MAX));
        assert_eq!(decode(&[flood.as_bytes()]), Err(Malformed::Chunk));
    }

    #[test]
    fn random_bytes_never_panic_the_decoder() {
        let mut rng = StdRng::seed_from_u64(12);
        let alphabet = b"0123456789abcdefF;\r\n \t=x\0";
        for _ in 0..20_000 {
            let wire: Vec<u8> =
                (0..rng.random_range(0..40)).map(|_| alphabet[rng.random_range(0..alphabet.len())]).collect();
            let _either_way = decode(&[&wire]);
        }
    }

    #[test]
    fn a_length_is_one_plain_number() {
        for value in ["", "+5", "-0", "0x5", "0_5", "5 ", " 5", "5,5", "99999999999999999999", "\u{0665}"] {
            assert_eq!(
                FramingHeaders::default().content_length(value.as_bytes()),
                Err(Malformed::ContentLength),
                "{value:?}"
            );
        }
        let mut twice = FramingHeaders::default();
        assert_eq!(twice.content_length(b"05"), Ok(()));
        assert_eq!(twice.content_length(b"5"), Err(Malformed::ContentLength));
    }

    #[test]
    fn a_transfer_encoding_is_chunked_once_and_alone() {
        for value in ["xchunked", "chunked, gzip", "gzip, chunked", "identity", "chunked;a=b", "\x0bchunked", ""] {
            let refused = FramingHeaders::default().transfer_encoding(value.as_bytes());
            assert_eq!(refused, Err(Malformed::TransferEncoding), "{value:?}");
        }
        let mut both = FramingHeaders::default();
        assert_eq!((both.transfer_encoding(b"Chunked"), both.content_length(b"4")), (Ok(()), Ok(())));
        assert_eq!(both.body_end(200, false, true), Err(Malformed::TransferEncoding));
        let mut old = FramingHeaders::default();
        assert_eq!(old.transfer_encoding(b"chunked"), Ok(()));
        assert_eq!(old.body_end(200, false, false), Err(Malformed::TransferEncoding));
        assert_eq!(old.body_end(200, false, true), Ok(BodyEnd::Chunked));
    }

    #[test]
    fn what_has_no_body_has_none_whatever_its_headers_say() {
        let mut five = FramingHeaders::default();
        assert_eq!(five.content_length(b"5"), Ok(()));
        assert_eq!(five.body_end(200, false, true), Ok(BodyEnd::Length(5)));
        assert_eq!(five.body_end(200, true, true), Ok(BodyEnd::Length(0)));
        assert_eq!(five.body_end(204, false, true), Ok(BodyEnd::Length(0)));
        assert_eq!(five.body_end(304, false, true), Ok(BodyEnd::Length(0)));
        assert_eq!(FramingHeaders::default().body_end(200, false, true), Ok(BodyEnd::Close));
    }
}
