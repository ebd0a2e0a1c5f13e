//! Which endpoint has a session, as serin's cookie beside the application's says: see `model/balance/host.rs`.

use std::ops::Range;

use http::header::{self, HeaderMap, HeaderValue};

use super::session::{carried, value_of};
use crate::live::EndpointView;
use crate::model::balance::StickinessSpec;
use crate::model::balance::host::HostName;
use crate::model::sticky::{cookie_key, cookie_text};

/// The cookie that names the endpoint that has a session.
const COOKIE: &str = "serin_host";

/// The place in the pool of the first member that the request's cookies name. Names that nobody of these has, forged ones
/// and those of another pool among them, say nothing.
pub(super) fn named(pool: &[EndpointView], members: &Range<usize>, headers: &HeaderMap) -> Option<usize> {
    // Of several, for different paths, the browser sends the one for the nearest path first.
    carried(headers, COOKIE).filter_map(cookie_key).find_map(|name| {
        let mut among = members.clone();
        among.find(|index| pool[*index].host == HostName(name))
    })
}

/// Where the answer of an endpoint begins, changes or ends a session: sets serin's cookie beside the application's, with
/// the same attributes, so that both are sent for the same requests and kept for the same time.
pub(super) fn remember(stickiness: &StickinessSpec, host: HostName, answer: &mut HeaderMap) {
    let mut beside: Vec<HeaderValue> = Vec::new();
    for line in answer.get_all(header::SET_COOKIE) {
        if let Some(line) = stickiness.session_cookies.iter().find_map(|name| companion(line.as_bytes(), name, host))
            && !beside.contains(&line)
        {
            beside.push(line);
        }
    }
    for line in beside {
        answer.append(header::SET_COOKIE, line);
    }
}

/// The line that goes beside this one, if it is of the cookie of this name.
fn companion(line: &[u8], name: &str, host: HostName) -> Option<HeaderValue> {
    let end = memchr::memchr(b';', line).unwrap_or(line.len());
    let (pair, attributes) = line.split_at(end);
    let ends = value_of(pair, name)?.is_empty();
    let value = if ends { String::new() } else { cookie_text(host.0) };
    let beside = [COOKIE.as_bytes(), b"=", value.as_bytes(), attributes].concat();
    HeaderValue::from_bytes(&beside).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::balance::host::HostSecret;

    const HOST: HostName = HostName(*b"sixteen bytes ok");

    fn set(lines: &[&str]) -> Vec<String> {
        let stickiness = StickinessSpec {
            session_cookies: vec!["JSESSIONID".to_owned(), "SID".to_owned()],
            secret: HostSecret { file: None, value: b"".as_slice().into() },
            drain: Duration::ZERO,
        };
        let line = |line: &&str| (header::SET_COOKIE, HeaderValue::from_str(line).expect("text"));
        let mut answer: HeaderMap = lines.iter().map(line).collect();
        remember(&stickiness, HOST, &mut answer);
        let all = answer.get_all(header::SET_COOKIE).iter().map(|line| line.to_str().expect("text").to_owned());
        all.skip(lines.len()).collect()
    }

    #[test]
    fn the_cookie_comes_changes_and_goes_with_the_applications() {
        let name = cookie_text(HOST.0);
        for (line, beside) in [
            ("JSESSIONID=AA.node2; Path=/iTrust; HttpOnly", format!("serin_host={name}; Path=/iTrust; HttpOnly")),
            ("SID=1;Secure;SameSite=None;Max-Age=60", format!("serin_host={name};Secure;SameSite=None;Max-Age=60")),
            ("SID=1", format!("serin_host={name}")),
            ("SID=; Max-Age=0; Path=/", "serin_host=; Max-Age=0; Path=/".to_owned()),
        ] {
            assert_eq!(set(&[line]), [beside], "{line}");
        }
        assert_eq!(set(&["JSESSIONID=A; Path=/", "SID=B; Path=/", "x=y; Path=/z"]).len(), 1, "the same beside both");
    }

    #[test]
    fn another_cookie_says_nothing_of_a_session() {
        assert_eq!(set(&["XJSESSIONID=A; Path=/", "theme=JSESSIONID=A", "JSESSIONID"]), [""; 0]);
        assert_eq!(set(&[]), [""; 0]);
    }
}
