//! A secret that requests are compared with.

use std::path::PathBuf;
use std::sync::Arc;

/// What a tester must know to choose the arm of a request. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct OverrideSecret {
    /// The file that holds it.
    pub file: PathBuf,
    /// What the file held; empty until it is read, and nothing matches that.
    pub value: Arc<[u8]>,
}

impl OverrideSecret {
    /// Whether this is the secret. How long it takes tells nothing but the length.
    pub fn is(&self, given: &[u8]) -> bool {
        let differing = self.value.iter().zip(given).fold(0, |all, (own, other)| all | (own ^ other));
        !self.value.is_empty() && self.value.len() == given.len() && std::hint::black_box(differing) == 0
    }
}

impl std::fmt::Debug for OverrideSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OverrideSecret(of {:?})", self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_itself_alone_and_never_shown() {
        let secret = |value: &[u8]| OverrideSecret { file: "/etc/serin/override".into(), value: value.into() };
        let known = secret(b"hunter2");
        assert!(known.is(b"hunter2"));
        for wrong in [b"hunter3".as_slice(), b"hunter", b"hunter22", b"", b"HUNTER2"] {
            assert!(!known.is(wrong), "{wrong:?}");
        }
        assert!(!secret(b"").is(b""), "a secret that wasn't read opens nothing");
        assert!(!format!("{known:?}").contains("hunter"));
    }
}
