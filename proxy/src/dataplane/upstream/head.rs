//! Heads on the upstream wire: a request's written in one pass, a response's parsed
//! into slices of the buffer it came in.

use std::io::Write as _;
use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::framing::{BodyEnd, FramingHeaders, Malformed};
use super::offer::Offer;
pub(crate) use crate::model::fields::is_hop_by_hop;

/// The largest response head taken, in bytes, and the most fields in it.
pub(crate) const MAX_HEAD: usize = 64 * 1024;
const MAX_FIELDS: usize = 128;

/// A response head.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its end-to-end fields.
    pub(crate) headers: HeaderMap,
    /// Names of fields that are for one connection alone, by its `Connection`.
    pub(crate) named_by_connection: Vec<HeaderName>,
    /// How its body ends.
    pub(crate) body: BodyEnd,
    /// Whether the connection may be used again after the body.
    pub(crate) keep_alive: bool,
}

/// How the body of a request is framed upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestFraming {
    /// No body and nothing said of it.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// The names that `Connection` declares hop-by-hop; empty in the usual case.
pub(crate) fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION);
    let tokens = values.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tokens
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.eq_ignore_ascii_case(b"keep-alive") && !token.eq_ignore_ascii_case(b"close"))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect()
}

/// Writes one field.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a request line.
pub(crate) fn write_request_line(out: &mut Vec<u8>, method: &Method, target: &str) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Writes the framing and the line that ends a head.
pub(crate) fn write_end(out: &mut Vec<u8>, framing: RequestFraming) {
    match framing {
        RequestFraming::None => {}
        RequestFraming::Length(length) => {
            let _a_vec_takes_anything = write!(out, "content-length: {length}\r\n");
        }
        RequestFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

/// What the front of a buffer holds.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// The final response's head.
    Final(ResponseHead),
    /// An interim response, taken off and passed over.
    Interim,
    /// Not a whole head yet.
    NeedMore,
}

/// Takes a response head off the front of `input`. A switch of protocols is final too, and an answer only where
/// one of these was offered.
pub(crate) fn parse_response(input: &mut BytesMut, to_head: bool, offer: Option<&Offer>) -> Result<Parsed, Malformed> {
    let Some(length) = head_length(input)? else { return Ok(Parsed::NeedMore) };
    let head = input.split_to(length).freeze();
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, &head, &mut fields);
    match parsed {
        Ok(httparse::Status::Complete(parsed)) if parsed == length => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::HeadTooLarge),
        _ => return Err(Malformed::Head),
    }
    let (Some(code), Some(minor)) = (response.code, response.version) else { return Err(Malformed::Head) };
    let status = StatusCode::from_u16(code).map_err(|_| Malformed::Head)?;
    match status.as_u16() {
        101 if minor == 1 => switch(&head, response.headers, offer.ok_or(Malformed::Switch)?).map(Parsed::Final),
        101 => Err(Malformed::Switch),
        100..=199 => Ok(Parsed::Interim),
        _ => final_head(&head, response.headers, status, minor == 1, to_head).map(Parsed::Final),
    }
}

/// Where the head ends, if it is all there. A line that ends without CR is refused: httparse
/// would take it, and who takes it may see more messages than were sent.
fn head_length(input: &[u8]) -> Result<Option<usize>, Malformed> {
    if input.first().is_some_and(|first| *first != b'H') {
        return Err(Malformed::Head);
    }
    let mut line = 0;
    for end in memchr::memchr_iter(b'\n', input) {
        if end == 0 || input[end - 1] != b'\r' {
            return Err(Malformed::BareLineFeed);
        }
        if end == line + 1 {
            return Ok(Some(end + 1));
        }
        line = end + 1;
    }
    if input.len() >= MAX_HEAD { Err(Malformed::HeadTooLarge) } else { Ok(None) }
}

/// The head of a switch of protocols: beside its end-to-end fields it has the `Upgrade` that says to which.
fn switch(head: &Bytes, fields: &[httparse::Header<'_>], offer: &Offer) -> Result<ResponseHead, Malformed> {
    let mut switched = final_head(head, fields, StatusCode::SWITCHING_PROTOCOLS, true, true)?;
    let mut chosen = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("upgrade"));
    let (Some(chosen), None) = (chosen.next(), chosen.next()) else { return Err(Malformed::Switch) };
    if !offer.has(chosen.value) {
        return Err(Malformed::Switch);
    }
    let chosen = HeaderValue::from_maybe_shared(head.slice_ref(chosen.value)).map_err(|_| Malformed::Head)?;
    // What follows isn't a body.
    switched.headers.remove(header::CONTENT_LENGTH);
    switched.headers.insert(header::UPGRADE, chosen);
    switched.keep_alive = false;
    Ok(switched)
}

