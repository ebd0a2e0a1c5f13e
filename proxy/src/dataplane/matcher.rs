//! Does a response say that the request failed? Looks at its head, and at the first 4 KiB of
//! text of its body as that passes; holds nothing back.

use http::header::{self, HeaderMap, HeaderName};
use http::uri::PathAndQuery;
use memchr::memmem;

use super::plain::{LOOKED_AT, PlainText};
use crate::model::outcome::BadReason;
use crate::model::spec::{self, ErrorMatchers};

/// How a call of gRPC ended: in the trailers, or in the head where there is no body.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What a response head says against the request, by the rules that need no more than it.
#[inline]
pub(crate) fn judge_head(errors: &ErrorMatchers, status: u16, headers: &HeaderMap) -> Option<BadReason> {
    if errors.status.contains(status) || is_failed_call(errors, headers) {
        return Some(BadReason::Status);
    }
    let told = errors.headers.iter().any(|wanted| {
        headers.get_all(&wanted.name).iter().any(|value| {
            let holds = |text: &String| memmem::find(value.as_bytes(), text.as_bytes()).is_some();
            wanted.contains.as_ref().is_none_or(holds)
        })
    });
    told.then_some(BadReason::Header)
}

/// What a response that is there in one piece says against the request.
pub(crate) fn judge_whole(errors: &ErrorMatchers, status: u16, headers: &HeaderMap, body: &str) -> Option<BadReason> {
    let by_body = || is_bad(errors, headers, body.as_bytes()).then_some(BadReason::Body);
    judge_head(errors, status, headers).or_else(by_body)
}

/// Whether fields, before or behind a body, say that a call of gRPC failed in a way that counts.
#[inline]
pub(crate) fn is_failed_call(errors: &ErrorMatchers, fields: &HeaderMap) -> bool {
    if errors.grpc_status.is_empty() {
        return false;
    }
    let status = fields.get(GRPC_STATUS).and_then(|status| status.to_str().ok()?.parse().ok());
    status.is_some_and(|status| errors.grpc_status.contains(status))
}

/// Whether a path is in a list: exactly, or below an entry that ends in `/`.
pub(crate) fn lists(paths: &[String], target: Option<&PathAndQuery>) -> bool {
    spec::lists(paths, target.map_or("*", PathAndQuery::path))
}

/// Looks for patterns in one body.
#[derive(Debug)]
pub(crate) struct BodyMatcher {
    text: PlainText,
}

impl BodyMatcher {
    /// A matcher for a response with these fields; none if its body isn't to be looked at.
    pub(crate) fn for_response(errors: &ErrorMatchers, headers: &HeaderMap) -> Option<Self> {
        if errors.body_contains.is_empty() || !is_text(errors, headers) {
            return None;
        }
        Some(Self { text: PlainText::of(headers)? })
    }

    /// Takes in the next piece.
    pub(crate) fn look(&mut self, patterns: &[String], piece: &[u8]) -> Look {
        let known = self.text.text().len();
        let goes_on = self.text.take_in(piece);
        let text = self.text.text();
        // What was looked at before can only be the beginning of a pattern.
        let found = patterns.iter().any(|pattern| {
            let from = known.saturating_sub(pattern.len() - 1);
            text.len() > known && memmem::find(&text[from..], pattern.as_bytes()).is_some()
        });
        match (found, goes_on) {
            (true, _) => Look::Bad,
            (false, true) => Look::GoesOn,
            (false, false) => Look::Over,
        }
    }
}

/// What a look at a piece of a body says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// A pattern is there.
    Bad,
    /// Nothing yet.
    GoesOn,
    /// Nothing, and what else comes isn't looked at.
    Over,
}

/// Whether the beginning of a body that is there in one piece holds a pattern.
#[inline]
pub(crate) fn is_bad(errors: &ErrorMatchers, headers: &HeaderMap, body: &[u8]) -> bool {
    let Some(mut matcher) = BodyMatcher::for_response(errors, headers) else { return false };
    if matcher.text.is_plain() {
        let text = &body[..body.len().min(LOOKED_AT)];
        return errors.body_contains.iter().any(|pattern| memmem::find(text, pattern.as_bytes()).is_some());
    }
    matcher.look(&errors.body_contains, body) == Look::Bad
}

