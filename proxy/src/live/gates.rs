//! How many requests the gates of a service turned away, by the flag that closed them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::counters::{self, Padded};

/// The requests that one flag turned away, on each core.
#[derive(Debug)]
pub struct TurnedAway(Box<[Padded<AtomicU64>]>);

impl TurnedAway {
    /// Counts one on this core.
    pub fn count(&self, core: usize) {
        counters::add(&self.0[core].0, 1);
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|core| core.0.load(Ordering::Relaxed)).sum()
    }
}

/// Those of all gates that a service has had.
#[derive(Debug, Default)]
pub struct Gates(Mutex<BTreeMap<String, Arc<TurnedAway>>>);

impl Gates {
    /// The count of a flag, made when it is first asked for.
    pub(super) fn of(&self, flag: &str, cores: usize) -> Arc<TurnedAway> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || Arc::new(TurnedAway((0..cores).map(|_| Padded::default()).collect()));
        Arc::clone(gates.entry(flag.to_owned()).or_insert_with(made))
    }

    /// How many requests each flag turned away.
    pub fn turned_away(&self) -> Vec<(String, u64)> {
        let gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.iter().map(|(flag, count)| (flag.clone(), count.sum())).collect()
    }
}
