//! One field of a request's header: there are few, and a look at each name costs less than to hash the one that is
//! looked for. For what every request is asked.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Whether there is a field of this name.
#[inline]
pub(crate) fn has(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.keys().any(|key| key == name)
}

/// The first field of this name.
#[inline]
pub(crate) fn first<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// There are several fields of a name where one is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Several;

/// The only field of this name; none where there is none.
#[inline]
pub(crate) fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, Several> {
    let first = first(headers, name);
    // Only where any name stands more than once this one may.
    let repeats = headers.len() > headers.keys_len();
    if repeats && headers.get_all(name).iter().nth(1).is_some() { Err(Several) } else { Ok(first) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{ACCEPT, CONNECTION, HOST, TE};

    #[test]
    fn a_field_is_found_as_a_search_by_hash_finds_it() {
        let fields = [(ACCEPT, "a"), (HOST, "b"), (ACCEPT, "c"), (TE, "d"), (HOST, "e")];
        for count in 0..=fields.len() {
            let value = |(name, value): &(HeaderName, &'static str)| (name.clone(), HeaderValue::from_static(value));
            let headers: HeaderMap = fields[..count].iter().map(value).collect();
            for name in [ACCEPT, HOST, TE, CONNECTION] {
                let all: Vec<_> = headers.get_all(&name).iter().collect();
                assert_eq!(has(&headers, &name), !all.is_empty(), "{name} of {count}");
                assert_eq!(first(&headers, &name), all.first().copied(), "{name} of {count}");
                let wanted = if all.len() > 1 { Err(Several) } else { Ok(all.first().copied()) };
                assert_eq!(only(&headers, &name), wanted, "{name} of {count}");
            }
        }
    }
}
