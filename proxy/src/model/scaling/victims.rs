//! Which instances are taken away: the newest, from the zone that has the most.

use std::collections::BTreeMap;

use super::super::time::Timestamp;

/// An instance that may be taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its endpoint's id.
    pub id: String,
    /// Where it stands, if somebody said so.
    pub zone: Option<String>,
    /// Since when it is known to be ready.
    pub since: Timestamp,
    /// Whether the configuration names it: those go last.
    pub is_seed: bool,
}

/// Chooses so many of them.
pub fn victims(mut candidates: Vec<Candidate>, count: u32) -> Vec<String> {
    // The best to take away stands last.
    candidates.sort_by(|one, other| {
        let key = |candidate: &Candidate| (!candidate.is_seed, candidate.since);
        key(one).cmp(&key(other)).then_with(|| one.id.cmp(&other.id))
    });
    let mut chosen = Vec::new();
    for _ in 0..count {
        let mut zones: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        for candidate in &candidates {
            *zones.entry(candidate.zone.as_deref()).or_default() += 1;
        }
        let most = zones.values().max().copied().unwrap_or(0);
        let in_largest = |candidate: &Candidate| zones.get(&candidate.zone.as_deref()) == Some(&most);
        let Some(at) = candidates.iter().rposition(in_largest) else { break };
        chosen.push(candidates.remove(at).id);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: &str, zone: &str, since: u64) -> Candidate {
        let is_seed = id.starts_with("seed");
        Candidate { id: id.into(), zone: Some(zone.into()), since: Timestamp::from_millis(since), is_seed }
    }

    #[test]
    fn the_newest_of_the_fullest_zone_goes_first_and_a_seed_last() {
        let pool = || {
            vec![
                candidate("a1", "a", 1),
                candidate("a2", "a", 2),
                candidate("a3", "a", 3),
                candidate("b1", "b", 9),
                candidate("seed", "b", 10),
            ]
        };
        assert_eq!(victims(pool(), 2), ["a3", "b1"]);
        assert_eq!(victims(pool(), 4), ["a3", "b1", "a2", "a1"]);
        assert_eq!(victims(pool(), 9).len(), 5);
    }
}
