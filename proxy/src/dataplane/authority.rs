//! Which host a request is for: one reading or none (RFC 9112 section 3.2).

use std::borrow::Cow;

use http::header::{self, HeaderMap};
use http::{Uri, Version};

use super::lookup;

/// The host of a request, without port and in lower case; empty for HTTP/1.0 without one.
///
/// # Errors
/// Says in a sentence why the request is ambiguous.
pub(crate) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap, version: Version) -> Result<Cow<'a, str>, &'static str> {
    let field = match lookup::only(headers, &header::HOST).map_err(|lookup::Several| "more than one Host field")? {
        Some(field) => field.to_str().map_err(|_| "a Host field that is no host")?,
        None if version == Version::HTTP_11 => return Err("no Host field"),
        None if version == Version::HTTP_2 && uri.authority().is_none() => return Err("no authority"),
        None => "",
    };
    let authority = match uri.authority() {
        Some(_) if uri.scheme().is_none() => return Err("a request target that is no path"),
        Some(authority) if !field.is_empty() && !authority.as_str().eq_ignore_ascii_case(field) => {
            return Err("a Host field that contradicts the request target");
        }
        Some(authority) => authority.as_str(),
        None => field,
    };
    if let Some(host) = plain(authority) {
        return Ok(Cow::Borrowed(host));
    }
    let host = without_port(authority).ok_or("a Host field that is no host")?;
    Ok(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

/// Without its port, what is a host in lower case for sure: almost any is, and costs one look at each of its bytes.
fn plain(authority: &str) -> Option<&str> {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    let end = authority.bytes().position(|byte| !is_plain(byte)).unwrap_or(authority.len());
    let (host, rest) = authority.split_at_checked(end)?;
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)).then_some(host)
}

fn without_port(authority: &str) -> Option<&str> {
    let (host, port) = match authority.rfind(':') {
        // A colon inside brackets is part of an IPv6 address.
        Some(colon) if !authority[colon..].contains(']') => (&authority[..colon], &authority[colon + 1..]),
        _ => (authority, ""),
    };
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'[' | b']' | b':');
    let valid = host.bytes().all(named) && port.bytes().all(|byte| byte.is_ascii_digit());
    let bracketed = host.starts_with('[') && host.ends_with(']');
    (valid && (bracketed || !host.contains([':', '[', ']']))).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(target: &str, hosts: &[&str], version: Version) -> Result<String, &'static str> {
        let uri: Uri = target.parse().expect(target);
        let headers = hosts.iter().map(|host| (header::HOST, HeaderValue::from_str(host).expect(host))).collect();
        host(&uri, &headers, version).map(Cow::into_owned)
    }

    #[test]
    fn a_host_is_read_without_port_in_lower_case() {
        for (field, host) in [
            ("checkbox.io", "checkbox.io"),
            ("Checkbox.IO:8080", "checkbox.io"),
            ("[::1]:80", "[::1]"),
            ("10.0.0.1:3002", "10.0.0.1"),
            ("a_b.example", "a_b.example"),
            ("", ""),
        ] {
            assert_eq!(read("/", &[field], Version::HTTP_11).as_deref(), Ok(host), "{field}");
        }
        assert_eq!(read("http://a.example/x", &["A.example"], Version::HTTP_11).as_deref(), Ok("a.example"));
        assert_eq!(read("/", &[], Version::HTTP_10).as_deref(), Ok(""));
        assert_eq!(read("https://a.example/x", &[], Version::HTTP_2).as_deref(), Ok("a.example"));
        assert_eq!(read("/x", &["a.example"], Version::HTTP_2).as_deref(), Ok("a.example"));
    }

    #[test]
    fn what_is_plain_is_what_the_longer_look_says() {
        for authority in
            ["", "a", "a.example:80", "a:", "10.0.0.1:3002", "a:80:90", "a:b", "a b:80", "a\u{e4}", "[::1]:80", "A"]
        {
            if let Some(host) = plain(authority) {
                assert_eq!(without_port(authority), Some(host), "{authority}");
            }
        }
        assert_eq!(plain("a.example:80"), Some("a.example"));
        assert_eq!(plain("a:80:90"), None);
    }

    #[test]
    fn what_could_be_two_hosts_is_none() {
        for field in ["a,b", "user@a", "a/b", "a b", "a:80:90", "::1", "a:http", "[::1", "a?b"] {
            assert!(read("/", &[field], Version::HTTP_11).is_err(), "{field}");
        }
        assert!(read("/", &["a", "b"], Version::HTTP_11).is_err());
        assert!(read("/", &[], Version::HTTP_11).is_err());
        assert!(read("/", &[], Version::HTTP_2).is_err());
        assert!(read("http://a/", &["b"], Version::HTTP_2).is_err());
        assert!(read("http://a/", &["b"], Version::HTTP_11).is_err());
        assert!(read("a:80", &["a:80"], Version::HTTP_11).is_err());
    }
}
