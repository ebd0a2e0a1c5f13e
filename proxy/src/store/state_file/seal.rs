//! The seal of the state file: its second line, a checksum of all that follows. With it the file is JSON as before, and
//! a bit that flipped on the disk or a tail that is gone is noticed, whatever it would have meant.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::store::checksum::checksum;

/// How a file begins, pretty as it is written.
const BEGIN: &[u8] = b"{\n";
/// What stands around the digits of the checksum.
const SEAL: (&[u8], &[u8]) = (b"  \"checksum\": \"", b"\",\n");
/// The digits of a checksum, in lower case.
const DIGITS: usize = 16;

/// Seals an object, as `serde_json` prints it for people.
pub(super) fn seal(text: &[u8]) -> Vec<u8> {
    let rest = text.strip_prefix(BEGIN).unwrap_or(text);
    [BEGIN, SEAL.0, digits(rest).as_bytes(), SEAL.1, rest].concat()
}

/// Whether a text is what was sealed. One from before there were seals has none: it must look like that.
pub(super) fn is_whole(text: &[u8]) -> bool {
    match unseal(text) {
        Some((seal, rest)) => seal == digits(rest).as_bytes(),
        None => serde_json::from_slice::<Unsealed>(text).is_ok(),
    }
}

/// The digits of a sealed text, and what they are of.
fn unseal(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (seal, rest) = text.strip_prefix(BEGIN)?.strip_prefix(SEAL.0)?.split_at_checked(DIGITS)?;
    Some((seal, rest.strip_prefix(SEAL.1)?))
}

fn digits(rest: &[u8]) -> String {
    format!("{:016x}", checksum(rest))
}

/// What may be in a file without a seal, and no more: one whose seal can't be read any more is none of these.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "they are only looked for")]
struct Unsealed {
    saved_at: IgnoredAny,
    #[serde(default)]
    read_at: IgnoredAny,
    services: IgnoredAny,
    #[serde(default)]
    flags: IgnoredAny,
}
