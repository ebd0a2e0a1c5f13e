//! Which host a request is for: one reading or none (RFC 9112 section 3.2).

use std::borrow::Cow;

use http::header::{self, HeaderMap};
use http::{Uri, Version};

/// The host of a request, without port and in lower case; empty for HTTP/1.0 without one.
///
/// # Errors
/// Says in a sentence why the request is ambiguous.
pub(crate) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap, version: Version) -> Result<Cow<'a, str>, &'static str> {
    let mut fields = headers.get_all(header::HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (Some(_), Some(_)) => return Err("more than one Host field"),
        (Some(field), None) => field.to_str().map_err(|_| "a Host field that is no host")?,
        (None, _) if version == Version::HTTP_11 => return Err("no Host field"),
        (None, _) if version == Version::HTTP_2 && uri.authority().is_none() => return Err("no authority"),
        (None, _) => "",
    };
    let authority = match uri.authority() {
        Some(_) if uri.scheme().is_none() => return Err("a request target that is no path"),
        Some(authority) if !field.is_empty() && !authority.as_str().eq_ignore_ascii_case(field) => {
            return Err("a Host field that contradicts the request target");
        }
        Some(authority) => authority.as_str(),
        None => field,
    };
    let host = without_port(authority).ok_or("a Host field that is no host")?;
    Ok(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
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
