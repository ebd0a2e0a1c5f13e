//! Members of a pool, as a store holds them: where one is, what it takes, what is said of it.
//!
//! What is said of a member comes from people, scripts and agents, so all of it is bounded here, by one rule for
//! every way in.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::place::{Place, member_of};

/// The largest relative share of a member.
pub const MAX_WEIGHT: u16 = 1_000;
/// The longest version and zone, in characters.
const LONGEST_WORD: usize = 128;
/// Metadata entries of a member.
const MOST_METADATA: usize = 16;
/// The longest key of metadata, in bytes.
const LONGEST_KEY: usize = 64;
/// The longest value of metadata, in characters.
const LONGEST_VALUE: usize = 256;

/// What the store knows of one member of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Member {
    /// It takes traffic as far as its health allows.
    Ready(MemberSpec),
    /// It gets no new work; what runs may finish.
    Draining(MemberSpec),
    /// It was taken out. Kept so that a seed in the file doesn't bring it back.
    Removed,
}

/// Where a member is, and how much it takes.
///
/// Parts that this version doesn't know are passed over when they are read, and gone once serin writes the member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSpec {
    /// Its address and port, or its name and port.
    pub address: Place,
    /// Its relative share inside its pool, 1 to 1,000.
    #[serde(default = "one")]
    pub weight: u16,
    /// The version it runs, if somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where it stands, for people: a data centre, a rack, a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What else was said of it, for people and programs; serin itself makes nothing of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// How long a heartbeat keeps it, in milliseconds; absent = for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Whether it serves the control, restarted together with the canary. Of stable members only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control: bool,
}

const fn one() -> u16 {
    1
}

/// More members than this are no pool: each is checked, counted and compiled by itself. Those that were taken out count.
pub const MOST_MEMBERS: usize = 10_000;

/// What is wrong with what is said of a member. Never holds the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Nobody can be there.
    #[error("an endpoint's address is one that can be connected to, such as 10.0.0.11:3002")]
    Address,
    /// The share is out of range.
    #[error("an endpoint's weight is from 1 to 1000")]
    Weight,
    /// The lease has no time.
    #[error("a lease is longer than nothing")]
    Ttl,
    /// The version is no line, or too long.
    #[error("a version is one line of at most 128 characters")]
    Version,
    /// The zone is no line, or too long.
    #[error("a zone is one line of at most 128 characters")]
    Zone,
    /// There is too much metadata.
    #[error("metadata has at most 16 entries")]
    Metadata,
    /// A key of metadata.
    #[error("a key of metadata is 1 to 64 letters, digits and `._-/`")]
    Key,
    /// A value of metadata.
    #[error("a value of metadata is one line of at most 256 characters")]
    Value,
}

impl MemberSpec {
    /// A member for good, with weight 1.
    pub const fn new(address: Place) -> Self {
        Self { address, weight: 1, version: None, zone: None, metadata: BTreeMap::new(), ttl_ms: None, control: false }
    }

    /// How long a heartbeat keeps it; absent = for good.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl_ms.map(Duration::from_millis)
    }

    /// Whether all that is said of it is within bounds.
    ///
    /// # Errors
    /// With the first thing that isn't.
    pub fn check(&self) -> Result<(), MemberError> {
        let holds = |fine: bool, error| if fine { Ok(()) } else { Err(error) };
        holds(self.address.is_connectable(), MemberError::Address)?;
        holds((1..=MAX_WEIGHT).contains(&self.weight), MemberError::Weight)?;
        holds(self.ttl_ms != Some(0), MemberError::Ttl)?;
        holds(self.version.as_deref().is_none_or(is_word), MemberError::Version)?;
        holds(self.zone.as_deref().is_none_or(is_word), MemberError::Zone)?;
        holds(self.metadata.len() <= MOST_METADATA, MemberError::Metadata)?;
        holds(self.metadata.keys().all(|key| is_key(key)), MemberError::Key)?;
        holds(self.metadata.values().all(|value| is_line(value, LONGEST_VALUE)), MemberError::Value)
    }
}

