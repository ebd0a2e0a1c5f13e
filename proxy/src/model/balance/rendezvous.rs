//! Weighted rendezvous hashing: each key ranks all endpoints, each endpoint by itself, so that who comes takes keys
//! only from others to itself, who goes leaves its keys to the others, and nothing else moves.
//!
//! Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998), with the weights of
//! Schindelhauer and Schomaker, "Weighted distributed hash tables" (2005). The bound is that of Mirrokni, Thorup and
//! Zadimoghaddam, "Consistent hashing with bounded loads" (2018).

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// What a key or an endpoint's id is known as here: the same in every proxy, and after a restart.
pub fn point_of(text: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(text);
    hasher.finish()
}

/// How far an endpoint of this weight is from a key: it gets the key to which it is the nearest.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
pub fn distance(key: u64, endpoint: u64, weight: u16) -> f64 {
    let uniform = ((mixed(key, endpoint) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -uniform.ln() / f64::from(weight.max(1))
}

/// Whether a key is among the part of an endpoint's keys that it has at this share, 0 to 1: a larger share adds keys
/// and takes none away.
pub fn is_among(key: u64, endpoint: u64, share: f64) -> bool {
    // Of other bits than the distance: near keys and far ones come alike.
    let uniform = f64::from((mixed(!key, endpoint) >> 32) as u32) / f64::from(u32::MAX);
    uniform < share
}

/// The most that an endpoint of this weight may have in flight when one more request comes to a pool of this total
/// weight, which has so many: `bound` times its fair share, rounded up.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of requests"
)]
pub fn capacity(bound: f64, in_flight: u64, weight: u16, total: u64) -> u64 {
    let share = f64::from(weight.max(1)) / total.max(1) as f64;
    (bound * (in_flight + 1) as f64 * share).ceil() as u64
}

/// The two as one number, each bit of which depends on all of both (the finalizer of splitmix64).
const fn mixed(key: u64, endpoint: u64) -> u64 {
    let mut bits = key ^ endpoint.rotate_left(32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The endpoint with the least distance.
    fn nearest(key: u64, pool: &[(u64, u16)]) -> u64 {
        let distances = pool.iter().map(|(id, weight)| (distance(key, *id, *weight), *id));
        distances.min_by(|one, other| one.0.total_cmp(&other.0)).expect("a pool").1
    }

    fn pool(weights: &[u16]) -> Vec<(u64, u16)> {
        weights
            .iter()
            .enumerate()
            .map(|(index, weight)| (point_of(format!("web-{index}").as_bytes()), *weight))
            .collect()
    }

    fn keys() -> impl Iterator<Item = u64> {
        (0..20_000u32).map(|key| point_of(&key.to_le_bytes()))
    }

    #[test]
    fn keys_are_shared_by_weight() {
        let pool = pool(&[1, 2, 5, 2]);
        for (id, weight) in &pool {
            let count = keys().filter(|key| nearest(*key, &pool) == *id).count();
            let due = 2_000 * usize::from(*weight);
            assert!(count.abs_diff(due) < due / 10, "{count} of {due}");
        }
    }

    #[test]
    fn only_the_keys_of_who_comes_or_goes_move() {
        let before = pool(&[3, 1, 7, 2, 2]);
        let (last, after) = before.split_last().expect("five");
        for key in keys() {
            let (was, is) = (nearest(key, &before), nearest(key, after));
            assert!(was == is || was == last.0, "a key moved from one that stayed to another that stayed");
        }
        // Who weighs more takes keys from the others, and they get none from each other.
        let mut heavier = before.clone();
        heavier[1].1 = 2;
        for key in keys() {
            let (was, is) = (nearest(key, &before), nearest(key, &heavier));
            assert!(was == is || is == heavier[1].0);
        }
    }

    #[test]
    fn a_growing_share_only_adds_keys() {
        let endpoint = point_of(b"web-0");
        let among = |share: f64| keys().filter(move |key| is_among(*key, endpoint, share));
        for (smaller, larger) in [(0.0, 0.1), (0.1, 0.5), (0.5, 1.0)] {
            assert!(among(smaller).all(|key| is_among(key, endpoint, larger)));
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let part = among(larger).count() as f64 / 20_000.0;
            assert!((part - larger).abs() < 0.02, "{part} at {larger}");
        }
    }

    #[test]
    fn there_is_always_room_for_one_more() {
        for in_flight in 0..500 {
            let capacities = [1, 5, 9].map(|weight| capacity(1.01, in_flight, weight, 15));
            assert!(capacities.iter().sum::<u64>() > in_flight, "{in_flight}: {capacities:?}");
            assert!(capacities[0] >= 1);
        }
        assert_eq!(capacity(1.25, 15, 1, 4), 5, "a quarter of 16, and a quarter of that");
    }
}
