//! How much clients have asked for lately: one table for a rate, which all cores share without a lock.
//!
//! A word holds until when a client owes (see `model::limits::Gcra`), in ticks of the rate. A client that owes nothing is as
//! good as unknown, so forgetting it costs nothing. Where more clients owe than the table has room for, a new one takes
//! the place of the one that owes least, which may then begin anew: the table lets too much through, never too little.

use std::hash::Hash;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::sets::Sets;
use crate::model::limits::{Gcra, RateSpec};

/// The bits of a time. A million times as long as a rate remembers: what is older is taken for new with that chance.
const TIME_BITS: u32 = 44;
/// How far the idea of now of two cores may be apart.
const SKEW: Duration = Duration::from_secs(1);
/// How often a core that others overtake tries again. Each time one of them was counted.
const TRIES: usize = 64;

/// What clients owe by one rate.
#[derive(Debug)]
pub struct RateTable {
    sets: Sets<TIME_BITS>,
    gcra: Gcra,
    /// Nanoseconds.
    tick: u64,
    start: Instant,
    /// What is further ahead than this is long past: time runs in a circle.
    ahead: u64,
}

impl RateTable {
    pub(super) fn new(rate: &RateSpec) -> Self {
        let (gcra, tick) = rate.gcra();
        let skew = u64::try_from(SKEW.as_nanos()).unwrap_or(u64::MAX) / tick;
        let ahead = 2 * gcra.capacity() + skew;
        Self { sets: Sets::new(rate.clients), gcra, tick, start: Instant::now(), ahead }
    }

    /// Counts a request of a client.
    ///
    /// # Errors
    /// When it comes too early: by so much.
    pub fn ask(&self, client: impl Hash, now: Instant) -> Result<(), Duration> {
        let now = u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX) / self.tick;
        let (places, tag) = self.sets.of(client);
        for _ in 0..TRIES {
            let words = places.iter().map(|place| (place, place.load(Ordering::Relaxed)));
            let mut known = None;
            let mut least: Option<(u64, _, u64)> = None;
            for (place, word) in words {
                let debt = self.debt(word, now);
                if tag.is_of(word) {
                    known = Some((debt, place, word));
                    break;
                }
                if least.is_none_or(|(least, ..)| debt < least) {
                    least = Some((debt, place, word));
                }
            }
            let Some((debt, place, word)) = known.or_else(|| least.map(|(_, place, word)| (0, place, word))) else {
                return Ok(());
            };
            let debt = self.gcra.ask(debt).map_err(|early| Duration::from_nanos(early.saturating_mul(self.tick)))?;
            let next = tag.with(now.wrapping_add(debt));
            if place.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Ok(());
            }
        }
        Ok(())
    }

    const fn debt(&self, word: u64, now: u64) -> u64 {
        let debt = word.wrapping_sub(now) & Sets::<TIME_BITS>::VALUE;
        if debt <= self.ahead { debt } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limits::RateKey;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};
    use std::collections::HashMap;
    use std::num::NonZeroU32;
    use std::sync::atomic::AtomicUsize;

    fn rate(requests: u32, burst: u32, clients: usize) -> RateSpec {
        RateSpec {
            name: "test".into(),
            requests: NonZeroU32::new(requests).expect("some"),
            per: Duration::from_secs(1),
            burst: NonZeroU32::new(burst).expect("some"),
            by: RateKey::Address,
            methods: vec![],
            paths: vec![],
            exempt: vec![],
            clients,
        }
    }

    #[test]
    fn each_client_has_a_rate_of_its_own() {
        for seed in 0..20 {
            let mut dice = StdRng::seed_from_u64(seed);
            let rate = rate(dice.random_range(1..100), dice.random_range(1..20), 10_000);
            let table = RateTable::new(&rate);
            let (gcra, tick) = rate.gcra();
            let mut owed_until: HashMap<u16, u64> = HashMap::new();
            let mut nanos = 0;
            for step in 0..5_000 {
                nanos += dice.random_range(0..10_000_000);
                let client = dice.random_range(0..200);
                let owed = owed_until.entry(client).or_default();
                let expected = gcra.ask(owed.saturating_sub(nanos / tick));
                let asked = table.ask(client, table.start + Duration::from_nanos(nanos));
                assert_eq!(asked.is_ok(), expected.is_ok(), "seed {seed}, step {step}, client {client}");
                if let Ok(debt) = expected {
                    *owed = nanos / tick + debt;
                }
            }
        }
    }

    #[test]
    fn many_cores_together_let_no_more_through_than_one() {
        for round in 0..20 {
            let table = RateTable::new(&rate(1, 500, 64));
            let (granted, now) = (AtomicUsize::new(0), table.start);
            // Known before they all ask at once.
            assert!(table.ask("client", now).is_ok());
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..400 {
                            granted.fetch_add(usize::from(table.ask("client", now).is_ok()), Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(granted.into_inner(), 499, "round {round}");
        }
    }

    #[test]
    fn memory_is_bounded_and_who_is_forgotten_may_begin_anew() {
        let table = RateTable::new(&rate(1, 1, 8));
        let mut now = table.start;
        assert!(table.ask(0, now).is_ok() && table.ask(0, now).is_err());
        // Each of these owes more than the one before, so the first is the one that makes room.
        for client in 1..=8 {
            now += Duration::from_millis(1);
            assert!(table.ask(client, now).is_ok(), "{client}");
        }
        assert!((1..=8).all(|client| table.ask(client, now).is_err()), "all others are remembered");
        assert!(table.ask(0, now).is_ok(), "the first was forgotten");
    }

    #[test]
    fn who_was_not_seen_for_long_owes_nothing() {
        let table = RateTable::new(&rate(10, 10, 64));
        for days in 0..600 {
            let now = table.start + Duration::from_secs(days * 86_400);
            assert!((0..10).all(|_| table.ask("client", now).is_ok()), "day {days}");
            let early = table.ask("client", now).expect_err("the eleventh");
            assert!(early <= Duration::from_millis(101), "{early:?}");
        }
    }
}
