//! What other proxies said of their traffic, and this one before a restart.

use std::collections::BTreeMap;

use crate::model::split::PerArm;
use crate::model::time::Timestamp;
use crate::model::verdict::Seen;
use crate::model::weight::Weight;

/// Steps remembered; the oldest make room.
const STEPS: usize = 1_024;

/// What was said of one episode. Counts of several proxies are never added, since users may visit several:
/// the largest one is valid for all of them.
#[derive(Debug, Default)]
pub(super) struct Heard {
    addresses: u64,
    units: PerArm<u64>,
    /// Steps of all proxies, by when each began there, and the units that were exposed.
    steps: BTreeMap<(Timestamp, Weight), u64>,
}

impl Heard {
    /// Notes what a proxy said.
    pub(super) fn note(&mut self, seen: &Seen) {
        self.addresses = self.addresses.max(seen.addresses);
        self.units = PerArm::from_fn(|arm| *self.units.get(arm).max(seen.units.get(arm)));
        let exposed = self.steps.entry((seen.begun_at, seen.weight)).or_default();
        *exposed = seen.exposed.max(*exposed);
        if self.steps.len() > STEPS {
            self.steps.pop_first();
        }
    }

    /// Since when draws at this weight belong to the step that runs: since the latest step at another
    /// weight began. In between none are made.
    pub(super) fn since(&self, weight: Weight) -> Timestamp {
        let others = self.steps.keys().rev().find(|(_, other)| *other != weight);
        others.map_or_else(Timestamp::default, |(begun_at, _)| *begun_at)
    }

    /// The most units of the running step that had time to fail on any proxy.
    pub(super) fn exposed(&self, weight: Weight) -> u64 {
        let of_step = self.steps.range((self.since(weight), Weight::ZERO)..).filter(|((_, at), _)| *at == weight);
        of_step.map(|(_, exposed)| *exposed).max().unwrap_or_default()
    }

    /// The most client addresses that any proxy saw.
    pub(super) const fn addresses(&self) -> u64 {
        self.addresses
    }

    /// The most units of each arm that any proxy saw.
    pub(super) const fn units(&self) -> PerArm<u64> {
        self.units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(percent: u16, begun_at: u64, exposed: u64) -> Seen {
        let (weight, begun_at) = (Weight::from_hundredths(percent * 100), Timestamp::from_millis(begun_at));
        Seen { weight, begun_at, exposed, addresses: exposed, ..Seen::default() }
    }

    fn heard(all: &[Seen]) -> Heard {
        let mut heard = Heard::default();
        all.iter().for_each(|seen| heard.note(seen));
        heard
    }

    #[test]
    fn the_largest_count_stands_for_all() {
        let heard = heard(&[seen(10, 100, 300), seen(10, 90, 500), seen(10, 100, 200)]);
        assert_eq!(heard.exposed(Weight::from_hundredths(1_000)), 500);
        assert_eq!((heard.addresses(), heard.since(Weight::from_hundredths(1_000))), (500, Timestamp::default()));
    }

    #[test]
    fn an_earlier_step_at_the_same_weight_is_another_step() {
        // given 10 %, then 20 %, then 10 % again, and a proxy that died in the first step
        let heard = heard(&[seen(10, 100, 9_000), seen(20, 200, 800), seen(20, 210, 700), seen(10, 300, 30)]);
        let (ten, twenty) = (Weight::from_hundredths(1_000), Weight::from_hundredths(2_000));
        assert_eq!((heard.since(ten), heard.exposed(ten)), (Timestamp::from_millis(210), 30));
        assert_eq!((heard.since(twenty), heard.exposed(twenty)), (Timestamp::from_millis(300), 0));
    }
}
