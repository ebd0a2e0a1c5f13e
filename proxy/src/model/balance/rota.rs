//! Whose turn it is: a round in which each endpoint comes as often as its weight says, evenly spread.

/// A round is no longer than this, or than the pool: what weights say beyond it is rounded.
const MOST_TURNS: u64 = 4_096;
/// The golden ratio's fraction, of 2^32: multiples of it fill the range evenly, however many there are.
const GOLDEN: u64 = 0x9E37_79B9;

/// The places of the endpoints with these weights, in the order of their turns; each comes at least once.
pub fn rota(weights: &[u16]) -> Vec<u32> {
    let total: u64 = weights.iter().map(|weight| u64::from((*weight).max(1))).sum();
    let common = weights.iter().fold(0, |all, weight| gcd(all, u64::from((*weight).max(1)))).max(1);
    let most = MOST_TURNS.max(weights.len() as u64).min(total / common);
    let mut turns: Vec<(u64, u32)> = Vec::new();
    for (place, weight) in (0u32..).zip(weights) {
        let count = (u64::from((*weight).max(1)) * most * 2 / total).div_ceil(2).max(1);
        // Each begins at another point of its own interval, so that light ones don't all come together.
        let begin = u64::from(place).wrapping_mul(GOLDEN) & u64::from(u32::MAX);
        turns.extend((0..count).map(|turn| (((turn << 32) + begin) / count, place)));
    }
    turns.sort_unstable();
    turns.into_iter().map(|(_, place)| place).collect()
}

const fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    fn counts(rota: &[u32], endpoints: usize) -> Vec<usize> {
        let mut counts = vec![0; endpoints];
        rota.iter().for_each(|place| counts[*place as usize] += 1);
        counts
    }

    #[test]
    fn each_comes_as_often_as_its_weight_says() {
        assert!(rota(&[]).is_empty());
        for (weights, turns) in [
            (&[7][..], &[1][..]),
            (&[4, 4, 4], &[1, 1, 1]),
            (&[5, 1, 1], &[5, 1, 1]),
            (&[10, 30], &[1, 3]),
            (&[0, 2], &[1, 2]),
            (&[1_000, 999], &[1_000, 999]),
        ] {
            assert_eq!(counts(&rota(weights), weights.len()), turns, "{weights:?}");
        }
    }

    #[test]
    fn turns_are_evenly_spread_and_a_round_has_an_end() {
        for seed in 0..200 {
            let mut random = StdRng::seed_from_u64(seed);
            let weights: Vec<u16> = (0..random.random_range(1..40)).map(|_| random.random_range(1..=1_000)).collect();
            let rota = rota(&weights);
            assert!(rota.len() as u64 <= MOST_TURNS + weights.len() as u64, "seed {seed}: {}", rota.len());
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let all = counts(&rota, weights.len());
            // At any point of two rounds in a row, nobody is far from its share.
            let mut seen = vec![0.0; weights.len()];
            for (turn, place) in rota.iter().chain(&rota).enumerate() {
                seen[*place as usize] += 1.0;
                for (place, weight) in weights.iter().enumerate() {
                    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                    let due = (turn + 1) as f64 * all[place] as f64 / rota.len() as f64;
                    assert!((seen[place] - due).abs() <= 3.0, "seed {seed}: {place} had {} of {due}", seen[place]);
                    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                    let share = all[place] as f64 / rota.len() as f64 - f64::from(*weight) / total;
                    assert!(share.abs() < 0.01, "seed {seed}: the share of {place} is {share} off");
                }
            }
        }
    }

    #[test]
    fn light_ones_do_not_come_together() {
        let rota = rota(&[8, 1, 1]);
        let light: Vec<usize> = (0..10).filter(|turn| rota[*turn] != 0).collect();
        assert!(light[1] - light[0] > 1, "{rota:?}");
    }
}
