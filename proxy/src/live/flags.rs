//! What is known of flags: the definitions in force, what is refused of them, and how each has been used.
//!
//! Use is counted by core without a shared lock, and outlives a snapshot as long as the flag's definition
//! does: a flag that changed begins anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;

use super::counters::{self, Padded};
use crate::model::flag::stale::Usage;
use crate::model::flag::{Definitions, Digest, Flag, FlagSet, Refusal};
use crate::model::time::Timestamp;

/// The definitions behind the flags in force.
#[derive(Clone, Debug, Default)]
pub struct FlagFacts {
    /// As the store has them, the last good one in the place of each that is refused.
    pub definitions: Arc<Definitions>,
    /// What is refused, and why.
    pub refusals: Arc<[Refusal]>,
    /// What they were compiled to: the very set that a snapshot holds once they are in force.
    pub set: Arc<FlagSet>,
}

/// What is known of all flags.
#[derive(Debug)]
pub(super) struct FlagsLive {
    cores: usize,
    pub(super) facts: ArcSwap<FlagFacts>,
    usage: Mutex<HashMap<Box<str>, Arc<FlagUsage>>>,
    /// Of new definitions on trial, by service: the latest of each.
    on_trial: Mutex<HashMap<Box<str>, Arc<FlagUsage>>>,
}

impl FlagsLive {
    pub(super) fn new(cores: usize) -> Self {
        Self { cores, facts: ArcSwap::default(), usage: Mutex::default(), on_trial: Mutex::default() }
    }

    /// Begins to count the use of flags that are new or have changed, and forgets those that are gone.
    pub(super) fn count_use_of(&self, flags: &FlagSet, now: Timestamp) {
        let mut known = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|key, usage| flags.get(key).is_some_and(|flag| flag.digest() == usage.digest));
        for flag in flags.iter() {
            if !known.contains_key(flag.key()) {
                known.insert(flag.key().into(), Arc::new(FlagUsage::new(flag, self.cores, now)));
            }
        }
    }

    pub(super) fn usage_of(&self, key: &str) -> Option<Arc<FlagUsage>> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub(super) fn trial_usage(&self, service: &str, flag: &Flag, now: Timestamp) -> Arc<FlagUsage> {
        let mut on_trial = self.on_trial.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = on_trial.get(service).filter(|usage| usage.digest == flag.digest()) {
            return Arc::clone(known);
        }
        let fresh = Arc::new(FlagUsage::new(flag, self.cores, now));
        on_trial.insert(service.into(), Arc::clone(&fresh));
        fresh
    }

    pub(super) fn usage(&self) -> BTreeMap<String, Arc<FlagUsage>> {
        let known = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(key, usage)| ((**key).to_owned(), Arc::clone(usage))).collect()
    }
}

/// How one definition of a flag has been used.
#[derive(Debug)]
pub struct FlagUsage {
    digest: Digest,
    since: Timestamp,
    /// By name, as the flag has them.
    variants: Box<[Box<str>]>,
    cores: usize,
    /// A tally for each core, which it alone writes; there once requests ask for the flag.
    by_core: OnceLock<Box<[Tally]>>,
    /// Of everybody else.
    elsewhere: Tally,
}

impl FlagUsage {
    fn new(flag: &Flag, cores: usize, since: Timestamp) -> Self {
        let variants: Box<[Box<str>]> = flag.variants().map(|(name, _)| name.into()).collect();
        let elsewhere = Tally::new(variants.len());
        Self { digest: flag.digest(), since, variants, cores, by_core: OnceLock::new(), elsewhere }
    }

    /// Makes room for [`FlagUsage::count`].
    pub(super) fn prepare_for_requests(&self) {
        self.by_core.get_or_init(|| (0..self.cores).map(|_| Tally::new(self.variants.len())).collect());
    }

    /// Whether requests ask for the flag, because the configuration names it.
    pub fn is_asked_by_requests(&self) -> bool {
        self.by_core.get().is_some()
    }

    /// Counts an evaluation on a data-plane core, which alone does so by this number. None as variant is one
    /// without a value.
    pub fn count(&self, core: usize, variant: Option<&str>, now: Timestamp) {
        if let Some(tally) = self.by_core.get().and_then(|cores| cores.get(core)) {
            counters::add(tally.cell(self.place_of(variant)), 1);
            tally.cell(LAST).store(now.as_millis(), Ordering::Relaxed);
        }
    }

    /// Counts an evaluation anywhere else.
    pub fn count_elsewhere(&self, variant: Option<&str>, now: Timestamp) {
        self.elsewhere.cell(self.place_of(variant)).fetch_add(1, Ordering::Relaxed);
        self.elsewhere.cell(LAST).fetch_max(now.as_millis(), Ordering::Relaxed);
    }

