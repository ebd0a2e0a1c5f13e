//! Was the user's session lost? It was when the request carried a session's cookie and the
//! answer begins another session.

use http::header::{self, HeaderMap};
use http::request::Parts;

use super::matcher::lists;
use crate::model::spec::ErrorMatchers;

/// Whether the answer to a request begins another session than the one that the request carried.
///
/// Applications change a session's name on purpose at a login, against fixed sessions: mostly a
/// POST, so only safe methods are looked at, and where it is a GET its path is to be excluded.
#[inline]
pub(crate) fn is_lost(errors: &ErrorMatchers, request: &Parts, answer: &HeaderMap) -> bool {
    if errors.session_cookies.is_empty()
        || !request.method.is_safe()
        || !answer.contains_key(header::SET_COOKIE)
        || lists(&errors.session_exclude_paths, request.uri.path_and_query())
    {
        return false;
    }
    errors.session_cookies.iter().any(|name| {
        let mut set = answer.get_all(header::SET_COOKIE).iter().filter_map(|line| begun(line.as_bytes(), name));
        set.any(|value| {
            // Of several of that name, for different paths, any may be the one.
            let mut carried = carried(&request.headers, name).peekable();
            carried.peek().is_some() && carried.all(|known| known != value)
        })
    })
}

/// The values that a request's cookie of this name has.
pub(super) fn carried<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';')).filter_map(|pair| value_of(pair, name))
}

/// The value that a `Set-Cookie` line gives to the cookie of this name; none where it takes it away.
fn begun<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut parts = line.split(|byte| *byte == b';');
    let value = value_of(parts.next()?, name).filter(|value| !value.is_empty())?;
    let takes_away = |attribute: &[u8]| {
        let attribute = attribute.trim_ascii().to_ascii_lowercase();
        // Nobody who takes a cookie away says so with another date than the beginning of time.
        attribute == b"max-age=0"
            || attribute.starts_with(b"max-age=-")
            || (attribute.starts_with(b"expires=") && memchr::memmem::find(&attribute, b"1970").is_some())
    };
    (!parts.any(takes_away)).then_some(value)
}

/// The value of `name=value`, without quotes.
pub(super) fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii();
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Method, Request};

    fn lost(method: Method, path: &str, cookies: &[&str], set: &[&str]) -> bool {
        let errors = ErrorMatchers {
            session_cookies: vec!["JSESSIONID".to_owned()],
            session_exclude_paths: vec!["/iTrust/j_security_check".to_owned()],
            ..ErrorMatchers::default()
        };
        let mut request = Request::builder().method(method).uri(path);
        for line in cookies {
            request = request.header("cookie", *line);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let line = |line: &&str| (header::SET_COOKIE, HeaderValue::from_str(line).expect("text"));
        is_lost(&errors, &parts, &set.iter().map(line).collect())
    }

    #[test]
    fn a_session_is_lost_when_the_answer_begins_another() {
        let home = "/iTrust/auth/hcp/home.jsp";
        for cookies in [&["JSESSIONID=AA"][..], &["a=b; JSESSIONID=AA; c=d"], &["x=y", "JSESSIONID=\"AA\""]] {
            assert!(lost(Method::GET, home, cookies, &["JSESSIONID=BB; Path=/iTrust; HttpOnly"]), "{cookies:?}");
            assert!(lost(Method::GET, home, cookies, &["z=1", "JSESSIONID=BB.node2"]), "{cookies:?}");
            assert!(!lost(Method::GET, home, cookies, &["JSESSIONID=AA; Path=/iTrust"]), "the same: {cookies:?}");
        }
    }

    #[test]
    fn a_session_that_begins_ends_or_changes_on_purpose_is_not_lost() {
        let (known, other) = (&["JSESSIONID=AA"][..], &["JSESSIONID=BB"][..]);
        assert!(!lost(Method::GET, "/", &[], other), "it begins");
        assert!(!lost(Method::GET, "/", &["XJSESSIONID=AA; JSESSIONIDX=AA"], other), "another cookie");
        assert!(!lost(Method::GET, "/", known, &[]));
        assert!(!lost(Method::POST, "/iTrust/login.jsp", known, other), "a login");
        assert!(!lost(Method::GET, "/iTrust/j_security_check?j_username=1", known, other), "a login by GET");
        assert!(!lost(Method::GET, "/", &["JSESSIONID=AA; JSESSIONID=BB"], other), "one of two");
        for gone in [
            "JSESSIONID=",
            "JSESSIONID=\"\"",
            "JSESSIONID=BB; Max-Age=0",
            "JSESSIONID=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT",
            "JSESSIONID=BB; max-age=-1",
        ] {
            assert!(!lost(Method::GET, "/", known, &[gone]), "{gone}");
        }
    }
}
