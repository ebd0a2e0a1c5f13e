//! What discovery found out about leased members: as much as people and requests need.

use std::collections::BTreeMap;

use crate::model::discovery::{Key, Standing};
use crate::model::split::Arm;
use crate::model::time::Timestamp;

/// How leased members are doing, all services together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryStatus {
    /// Since when too many fall silent at once for it to be their own fault, if they do.
    pub mass_since: Option<Timestamp>,
    /// Leases that ran out since this process runs; of members that left on purpose none.
    pub lapses: u64,
    /// Times that too many fell silent at once.
    pub masses: u64,
}

/// Members that don't stand as usual. All others are steady.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standings(BTreeMap<Key, Standing>);

impl FromIterator<(Key, Standing)> for Standings {
    fn from_iter<I: IntoIterator<Item = (Key, Standing)>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

impl Standings {
    /// How a member stands.
    pub fn of(&self, service: &str, arm: Arm, id: &str) -> Standing {
        if self.0.is_empty() {
            return Standing::Steady;
        }
        let key = Key { service: service.to_owned(), arm, id: id.to_owned() };
        self.0.get(&key).copied().unwrap_or_default()
    }
}
