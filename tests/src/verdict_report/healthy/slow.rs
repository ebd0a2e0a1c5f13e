//! Healthy episodes judged by how slow answers are: the threshold is the pooled p99.9 of the window before,
//! while the service as a whole gets slower and faster.

use serin::model::outcome::Signal;
use serin::model::split::Unit;

use super::super::dice::Dice;
use super::super::judged::{Bad, arm, weight};
use super::super::plan::Plan;
use super::{EPISODES, RAMP, Seen, Tally, name, pulled, weight_at};

/// Requests to a window, each from another user.
const REQUESTS: usize = 2_000;
/// Windows to an episode, the first of which only gives a threshold.
const WINDOWS: usize = 9;
/// Latencies are a scale times a Pareto number of this shape. From window to window the scale's logarithm
/// moves by a normal number with this mean and deviation.
const SHAPE: f64 = 4.0;
const DRIFT: (f64, f64) = (0.25, 0.4);

pub(super) fn simulate(plan: &Plan, tally: &mut Tally) {
    for weights in [&[1.0], &[10.0], &[50.0], RAMP] {
        let label = format!("healthy slow {weights:?}");
        let episodes = plan.episodes(&label, EPISODES, |dice| episode(dice, weights));
        tally.add("latency drifts, slow above the last p99.9", &name(weights), &episodes);
    }
}

/// A latency is known by its chance of being exceeded: the slower, the smaller.
fn episode(dice: &mut Dice, weights: &[f64]) -> Seen {
    let (mut slow, mut threshold) = (Vec::new(), 0.0);
    for window in 0..WINDOWS {
        let weight = weight(weight_at(weights, window.saturating_sub(1) as f64 / (WINDOWS - 1) as f64));
        // The three slowest of 2,000: above the third is 0.1 %.
        let mut slowest = [1.0; 3];
        for _ in 0..REQUESTS {
            let exceeded = dice.uniform();
            if exceeded < slowest[2] {
                slowest[2] = exceeded;
                slowest.sort_unstable_by(f64::total_cmp);
            }
            if exceeded < threshold {
                let (unit, arm) = (Unit(dice.wide()), arm(dice.flip(weight.fraction())));
                let drawn_at = slow.len() as f64;
                slow.push(Bad { unit, arm, weight, signal: Signal::Slow, address: 1, drawn_at });
            }
        }
        // The same latency after the drift.
        threshold = slowest[2] * (SHAPE * (DRIFT.0 + DRIFT.1 * dice.normal())).exp();
    }
    Seen { bad: u32::try_from(slow.len()).unwrap_or(u32::MAX), pulled: pulled(&slow) }
}
