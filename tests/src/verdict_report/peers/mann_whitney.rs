//! Mann and Whitney's test as Kayenta's judge puts it: by how far is one crowd of numbers above another?

use super::super::figures::whole;

/// The normal quantile of a two-sided confidence of 98 %.
const CONFIDENCE: f64 = 2.326_348;
/// The part of the estimated shift that its lower bound must exceed.
const TOLERANCE: f64 = 0.25;

/// Whether the canary's numbers are high: the lower 98 % bound on the shift between the two (Hodges, Lehmann;
/// normal approximation) exceeds a quarter of the estimated shift.
pub(super) fn is_high(canary: &[f64], control: &[f64]) -> bool {
    let mut shifts: Vec<f64> = canary.iter().flat_map(|a| control.iter().map(move |b| a - b)).collect();
    if shifts.is_empty() {
        return false;
    }
    shifts.sort_unstable_by(f64::total_cmp);
    let (n, m) = (canary.len() as f64, control.len() as f64);
    let rank = n * m / 2.0 - CONFIDENCE * (n * m * (n + m + 1.0) / 12.0).sqrt();
    if rank < 1.0 {
        return false;
    }
    let middle = f64::midpoint(shifts[(shifts.len() - 1) / 2], shifts[shifts.len() / 2]);
    shifts[whole(rank) - 1] > TOLERANCE * middle.abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_well_above_another_is_high_and_its_equal_is_not() {
        let control: Vec<f64> = (0..10).map(f64::from).collect();
        let above: Vec<f64> = control.iter().map(|number| number + 20.0).collect();
        assert!(is_high(&above, &control));
        assert!(!is_high(&control, &control));
        assert!(!is_high(&control, &above));
        assert!(!is_high(&[], &control));
    }
}
