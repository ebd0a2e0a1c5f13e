//! The units of an episode and of its steps, counted from the log: exactly, up to a bound.

use std::collections::VecDeque;
use std::time::Duration;

use super::pulse::remember;
use super::{Entry, Moment};
use crate::model::split::{Arm, PerArm, Unit};
use crate::model::time::Timestamp;
use crate::model::verdict::units::{BadUnits, News};
use crate::model::verdict::{Pass, Traffic};
use crate::model::weight::Weight;

/// Units told apart, in an episode and in a step; beyond, an exact sample of them is.
const UNITS: usize = 1 << 18;

/// A set of units, by arm.
#[derive(Debug)]
pub(super) struct Distinct {
    known: BadUnits,
    counts: PerArm<u64>,
    on_both: u64,
}

impl Default for Distinct {
    fn default() -> Self {
        Self { known: BadUnits::new(UNITS), counts: PerArm::default(), on_both: 0 }
    }
}

impl Distinct {
    pub(super) fn note(&mut self, unit: Unit, arm: Arm) {
        let (was_known, one_in) = (self.known.contains(unit), self.known.one_in());
        if self.known.insert(unit, mark(arm)) == News::New {
            *self.counts.get_mut(arm) += 1;
            self.on_both += u64::from(was_known);
        }
        if self.known.one_in() != one_in {
            self.counts = PerArm::from_fn(|arm| self.known.marked(mark(arm)));
        }
    }

    /// The units of an arm, by estimate beyond the bound.
    pub(super) fn units(&self, arm: Arm) -> u64 {
        self.counts.get(arm) * self.known.one_in()
    }

    /// Of those that were told apart.
    pub(super) const fn on_both(&self) -> u64 {
        self.on_both
    }

    pub(super) const fn one_in(&self) -> u64 {
        self.known.one_in()
    }

    fn kept(&self) -> u64 {
        (self.counts.stable + self.counts.canary).saturating_sub(self.on_both)
    }

    fn total(&self) -> u64 {
        self.kept() * self.known.one_in()
    }

    /// Rather too few, by two standard errors where it is an estimate.
    fn at_least(&self) -> u64 {
        let unsure = if self.known.one_in() == 1 { 0 } else { 2 * self.kept().isqrt() };
        (self.kept() - unsure.min(self.kept())) * self.known.one_in()
    }
}

const fn mark(arm: Arm) -> u8 {
    match arm {
        Arm::Stable => 1,
        Arm::Canary => 2,
    }
}

/// When a step would have passed.
#[derive(Clone, Copy, Debug)]
pub struct Passed<P> {
    /// The first look that found so.
    pub at: Moment<P>,
    /// Its units that had had time to fail by then.
    pub exposed: u64,
}

/// A step, as far as it went.
#[derive(Clone, Debug)]
pub struct Step<P> {
    /// Its weight.
    pub weight: Weight,
    /// Its first request.
    pub begun: Moment<P>,
    /// Distinct units.
    pub units: PerArm<u64>,
    /// Units that went bad.
    pub bad: PerArm<u64>,
    /// The evidence for a pass at its end, and what it had to reach.
    pub e: f64,
    /// See `e`.
    pub threshold: f64,
    /// Distinct units that had time to fail.
    pub exposed: u64,
    /// When it would have passed first; none where it never did.
    pub passed: Option<Passed<P>>,
}

impl<P> Step<P> {
    /// Whether the arms have other shares of the units than were drawn, beyond chance (five standard errors).
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub fn is_off(&self) -> bool {
        let (all, canary) = ((self.units.stable + self.units.canary) as f64, self.units.canary as f64);
        let w = self.weight.fraction();
        (canary - all * w).powi(2) > 25.0 * (all * w * (1.0 - w)).max(1.0)
    }
}

/// The step at hand.
#[derive(Debug)]
pub(super) struct Running<P> {
    weight: Weight,
    begun: Moment<P>,
    first_draw: Timestamp,
    units: Distinct,
    /// How many there were, at each look.
    looks: VecDeque<(Timestamp, u64)>,
    passed: Option<Passed<P>>,
}

impl<P: Copy> Running<P> {
    pub(super) fn new(begun: Moment<P>, entry: &Entry) -> Self {
        let (weight, first_draw) = (entry.weight, entry.drawn_at);
        Self { weight, begun, first_draw, units: Distinct::default(), looks: VecDeque::new(), passed: None }
    }

    /// Whether a request was drawn at another weight and later; a late one of the step before isn't.
    pub(super) fn is_over(&self, entry: &Entry) -> bool {
        entry.weight != self.weight && entry.drawn_at > self.first_draw
    }

    pub(super) fn note(&mut self, entry: &Entry) {
        if entry.weight == self.weight {
            self.units.note(entry.unit, entry.arm);
        }
    }

    /// Counts the units, and says how many had time to fail.
    pub(super) fn look(&mut self, now: Timestamp, maturity: Duration) -> u64 {
        remember(&mut self.looks, now, self.units.at_least());
        let mature = self.looks.iter().rev().find(|(at, _)| now.since(*at) >= maturity);
        mature.map_or(0, |(_, units)| *units)
    }

    pub(super) fn pass(&mut self, at: Moment<P>, exposed: u64) {
        self.passed.get_or_insert(Passed { at, exposed });
    }

    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(super) fn traffic(&self, maturity: Duration) -> Traffic {
        let rate = match (self.looks.front(), self.looks.back()) {
            (Some((from, before)), Some((to, after))) if to > from => {
                after.saturating_sub(*before) as f64 / to.since(*from).as_secs_f64()
            }
            _ => 0.0,
        };
        Traffic { units: self.units.total(), units_per_second: rate, maturity }
    }

    pub(super) fn end(self, pass: &Pass) -> Step<P> {
        Step {
            weight: self.weight,
            begun: self.begun,
            units: PerArm::from_fn(|arm| self.units.units(arm)),
            bad: pass.bad(),
            e: pass.value(),
            threshold: pass.threshold(),
            exposed: pass.exposed(),
            passed: self.passed,
        }
    }
}