    /// What was counted.
    pub fn read(&self) -> Usage {
        let last = self.sum(LAST, u64::max);
        let by_variant = self.variants.iter().zip(FIRST_VARIANT..);
        Usage {
            since: self.since,
            last: (last > 0).then(|| Timestamp::from_millis(last)),
            by_variant: by_variant.map(|(name, place)| (name.to_string(), self.total(place))).collect(),
        }
    }

    /// Evaluations without a value: disabled, in error, or left to the application.
    pub fn without_value(&self) -> u64 {
        self.total(WITHOUT_VALUE)
    }

    fn total(&self, place: usize) -> u64 {
        self.sum(place, u64::wrapping_add)
    }

    fn sum(&self, place: usize, join: impl Fn(u64, u64) -> u64) -> u64 {
        let cores = self.by_core.get().into_iter().flatten();
        let tallies = cores.chain(std::iter::once(&self.elsewhere));
        tallies.map(|tally| tally.cell(place).load(Ordering::Relaxed)).fold(0, join)
    }

    fn place_of(&self, variant: Option<&str>) -> usize {
        let nth = variant.and_then(|variant| self.variants.binary_search_by(|name| (**name).cmp(variant)).ok());
        nth.map_or(WITHOUT_VALUE, |nth| FIRST_VARIANT + nth)
    }
}

/// Counts of one flag by one writer, on cache lines of their own.
#[derive(Debug)]
struct Tally(Box<[Padded<Line>]>);

/// As many counts as fit.
type Line = [AtomicU64; CELLS];

const CELLS: usize = 16;
/// The places of a tally: when it was last written, in milliseconds since 1970, and counts.
const LAST: usize = 0;
const WITHOUT_VALUE: usize = 1;
const FIRST_VARIANT: usize = 2;

impl Tally {
    fn new(variants: usize) -> Self {
        let lines = (FIRST_VARIANT + variants).div_ceil(CELLS);
        Self((0..lines).map(|_| Padded::default()).collect())
    }

    fn cell(&self, place: usize) -> &AtomicU64 {
        &self.0[place / CELLS].0[place % CELLS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: Timestamp = Timestamp::from_millis(1_780_272_000_000);

    fn flags(variants: &[(&str, Value)]) -> FlagSet {
        let variants: serde_json::Map<String, Value> =
            variants.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let document = json!({"flags": {"it": {"state": "ENABLED", "variants": variants}}}).to_string();
        let (flags, refusals) = FlagSet::update(&FlagSet::default(), document.as_bytes());
        assert_eq!(refusals, []);
        flags
    }

    #[test]
    fn use_is_counted_by_variant_wherever_it_happens() {
        let many: Vec<String> = (0..40).map(|nth| format!("v{nth:02}")).collect();
        let variants: Vec<_> = many.iter().map(|name| (name.as_str(), json!(name))).collect();
        let live = FlagsLive::new(2);
        live.count_use_of(&flags(&variants), NOW);
        let usage = live.usage_of("it").expect("it is counted");
        assert_eq!((usage.read().last, usage.read().since), (None, NOW));
        usage.prepare_for_requests();
        for (nth, name) in many.iter().enumerate() {
            for _ in 0..=nth {
                usage.count(nth % 2, Some(name), NOW);
            }
            usage.count_elsewhere(Some(name), NOW);
        }
        usage.count(1, None, NOW);
        usage.count(2, None, NOW); // there is no such core
        usage.count_elsewhere(Some("no such variant"), NOW);
        let read = usage.read();
        assert_eq!(read.last, Some(NOW));
        for (nth, name) in (0..).zip(&many) {
            assert_eq!(read.by_variant[name], nth + 2, "{name}");
        }
        assert_eq!(usage.without_value(), 2);
    }

    #[test]
    fn counting_begins_anew_with_a_new_definition_and_ends_with_the_flag() {
        let live = FlagsLive::new(1);
        let (old, new) = (flags(&[("on", json!(true))]), flags(&[("on", json!(true)), ("off", json!(false))]));
        live.count_use_of(&old, NOW);
        live.usage_of("it").expect("it is counted").count_elsewhere(Some("on"), NOW);
        live.count_use_of(&old, NOW);
        assert_eq!(live.usage()["it"].read().by_variant["on"], 1, "the same definition");
        live.count_use_of(&new, NOW);
        assert_eq!(live.usage()["it"].read().by_variant["on"], 0, "a new one");
        live.count_use_of(&FlagSet::default(), NOW);
        assert!(live.usage_of("it").is_none());
    }
}
