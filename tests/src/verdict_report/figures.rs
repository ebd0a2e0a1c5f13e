//! What the report computes from its episodes: bounds, means, quantiles.

/// The upper 95 % bound on a chance of which `hits` of `trials` came true (Clopper, Pearson, 1934; one-sided).
pub(super) fn upper_bound(hits: u64, trials: u64) -> f64 {
    if hits >= trials { 1.0 } else { chance_at(hits, trials, 0.05) }
}

/// The lower 95 % bound, likewise.
pub(super) fn lower_bound(hits: u64, trials: u64) -> f64 {
    if hits == 0 { 0.0 } else { chance_at(hits - 1, trials, 0.95) }
}

/// The chance at which at most `hits` of `trials` come true with this probability.
fn chance_at(hits: u64, trials: u64, probability: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most(hits, trials, middle) > probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The chance of at most `hits` of `trials`, each coming true with this chance.
fn at_most(hits: u64, trials: u64, chance: f64) -> f64 {
    if chance >= 1.0 {
        return 0.0;
    }
    let odds = (chance / (1.0 - chance)).ln();
    let mut term = trials as f64 * (1.0 - chance).ln();
    let mut sum = term.exp();
    for hit in 0..hits {
        term += ((trials - hit) as f64 / (hit + 1) as f64).ln() + odds;
        sum += term.exp();
    }
    sum
}

/// The mean; 0 of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / (values.len().max(1)) as f64
}

/// The value that this share of all don't exceed (nearest rank); none of nothing. Infinite values are
/// those that never came.
pub(super) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = whole(share * sorted.len() as f64 + 1.0 - 1e-9).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).copied()
}

/// A number that is known to be small and at least 0, without its fraction.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "said of the number given")]
pub(super) const fn whole(number: f64) -> usize {
    number as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_clopper_and_pearsons() {
        // no hit of n: 1 − 0.05^(1/n)
        assert!((upper_bound(0, 100) - (1.0 - 0.05_f64.powf(0.01))).abs() < 1e-9);
        // as tabulated: 5 of 100 gives 10.225 %
        assert!((upper_bound(5, 100) - 0.102_25).abs() < 1e-4, "{}", upper_bound(5, 100));
        assert!((lower_bound(5, 100) - 0.019_9).abs() < 1e-4, "{}", lower_bound(5, 100));
        assert!(lower_bound(100, 100_000) < 0.001 && upper_bound(100, 100_000) > 0.001);
        assert_eq!((lower_bound(0, 10), upper_bound(10, 10)), (0.0, 1.0));
    }

    #[test]
    fn quantiles_are_values_that_came() {
        let values = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!(quantile(&values, 0.5), Some(3.0));
        assert_eq!(quantile(&values, 0.95), Some(5.0));
        assert_eq!(quantile(&values[..4], 0.5), Some(2.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
