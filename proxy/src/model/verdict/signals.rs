//! The evidence of all signals together, and what the outside tells: facts.
//!
//! Each enabled signal has a share of α, and the canary must go when one signal's evidence
//! reaches what its share asks for: `E = max(share · E_signal) ≥ 1/α`. A mean of the processes would
//! need all of them to be fair given *all* that is known, and they are not: when a unit goes bad for
//! a second signal, its arm is known from the first. The largest share needs nothing of the kind: by
//! Ville's inequality for each signal by itself, P(ever) ≤ Σ α · share = α, however signals hang together.
//! It is at most what the mean would be, and less than a unit slower.

use serde::{Deserialize, Serialize};

use super::addresses::ClientNet;
use super::eprocess::EProcess;
use crate::model::outcome::{PerSignal, Signal};
use crate::model::spec::SignalSpec;
use crate::model::split::{Arm, Unit};
use crate::model::time::Timestamp;
use crate::model::weight::Weight;

/// What part of α each signal has, before the parts of those that don't count are given to the others.
///
/// Errors have most of it: they are what a broken release shows first, and a tenth for each of the
/// others costs those only one or two bad units more, since evidence grows by products.
const SHARES: PerSignal<f64> = PerSignal { errors: 0.8, slow: 0.1, client_errors: 0.1, missing: 0.1 };

/// A unit that went bad: all that the verdict needs to know of it.
///
/// Facts of several proxies may be judged together: each unit counts once for each signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Who.
    pub unit: Unit,
    /// The arm that it was drawn to, and that served it.
    pub arm: Arm,
    /// The weight of the draw.
    pub weight: Weight,
    /// The control's share of the keys at the draw: zero where there was none.
    #[serde(default, skip_serializing_if = "Weight::is_zero")]
    pub control: Weight,
    /// For which signal it is bad.
    pub signal: Signal,
    /// When the arm was drawn.
    pub drawn_at: Timestamp,
    /// Its client.
    pub address: ClientNet,
}

impl Fact {
    /// What orders facts, the same way everywhere.
    pub(super) fn order(&self) -> (Timestamp, Unit, Signal) {
        (self.drawn_at, self.unit, self.signal)
    }
}

/// The running evidence of all signals.
#[derive(Clone, Debug)]
pub(super) struct Processes {
    terms: PerSignal<Term>,
    processes: PerSignal<EProcess>,
}

/// On what terms a signal counts.
#[derive(Clone, Copy, Debug, Default)]
struct Term {
    /// Its part of α; 0 = it doesn't count.
    share: f64,
    tolerance: f64,
}

impl Processes {
    /// No evidence yet. If no signal is enabled there never is any.
    pub(super) fn new(specs: &PerSignal<SignalSpec>) -> Self {
        let enabled = |signal| if specs.get(signal).enabled { *SHARES.get(signal) } else { 0.0 };
        let all: f64 = Signal::ALL.into_iter().map(enabled).sum();
        let term = |signal| Term {
            share: if all > 0.0 { enabled(signal) / all } else { 0.0 },
            tolerance: specs.get(signal).tolerance,
        };
        Self { terms: PerSignal::from_fn(term), processes: PerSignal::default() }
    }

    /// The same terms, and no evidence yet.
    pub(super) fn without_evidence(&self) -> Self {
        Self { terms: self.terms, processes: PerSignal::default() }
    }

    /// Whether a signal counts.
    pub(super) fn counts(&self, signal: Signal) -> bool {
        self.terms.get(signal).share > 0.0
    }

    /// The signal's part of α.
    pub(super) fn share(&self, signal: Signal) -> f64 {
        self.terms.get(signal).share
    }

    /// How many times stable's risk the canary's may be.
    pub(super) fn tolerance(&self, signal: Signal) -> f64 {
        self.terms.get(signal).tolerance
    }

