//! What RFC 9113 asks of a request beyond what hyper checks, and what the rest of the data plane expects of one.

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Version};

/// Whether a request of HTTP/2 is one that can be passed on. Fields that speak of one connection, pseudo-header fields
/// and lengths are checked before it comes here; any other version is fine.
///
/// # Errors
/// Says in a sentence why not.
pub(crate) fn check(parts: &Parts) -> Result<(), &'static str> {
    if parts.version != Version::HTTP_2 {
        return Ok(());
    }
    match parts.uri.path() {
        path if path.starts_with('/') => Ok(()),
        "*" if parts.method == Method::OPTIONS => Ok(()),
        _ => Err("a :path that is no path"),
    }
}

/// Puts crumbs of cookies together: HTTP/2 may send each by itself, HTTP/1.1 has one field for all (RFC 9113, 8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(b"; ".as_slice())) {
        headers.insert(header::COOKIE, whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn crumbs_of_cookies_become_one_field() {
        for (crumbs, whole) in [(&["a=b"][..], "a=b"), (&["a=b", "c=d; e=f", "g=h"], "a=b; c=d; e=f; g=h")] {
            let mut headers: HeaderMap =
                crumbs.iter().map(|crumb| (header::COOKIE, HeaderValue::from_static(crumb))).collect();
            join_cookies(&mut headers);
            let joined: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
            assert_eq!(joined, [whole]);
        }
        let mut none = HeaderMap::new();
        join_cookies(&mut none);
        assert!(none.is_empty());
    }

    #[test]
    fn only_a_path_is_a_path() {
        let checked = |method: Method, path: &str, version| {
            let mut request = Request::builder().method(method).version(version).uri(path).body(()).expect(path);
            *request.version_mut() = version;
            check(&request.into_parts().0)
        };
        assert_eq!(checked(Method::GET, "https://a/b?c", Version::HTTP_2), Ok(()));
        assert_eq!(checked(Method::OPTIONS, "*", Version::HTTP_2), Ok(()));
        assert!(checked(Method::GET, "*", Version::HTTP_2).is_err());
        assert_eq!(checked(Method::GET, "*", Version::HTTP_11), Ok(()));
    }
}
