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

/// Whether people hear of a circuit that another process of this proxy opened from this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// They don't.
    Nobody,
    /// They do where it opens here by that: else the one from whom this process had it before tells them.
    OfNews,
    /// They do in any case: nobody else tells them.
    OfTrip,
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

    /// Says that the canary was stopped, here or elsewhere: what it still serves ends soon. To be said once requests see
    /// that it is stopped: who comes later than this is taken for one that saw it.
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
            self.unmailed.store(true, Ordering::SeqCst);
        }
        self.latched.notify_one();
        was_closed
    }

    /// Takes in a circuit from the store, as [`Self::merge_circuit`]. Returns what stands, and whether this process
    /// tripped it and people don't know yet: asked once per trip, and never of a trip that isn't in what stands.
    pub fn settle_circuit(&self, stored: &Circuit) -> (Circuit, bool) {
        // In this order: a trip between the two is one for the next time.
        let untold = self.take_untold();
        (self.merge_circuit(stored), untold)
    }

    fn take_untold(&self) -> bool {
        self.untold.swap(false, Ordering::SeqCst)
    }

    /// Whether this process tripped the circuit, and no mail of it is on its way as far as is known.
    pub fn is_unmailed(&self) -> bool {
        self.unmailed.load(Ordering::SeqCst)
    }

    /// Says whether the mail of a trip of this process still waits, for a mailer that may never go on.
    pub fn set_unmailed(&self, unmailed: bool) {
        self.unmailed.store(unmailed, Ordering::SeqCst);
    }

    /// Takes in a circuit from the store: see [`Circuit::merge`]. Returns what stands.
    pub fn merge_circuit(&self, other: &Circuit) -> Circuit {
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        *circuit = circuit.merge(other);
        self.stop(OPEN, circuit.is_open());
        circuit.clone()
    }

    /// Takes in a circuit from another process of this very proxy, and rings for the store to hear of it.
    pub fn adopt_circuit(&self, other: &Circuit, telling: Telling) {
        let was_closed = !self.is_open();
        let stands = self.merge_circuit(other);
        let is_news = was_closed && stands.is_open();
        // The store may have been told of it before this process was.
        let who = |circuit: &Circuit| circuit.trip.as_ref().map(|trip| (trip.at, trip.by.clone()));
        let is_theirs = stands.is_open() && who(&stands) == who(other);
        let tells = match telling {
            Telling::Nobody => false,
            Telling::OfNews => is_news,
            Telling::OfTrip => is_theirs,
        };
        if tells {
            self.untold.store(true, Ordering::SeqCst);
        }
        if tells || is_news {
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
    use std::sync::atomic::AtomicU64;
    use std::sync::{Arc, Barrier};

    use super::*;

    #[test]
    fn a_trip_latches_at_once_and_is_told_once() {
        let service = ServiceLive::new("test", 1, Arc::default(), Arc::default());
        assert!(service.trip(None, Trip::sample()) && service.is_open());
        assert!(!service.trip(None, Trip::sample()), "it was open already");
        assert!(service.settle_circuit(&Circuit::default()).1 && !service.settle_circuit(&Circuit::default()).1);
        assert!(service.is_open(), "an empty store closed it");
    }

    #[test]
    fn a_trip_that_comes_while_the_store_is_looked_at_is_told_once_and_with_its_circuit() {
        for round in 0..2_000 {
            let service = ServiceLive::new("test", 1, Arc::default(), Arc::default());
            let start = Barrier::new(2);
            let told = std::thread::scope(|threads| {
                threads.spawn(|| {
                    start.wait();
                    service.trip(None, Trip::sample());
                });
                start.wait();
                // The last look comes after the trip.
                let looks = || service.settle_circuit(&Circuit::default());
                let mut looked: Vec<_> = (0..100).map(|_| looks()).collect();
                while !service.is_open() {
                    std::hint::spin_loop();
                }
                looked.extend([looks(), looks()]);
                looked
            });
            let told: Vec<_> = told.into_iter().filter(|(_, untold)| *untold).map(|(stands, _)| stands).collect();
            assert!(matches!(&told[..], [only] if only.trip.is_some()), "round {round}: {told:?}");
        }
    }

    #[test]
    fn what_was_drawn_before_a_recall_has_to_end_and_nothing_else() {
        let (latched, recalls) = (Arc::default(), Arc::new(AtomicU64::new(0)));
        let [shop, blog] =
            ["shop", "blog"].map(|name| ServiceLive::new(name, 1, Arc::clone(&latched), Arc::clone(&recalls)));
        let now = || recalls.load(Ordering::SeqCst);
        let before = now();
        shop.recall();
        assert!(shop.is_recalled_since(before) && !blog.is_recalled_since(before));
        let between = now();
        blog.recall();
        assert!(!shop.is_recalled_since(between) && blog.is_recalled_since(between) && !blog.is_recalled_since(now()));
    }

    #[test]
    fn people_hear_of_anothers_trip_from_the_one_that_it_leaves_that_to() {
        let tripped = || {
            let service = ServiceLive::new("test", 1, Arc::default(), Arc::default());
            service.trip(None, Trip::sample());
            service.circuit()
        };
        for (telling, is_known, is_told) in [
            (Telling::Nobody, false, false),
            (Telling::OfNews, false, true),
            (Telling::OfNews, true, false),
            (Telling::OfTrip, false, true),
            (Telling::OfTrip, true, true),
        ] {
            let service = ServiceLive::new("test", 1, Arc::default(), Arc::default());
            if is_known {
                service.merge_circuit(&tripped());
            }
            service.adopt_circuit(&tripped(), telling);
            assert_eq!(service.settle_circuit(&Circuit::default()).1, is_told, "{telling:?}, known: {is_known}");
        }
    }
}
