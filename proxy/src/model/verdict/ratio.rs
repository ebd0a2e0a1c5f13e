//! The sample-ratio check: do the units that came back sit on the arms as they were drawn?
//!
//! If the split works, each unit is on the canary with probability `w`, the weight. Against that
//! stands a Beta-binomial mixture over all other probabilities, centred at `w`; the ratio of the
//! two likelihoods is an e-process over distinct units, and says when the split *itself* is broken:
//! a bug, a cache in front, an arm that loses its users. It knows counts of distinct units only.
//!
//! Counts are exact, of a sample of the units thinned by a hash that doesn't decide the arm. The
//! sample shrinks as units grow, to one in `2^level`; each level of each step is a process of its own
//! and gets a part of α that sums to the whole.
//!
//! Source: Lindon, Malek, *Anytime-Valid Inference for Multinomial Count Data* (NeurIPS 2022).

use crate::model::split::PerArm;
use crate::model::weight::Weight;

/// What the evidence must reach: the check speaks falsely in one of 1,000 episodes at most.
pub const THRESHOLD: f64 = 1_000.0;

/// How many units the prior is worth: the larger, the nearer to `w` it looks.
const CONCENTRATION: f64 = 50.0;

/// Distinct units that came back, exactly, in a sample of one in `2^level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// How thin the sample is.
    pub level: u32,
    /// Its units by the arm that served them.
    pub units: PerArm<u64>,
}

/// The check over one episode.
#[derive(Clone, Copy, Debug, Default)]
pub struct SampleRatio {
    step: u32,
    strongest: f64,
    returned: Returned,
}

impl SampleRatio {
    /// A step begins, with fresh counts.
    pub const fn begin_step(&mut self) {
        self.step += 1;
        self.returned = Returned { level: 0, units: PerArm { stable: 0, canary: 0 } };
    }

    /// Takes in the counts of the step at this weight. Returns whether the check speaks for the first time.
    pub fn look(&mut self, weight: Weight, returned: Returned) -> bool {
        self.returned = returned;
        let was_off = self.is_off();
        if weight != Weight::ZERO && weight != Weight::FULL {
            let part = part_of_alpha(self.step) * part_of_alpha(returned.level);
            let evidence = log_evidence(weight.fraction(), returned.units) + part.ln();
            self.strongest = self.strongest.max(evidence.min(460.0).exp());
        }
        self.is_off() && !was_off
    }

    /// The strongest evidence of the episode that the split is broken.
    pub const fn e(&self) -> f64 {
        self.strongest
    }

    /// Whether the split is broken, by evidence. Stays so for the episode.
    pub const fn is_off(&self) -> bool {
        self.strongest >= THRESHOLD
    }

    /// The counts last looked at.
    pub const fn returned(&self) -> Returned {
        self.returned
    }
}

/// 1/2, 1/6, 1/12 …: sums to 1.
fn part_of_alpha(n: u32) -> f64 {
    let n = f64::from(n);
    1.0 / ((n + 1.0) * (n + 2.0))
}

/// The logarithm of the Beta-binomial's likelihood over the binomial's.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn log_evidence(w: f64, units: PerArm<u64>) -> f64 {
    let (canary, stable) = (units.canary as f64, units.stable as f64);
    let (a, b) = (CONCENTRATION * w, CONCENTRATION * (1.0 - w));
    log_beta(a + canary, b + stable) - log_beta(a, b) - canary * w.ln() - stable * (1.0 - w).ln()
}

fn log_beta(a: f64, b: f64) -> f64 {
    log_gamma(a) + log_gamma(b) - log_gamma(a + b)
}

/// ln Γ(x) for x > 0: Stirling's series, from 8 on, where three terms leave an error below 1e-9.
fn log_gamma(mut x: f64) -> f64 {
    let mut below = 0.0;
    while x < 8.0 {
        below += x.ln();
        x += 1.0;
    }
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1_260.0 * x.powi(5));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - below
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    fn weight(percent: f64) -> Weight {
        Weight::from_percent(percent).expect("a weight")
    }

    /// Units come one by one, on the canary with this chance; after how many the check speaks, if so.
    fn speaks(rng: &mut StdRng, percent: f64, chance: f64, units: u64) -> Option<u64> {
        let mut check = SampleRatio::default();
        let mut returned = Returned::default();
        (0..units).find(|_| {
            let canary = rng.random_bool(chance);
            let arm = if canary { &mut returned.units.canary } else { &mut returned.units.stable };
            *arm += 1;
            check.look(weight(percent), returned)
        })
    }

    #[test]
    fn the_logarithm_of_gamma_is_right() {
        for (x, expected) in [(0.5, 0.572_364_942_9), (1.0, 0.0), (5.0, 3.178_053_830_3), (100.0, 359.134_205_369_6)] {
            assert!((log_gamma(x) - expected).abs() < 1e-7, "{x}: {}", log_gamma(x));
        }
    }

    #[test]
    fn each_unit_is_fair_where_the_split_works() {
        for (w, stable, canary) in [(0.01, 0, 0), (0.1, 900, 80), (0.5, 10, 40)] {
            let now = log_evidence(w, PerArm { stable, canary }).exp();
            let on = log_evidence(w, PerArm { stable, canary: canary + 1 }).exp();
            let off = log_evidence(w, PerArm { stable: stable + 1, canary }).exp();
            assert!(((w * on + (1.0 - w) * off) / now - 1.0).abs() < 1e-7, "at {w}");
        }
    }

    #[test]
    fn a_split_that_works_is_left_alone() {
        let mut rng = StdRng::seed_from_u64(11);
        for percent in [1.0, 10.0, 50.0] {
            let spoke = (0..100).filter(|_| speaks(&mut rng, percent, percent / 100.0, 2_000).is_some()).count();
            assert_eq!(spoke, 0, "at {percent} %");
        }
    }

    #[test]
    fn a_split_that_is_broken_is_known_after_some_hundred_units() {
        let mut rng = StdRng::seed_from_u64(12);
        for (percent, chance, most) in [(10.0, 0.2, 600), (50.0, 0.4, 1_500), (10.0, 0.0, 300), (10.0, 1.0, 20)] {
            let after = speaks(&mut rng, percent, chance, 5_000);
            assert!(after.is_some_and(|units| units <= most), "{percent} % drawn as {chance}: {after:?}");
        }
    }

    #[test]
    fn the_check_speaks_once_and_stays_off() {
        let mut check = SampleRatio::default();
        let broken = Returned { level: 2, units: PerArm { stable: 0, canary: 300 } };
        assert!(check.look(weight(10.0), broken) && !check.look(weight(10.0), broken));
        check.begin_step();
        assert!(!check.look(weight(20.0), Returned::default()) && check.is_off());
    }

    #[test]
    fn the_parts_of_alpha_sum_to_one() {
        let sum: f64 = (0..100_000).map(part_of_alpha).sum();
        assert!(sum <= 1.0 && sum > 0.999);
    }
}
