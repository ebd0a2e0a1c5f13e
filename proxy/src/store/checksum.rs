//! Checksums of what lies on disk: they tell what is whole from what is torn or rotten. Nothing depends on nobody being
//! able to forge one.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// The checksum of these bytes.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}
