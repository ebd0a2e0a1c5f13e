//! The evidence against "the canary is no worse": a mixture of e-processes.
//!
//! For a risk ratio `r`, a newly bad unit is on the canary with probability
//! `q = w·r / (w·r + 1 − w)`; under the null with `w`, the weight. The likelihood
//! ratio of the two, multiplied up, is an e-process (its mean under the null is at
//! most 1 at any time), and so is any mixture of such. The mixture here runs over
//! a grid of `r` and over the unit at which the canary turned bad, so that one
//! that breaks after a long healthy time is caught as fast as a fresh one.
//! By Ville's inequality P(E ever reaches 1/α) ≤ α.
//!
//! Sources: Wald, *Sequential Analysis* (1947); Ville (1939); Lindon, Malek,
//! *Anytime-Valid Inference for Multinomial Count Data* (NeurIPS 2022). The
//! mixture over start times: Shin, Ramdas, Rinaldo, *E-detectors* (2022).

/// The risk ratios tried, all with the same prior weight.
const RATIOS: [f64; 7] = [1.5, 2.0, 4.0, 8.0, 16.0, 64.0, f64::INFINITY];

/// Far above any threshold, far below overflow: sums are held there.
const CEILING: f64 = 1e200;

/// The running evidence of one signal in one episode.
#[derive(Clone, Debug, PartialEq)]
pub struct EProcess {
    /// `S_r`: for each ratio, the mixture over the start times so far.
    sums: [f64; RATIOS.len()],
    /// Newly bad units so far.
    count: u32,
}

impl Default for EProcess {
    fn default() -> Self {
        Self { sums: [0.0; RATIOS.len()], count: 0 }
    }
}

impl EProcess {
    /// Takes in one newly bad unit: whether it was on the canary, and the weight (strictly
    /// between 0 and 1) at which its arm was drawn. Seven multiplications, no allocation.
    pub fn observe(&mut self, canary: bool, weight: f64) {
        debug_assert!(weight > 0.0 && weight < 1.0, "a draw at weight {weight} tells nothing");
        self.count = self.count.saturating_add(1);
        let start = start_prior(self.count);
        for (sum, ratio) in self.sums.iter_mut().zip(RATIOS) {
            *sum = ((*sum + start) * likelihood_ratio(canary, weight, ratio)).min(CEILING);
        }
    }

    /// The evidence, 1 at the beginning.
    pub fn value(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "seven")]
        let mixed = self.sums.iter().sum::<f64>() / RATIOS.len() as f64;
        mixed + starts_to_come(self.count)
    }
}

/// How much likelier this unit is if the canary's risk is `ratio` times stable's.
fn likelihood_ratio(canary: bool, weight: f64, ratio: f64) -> f64 {
    // With w·r + 1 − w = d: on the canary q/w = r/d, else (1 − q)/(1 − w) = 1/d.
    match (ratio.is_infinite(), canary) {
        (true, true) => 1.0 / weight,
        (true, false) => 0.0,
        (false, canary) => (if canary { ratio } else { 1.0 }) / (weight * ratio + 1.0 - weight),
    }
}

/// The prior weight of the canary having turned bad at the k-th unit: ½ for the first, then
/// ½ / (k (k − 1)), which sum to 1.
fn start_prior(k: u32) -> f64 {
    if k <= 1 { 0.5 } else { 0.5 / (f64::from(k) * f64::from(k - 1)) }
}

/// The prior weight of all starts after the k-th unit.
fn starts_to_come(k: u32) -> f64 {
    if k == 0 { 1.0 } else { 0.5 / f64::from(k) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    #[test]
    fn the_priors_of_the_starts_sum_to_one() {
        let mut sum = 0.0;
        for k in 1..=1_000 {
            sum += start_prior(k);
            assert!((sum + starts_to_come(k) - 1.0).abs() < 1e-9, "at {k}");
        }
    }

    #[test]
    fn each_step_is_fair_under_the_null() {
        // given any state, the mean over the next unit's arm is the value before
        let mut rng = StdRng::seed_from_u64(1);
        for weight in [0.01, 0.05, 0.1, 0.5, 0.9] {
            let mut process = EProcess::default();
            for _ in 0..40 {
                let (mut on, mut off) = (process.clone(), process.clone());
                on.observe(true, weight);
                off.observe(false, weight);
                let mean = weight * on.value() + (1.0 - weight) * off.value();
                assert!((mean / process.value() - 1.0).abs() < 1e-9, "weight {weight}: {} to {mean}", process.value());
                process.observe(rng.random_bool(weight), weight);
            }
        }
    }

    #[test]
    fn a_healthy_canary_is_pulled_no_oftener_than_alpha() {
        // 4,000 healthy episodes of 400 newly bad units, at α = 5 % so that the check has power
        let (alpha, episodes) = (0.05, 4_000);
        let mut rng = StdRng::seed_from_u64(20_260_401);
        for weight in [0.05, 0.1, 0.5] {
            let mut pulled = 0;
            for _ in 0..episodes {
                let mut process = EProcess::default();
                pulled += u32::from((0..400).any(|_| {
                    process.observe(rng.random_bool(weight), weight);
                    process.value() >= 1.0 / alpha
                }));
            }
            // three standard errors above 5 % of 4,000 are 241
            assert!(pulled <= 241, "weight {weight}: {pulled} of {episodes}");
        }
    }

    #[test]
    fn a_canary_that_alone_errs_is_pulled_within_a_few_units() {
        for (weight, most) in [(0.01, 3), (0.1, 4), (0.5, 14)] {
            let mut process = EProcess::default();
            let units = (1..100).find(|_| {
                process.observe(true, weight);
                process.value() >= 1_000.0
            });
            assert!(units.is_some_and(|n| n <= most), "weight {weight}: {units:?}");
        }
    }

    #[test]
    fn a_late_break_is_caught_almost_as_fast_as_a_fresh_one() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut process = EProcess::default();
        for _ in 0..1_000 {
            process.observe(rng.random_bool(0.1), 0.1);
        }
        let units = (1..100).find(|_| {
            process.observe(true, 0.1);
            process.value() >= 1_000.0
        });
        assert!(units.is_some_and(|n| n <= 14), "{units:?}");
    }

    #[test]
    fn evidence_never_overflows_and_a_better_canary_never_builds_any() {
        let mut process = EProcess::default();
        for _ in 0..10_000 {
            process.observe(true, 0.01);
        }
        assert!(process.value().is_finite());
        let mut better = EProcess::default();
        for _ in 0..10_000 {
            better.observe(false, 0.5);
        }
        assert!(better.value() < 1.0);
    }
}
