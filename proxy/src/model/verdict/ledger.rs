//! The facts of an episode, and the evidence over them in the order in which their arms were drawn.
//!
//! An arm that stalls answers late and then all at once. In the order of the answers such a crowd
//! looks like an arm that errs alone, although both may err alike: the dice say nothing of that
//! order. They do of the order of the draws. So facts are taken in as they come, which costs nothing,
//! and are put in order before anybody acts on what they seem to say.

use std::collections::VecDeque;

use super::addresses::{ClientNet, WithoutOne};
use super::eprocess::EProcess;
use crate::model::time::Timestamp;

/// Facts whose order can still change. What is older has settled.
const REMEMBERED: usize = 4_096;

/// A unit that went bad.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    /// When its arm was drawn.
    pub(super) drawn_at: Timestamp,
    /// Its client.
    pub(super) from: ClientNet,
    /// Whether it was on the canary.
    pub(super) canary: bool,
    /// The weight of the draw, strictly between 0 and 1.
    pub(super) weight: f64,
}

/// The evidence over some facts.
#[derive(Clone, Debug, Default)]
struct Tally {
    all: EProcess,
    without_one: WithoutOne,
}

impl Tally {
    fn observe(&mut self, fact: &Fact) {
        self.without_one.observe(fact.from, fact.canary, fact.weight, &self.all);
        self.all.observe(fact.canary, fact.weight);
    }
}

/// The facts so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// Over the facts that have settled.
    settled: Tally,
    /// The others, by when they were drawn.
    recent: VecDeque<Fact>,
    /// Over all facts; those that came late are at the end until they are put in order.
    tally: Tally,
    in_disorder: bool,
}

impl Ledger {
    /// Takes in a fact.
    pub(super) fn note(&mut self, fact: Fact) {
        let place = self.recent.partition_point(|known| known.drawn_at <= fact.drawn_at);
        self.in_disorder |= place < self.recent.len();
        self.recent.insert(place, fact);
        self.tally.observe(&fact);
        if self.recent.len() > REMEMBERED
            && let Some(oldest) = self.recent.pop_front()
        {
            self.settled.observe(&oldest);
        }
    }

    /// Puts the facts in the order of their draws.
    pub(super) fn put_in_order(&mut self) {
        if std::mem::take(&mut self.in_disorder) {
            self.tally = self.settled.clone();
            for fact in &self.recent {
                self.tally.observe(fact);
            }
        }
    }

    /// The evidence.
    pub(super) fn value(&self) -> f64 {
        self.tally.all.value()
    }

    /// The smallest evidence with any one address left out; none before the canary's first bad unit.
    pub(super) fn least_without_one(&self) -> Option<f64> {
        self.tally.without_one.least()
    }

    /// Whether the evidence reaches the threshold even if so many more units of stable go bad. Wherever
    /// among the draws those belong, it can't be less than with all of them at the end.
    pub(super) fn stands_if_stable_errs(&self, threshold: f64, units: u64) -> bool {
        let mut all = self.tally.all.clone();
        let weight = self.recent.back().map_or(0.0, |last| last.weight);
        for _ in 0..units {
            if all.value() < threshold {
                return false;
            }
            all.observe(false, weight);
        }
        all.value() >= threshold
    }
}
