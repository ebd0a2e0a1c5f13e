//! The latch of a service: why its canary gets nothing, set here and now, before anybody else is told.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::ServiceLive;
use crate::model::circuit::{Circuit, Trip};
use crate::model::rollout::RolloutId;
use crate::model::rollout::change::Deed;
use crate::model::split::EpisodeId;

/// A rollout that is being aborted: the canary gets nothing here while the rest of the world is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// The rollout.
    pub id: RolloutId,
    /// Who wants it, when, and why.
    pub deed: Deed,
}

/// Aborts of rollouts that are remembered.
const ABORTS: usize = 16;

/// Bits of [`ServiceLive::stops`]: why the canary gets nothing.
const OPEN: u8 = 1;
const HALTED: u8 = 2;

impl ServiceLive {
    /// Whether the circuit is open.
    pub fn is_open(&self) -> bool {
        self.stops.load(Ordering::Relaxed) & OPEN != 0
    }

    /// Whether the canary gets nothing, whatever its weight: what every request reads.
    pub fn canary_is_stopped(&self) -> bool {
        self.stops.load(Ordering::Relaxed) != 0
    }

    fn stop(&self, why: u8, stopped: bool) {
        if stopped {
            if self.stops.fetch_or(why, Ordering::SeqCst) == 0 {
                self.recall();
            }
        } else {
            self.stops.fetch_and(!why, Ordering::SeqCst);
        }
    }

    /// Whether the canary was stopped, for good or for a while, since [`crate::live::Live::recalls`] was so many: what
    /// it serves since before then has to end.
    pub fn is_recalled_since(&self, recalls: u64) -> bool {
        self.recalled_at.load(Ordering::SeqCst) > recalls
    }

    /// Says that the canary was stopped, here or elsewhere: what it still serves ends soon.
    pub fn recall(&self) {
        let next = self.all_recalls.load(Ordering::SeqCst) + 1;
        self.recalled_at.fetch_max(next, Ordering::SeqCst);
        // Last: who sees that somebody was recalled sees who. Two at the same moment may share a number: who reads that
        // one comes after what either had said before.
        self.all_recalls.fetch_add(1, Ordering::SeqCst);
    }

    /// The circuit as this process knows it.
    pub fn circuit(&self) -> Circuit {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens the circuit here and now, and rings for the rest to be told. Returns whether
    /// it was closed before. From the next request on no key is on the canary.
    pub fn trip(&self, episode: Option<EpisodeId>, trip: Trip) -> bool {
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        let was_closed = !circuit.is_open();
        circuit.trip(episode, trip);
        self.stop(OPEN, true);
        if was_closed {
            self.untold.store(true, Ordering::SeqCst);
        }
        self.latched.notify_one();
        was_closed
    }

    /// Whether this process tripped the circuit and people don't know yet. Asked once per trip.
    pub fn take_untold(&self) -> bool {
        self.untold.swap(false, Ordering::SeqCst)
    }

    /// Takes in a circuit from the store: see [`Circuit::merge`]. Returns what stands.
    pub fn merge_circuit(&self, other: &Circuit) -> Circuit {
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        *circuit = circuit.merge(other);
        self.stop(OPEN, circuit.is_open());
        circuit.clone()
    }

    /// Takes in a circuit from another process of this very proxy, and rings for the store to hear of it. Where it
    /// opens here by that and `tells`, people hear of the trip from this process.
    pub fn adopt_circuit(&self, other: &Circuit, tells: bool) {
        let was_closed = !self.is_open();
        if self.merge_circuit(other).is_open() && was_closed {
            if tells {
                self.untold.store(true, Ordering::SeqCst);
            }
            self.latched.notify_one();
        }
    }

    /// Stops the canary here and now because its rollout is aborted, and rings for the store to be told.
    pub fn halt(&self, halt: Halt) {
        let mut known = self.halts();
        if !known.iter().any(|aborted| aborted.id == halt.id) {
            known.truncate(ABORTS - 1);
            known.push_front(halt);
        }
        self.stop(HALTED, true);
        self.latched.notify_one();
    }

    /// The abort that the store may not know yet.
    pub fn halted(&self) -> Option<Halt> {
        let is_on = self.stops.load(Ordering::SeqCst) & HALTED != 0;
        if is_on { self.halts().front().cloned() } else { None }
    }

    /// The abort of a rollout that was aborted here: a store that fell back to an older copy may bring it back.
    pub fn aborted(&self, id: RolloutId) -> Option<Halt> {
        self.halts().iter().find(|halt| halt.id == id).cloned()
    }

    fn halts(&self) -> MutexGuard<'_, VecDeque<Halt>> {
        self.halts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lifts the stop of an abort: the snapshot in force says the same, or speaks of another rollout.
    pub fn lift_halt(&self, id: RolloutId) {
        if self.halts().front().is_some_and(|halt| halt.id == id) {
            self.stop(HALTED, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_trip_latches_at_once_and_is_told_once() {
        let service = ServiceLive::new("test", 1, Arc::default(), Arc::default());
        assert!(service.trip(None, Trip::sample()) && service.is_open());
        assert!(!service.trip(None, Trip::sample()), "it was open already");
        assert_eq!((service.take_untold(), service.take_untold()), (true, false));
        service.merge_circuit(&Circuit::default());
        assert!(service.is_open(), "an empty store closed it");
    }
}
