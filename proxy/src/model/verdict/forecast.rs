//! How long until the verdict speaks, as far as can be told: a forecast for people, never evidence.

use std::time::Duration;

use super::judge::Judge;
use super::pass::growth;
use crate::model::split::PerArm;

/// The traffic of the running step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Distinct units seen so far, both arms together.
    pub units: u64,
    /// Distinct new units in a second, lately.
    pub units_per_second: f64,
    /// How long after a unit is seen it counts for a pass.
    pub maturity: Duration,
}

/// What is expected if things stay as they look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Expected {
    /// Until a pull, if the excess that the canary shows is real; none where it shows none.
    pub pull: Option<Outlook>,
    /// Until a pass, if the canary is no worse; none where the evidence doesn't grow.
    pub pass: Option<Outlook>,
}

/// How far away a decision is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// Distinct users more that the canary must see.
    pub canary_units: u64,
    /// How long that takes at today's traffic; none without any.
    pub time: Option<Duration>,
}

/// What is expected of a judge's running step.
pub fn expected(judge: &Judge, traffic: &Traffic) -> Expected {
    if !judge.pass().learns() {
        return Expected::default();
    }
    Expected { pull: pull(judge, traffic), pass: pass(judge, traffic) }
}

/// The expected logarithm of a bad unit's factor is the divergence between the share of bad units
/// that the canary shows and the weight (Wald); bad units come as they came so far.
fn pull(judge: &Judge, traffic: &Traffic) -> Option<Outlook> {
    let (step, w) = (judge.pass(), judge.pass().weight().fraction());
    let PerArm { stable, canary } = step.bad().map(count);
    let bad = stable + canary;
    let share = canary / bad;
    // Beside a control the share to be expected is another, and how much of the excess is cold isn't known.
    if bad <= 0.0 || share <= w || judge.is_against() || judge.control().is_some() {
        return None;
    }
    let of_stable = if share < 1.0 { (1.0 - share) * ((1.0 - share) / (1.0 - w)).ln() } else { 0.0 };
    let divergence = share * (share / w).ln() + of_stable;
    let missing = (judge.threshold().ln() - judge.e().max(f64::MIN_POSITIVE).ln()) / divergence;
    let units_for_each = count(traffic.units.max(1)) / bad;
    Some(outlook(missing * units_for_each, w, traffic, Duration::ZERO))
}

/// As if both arms went bad at their common rate.
fn pass(judge: &Judge, traffic: &Traffic) -> Option<Outlook> {
    let (step, w) = (judge.pass(), judge.pass().weight().fraction());
    let PerArm { stable, canary } = step.bad().map(count);
    let rate = ((stable + canary) / count(traffic.units.max(1))).min(1.0);
    let grows = growth(rate, step.margin(), w);
    let missing = step.threshold().ln() - step.value().max(f64::MIN_POSITIVE).ln();
    if grows <= 0.0 {
        return None;
    }
    let under_way = count(traffic.units.saturating_sub(step.exposed()));
    let units = (missing / grows).max(0.0) - under_way;
    Some(outlook(units.max(0.0), w, traffic, if missing > 0.0 { traffic.maturity } else { Duration::ZERO }))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count for people, held below 2^52")]
fn outlook(units: f64, w: f64, traffic: &Traffic, then: Duration) -> Outlook {
    let seconds = units / traffic.units_per_second;
    let time = (traffic.units_per_second > 0.0).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten();
    Outlook { canary_units: (units * w).ceil().min(1e15) as u64, time: time.map(|time| time.saturating_add(then)) }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
const fn count(n: u64) -> f64 {
    n as f64
}
