//! Does a response body say that the request failed? Looks at the first 4 KiB of
//! JSON and text bodies as they pass; holds nothing back.

use http::header::{self, HeaderMap};
use memchr::memmem;

/// How much of a body is looked at.
const LOOKED_AT: usize = 4 * 1024;

/// Looks for patterns in one body.
#[derive(Debug)]
pub(crate) struct BodyMatcher {
    seen: Vec<u8>,
    found: bool,
}

impl BodyMatcher {
    /// A matcher for a response with these fields; none if its body isn't to be looked at.
    pub(crate) fn for_response(patterns: &[String], headers: &HeaderMap) -> Option<Self> {
        (!patterns.is_empty() && is_readable(headers)).then(|| Self { seen: Vec::new(), found: false })
    }

    /// Takes in the next piece and returns whether a pattern was found in it for the first time.
    pub(crate) fn look(&mut self, patterns: &[String], piece: &[u8]) -> bool {
        let room = LOOKED_AT - self.seen.len();
        if self.found || room == 0 {
            return false;
        }
        self.seen.extend_from_slice(&piece[..piece.len().min(room)]);
        self.found = contains(patterns, &self.seen);
        self.found
    }
}

/// Whether the beginning of a body that is there in one piece holds a pattern.
pub(crate) fn is_bad(patterns: &[String], headers: &HeaderMap, body: &[u8]) -> bool {
    !patterns.is_empty() && is_readable(headers) && contains(patterns, &body[..body.len().min(LOOKED_AT)])
}

fn contains(patterns: &[String], text: &[u8]) -> bool {
    patterns.iter().any(|pattern| memmem::find(text, pattern.as_bytes()).is_some())
}

/// JSON and text, not compressed.
fn is_readable(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(b"".as_slice(), |value| value.as_bytes());
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let text = kind.starts_with(b"text/") || kind == b"application/json" || kind.ends_with(b"+json");
    text && headers.get(header::CONTENT_ENCODING).is_none_or(|coding| coding == "identity")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn fields(kind: &'static str) -> HeaderMap {
        [(header::CONTENT_TYPE, HeaderValue::from_static(kind))].into_iter().collect()
    }

    fn patterns() -> Vec<String> {
        vec!["\"error\":".to_owned()]
    }

    #[test]
    fn a_pattern_is_found_once_however_the_body_is_cut() {
        let body = b"{\n  \"error\": \"Invalid invitecode\"\n}";
        for cut in 0..body.len() {
            let mut matcher =
                BodyMatcher::for_response(&patterns(), &fields("application/json")).expect("JSON is looked at");
            let finds = [&body[..cut], &body[cut..], b"\"error\":"].map(|piece| matcher.look(&patterns(), piece));
            assert_eq!(finds.iter().filter(|found| **found).count(), 1, "cut at {cut}");
        }
        assert!(is_bad(&patterns(), &fields("text/html; charset=utf-8"), body));
    }

    #[test]
    fn what_is_not_text_or_lies_far_behind_is_not_looked_at() {
        let body = b"{\"error\": 1}";
        assert!(!is_bad(&patterns(), &fields("image/png"), body));
        assert!(!is_bad(&patterns(), &HeaderMap::new(), body));
        let mut zipped = fields("application/json");
        zipped.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(BodyMatcher::for_response(&patterns(), &zipped).is_none());
        let mut far = vec![b' '; LOOKED_AT];
        far.extend_from_slice(body);
        assert!(!is_bad(&patterns(), &fields("application/problem+json"), &far));
        let mut matcher = BodyMatcher::for_response(&patterns(), &fields("text/plain")).expect("text is looked at");
        assert!(!far.chunks(1_000).any(|piece| matcher.look(&patterns(), piece)));
    }
}
