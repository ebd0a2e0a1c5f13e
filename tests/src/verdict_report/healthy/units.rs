//! Healthy episodes unit by unit: whatever makes units go bad, only their number and the weight matter.

use super::super::dice::Dice;
use super::super::judged::Errors;
use super::super::plan::Plan;
use super::{ALPHAS, EPISODES, RAMP, Seen, Tally, name, weight_at};

/// Users of an episode.
const USERS: f64 = 20_000.0;
/// The share of them that meets an error.
const RATES: [f64; 4] = [0.0001, 0.001, 0.01, 0.05];

pub(super) fn simulate(plan: &Plan, tally: &mut Tally) {
    for rate in RATES {
        for weights in [&[1.0], &[5.0], &[10.0], &[50.0], RAMP] {
            let what = format!("{} % of 20,000 users meet errors", rate * 100.0);
            let label = format!("healthy units {rate} {weights:?}");
            let bad = super::super::figures::whole(USERS * rate);
            let thresholds = ALPHAS.map(Errors::threshold);
            let episodes = plan.episodes(&label, EPISODES, |dice| episode(dice, bad, weights, thresholds));
            tally.add(&what, &name(weights), &episodes);
        }
    }
}

fn episode(dice: &mut Dice, bad: usize, weights: &[f64], thresholds: [f64; 2]) -> Seen {
    let mut evidence = Errors::default();
    let mut most = 0.0_f64;
    for unit in 0..bad {
        let weight = weight_at(weights, unit as f64 / bad as f64) / 100.0;
        evidence.observe(dice.flip(weight), weight);
        most = most.max(evidence.value());
    }
    Seen { bad: u32::try_from(bad).unwrap_or(u32::MAX), pulled: thresholds.map(|threshold| most >= threshold) }
}
