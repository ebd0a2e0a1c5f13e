//! The cookies that an endpoint set for its probes: they come back with the next one, so that probes share one session
//! and don't begin a new one each.

use http::header::{self, HeaderMap};

/// An endpoint that sets more has its own idea of a health check.
const MOST: usize = 16;
const LONGEST: usize = 4 * 1024;

/// Cookies, each name once; where they are for, and until when, makes no difference to the one path that is asked for.
#[derive(Debug, Default)]
pub(super) struct Jar(Vec<Cookie>);

#[derive(Debug)]
struct Cookie {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

impl Jar {
    /// Takes in what an answer sets, in place of what it had of that name.
    pub(super) fn keep(&mut self, answer: &HeaderMap) {
        for line in answer.get_all(header::SET_COOKIE) {
            let pair = line.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
            let Some(equals) = memchr::memchr(b'=', pair) else { continue };
            let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
            self.0.retain(|known| *known.name != *name);
            if !value.is_empty() && self.0.len() < MOST && pair.len() <= LONGEST {
                self.0.push(Cookie { name: name.into(), value: value.into() });
            }
        }
    }

    /// What a request brings; none where there is nothing.
    pub(super) fn cookies(&self) -> Option<Vec<u8>> {
        let pairs: Vec<Vec<u8>> =
            self.0.iter().map(|cookie| [&cookie.name, &b"="[..], &cookie.value].concat()).collect();
        (!pairs.is_empty()).then(|| pairs.join(&b"; "[..]))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn after(lines: &[&str]) -> Option<String> {
        let mut jar = Jar::default();
        for line in lines {
            let value = HeaderValue::from_str(line).expect("text");
            jar.keep(&[(header::SET_COOKIE, value)].into_iter().collect());
        }
        jar.cookies().map(|cookies| String::from_utf8(cookies).expect("text"))
    }

    #[test]
    fn what_was_set_last_comes_back_and_what_was_taken_away_does_not() {
        assert_eq!(after(&[]), None);
        assert_eq!(after(&["JSESSIONID=A; Path=/iTrust; HttpOnly"]).as_deref(), Some("JSESSIONID=A"));
        assert_eq!(after(&["a=1", "b=2", "a=3"]).as_deref(), Some("b=2; a=3"));
        assert_eq!(after(&["a=1", "a=; Max-Age=0"]), None);
        assert_eq!(after(&["nothing", "=", ""]), None);
    }

    #[test]
    fn a_jar_has_a_bottom() {
        let many: Vec<String> = (0..100).map(|n| format!("c{n}=1")).collect();
        let cookies = after(&many.iter().map(String::as_str).collect::<Vec<_>>()).expect("some");
        assert_eq!(cookies.split("; ").count(), MOST);
        assert_eq!(after(&[&format!("a={}", "x".repeat(LONGEST))]), None);
    }
}
