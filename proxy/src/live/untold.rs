//! What this proxy lets through by a rate of the whole fleet, until the others are told: see `model::spending`.
//! May know: model.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::model::spending::{MOST_TOLD, Spent};

/// Clients that may wait to be told of: some twenty times as many as others are told of in a second.
const MOST_PLACES: usize = 16_384;

/// What clients were let through since the others were last told of them.
///
/// Two clients that share a place are told of as far as they are the one that came first: it errs by letting through. Where
/// a client has its place is hashed anew in each process, so that nobody can choose whom to share one with.
#[derive(Debug)]
pub(super) struct Untold {
    places: Box<[Place]>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Place {
    client: AtomicU64,
    requests: AtomicU32,
}

impl Place {
    fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Untold {
    /// Room for this many clients, or a few more, but never for more than can be told of in reasonable time.
    pub(super) fn new(clients: usize) -> Self {
        let places = clients.min(MOST_PLACES).next_power_of_two();
        Self { places: (0..places).map(|_| Place::default()).collect(), hasher: RandomState::new() }
    }

    /// Notes a request that was let through.
    pub(super) fn note(&self, client: u64) {
        let place = &self.places[self.place_of(client)];
        if place.requests() == 0 {
            place.client.store(client, Ordering::Relaxed);
        }
        // Two that take a free place at the same moment may be told of as one.
        if place.client.load(Ordering::Relaxed) == client {
            place.requests.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn place_of(&self, client: u64) -> usize {
        let hash = self.hasher.hash_one(client);
        usize::try_from(hash & (self.places.len() as u64 - 1)).unwrap_or(0)
    }

    /// Those with the most requests, which are told of with this. To be called by one task alone.
    ///
    /// Where so many wait that newcomers find no place, those who aren't told of this time count half: who makes up
    /// clients, with a request of each, takes nobody's place for long.
    pub(super) fn take(&self) -> Vec<Spent> {
        let mut pending: Vec<&Place> = self.places.iter().filter(|place| place.requests() > 0).collect();
        if pending.len() > MOST_TOLD {
            let is_crowded = pending.len() > self.places.len() / 2;
            pending.select_nth_unstable_by_key(MOST_TOLD, |place| u32::MAX - place.requests());
            let rest = pending.split_off(MOST_TOLD);
            for place in rest.iter().filter(|_| is_crowded) {
                // What is counted meanwhile stays counted.
                place.requests.fetch_sub(place.requests().div_ceil(2), Ordering::Relaxed);
            }
        }
        let tell = |place: &Place| (place.client.load(Ordering::Relaxed), place.requests.swap(0, Ordering::Relaxed));
        pending.into_iter().map(tell).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_with_the_most_requests_are_told_of_first_and_each_once() {
        let untold = Untold::new(MOST_PLACES);
        let mut noted = 0;
        for client in 0..1_000_u64 {
            let requests = u32::try_from(client / 100 + 1).expect("few");
            (0..requests).for_each(|_| untold.note(client));
            noted += requests;
        }
        let (mut told, mut last) = (0, u32::MAX);
        for _ in 0..8 {
            let spent = untold.take();
            assert!(spent.len() <= MOST_TOLD);
            let most = spent.iter().map(|(_, requests)| *requests).max().unwrap_or(0);
            assert!(most <= last, "who had more came later");
            last = spent.iter().map(|(_, requests)| *requests).min().unwrap_or(0);
            told += spent.iter().map(|(_, requests)| *requests).sum::<u32>();
        }
        assert!(untold.take().is_empty());
        // Some thirty of a thousand share a place, by chance, with one that came before.
        assert!(told <= noted && told > noted - noted / 10, "{told} of {noted}");
    }

    #[test]
    fn who_shares_a_place_is_not_taken_for_the_other() {
        let untold = Untold::new(1);
        (0..3).for_each(|_| untold.note(1));
        untold.note(9);
        assert_eq!(untold.take(), [(1, 3)]);
        untold.note(9);
        assert_eq!(untold.take(), [(9, 1)]);
    }

    #[test]
    fn clients_that_somebody_makes_up_take_nobodys_place_for_long() {
        let untold = Untold::new(1_024);
        let mut made_up = 1_000_000;
        let mut flood = || {
            (0..4_096).for_each(|_| {
                made_up += 1;
                untold.note(made_up);
            });
        };
        flood();
        let mut told = 0;
        for _ in 0..10 {
            (0..100).for_each(|_| untold.note(7));
            flood();
            told += untold.take().iter().filter(|(client, _)| *client == 7).map(|(_, requests)| *requests).sum::<u32>();
        }
        assert!(told >= 400, "{told} of 1000");
        assert_eq!(untold.places.len(), 1_024);
        assert_eq!(Untold::new(usize::MAX / 4).places.len(), MOST_PLACES);
    }
}
