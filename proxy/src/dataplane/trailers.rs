//! Trailers: the fields behind a body, on their way through in both directions.
//!
//! Who reads one late may have acted already by what stood in front, so that nothing may stand there which says how a
//! message is framed, routed, authenticated or read (RFC 9110, 6.5.1): such fields are dropped.

use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use super::head::is_passed_on;
use super::lookup;
use super::upstream::head::write_field;
use crate::model::policy::HeaderChanges;

/// The most of trailers that is passed on, in bytes.
pub(crate) const MAX: usize = 16 * 1024;

/// Whether a field may stand behind a body: one that says nothing of framing, of the client or of one connection, and
/// that nobody needs to know before.
pub(crate) fn may_trail(name: &HeaderName) -> bool {
    is_passed_on(name, false) && !comes_first(name)
}

/// Whether whoever gets a message must know a field before its body.
fn comes_first(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        // Who asks, and whether it may.
        "authorization" | "cookie" | "set-cookie" | "www-authenticate"
        // What is asked for, and under which condition.
        | "cache-control" | "if-match" | "if-modified-since" | "if-none-match" | "if-range" | "if-unmodified-since"
        | "max-forwards" | "pragma" | "range"
        // What becomes of an answer.
        | "age" | "date" | "expires" | "location" | "retry-after" | "vary"
        // How to read a body, and what stands behind it.
        | "content-encoding" | "content-range" | "content-type" | "trailer"
    )
}

/// What of these may stand behind a body. What a route sets or removes in front, where it came by one, is nobody else's
/// to say behind; and what `Connection` names in front was for one connection alone (RFC 9110, 7.6.1).
pub(crate) fn permitted(
    mut trailers: HeaderMap,
    changes: Option<&HeaderChanges>,
    named_by_connection: &[HeaderName],
) -> HeaderMap {
    let is_dropped = |name: &&HeaderName| {
        !may_trail(name) || named_by_connection.contains(name) || changes.is_some_and(|changes| changes.replace(name))
    };
    let dropped: Vec<HeaderName> = trailers.keys().filter(is_dropped).cloned().collect();
    for name in dropped {
        trailers.remove(name);
    }
    trailers
}

/// Whether a client takes trailers: it says so, and its version of HTTP has them.
pub(crate) fn are_wanted(parts: &Parts) -> bool {
    let says_so = |te: &HeaderValue| {
        let codings = te.as_bytes().split(|byte| *byte == b',');
        codings.map(<[u8]>::trim_ascii).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
    };
    let may = parts.version >= Version::HTTP_11 && lookup::has(&parts.headers, &header::TE);
    may && parts.headers.get_all(header::TE).iter().any(says_so)
}

/// The end of a body in chunks with these, which are [`permitted`], behind it; none if that is more than [`MAX`].
pub(crate) fn last_chunk(trailers: &HeaderMap) -> Option<Vec<u8>> {
    let mut end = b"0\r\n".to_vec();
    for (name, value) in trailers {
        write_field(&mut end, name.as_str(), value.as_bytes());
        if end.len() > MAX {
            return None;
        }
    }
    end.extend_from_slice(b"\r\n");
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn fields(names: &[&'static str]) -> HeaderMap {
        names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect()
    }

    #[test]
    fn what_must_be_known_before_a_body_never_stands_behind_it() {
        let forbidden = [
            "host",
            "content-length",
            "transfer-encoding",
            "te",
            "trailer",
            "connection",
            "upgrade",
            "expect",
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "cache-control",
            "range",
            "if-match",
            "content-type",
            "content-encoding",
            "content-range",
            "location",
            "max-forwards",
            "forwarded",
            "x-forwarded-for",
            "x-request-id",
            "x-serin-flags",
            "x_forwarded_for",
        ];
        assert_eq!(permitted(fields(&forbidden), None, &[]), HeaderMap::new());
        for name in ["grpc-status", "grpc-message", "x-checksum", "digest", "server-timing", "etag"] {
            assert!(may_trail(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn what_a_route_sets_or_removes_in_front_of_a_body_never_stands_behind_it() {
        let name = HeaderName::from_static;
        let changes = HeaderChanges {
            set: vec![(name("x-user"), HeaderValue::from_static("nobody"))],
            remove: vec![name("x-secret")],
        };
        let trailers = fields(&["x-user", "x_user", "x-secret", "x.secret", "x-sum", "host"]);
        assert_eq!(permitted(trailers, Some(&changes), &[]), fields(&["x-sum"]));
        assert_eq!(permitted(fields(&["x-hop", "x-sum"]), None, &[name("x-hop")]), fields(&["x-sum"]));
    }

    #[test]
    fn a_body_in_chunks_ends_with_its_trailers_as_long_as_they_are_few() {
        let mut trailers = fields(&["x-sum"]);
        trailers.append("x-sum", HeaderValue::from_static("2"));
        assert_eq!(last_chunk(&trailers).as_deref(), Some(b"0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n".as_slice()));
        assert_eq!(last_chunk(&HeaderMap::new()).as_deref(), Some(b"0\r\n\r\n".as_slice()));
        let mut flood = HeaderMap::new();
        flood.insert("x", HeaderValue::try_from("y".repeat(MAX)).expect("a value"));
        assert_eq!(last_chunk(&flood), None);
    }

    #[test]
    fn trailers_are_wanted_where_a_client_says_so() {
        let wanted = |version, te: &[&str]| {
            let mut request = Request::get("/").version(version);
            for te in te {
                request = request.header("te", *te);
            }
            are_wanted(&request.body(()).expect("a request").into_parts().0)
        };
        assert!(wanted(Version::HTTP_11, &["trailers"]) && wanted(Version::HTTP_2, &["gzip, Trailers"]));
        assert!(wanted(Version::HTTP_11, &["gzip", "trailers"]));
        assert!(!wanted(Version::HTTP_11, &[]) && !wanted(Version::HTTP_11, &["gzip;q=1"]));
        assert!(!wanted(Version::HTTP_10, &["trailers"]));
    }
}
