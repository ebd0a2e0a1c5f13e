//! Host stickiness: who has a session stays with the endpoint that keeps it in its memory.
//!
//! Nothing is kept for it here or in a store. A cookie of serin's names the endpoint by a keyed hash, from which neither
//! its address can be read nor another endpoint's name be made. It stands beside the application's own session cookie and
//! has the same attributes, so both come, change and go together.

use std::fmt;
use std::hash::Hasher as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// How who has a session stays with the endpoint that knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct StickinessSpec {
    /// The application's cookies that name a session, such as `JSESSIONID`.
    pub session_cookies: Vec<String>,
    /// What names of endpoints are made with.
    pub secret: HostSecret,
    /// So long an endpoint that drains still gets the requests of its sessions.
    pub drain: Duration,
}

/// What names of endpoints are made with. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct HostSecret {
    /// The file that holds it; none = the service's name stands in, which is no secret.
    pub file: Option<PathBuf>,
    /// What the file held, or the service's name.
    pub value: Arc<[u8]>,
}

impl fmt::Debug for HostSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostSecret(of {:?})", self.file)
    }
}

/// What an endpoint is called in the cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostName(pub [u8; 16]);

impl HostSecret {
    /// What an endpoint is called. Who is at another address is another: what was in its memory is gone.
    pub fn name_of(&self, id: &str, address: SocketAddr) -> HostName {
        let mut own = SipHasher13::new();
        own.write(&self.value);
        let key = own.finish128();
        let mut hasher = SipHasher13::new_with_keys(key.h1, key.h2);
        // No id holds a blank.
        hasher.write(format!("{id} {address}").as_bytes());
        HostName(hasher.finish128().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str) -> HostSecret {
        HostSecret { file: None, value: value.as_bytes().into() }
    }

    #[test]
    fn a_name_follows_from_secret_id_and_address_alone() {
        let at = |port: u16| SocketAddr::from(([10, 0, 0, 1], port));
        let name = secret("a").name_of("web-1", at(80));
        assert_eq!(secret("a").name_of("web-1", at(80)), name, "it isn't the same after a restart");
        for other in [
            secret("b").name_of("web-1", at(80)),
            secret("a").name_of("web-2", at(80)),
            secret("a").name_of("web-1", at(81)),
        ] {
            assert_ne!(other, name);
        }
        assert!(!format!("{:?}", secret("hunter2")).contains("hunter"));
    }
}
