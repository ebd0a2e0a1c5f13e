//! How much clients have asked for lately: one table for a rate, which all cores share without a lock.
//!
//! A word holds until when a client owes (see `model::limits::Gcra`), in ticks of the rate. A client that owes nothing is as
//! good as unknown, so forgetting it costs nothing. Where more clients owe than the table has room for, a new one takes
//! the place of the one that owes least, which may then begin anew: the table lets too much through, never too little.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::sets::Sets;
use crate::model::limits::{Gcra, RateSpec};

/// The bits of a time. A million times as long as a rate remembers: what is older is taken for new with that chance.
const TIME_BITS: u32 = 44;
/// How far the idea of now of two cores may be apart.
const SKEW: Duration = Duration::from_secs(1);
/// What a client of a rate of the fleet may owe at most, in full bursts: as many proxies can each let through one before
/// they hear of each other, and none of it is forgotten. What is beyond would only lock out somebody for long, by the word of
/// a proxy that errs.
const MOST_OWED: u64 = 16;
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
    /// The most that a client owes, with what it was let through elsewhere.
    most: u64,
    /// This proxy has one of so many parts of the rate.
    parts: AtomicU64,
}

impl RateTable {
    pub(super) fn new(rate: &RateSpec) -> Self {
        let (gcra, tick) = rate.gcra();
        let skew = u64::try_from(SKEW.as_nanos()).unwrap_or(u64::MAX) / tick;
        let most = if rate.fleet { MOST_OWED * gcra.capacity() } else { gcra.capacity() };
        let (sets, start, ahead) = (Sets::new(rate.clients), Instant::now(), 2 * most + skew);
        Self { sets, gcra, tick, start, ahead, most, parts: AtomicU64::new(1) }
    }

    /// Counts a request of a client.
    ///
    /// # Errors
    /// When it comes too early: by so much.
    pub fn ask(&self, client: impl Hash, now: Instant) -> Result<(), Duration> {
        let parts = self.parts.load(Ordering::Relaxed);
        let gcra = if parts == 1 { self.gcra } else { self.gcra.part(parts) };
        let asked = self.alter(client, now, |debt| gcra.ask(debt));
        asked.map_err(|early| Duration::from_nanos(early.saturating_mul(self.tick)))
    }

    /// Has a client owe what it was let through elsewhere.
    pub fn charge(&self, client: impl Hash, requests: u32, now: Instant) {
        let charge = |debt| Ok(self.gcra.charge(debt, requests).min(self.most));
        let _never_too_early: Result<(), u64> = self.alter(client, now, charge);
    }

    /// From now on this proxy has one of so many parts of the rate.
    pub fn set_parts(&self, parts: u32) {
        self.parts.store(u64::from(parts).clamp(1, MOST_OWED), Ordering::Relaxed);
    }

    /// Alters what a client owes, as long as that may be.
    fn alter(&self, client: impl Hash, now: Instant, step: impl Fn(u64) -> Result<u64, u64>) -> Result<(), u64> {
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
            let debt = step(debt)?;
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
            fleet: false,
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

    #[test]
    fn what_was_let_through_elsewhere_is_owed_here_and_a_part_is_a_part_of_rate_and_burst() {
        let table = RateTable::new(&RateSpec { fleet: true, ..rate(10, 10, 64) });
        let (start, second) = (table.start, Duration::from_secs(1));
        let asks = |now: Instant| (0..100).take_while(|_| table.ask("a", now).is_ok()).count();
        table.charge("a", 7, start);
        assert_eq!((asks(start), table.ask("b", start).is_ok()), (3, true));
        // All of what many proxies let through at once is owed, and paid in time.
        table.charge("a", 40, start);
        assert_eq!((asks(start + second * 4), asks(start + second * 5)), (0, 10));
        table.set_parts(5);
        assert_eq!((asks(start + second * 60), asks(start + second * 61)), (2, 2));
        table.set_parts(50);
        assert_eq!((asks(start + second * 120), asks(start + second * 121)), (1, 0), "one at least, and no more");
    }

    #[test]
    fn nobody_is_locked_out_for_longer_than_sixteen_bursts_take_by_a_proxy_that_errs() {
        let table = RateTable::new(&RateSpec { fleet: true, ..rate(10, 10, 64) });
        (0..9).for_each(|_| table.charge("a", u32::MAX, table.start));
        let early = table.ask("a", table.start).expect_err("it owes much");
        assert!(early <= Duration::from_secs(16), "{early:?}");
        assert!(table.ask("a", table.start + early).is_ok());
    }
}
