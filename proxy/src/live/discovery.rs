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
pub struct Standings(BTreeMap<String, BTreeMap<(Arm, String), Standing>>);

impl FromIterator<(Key, Standing)> for Standings {
    fn from_iter<I: IntoIterator<Item = (Key, Standing)>>(items: I) -> Self {
        let mut standings = Self::default();
        for (Key { service, arm, id }, standing) in items {
            standings.0.entry(service).or_default().insert((arm, id), standing);
        }
        standings
    }
}

impl Standings {
    /// How a member stands.
    pub fn of(&self, service: &str, arm: Arm, id: &str) -> Standing {
        let Some(members) = self.0.get(service) else { return Standing::Steady };
        members.get(&(arm, id.to_owned())).copied().unwrap_or_default()
    }

    /// The services whose members don't all stand as they do by another account.
    pub fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        let only_there = other.0.keys().filter(|service| !self.0.contains_key(*service));
        let differ = |service: &&String| self.0.get(*service) != other.0.get(*service);
        self.0.keys().filter(differ).chain(only_there).map(String::as_str)
    }
}
