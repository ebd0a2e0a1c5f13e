//! Who was seen: distinct units and their marks, in bounded memory, for each core.
//!
//! Adaptive sampling (Wegman; Flajolet 1990): a core keeps every unit until its table is full, then only
//! those whose hash begins with one zero bit, then two, and so on. What is left is an exact set
//! of a known part of all units. The hash is the half of the unit that doesn't decide its arm.
//!
//! One core writes its table, anybody reads it; no lock, no allocation and at most sixteen
//! words to look at for each note.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::model::split::{Arm, Unit};
use crate::model::verdict::Returned;

/// Places in which one unit may stand.
const BUCKET: usize = 16;
/// 32 KiB for each core. The first bucket is full at about 2,000 units, so the sample is half of that at
/// the least: a standard error of 3 %.
const BUCKETS: usize = 256;
/// The low bits of a place are marks; the others tell units apart.
const MARKS: u64 = 7;

/// What is known of a unit that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// With a key that serin minted and that came back.
    const RETURNED: u64 = 4;

    /// It was on this arm; `returned` says whether with a key that serin minted and that came back.
    pub const fn new(arm: Arm, returned: bool) -> Self {
        let returned = if returned { Self::RETURNED } else { 0 };
        Self(Self::of_arm(arm) | returned)
    }

    const fn of_arm(arm: Arm) -> u64 {
        match arm {
            Arm::Stable => 1,
            Arm::Canary => 2,
        }
    }
}

/// One core's table.
#[derive(Debug)]
pub struct Census {
    /// Only units whose hash begins with so many zero bits are kept.
    level: AtomicU32,
    /// A unit's hash and its marks; 0 = free. What the level leaves out is free too.
    places: Box<[AtomicU64]>,
    /// How many units were put there: who counted them needs not do so again before this rises.
    put: AtomicU64,
}

impl Default for Census {
    fn default() -> Self {
        let places = (0..BUCKETS * BUCKET).map(|_| AtomicU64::new(0)).collect();
        Self { level: AtomicU32::new(0), places, put: AtomicU64::new(0) }
    }
}

impl Census {
    /// Notes a unit: mostly a few loads, a store only when something was learnt. Only the core that owns
    /// the table may call this.
    pub fn note(&self, unit: Unit, mark: Mark) {
        let hash = unit.lower() & !MARKS;
        let mut level = self.level.load(Ordering::Relaxed);
        while hash.leading_zeros() >= level {
            if self.put(hash, mark.0, level) {
                return;
            }
            level += 1;
            // Before the places that this frees are used again: see `Sample::add`.
            self.level.store(level, Ordering::Release);
        }
    }

    /// Marks a unit in its bucket, which may be full.
    fn put(&self, hash: u64, mark: u64, level: u32) -> bool {
        // Bits that the level never looks at.
        let bucket = (hash >> 3) as usize % BUCKETS;
        let mut free = None;
        for place in &self.places[bucket * BUCKET..(bucket + 1) * BUCKET] {
            let known = place.load(Ordering::Relaxed);
            if known & !MARKS == hash && known != 0 {
                if known & mark != mark {
                    place.store(known | mark, Ordering::Release);
                }
                return true;
            }
            if free.is_none() && (known == 0 || known.leading_zeros() < level) {
                free = Some(place);
            }
        }
        if let Some(place) = free {
            place.store(hash | mark, Ordering::Release);
            // After it, so that whoever sees the number finds the unit. Nobody else writes here.
            self.put.store(self.put.load(Ordering::Relaxed) + 1, Ordering::Release);
        }
        free.is_some()
    }

    /// How many units were put into the table since it was made: it rises with each that wasn't known.
    pub fn learnt(&self) -> u64 {
        self.put.load(Ordering::Acquire)
    }
}

/// The units of several cores together: an exact sample.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    level: u32,
    units: HashMap<u64, u64>,
}