fn final_head(
    head: &Bytes,
    fields: &[httparse::Header<'_>],
    status: StatusCode,
    http_11: bool,
    to_head: bool,
) -> Result<ResponseHead, Malformed> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    let (mut framing, mut close, mut keep, mut named) = (FramingHeaders::default(), false, false, Vec::new());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Head)?;
        match name {
            header::CONTENT_LENGTH => framing.content_length(field.value)?,
            header::TRANSFER_ENCODING => framing.transfer_encoding(field.value)?,
            header::CONNECTION => {
                for token in field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    match token {
                        _ if token.eq_ignore_ascii_case(b"close") => close = true,
                        _ if token.eq_ignore_ascii_case(b"keep-alive") => keep = true,
                        _ => named.extend(HeaderName::from_bytes(token)),
                    }
                }
            }
            _ => {}
        }
        if !is_hop_by_hop(&name) {
            let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value)).map_err(|_| Malformed::Head)?;
            headers.append(name, value);
        }
    }
    for name in &named {
        // A connection option can't take the framing away.
        if *name != header::CONTENT_LENGTH {
            headers.remove(name);
        }
    }
    let body = framing.body_end(status.as_u16(), to_head, http_11)?;
    let certain = body != BodyEnd::Close && !framing.contradicts(status.as_u16());
    let keep_alive = !close && (http_11 || keep) && certain;
    Ok(ResponseHead { status, headers, named_by_connection: named, body, keep_alive })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    fn parse(wire: &str) -> Result<Parsed, Malformed> {
        parse_response(&mut BytesMut::from(wire), false, None)
    }

    fn head(wire: &str) -> ResponseHead {
        match parse(wire) {
            Ok(Parsed::Final(head)) => head,
            other => panic!("{wire:?}: {other:?}"),
        }
    }

    #[test]
    fn a_head_is_taken_off_and_the_body_stays() {
        let mut input = BytesMut::from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: W/\"1\"\r\n\r\nhi");
        let Ok(Parsed::Final(head)) = parse_response(&mut input, false, None) else { panic!("a whole head") };
        assert_eq!((head.status, head.body, head.keep_alive), (StatusCode::OK, BodyEnd::Length(2), true));
        assert_eq!(head.headers["etag"], "W/\"1\"");
        assert_eq!(&input[..], b"hi");
    }

    #[test]
    fn tomcats_empty_reason_is_taken() {
        assert_eq!(head("HTTP/1.1 302 \r\nContent-Length: 0\r\n\r\n").status, StatusCode::FOUND);
    }

    #[test]
    fn what_speaks_of_the_connection_is_not_passed_on() {
        let wire = "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                    Transfer-Encoding: chunked\r\nX-End: 2\r\n\r\n";
        let head = head(wire);
        assert!(!head.keep_alive);
        assert_eq!(head.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-end"]);
    }

    #[test]
    fn a_connection_is_used_again_only_where_that_is_certain() {
        for (wire, keep_alive) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 204 No Content\r\nConnection: Close\r\n\r\n", false),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false),
            ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", true),
        ] {
            assert_eq!(head(wire).keep_alive, keep_alive, "{wire:?}");
        }
    }

    #[test]
    fn an_interim_response_is_passed_over_and_a_switch_refused() {
        assert!(matches!(parse("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"), Ok(Parsed::Interim)));
        assert_eq!(parse("HTTP/1.1 101 Switching Protocols\r\n\r\n").err(), Some(Malformed::Switch));
    }

    #[test]
    fn a_switch_is_taken_where_its_protocol_was_offered() {
        let offer = Offer::of("websocket, foo/2").expect("an offer");
        let switch = |wire: &str| parse_response(&mut BytesMut::from(wire), false, Some(&offer));
        for chosen in ["websocket", "WebSocket", "foo/2"] {
            let wire = format!(
                "HTTP/1.1 101 Go\r\nUpgrade: {chosen}\r\nConnection: upgrade, x-hop\r\nX-Hop: 1\r\nX-End: 2\r\n\
                 Content-Length: 3\r\n\r\n"
            );
            let Ok(Parsed::Final(head)) = switch(&wire) else { panic!("{wire:?}") };
            assert_eq!((head.status, head.keep_alive), (StatusCode::SWITCHING_PROTOCOLS, false));
            let fields: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
            assert_eq!(fields, [("x-end", b"2".as_slice()), ("upgrade", chosen.as_bytes())]);
        }
        for wire in [
            "HTTP/1.1 101 Go\r\nConnection: upgrade\r\n\r\n",
            "HTTP/1.1 101 Go\r\nUpgrade: h2c\r\n\r\n",
            "HTTP/1.1 101 Go\r\nUpgrade: foo\r\n\r\n",
            "HTTP/1.1 101 Go\r\nUpgrade: websocket, h2c\r\n\r\n",
            "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n\r\n",
            "HTTP/1.0 101 Go\r\nUpgrade: websocket\r\n\r\n",
        ] {
            assert_eq!(switch(wire).err(), Some(Malformed::Switch), "{wire:?}");
        }
    }

    #[test]
    fn a_head_with_two_readings_is_refused() {
        for wire in [
            "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            assert!(parse(wire).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn a_head_without_end_is_refused_at_the_bound() {
        let wire = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(MAX_HEAD));
        assert_eq!(parse(&wire).err(), Some(Malformed::HeadTooLarge));
        let wire = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS + 1));
        assert_eq!(parse(&wire).err(), Some(Malformed::HeadTooLarge));
        assert!(matches!(parse("HTTP/1.1 200 OK\r\nA: b\r\n"), Ok(Parsed::NeedMore)));
    }

    #[test]
    fn random_heads_never_panic_the_parser() {
        let mut rng = StdRng::seed_from_u64(13);
        let good =
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, close\r\nTransfer-Encoding: chunked\r\n\r\n";
        for _ in 0..20_000 {
            let mut wire = good.to_vec();
            for _ in 0..rng.random_range(1..6) {
                let at = rng.random_range(0..wire.len());
                wire[at] = b"\r\n: \0Aa1,;"[rng.random_range(0..10)];
            }
            let _either_way = parse_response(&mut BytesMut::from(&wire[..]), rng.random(), None);
        }
    }

    #[test]
    fn the_names_in_connection_are_found() {
        let mut headers = HeaderMap::new();
        assert_eq!(named_by_connection(&headers), Vec::<HeaderName>::new());
        headers.append("connection", HeaderValue::from_static("keep-alive, X-A"));
        headers.append("connection", HeaderValue::from_static("close,x-b , bad name"));
        assert_eq!(named_by_connection(&headers), ["x-a", "x-b"]);
    }
}
