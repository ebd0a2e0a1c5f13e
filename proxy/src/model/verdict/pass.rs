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
    /// counts once, whatever it went bad for. Returns whether it was news.
    pub fn observe(&mut self, fact: &Fact) -> bool {
        if fact.weight != self.weight || fact.drawn_at < self.begun_at || self.known.contains(fact.unit) {
            return false;
        }
        let thinned_before = self.known.one_in();
        let is_news = self.known.insert(fact.unit, mark(fact.arm)) == News::New;
        if is_news {
            *self.bad.get_mut(fact.arm) += 1;
        }
        if self.known.one_in() != thinned_before {
            self.bad = PerArm::from_fn(|arm| self.known.marked(mark(arm)));
        }
        is_news
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::outcome::Signal;
    use crate::model::split::Unit;
    use crate::model::verdict::addresses::ClientNet;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    fn fact(unit: u64, arm: Arm, percent: f64) -> Fact {
        Fact {
            unit: Unit(u128::from(unit)),
            arm,
            weight: Weight::from_percent(percent).expect("a weight"),
            control: Weight::ZERO,
            signal: Signal::Errors,
            drawn_at: Timestamp::from_millis(1),
            address: ClientNet::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST)),
        }
    }

    fn step(percent: f64) -> Pass {
        let mut pass = Pass::new(&VerdictSpec::default());
        pass.begin(Weight::from_percent(percent).expect("a weight"), Timestamp::default());
        pass
    }

    /// Units come until the canary passes or there are `most`; each arm's chance of a bad one as given. One
    /// looks often, but not at each unit. Returns how many units there were, and whether it passed.
    fn episode(rng: &mut StdRng, percent: f64, chance: PerArm<f64>, most: u64) -> (u64, bool) {
        let (mut pass, w) = (step(percent), percent / 100.0);
        let any = w * chance.canary + (1.0 - w) * chance.stable;
        let (mut units, mut next_bad) = (0, gap(rng, any));
        while units < most {
            units = (units + units / 50 + 20).min(most);
            while next_bad <= units {
                let canary = rng.random_bool(w * chance.canary / any);
                // Spread over the hash, as units are.
                let unit = next_bad.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                pass.observe(&fact(unit, if canary { Arm::Canary } else { Arm::Stable }, percent));
                next_bad += gap(rng, any);
            }
            pass.expose(units);
            if pass.value() >= pass.threshold() {
                return (units, true);
            }
        }
        (units, false)
    }

    /// How many units until the next bad one, with it.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held at the largest number")]
    fn gap(rng: &mut StdRng, chance: f64) -> u64 {
        let luck = 1.0 - rng.random::<f64>();
        if chance > 0.0 { (luck.ln() / (1.0 - chance).ln()).ceil().clamp(1.0, 1e15) as u64 } else { u64::MAX / 2 }
    }

    #[test]
    fn each_unit_is_fair_if_the_canary_is_worse_by_the_margin() {
        for (percent, p) in [(1.0, 0.0), (10.0, 0.01), (50.0, 0.3), (90.0, 0.001)] {
            let (w, margin) = (percent / 100.0, 0.005);
            let mut before = step(percent);
            before.observe(&fact(1, Arm::Canary, percent));
            before.observe(&fact(2, Arm::Stable, percent));
            before.expose(500);
            let after = |bad: Option<Arm>| {
                let mut pass = before.clone();
                if let Some(arm) = bad {
                    pass.observe(&fact(3, arm, percent));
                }
                pass.expose(501);
                pass.value()
            };
            let (canary, stable) = (w * (p + margin), (1.0 - w) * p);
            let mean = canary * after(Some(Arm::Canary))
                + stable * after(Some(Arm::Stable))
                + (1.0 - canary - stable) * after(None);
            assert!((mean / before.value() - 1.0).abs() < 1e-9, "{percent} %: {} to {mean}", before.value());
        }
    }

    #[test]
    fn a_canary_without_an_error_passes_after_some_seven_hundred_units() {
        for percent in [1.0, 10.0, 50.0] {
            let (units, passed) = episode(&mut StdRng::seed_from_u64(1), percent, PerArm::default(), 200_000);
            let canary = count(units) * percent / 100.0;
            assert!(passed && (600.0..760.0).contains(&canary), "{percent} %: {canary}");
        }
    }

    #[test]
    fn a_healthy_canary_passes_within_thrice_what_a_test_of_fixed_size_needs() {
        // A one-sided test of two shares at β = 5 % with a power of 80 %, and never fewer units than one
        // would need that never saw an error.
        let fixed = |p: f64, w: f64| {
            let normal = (1.644_9f64 + 0.841_6).powi(2) * p * (1.0 - p) / 0.005f64.powi(2) / (1.0 - w);
            normal.max(20f64.ln() / 0.005)
        };
        let mut rng = StdRng::seed_from_u64(5);
        for (percent, p) in [(10.0, 0.0005), (10.0, 0.002), (50.0, 0.005), (10.0, 0.01), (50.0, 0.05)] {
            let w = percent / 100.0;
            let mut canary: Vec<f64> = (0..21)
                .map(|_| episode(&mut rng, percent, PerArm { stable: p, canary: p }, 2_000_000).0)
                .map(|units| count(units) * w)
                .collect();
            canary.sort_by(f64::total_cmp);
            let (median, fixed) = (canary[10], fixed(p, w));
            assert!(median <= 3.0 * fixed, "{p} at {percent} %: {median:.0} canary units against {fixed:.0}");
        }
    }

    #[test]
    fn a_canary_that_is_worse_by_the_margin_or_more_seldom_passes() {
        let (mut rng, episodes) = (StdRng::seed_from_u64(6), 400);
        for (percent, stable, excess) in [(50.0, 0.01, 0.005), (10.0, 0.0, 0.005), (50.0, 0.01, 0.01)] {
            let chance = PerArm { stable, canary: stable + excess };
            let passed = (0..episodes).filter(|_| episode(&mut rng, percent, chance, 20_000).1).count();
            // three standard errors above 5 % of 400 are 33
            assert!(passed <= 33, "{stable} + {excess} at {percent} %: {passed} of {episodes}");
        }
    }

    #[test]
    fn a_new_step_begins_with_nothing_and_old_facts_say_nothing_of_it() {
        let mut pass = step(10.0);
        pass.expose(9_000);
        assert!(pass.value() > pass.threshold());
        pass.begin(Weight::from_percent(20.0).expect("a weight"), Timestamp::from_millis(1));
        assert!((pass.value() - 1.0).abs() < 1e-9);
        pass.observe(&fact(1, Arm::Canary, 10.0));
        assert_eq!(pass.bad(), PerArm::default());
        pass.observe(&fact(1, Arm::Canary, 20.0));
        pass.observe(&Fact { signal: Signal::Slow, ..fact(1, Arm::Canary, 20.0) });
        assert_eq!(pass.bad().canary, 1, "a unit counts anew, and once");
    }
}