    /// Takes in a newly bad unit of a signal that counts: O(grid).
    pub(super) fn observe(&mut self, signal: Signal, canary: bool, weight: f64) {
        let weight = tolerated(weight, self.terms.get(signal).tolerance);
        self.processes.get_mut(signal).observe(canary, weight);
    }

    /// As many more units of stable, bad in every signal that counts.
    pub(super) fn observe_stable(&mut self, weight: f64) {
        for signal in Signal::ALL {
            if self.counts(signal) {
                self.observe(signal, false, weight);
            }
        }
    }

    /// A signal's own evidence; it must reach 1 / (α · share).
    pub(super) fn of(&self, signal: Signal) -> f64 {
        self.processes.get(signal).value()
    }

    /// The evidence of all, to be held against 1/α.
    pub(super) fn value(&self) -> f64 {
        let weighed = |(signal, process): (_, &EProcess)| match self.terms.get(signal).share {
            share if share > 0.0 => share * process.value(),
            _ => 0.0,
        };
        self.processes.iter().map(weighed).fold(0.0, f64::max)
    }
}

/// The chance of a newly bad unit being on a canary whose risk is `tolerance` times stable's.
fn tolerated(weight: f64, tolerance: f64) -> f64 {
    weight * tolerance / (weight * tolerance + 1.0 - weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    fn specs() -> PerSignal<SignalSpec> {
        SignalSpec::DEFAULT
    }

    #[test]
    fn the_shares_of_the_signals_that_count_are_all_of_alpha() {
        for off in Signal::ALL {
            let mut specs = specs();
            specs.get_mut(off).enabled = false;
            let processes = Processes::new(&specs);
            let sum: f64 = Signal::ALL.map(|signal| processes.share(signal)).iter().sum();
            assert!((sum - 1.0).abs() < 1e-12 && !processes.counts(off), "without {off}: {sum}");
        }
    }

    #[test]
    fn a_risk_within_the_tolerance_is_fair() {
        // given slow units of a canary whose risk is 1.25 times stable's: the mean over the next
        // unit's arm is the value before
        let (weight, tolerance) = (0.1, 1.25);
        let canary = tolerated(weight, tolerance);
        assert!((canary - 0.1 * 1.25 / (0.1 * 1.25 + 0.9)).abs() < 1e-12);
        let mut rng = StdRng::seed_from_u64(2);
        let mut processes = Processes::new(&specs());
        for _ in 0..60 {
            let after = |on| {
                let mut next = processes.clone();
                next.observe(Signal::Slow, on, weight);
                next.of(Signal::Slow)
            };
            let mean = canary * after(true) + (1.0 - canary) * after(false);
            assert!((mean / processes.of(Signal::Slow) - 1.0).abs() < 1e-9);
            processes.observe(Signal::Slow, rng.random_bool(canary), weight);
        }
    }

    #[test]
    fn all_signals_together_pull_a_healthy_canary_no_oftener_than_alpha() {
        // given 1,000 healthy episodes at α = 5 %, in which each unit that errs was slow before and is
        // missing after, the most that signals can have in common, or in which they have nothing in common
        let (alpha, episodes) = (0.05, 1_000);
        let mut rng = StdRng::seed_from_u64(20_260_402);
        for (weight, in_common) in [(0.05, true), (0.5, true), (0.05, false), (0.5, false)] {
            let mut pulled = 0;
            for _ in 0..episodes {
                let mut processes = Processes::new(&specs());
                pulled += u32::from((0..150).any(|_| {
                    let unit = rng.random_bool(weight);
                    [Signal::Slow, Signal::Errors, Signal::Missing].into_iter().any(|signal| {
                        processes.observe(signal, if in_common { unit } else { rng.random_bool(weight) }, weight);
                        processes.value() >= 1.0 / alpha
                    })
                }));
            }
            // three standard errors above 5 % of 1,000 are 71
            assert!(pulled <= 71, "weight {weight}, in common {in_common}: {pulled} of {episodes}");
        }
    }
}