impl Member {
    /// Where it is; none if it was taken out.
    pub const fn spec(&self) -> Option<&MemberSpec> {
        match self {
            Self::Ready(spec) | Self::Draining(spec) => Some(spec),
            Self::Removed => None,
        }
    }
}

/// The longest id that somebody may give.
const LONGEST_ID: usize = 128;
/// The longest that serin makes: of the longest name, a port, and an address.
const LONGEST_MADE: usize = 320;

/// Whether a text can name a member: up to 128 letters, digits and `.:_-[]`, or more where it is made of where that is.
pub fn is_id(text: &str) -> bool {
    let is_made = || text.parse::<Place>().is_ok() || member_of(text).is_some();
    (1..=LONGEST_MADE).contains(&text.len())
        && (text.len() <= LONGEST_ID || is_made())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".:_-[]".contains(&b))
}

fn is_word(text: &str) -> bool {
    is_line(text, LONGEST_WORD)
}

fn is_line(text: &str, most: usize) -> bool {
    text.chars().count() <= most && !text.contains(char::is_control)
}

fn is_key(key: &str) -> bool {
    (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> MemberSpec {
        MemberSpec::new(([10, 0, 0, 21], 3002).into())
    }

    fn with(metadata: impl IntoIterator<Item = (String, String)>) -> Result<(), MemberError> {
        MemberSpec { metadata: metadata.into_iter().collect(), ..spec() }.check()
    }

    fn entry(key: &str, value: &str) -> [(String, String); 1] {
        [(key.to_owned(), value.to_owned())]
    }

    #[test]
    fn a_member_written_before_zones_is_read_and_written_as_it_was() {
        let text = r#"{"state":"ready","address":"10.0.0.21:3002","weight":1,"version":"v42","ttl_ms":15000}"#;
        let member: Member = serde_json::from_str(text).expect("a member");
        assert_eq!(serde_json::to_string(&member).expect("JSON"), text);
    }

    #[test]
    fn a_part_that_is_not_known_is_no_reason_to_lose_the_member() {
        let text = r#"{"state":"ready","address":"10.0.0.21:3002","hue":"red","metadata":{"rack":"r7"},"zone":"b"}"#;
        let member: Member = serde_json::from_str(text).expect("a member");
        let spec = member.spec().expect("it is there");
        assert_eq!((spec.zone.as_deref(), &*spec.metadata["rack"]), (Some("b"), "r7"));
    }

    #[test]
    fn what_is_said_of_a_member_has_bounds() {
        let many = |count| (0..count).map(|n: usize| (format!("key-{n}"), String::new()));
        assert_eq!(with(many(MOST_METADATA)), Ok(()));
        assert_eq!(with(many(MOST_METADATA + 1)), Err(MemberError::Metadata));
        assert_eq!(with(entry("team.io/owner_1", "ärger")), Ok(()));
        let long = "k".repeat(LONGEST_KEY + 1);
        for key in ["", "a b", "ä", long.as_str()] {
            assert_eq!(with(entry(key, "")), Err(MemberError::Key), "{key}");
        }
        for value in ["two\nlines", &*"v".repeat(LONGEST_VALUE + 1)] {
            assert_eq!(with(entry("key", value)), Err(MemberError::Value), "{value}");
        }
        for address in ["10.0.0.21:0", "0.0.0.0:80", "[::]:80", "224.0.0.1:80", "[ff02::1]:80", "[::ffff:0.0.0.0]:80"] {
            let address: std::net::SocketAddr = address.parse().expect(address);
            let bad = MemberSpec { address: address.into(), ..spec() };
            assert_eq!(bad.check(), Err(MemberError::Address), "{address}");
        }
        for (bad, error) in [
            (MemberSpec { weight: 0, ..spec() }, MemberError::Weight),
            (MemberSpec { weight: 1_001, ..spec() }, MemberError::Weight),
            (MemberSpec { ttl_ms: Some(0), ..spec() }, MemberError::Ttl),
            (MemberSpec { zone: Some("z".repeat(129)), ..spec() }, MemberError::Zone),
            (MemberSpec { version: Some("a\tb".into()), ..spec() }, MemberError::Version),
        ] {
            assert_eq!(bad.check(), Err(error));
        }
    }
}
