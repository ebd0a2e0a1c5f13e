//! The id of a request, by which logs, mails and the endpoint name it.

use std::ops::Deref;
use std::rc::Rc;

use http::HeaderMap;

use super::downstream::Downstream;

/// The longest that is taken over from a peer, in bytes.
const LONGEST: usize = 128;

/// Names one request. Tells requests apart, and is no secret.
#[derive(Clone, Debug)]
pub(crate) enum RequestId {
    /// 128 random bits in hex: what serin gives. In place, since almost every request has one of these.
    Own([u8; 32]),
    /// What a trusted peer gave.
    Given(Rc<str>),
}

impl RequestId {
    /// Of a request with this header.
    #[inline]
    pub(crate) fn of(downstream: &Downstream, headers: &HeaderMap) -> Self {
        let given = if downstream.trusted { headers.get("x-request-id").and_then(|id| id.to_str().ok()) } else { None };
        match given {
            Some(id) if !id.is_empty() && id.len() <= LONGEST => Self::Given(id.into()),
            _ => Self::Own(hex(downstream.core.id_bits())),
        }
    }
}

impl RequestId {
    /// As it stands in a field.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Own(digits) => digits,
            Self::Given(id) => id.as_bytes(),
        }
    }
}

impl Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            // Digits are text.
            Self::Own(digits) => std::str::from_utf8(digits).unwrap_or_default(),
            Self::Given(id) => id,
        }
    }
}

/// Each byte in hex.
const PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Bits in hex. One for each request: the general formatting costs several times as much.
fn hex(bits: u128) -> [u8; 32] {
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
        pair.copy_from_slice(&PAIRS[usize::from(byte)]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_written_as_the_formatter_would() {
        for bits in [0, 1, 0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978, u128::MAX] {
            assert_eq!(*RequestId::Own(hex(bits)), *format!("{bits:032x}"));
        }
    }
}