/// JSON and text, and what the service names beside.
fn is_text(errors: &ErrorMatchers, headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(b"".as_slice(), |value| value.as_bytes());
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    kind.starts_with(b"text/")
        || kind == b"application/json"
        || kind.ends_with(b"+json")
        || errors.content_types.iter().any(|named| named.as_bytes() == kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::plain::tests::{BROTLI_ERROR, gzip};
    use crate::model::spec::HeaderMatch;
    use http::HeaderValue;

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    fn errors() -> ErrorMatchers {
        ErrorMatchers { body_contains: vec!["\"error\":".to_owned()], ..ErrorMatchers::default() }
    }

    const JSON: (&str, &str) = ("content-type", "application/json");

    fn finds(headers: &HeaderMap, pieces: &[&[u8]]) -> usize {
        let mut matcher = BodyMatcher::for_response(&errors(), headers);
        let mut found = 0;
        for piece in pieces {
            let Some(look) = matcher.as_mut().map(|matcher| matcher.look(&errors().body_contains, piece)) else {
                break;
            };
            found += usize::from(look == Look::Bad);
            if look != Look::GoesOn {
                matcher = None;
            }
        }
        found
    }

    #[test]
    fn a_pattern_is_found_however_the_body_is_cut_and_coded() {
        let body = b"{\n  \"error\": \"Invalid invitecode\"\n}";
        for (coding, body) in [("identity", body.to_vec()), ("gzip", gzip(body)), ("br", BROTLI_ERROR.to_vec())] {
            let headers = fields(&[JSON, ("content-encoding", coding)]);
            for cut in 0..body.len() {
                assert_eq!(finds(&headers, &[&body[..cut], &body[cut..], b"\"error\":"]), 1, "{coding} cut at {cut}");
            }
            let single: Vec<&[u8]> = body.chunks(1).collect();
            assert_eq!(finds(&headers, &single), 1, "{coding} byte by byte");
            assert!(is_bad(&errors(), &headers, &body), "{coding}");
        }
        assert!(is_bad(&errors(), &fields(&[("content-type", "text/html; charset=utf-8")]), body));
    }

    #[test]
    fn what_is_not_text_or_lies_far_behind_is_not_looked_at() {
        let body = b"{\"error\": 1}";
        assert!(!is_bad(&errors(), &fields(&[("content-type", "image/png")]), body));
        assert!(!is_bad(&errors(), &HeaderMap::new(), body));
        assert!(!is_bad(&errors(), &fields(&[JSON, ("content-encoding", "zstd")]), body));
        assert!(!is_bad(&errors(), &fields(&[JSON, ("content-encoding", "gzip")]), body), "it isn't what it says");
        let mut far = vec![b' '; LOOKED_AT];
        far.extend_from_slice(body);
        for (coding, body) in [("identity", far.clone()), ("gzip", gzip(&far))] {
            let headers = fields(&[("content-type", "application/problem+json"), ("content-encoding", coding)]);
            assert!(!is_bad(&errors(), &headers, &body), "{coding}");
            assert_eq!(finds(&headers, &body.chunks(1_000).collect::<Vec<_>>()), 0, "{coding}");
        }
    }

    #[test]
    fn media_types_that_the_service_names_are_looked_at_too() {
        let headers = fields(&[("content-type", "Application/XHTML+xml; charset=utf-8")]);
        let body = b"<p>\"error\": 1</p>";
        assert!(!is_bad(&errors(), &headers, body));
        let named = ErrorMatchers { content_types: vec!["application/xhtml+xml".to_owned()], ..errors() };
        assert!(is_bad(&named, &headers, body));
    }

    #[test]
    fn a_head_is_bad_by_status_or_by_a_header_and_its_value() {
        let mut errors = errors();
        errors.status.insert(500);
        errors.headers = vec![
            HeaderMatch { name: HeaderName::from_static("x-app-error"), contains: None },
            HeaderMatch { name: HeaderName::from_static("x-status"), contains: Some("failed".to_owned()) },
        ];
        for (status, headers, reason) in [
            (200, fields(&[("x-status", "ok")]), None),
            (500, HeaderMap::new(), Some(BadReason::Status)),
            (200, fields(&[("x-app-error", "")]), Some(BadReason::Header)),
            (200, fields(&[("x-status", "ok"), ("x-status", "has failed, sorry")]), Some(BadReason::Header)),
        ] {
            assert_eq!(judge_head(&errors, status, &headers), reason, "{status} {headers:?}");
        }
    }

    #[test]
    fn a_call_fails_by_the_codes_that_are_named() {
        let mut errors = ErrorMatchers::default();
        let ended = |code| fields(&[("grpc-status", code)]);
        assert!(!is_failed_call(&errors, &ended("13")), "where nobody speaks gRPC it means nothing");
        errors.grpc_status = [2, 13].into_iter().collect();
        for (code, failed) in [("13", true), ("2", true), ("0", false), ("3", false), ("99", false), ("-1", false)] {
            assert_eq!(is_failed_call(&errors, &ended(code)), failed, "{code}");
            assert_eq!(judge_head(&errors, 200, &ended(code)).is_some(), failed, "{code}: without a body");
        }
        assert!(!is_failed_call(&errors, &HeaderMap::new()));
    }

    #[test]
    fn a_path_is_listed_exactly_or_below_one_that_ends_in_a_slash() {
        let paths = ["/api/snippets".to_owned(), "/old/".to_owned()];
        for (path, listed) in [
            ("/api/snippets", true),
            ("/api/snippets?q=1", true),
            ("/api/snippets/1", false),
            ("/old/a/b", true),
            ("/old", false),
        ] {
            assert_eq!(lists(&paths, Some(&path.parse().expect(path))), listed, "{path}");
        }
        assert!(!lists(&paths, None));
    }
}
