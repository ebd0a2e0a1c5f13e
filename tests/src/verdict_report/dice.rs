//! The report's randomness: a small generator of its own, so that a seed gives the same figures with every
//! version of every library.

/// A stream of random numbers (SplitMix64; Steele, Lea, Flood, 2014).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// The stream of one episode: `label` names the experiment, so that no two share their draws.
    pub(super) fn new(seed: u64, label: &str, episode: u64) -> Self {
        // FNV-1a over the label, then one draw from each part.
        let named = label.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut first = Self(seed ^ named);
        let mut second = Self(first.bits() ^ episode);
        Self(second.bits())
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 128 random bits.
    pub(super) fn wide(&mut self) -> u128 {
        (u128::from(self.bits()) << 64) | u128::from(self.bits())
    }

    /// At least 0, less than 1.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with this chance.
    pub(super) fn flip(&mut self, chance: f64) -> bool {
        self.uniform() < chance
    }

    /// A waiting time with mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }

    /// A normal number with mean 0 and deviation 1 (Marsaglia's polar method, 1964).
    pub(super) fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * square.ln() / square).sqrt();
            }
        }
    }

    /// At least 1, with a tail that falls as `x^-shape`.
    pub(super) fn pareto(&mut self, shape: f64) -> f64 {
        (1.0 - self.uniform()).powf(-1.0 / shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_means_they_should_and_streams_differ() {
        let mut dice = Dice::new(1, "means", 0);
        let n = 100_000;
        let mean = |draw: &mut dyn FnMut() -> f64| (0..n).map(|_| draw()).sum::<f64>() / f64::from(n);
        assert!((mean(&mut || dice.uniform()) - 0.5).abs() < 0.01);
        assert!((mean(&mut || dice.exponential()) - 1.0).abs() < 0.02);
        assert!(mean(&mut || dice.normal()).abs() < 0.02);
        assert!((mean(&mut || dice.normal().powi(2)) - 1.0).abs() < 0.03);
        assert!((mean(&mut || dice.pareto(3.0)) - 1.5).abs() < 0.03);
        assert_ne!(Dice::new(1, "a", 0).bits(), Dice::new(1, "a", 1).bits());
        assert_ne!(Dice::new(1, "a", 0).bits(), Dice::new(1, "b", 0).bits());
        assert_ne!(Dice::new(1, "a", 0).bits(), Dice::new(2, "a", 0).bits());
    }
}
