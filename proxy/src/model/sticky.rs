//! A sticky key as text, and its unit: so that flags and applications name users as the split does.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::spec::Sticky;
use super::split::{Salt, Unit};

/// The key that serin gives to a client, as its cookie has it.
pub fn cookie_text(key: [u8; 16]) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// The key of such a text; none for any other text.
pub fn cookie_key(text: &[u8]) -> Option<[u8; 16]> {
    // Room for what 22 digits may claim to hold, before the decoder counts the bits.
    let mut key = [0; 18];
    let length = (text.len() == 22).then(|| URL_SAFE_NO_PAD.decode_slice(text, &mut key).ok()).flatten()?;
    (length == 16).then(|| key[..16].try_into().ok()).flatten()
}

impl Unit {
    /// The unit of a client's address, where that is the sticky key.
    pub fn of_address(salt: Salt, address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::of_key(salt, &v4.octets()),
            IpAddr::V6(v6) => Self::of_key(salt, &v6.octets()),
        }
    }
}

impl Sticky {
    /// The unit of whom a sticky key names, as text: the same as of a request with that key. None for a text that is
    /// no such key, and where there are none.
    pub fn unit_of(&self, salt: Salt, text: &str) -> Option<Unit> {
        match self {
            Self::Cookie => cookie_key(text.as_bytes()).map(|key| Unit::of_key(salt, &key)),
            Self::Header(_) => Some(Unit::of_key(salt, text.as_bytes())),
            Self::ClientIp => text.parse().ok().map(|address| Unit::of_address(salt, address)),
            Self::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt(7);

    #[test]
    fn a_key_has_the_unit_of_the_request_that_it_names() {
        let key = *b"sixteen bytes ok";
        assert_eq!(Sticky::Cookie.unit_of(SALT, &cookie_text(key)), Some(Unit::of_key(SALT, &key)));
        let header = Sticky::Header(http::HeaderName::from_static("x-user"));
        assert_eq!(header.unit_of(SALT, "ann"), Some(Unit::of_key(SALT, b"ann")));
        for text in ["203.0.113.9", "::ffff:203.0.113.9"] {
            assert_eq!(Sticky::ClientIp.unit_of(SALT, text), Some(Unit::of_key(SALT, &[203, 0, 113, 9])), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_has_no_unit() {
        for text in ["", "ann", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAA=="] {
            assert_eq!(Sticky::Cookie.unit_of(SALT, text), None, "{text}");
            assert_eq!(Sticky::ClientIp.unit_of(SALT, text), None, "{text}");
        }
        assert_eq!(Sticky::None.unit_of(SALT, "ann"), None);
    }
}
