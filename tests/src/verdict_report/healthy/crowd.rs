//! Healthy episodes user by user, through the judge: each user's arm by the true split, errors in bursts,
//! activity and bad luck that differ wildly, rates that drift, outages of everything at once.

use serin::model::outcome::Signal;
use serin::model::split::{Salt, Unit};

use super::super::dice::Dice;
use super::super::judged::{Bad, weight};
use super::super::plan::Plan;
use super::{EPISODES, RAMP, Seen, Tally, name, pulled, weight_at};

/// An episode's length, in seconds.
const LENGTH: f64 = 1_800.0;
/// Pieces in which the course of the error rate is held.
const PIECES: usize = 200;

/// One way for a service to live.
struct Life {
    name: &'static str,
    users: u32,
    /// The chance that a usual user meets an error at a usual rate.
    risk: f64,
    /// Bad answers to each user that meets one.
    errors_each: u32,
    /// For what they are bad, each.
    signals: &'static [Signal],
    /// Users differ: activity Pareto(1.2), proneness to errors log-normal(σ = 2).
    heavy_tails: bool,
    /// The error rate in the course of the episode, relative to the usual.
    course: fn(f64) -> f64,
    weights: &'static [&'static [f64]],
}

const LIVES: [Life; 7] = [
    Life { name: "each request a user of its own", errors_each: 1, weights: &[&[10.0], RAMP], ..PLAIN },
    Life { name: "10 errors to each affected user", weights: &[&[1.0], &[5.0], &[10.0], &[50.0], RAMP], ..PLAIN },
    Life { name: "heavy-tailed users, 10 errors each", heavy_tails: true, ..PLAIN },
    Life { name: "error rate drifts 30-fold, 10 errors each", course: drifting, ..PLAIN },
    Life { name: "outage of both arms, 10 errors each", course: outage, risk: 0.02, ..PLAIN },
    Life { name: "each bad answer is slow, an error and missing", signals: THREE, errors_each: 1, ..PLAIN },
    Life {
        name: "all of these at once",
        signals: THREE,
        heavy_tails: true,
        course: drifting_outage,
        risk: 0.05,
        ..PLAIN
    },
];

/// Signals that have all in common.
const THREE: &[Signal] = &[Signal::Slow, Signal::Errors, Signal::Missing];

const PLAIN: Life = Life {
    name: "",
    users: 200,
    risk: 0.4,
    errors_each: 10,
    signals: &[Signal::Errors],
    heavy_tails: false,
    course: |_| 1.0,
    weights: &[&[5.0], &[50.0], RAMP],
};

fn drifting(part: f64) -> f64 {
    30.0_f64.powf((part * 9.0).sin() / 2.0)
}

/// In a twentieth of the episode, in which the ramp takes a step, almost all that go bad do.
fn outage(part: f64) -> f64 {
    if (0.475..0.525).contains(&part) { 500.0 } else { 1.0 }
}

fn drifting_outage(part: f64) -> f64 {
    drifting(part) * outage(part)
}

pub(super) fn simulate(plan: &Plan, tally: &mut Tally) {
    for life in &LIVES {
        let course = Course::of(life.course);
        for weights in life.weights {
            let label = format!("healthy crowd {} {weights:?}", life.name);
            let episodes = plan.episodes(&label, EPISODES, |dice| {
                let (bad, outcomes) = outcomes(dice, life, &course, weights);
                Seen { bad, pulled: pulled(&outcomes) }
            });
            tally.add(life.name, &name(weights), &episodes);
        }
    }
}

/// All bad outcomes of an episode in their order, and of how many users.
fn outcomes(dice: &mut Dice, life: &Life, course: &Course, weights: &[f64]) -> (u32, Vec<Bad>) {
    let salt = Salt(dice.wide());
    let (mut users, mut outcomes) = (0, Vec::new());
    for user in 0..life.users {
        let differs = if life.heavy_tails { dice.pareto(1.2) * (2.0 * dice.normal() - 2.0).exp() } else { 1.0 };
        let Some(mut part) = course.when(dice.exponential() / (life.risk * differs)) else { continue };
        users += 1;
        let unit = Unit::of_key(salt, &user.to_le_bytes());
        for _ in 0..life.errors_each {
            let weight = weight(weight_at(weights, part));
            let drawn_at = part * LENGTH;
            let outcome = |signal| Bad { unit, arm: unit.arm(weight), weight, signal, address: 1, drawn_at };
            outcomes.extend(life.signals.iter().map(|signal| outcome(*signal)));
            part += 0.02 * dice.exponential();
            if part >= 1.0 {
                break;
            }
        }
    }
    outcomes.sort_by(|a, b| a.drawn_at.total_cmp(&b.drawn_at));
    (users, outcomes)
}

/// The error rate's course, summed up: from how much risk was met to when.
struct Course(Vec<f64>);

impl Course {
    fn of(rate: fn(f64) -> f64) -> Self {
        let mut met = 0.0;
        let pieces = (0..PIECES).map(|piece| {
            met += rate((piece as f64 + 0.5) / PIECES as f64) / PIECES as f64;
            met
        });
        Self(pieces.collect())
    }

    /// The part of the episode, below 1, at which so much risk was met.
    fn when(&self, risk: f64) -> Option<f64> {
        let piece = self.0.partition_point(|met| *met <= risk);
        let after = *self.0.get(piece)?;
        let before = if piece == 0 { 0.0 } else { self.0[piece - 1] };
        Some((piece as f64 + (risk - before) / (after - before)) / PIECES as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn risk_is_met_as_the_course_says() {
        let steady = Course::of(|_| 2.0);
        assert!((steady.when(1.0).expect("met") - 0.5).abs() < 1e-9);
        assert_eq!(steady.when(2.1), None);
        let outage = Course::of(outage);
        assert!((0.475..0.525).contains(&outage.when(10.0).expect("met")));
    }
}
