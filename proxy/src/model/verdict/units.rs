//! Which units went bad already: each counts once in an episode, in bounded memory.

use std::collections::HashSet;

use crate::model::split::Unit;

/// The bad units of one episode.
///
/// Holds at most `limit` units. When more come, units are thinned by a hash that
/// is independent of the arm: from then on only every second (fourth, eighth …)
/// unit is a fact at all, on both arms alike, so the verdict's guarantee stands
/// and it only gets slower, in an outage that has evidence to spare.
#[derive(Clone, Debug)]
pub struct BadUnits {
    known: HashSet<Unit>,
    limit: usize,
    /// Only units whose thinning hash begins with this many zero bits count.
    level: u32,
}

impl BadUnits {
    /// An empty set that holds at most this many units.
    pub fn new(limit: usize) -> Self {
        Self { known: HashSet::new(), limit, level: 0 }
    }

    /// Whether this unit is newly bad, and thereby a fact.
    pub fn insert(&mut self, unit: Unit) -> bool {
        if !counts(unit, self.level) || !self.known.insert(unit) {
            return false;
        }
        while self.known.len() > self.limit {
            self.level += 1;
            let level = self.level;
            self.known.retain(|known| counts(*known, level));
        }
        true
    }

    /// One in how many units counts: 1 until the bound was reached.
    pub const fn one_in(&self) -> u64 {
        1 << self.level
    }
}

/// The lower half of a unit's hash doesn't decide its arm.
const fn counts(unit: Unit, level: u32) -> bool {
    unit.lower().leading_zeros() >= level
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::split::{Arm, Salt};
    use crate::model::weight::Weight;

    fn unit(key: u32) -> Unit {
        Unit::of_key(Salt(3), &key.to_le_bytes())
    }

    #[test]
    fn a_unit_is_bad_once() {
        let mut units = BadUnits::new(10);
        assert!(units.insert(unit(1)));
        assert!(!units.insert(unit(1)));
        assert!(units.insert(unit(2)));
    }

    #[test]
    fn beyond_the_bound_units_are_thinned_alike_on_both_arms() {
        let mut units = BadUnits::new(1_000);
        let weight = Weight::from_percent(30.0).expect("a weight");
        let (mut facts, mut canary) = (0u32, 0u32);
        for key in 0..200_000 {
            if units.insert(unit(key)) && units.one_in() >= 8 {
                facts += 1;
                canary += u32::from(unit(key).arm(weight) == Arm::Canary);
            }
        }
        assert!(units.known.len() <= 1_000);
        let share = f64::from(canary) / f64::from(facts);
        assert!((0.26..0.34).contains(&share), "{canary} of {facts} facts on the canary at 30 %");
    }
}
