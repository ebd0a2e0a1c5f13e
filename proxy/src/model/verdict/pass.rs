//! The evidence for "the canary is good enough": a bet against "it turns at least `margin` more of
//! its units bad than stable does".
//!
//! With the weight `w`, let `Z = 1/w` for a unit that goes bad on the canary, `−1/(1−w)` for one that goes
//! bad on stable, 0 for a good one. Since serin draws the arm itself, the mean of `Z` is the canary's
//! share of bad units less stable's, whatever the mix of users. If that is at least the margin,
//! a factor `1 + λ(margin − Z)` has mean at most 1 for any `0 < λ < w`, where it can't be negative:
//! their product is an e-process, and so is a mixture over several λ. By Ville's inequality
//! P(it ever reaches 1/β) ≤ β.
//!
//! A good unit's factor is the same on either arm, so good units need only be counted. With fixed
//! λ the product depends on counts alone, not on the order in which facts came: all proxies
//! that know the same facts find the same.
//!
//! Sources: Waudby-Smith, Ramdas, *Estimating means of bounded random variables by betting* (2023);
//! Horvitz, Thompson (1952) for the weighing by 1/w.

use super::signals::Fact;
use super::units::{BadUnits, News};
use crate::model::spec::VerdictSpec;
use crate::model::split::{Arm, PerArm};
use crate::model::time::Timestamp;
use crate::model::weight::Weight;

/// Bad units remembered in one step; see [`BadUnits`].
const UNITS: usize = 65_536;

/// λ as a part of the weight, and the prior weight of each. The first is for a service that never errs,
/// and has most of the prior: there every unit more is waiting for nothing. The best one for a
/// service with a share `p` of bad units is about `margin / (margin + p)`, less at high weights.
const BETS: [(f64, f64); 8] =
    [(0.97, 0.50), (0.75, 0.12), (0.50, 0.10), (0.30, 0.08), (0.15, 0.07), (0.07, 0.05), (0.03, 0.04), (0.012, 0.04)];

/// Far above any threshold, on the log scale.
const CEILING: f64 = 460.0;

/// The pass process of one step: it begins anew with each weight.
#[derive(Clone, Debug)]
pub struct Pass {
    threshold: f64,
    margin: f64,
    weight: Weight,
    begun_at: Timestamp,
    known: BadUnits,
    /// Of the units that count: see [`BadUnits::one_in`].
    bad: PerArm<u64>,
    /// Distinct units whose requests had time to fail.
    exposed: u64,
}

impl Pass {
    /// Before any step: at weight 0, where nothing can be learnt.
    pub fn new(spec: &VerdictSpec) -> Self {
        Self {
            threshold: 1.0 / spec.pass_error,
            margin: spec.pass_margin,
            weight: Weight::ZERO,
            begun_at: Timestamp::default(),
            known: BadUnits::new(UNITS),
            bad: PerArm::default(),
            exposed: 0,
        }
    }

    /// Begins a step: draws are at this weight from now on.
    pub fn begin(&mut self, weight: Weight, at: Timestamp) {
        self.weight = weight;
        self.begun_at = at;
        self.known = BadUnits::new(UNITS);
        self.bad = PerArm::default();
        self.exposed = 0;
    }

    /// Takes in a bad unit of the step; facts of other steps are none of its business. A unit
    /// counts once, whatever it went bad for.
    pub fn observe(&mut self, fact: &Fact) {
        if fact.weight != self.weight || fact.drawn_at < self.begun_at || self.known.contains(fact.unit) {
            return;
        }
        let thinned_before = self.known.one_in();
        if self.known.insert(fact.unit, mark(fact.arm)) == News::New {
            *self.bad.get_mut(fact.arm) += 1;
        }
        if self.known.one_in() != thinned_before {
            self.bad = PerArm::from_fn(|arm| self.known.marked(mark(arm)));
        }
    }

    /// Says how many distinct units of the step had time to fail by now. Too few only cost time.
    pub fn expose(&mut self, units: u64) {
        self.exposed = self.exposed.max(units);
    }

    /// The evidence that the canary is good enough, 1 at the beginning.
    pub fn value(&self) -> f64 {
        if !self.learns() {
            return 1.0;
        }
        let good = (self.exposed / self.known.one_in()).saturating_sub(self.bad.stable + self.bad.canary);
        let w = self.weight.fraction();
        let wealth = BETS.iter().map(|(bet, prior)| {
            let [of_good, of_canary, of_stable] = log_factors(bet * w, self.margin, w);
            let log = count(good) * of_good + count(self.bad.canary) * of_canary + count(self.bad.stable) * of_stable;
            prior * log.min(CEILING).exp()
        });
        wealth.sum()
    }

    /// What [`Self::value`] must reach: 1/β.
    pub const fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The margin: a fraction of the canary's units.
    pub const fn margin(&self) -> f64 {
        self.margin
    }

    /// The weight of the step.
    pub const fn weight(&self) -> Weight {
        self.weight
    }

    /// Whether something can be learnt at this weight: at 0 and 100 there is nothing to compare.
    pub fn learns(&self) -> bool {
        self.weight != Weight::ZERO && self.weight != Weight::FULL
    }

    /// Distinct units of the step that had time to fail.
    pub const fn exposed(&self) -> u64 {
        self.exposed
    }

    /// Bad units of the step.
    pub const fn bad(&self) -> PerArm<u64> {
        let scale = self.known.one_in();
        PerArm { stable: self.bad.stable * scale, canary: self.bad.canary * scale }
    }
}

/// By how much the best bet's wealth grows with each unit, on the log scale, if both arms turn a share
/// `p` of their units bad. May be negative: then there is no knowing when the canary passes.
pub(super) fn growth(p: f64, margin: f64, w: f64) -> f64 {
    let of_bet = |(bet, _): &(f64, f64)| {
        let [good, canary, stable] = log_factors(bet * w, margin, w);
        (1.0 - p) * good + p * (w * canary + (1.0 - w) * stable)
    };
    BETS.iter().map(of_bet).fold(f64::NEG_INFINITY, f64::max)
}

/// The logarithms of the factors of a good unit, and of bad ones on the canary and on stable.
fn log_factors(lambda: f64, margin: f64, w: f64) -> [f64; 3] {
    [0.0, 1.0 / w, -1.0 / (1.0 - w)].map(|z| (lambda * (margin - z)).ln_1p())
}

const fn mark(arm: Arm) -> u8 {
    match arm {
        Arm::Stable => 1,
        Arm::Canary => 2,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
const fn count(n: u64) -> f64 {
    n as f64
}