impl Sample {
    /// What these cores saw.
    pub fn of<'a>(cores: impl IntoIterator<Item = &'a Census>) -> Self {
        let mut sample = Self::default();
        cores.into_iter().for_each(|core| sample.add(core));
        let level = sample.level;
        sample.units.retain(|hash, _| hash.leading_zeros() >= level);
        sample
    }

    fn add(&mut self, core: &Census) {
        for place in &core.places {
            let known = place.load(Ordering::Acquire);
            if known != 0 {
                *self.units.entry(known & !MARKS).or_default() |= known & MARKS;
            }
        }
        // Read last: a place that was overwritten as free at a level is known to be of that level.
        self.level = self.level.max(core.level.load(Ordering::Acquire));
    }

    fn marked(&self, mark: u64) -> u64 {
        self.units.values().filter(|marks| **marks & mark == mark).count() as u64
    }

    /// Distinct units on this arm, by estimate; exact while there are few.
    pub fn units(&self, arm: Arm) -> u64 {
        self.marked(Mark::of_arm(arm)) << self.level
    }

    /// Distinct units, by estimate; exact while there are few.
    pub fn total(&self) -> u64 {
        (self.units.len() as u64) << self.level
    }

    /// Distinct units, rather too few than too many: two standard errors below the estimate.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate of a count"
    )]
    pub fn at_least(&self) -> u64 {
        if self.level == 0 {
            return self.total();
        }
        let off = 2.0 / (self.units.len().max(4) as f64).sqrt();
        (self.total() as f64 * (1.0 - off)) as u64
    }

    /// The units that came back, by the arm that served them.
    pub fn returned(&self) -> Returned {
        let on = |arm| self.marked(Mark::of_arm(arm) | Mark::RETURNED);
        Returned { level: self.level, units: crate::model::split::PerArm::from_fn(on) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::split::Salt;
    use crate::model::weight::Weight;

    fn unit(key: u32) -> Unit {
        Unit::of_key(Salt(9), &key.to_le_bytes())
    }

    #[test]
    fn distinct_units_are_counted_once_over_all_cores() {
        for units in [0u32, 1, 10, 1_000, 100_000] {
            let cores = [Census::default(), Census::default()];
            for key in 0..units {
                // half of the users come through both cores, again and again
                let mark = Mark::new(Arm::Stable, false);
                cores[(key % 2) as usize].note(unit(key), mark);
                cores[0].note(unit(key), mark);
                cores[0].note(unit(key), mark);
            }
            let sample = Sample::of(&cores);
            #[expect(clippy::cast_precision_loss, reason = "a count of users")]
            let counted = sample.total() as f64;
            let off = (counted - f64::from(units)).abs();
            let allowed = if units <= 1_000 { 0.0 } else { f64::from(units) * 0.09 };
            assert!(off <= allowed, "{units} units read as {counted}");
            assert!(sample.at_least() <= u64::from(units), "{} of {units}", sample.at_least());
            assert_eq!(sample.units(Arm::Stable), sample.total());
        }
    }

    #[test]
    fn the_sample_knows_who_came_back_and_on_which_arm() {
        let weight = Weight::from_percent(20.0).expect("a weight");
        let census = Census::default();
        for key in 0..50_000 {
            let arm = unit(key).arm(weight);
            census.note(unit(key), Mark::new(arm, false));
            if key % 2 == 0 {
                census.note(unit(key), Mark::new(arm, true));
            }
        }
        let sample = Sample::of([&census]);
        let Returned { level, units } = sample.returned();
        assert!(level > 0);
        // then the sample is exact: of its part of the units, those that came back
        let expected = |arm| {
            let of_sample = |key: &u32| unit(*key).lower().leading_zeros() >= level;
            (0..50_000).step_by(2).filter(of_sample).filter(|key| unit(*key).arm(weight) == arm).count() as u64
        };
        assert_eq!((units.stable, units.canary), (expected(Arm::Stable), expected(Arm::Canary)));
    }

    #[test]
    fn a_census_tells_without_being_counted_whether_it_learnt_of_anybody() {
        let census = Census::default();
        let mark = |returned| Mark::new(Arm::Stable, returned);
        for (key, returned, learnt) in [(1, false, 1), (1, false, 1), (2, false, 2), (1, true, 2), (2, false, 2)] {
            census.note(unit(key), mark(returned));
            assert_eq!(census.learnt(), learnt, "{key}");
        }
    }

    #[test]
    fn a_table_that_is_full_goes_on() {
        let census = Census::default();
        // given units that all want the same bucket
        for n in 0..1_000u64 {
            census.note(Unit(u128::from(n.reverse_bits() | 8)), Mark::new(Arm::Canary, true));
        }
        let sample = Sample::of([&census]);
        assert!(sample.units.len() <= BUCKET && sample.level > 0);
    }
}
