//! Which units went bad already: each counts once in an episode, in bounded memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::model::split::Unit;

/// Units and their marks: for what they went bad, or on which arm.
///
/// Holds at most `limit` units. When more come, units are thinned by a hash that
/// is independent of the arm: from then on only every second (fourth, eighth …)
/// unit is a fact at all, on both arms alike, so the verdict's guarantee stands
/// and it only gets slower, in an outage that has evidence to spare.
#[derive(Clone, Debug)]
pub struct BadUnits {
    known: HashMap<Unit, u8>,
    limit: usize,
    /// Only units whose thinning hash begins with this many zero bits count.
    level: u32,
}

/// What it means that a unit went bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It is newly bad, and thereby a fact.
    New,
    /// It was known to be.
    Known,
    /// It is one of those that don't count.
    Thinned,
}

impl BadUnits {
    /// An empty set that holds at most this many units.
    pub fn new(limit: usize) -> Self {
        Self { known: HashMap::new(), limit, level: 0 }
    }

    /// Marks a unit (`mark` has one bit), and says whether it had that mark.
    pub fn insert(&mut self, unit: Unit, mark: u8) -> News {
        if !counts(unit, self.level) {
            return News::Thinned;
        }
        match self.known.entry(unit) {
            Entry::Occupied(known) if known.get() & mark != 0 => return News::Known,
            Entry::Occupied(mut known) => *known.get_mut() |= mark,
            Entry::Vacant(free) => drop(free.insert(mark)),
        }
        while self.known.len() > self.limit {
            self.level += 1;
            let level = self.level;
            self.known.retain(|known, _| counts(*known, level));
        }
        News::New
    }

    /// Whether a unit has this mark.
    pub fn has(&self, unit: Unit, mark: u8) -> bool {
        self.known.get(&unit).is_some_and(|marks| marks & mark != 0)
    }

    /// Whether a unit has any mark.
    pub fn contains(&self, unit: Unit) -> bool {
        self.known.contains_key(&unit)
    }

    /// How many of the units kept have this mark.
    pub fn marked(&self, mark: u8) -> u64 {
        self.known.values().filter(|known| **known & mark != 0).count() as u64
    }

    /// One in how many units counts: 1 until the bound was reached.
    pub const fn one_in(&self) -> u64 {
        1 << self.level
    }
}

/// Whether a unit is one of those that count when only one in 2^`level` does. The lower half of its hash
/// doesn't decide its arm.
pub const fn counts(unit: Unit, level: u32) -> bool {
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
    fn a_unit_is_bad_once_for_each_mark() {
        let mut units = BadUnits::new(10);
        assert_eq!(
            [1, 1, 2, 2].map(|mark| units.insert(unit(1), mark)),
            [News::New, News::Known, News::New, News::Known]
        );
        assert_eq!(units.insert(unit(2), 1), News::New);
        assert_eq!((units.marked(1), units.marked(2)), (2, 1));
    }

    #[test]
    fn beyond_the_bound_units_are_thinned_alike_on_both_arms() {
        let mut units = BadUnits::new(1_000);
        let weight = Weight::from_percent(30.0).expect("a weight");
        let (mut facts, mut canary) = (0u32, 0u32);
        for key in 0..200_000 {
            if units.insert(unit(key), 1) == News::New && units.one_in() >= 8 {
                facts += 1;
                canary += u32::from(unit(key).arm(weight) == Arm::Canary);
            }
        }
        assert!(units.known.len() <= 1_000);
        let share = f64::from(canary) / f64::from(facts);
        assert!((0.26..0.34).contains(&share), "{canary} of {facts} facts on the canary at 30 %");
    }
}
