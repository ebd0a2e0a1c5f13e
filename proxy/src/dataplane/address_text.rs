//! An address as text, made in place: each request says whose it is.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest: eight groups of four digits.
const LONGEST: usize = 39;

/// An address as it is written in `X-Forwarded-For`: without a port, IPv6 without brackets.
#[derive(Debug)]
pub(crate) struct AddressText {
    bytes: [u8; LONGEST],
    length: usize,
}

impl AddressText {
    /// The text of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    /// By hand, without the formatting machinery: most clients have such an address, and each request says it.
    fn of_v4(address: Ipv4Addr) -> Self {
        let mut text = Self { bytes: [0; LONGEST], length: 0 };
        for (place, octet) in address.octets().into_iter().enumerate() {
            if place > 0 {
                text.push(b'.');
            }
            if octet >= 100 {
                text.push(b'0' + octet / 100);
            }
            if octet >= 10 {
                text.push(b'0' + octet / 10 % 10);
            }
            text.push(b'0' + octet % 10);
        }
        text
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let mut bytes = [0; LONGEST];
        let mut rest = bytes.as_mut_slice();
        // There is room for every address: one that is written with dots has only a few groups before these.
        let _always_fits = write!(rest, "{address}");
        let length = LONGEST - rest.len();
        Self { bytes, length }
    }

    const fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    /// The text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    fn assert_is_written_as_ever(address: IpAddr) {
        assert_eq!(AddressText::of(address).as_bytes(), address.to_string().as_bytes());
    }

    #[test]
    fn an_address_is_written_as_the_standard_library_does() {
        let mut dice = StdRng::seed_from_u64(7);
        for octet in 0..=255 {
            assert_is_written_as_ever([octet, 255 - octet, octet / 3, 0].into());
        }
        for _ in 0..1_000 {
            assert_is_written_as_ever(Ipv6Addr::from_bits(dice.random()).into());
        }
        for text in ["::", "::1", "2001:db8::9", "::ffff:203.0.113.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            assert_is_written_as_ever(text.parse().expect("an address"));
        }
    }
}
