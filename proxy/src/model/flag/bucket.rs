//! Which bucket of a `fractional` a key falls into: flagd's arithmetic, so that a definition moved
//! here leaves everybody where they were. `docs/decisions/0008-flag-hash.md` tells why not the
//! canary's hash.

/// MurmurHash3, the 32-bit variant for x86, seed 0, over the parts as if they were one.
pub(super) fn murmur3(parts: [&str; 2]) -> u32 {
    let mut hash = 0u32;
    let (mut block, mut filled, mut total) = (0u32, 0u32, 0u32);
    for byte in parts.into_iter().flat_map(str::bytes) {
        block |= u32::from(byte) << (8 * filled);
        filled += 1;
        total = total.wrapping_add(1);
        if filled == 4 {
            hash = (hash ^ scramble(block)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
            (block, filled) = (0, 0);
        }
    }
    if filled > 0 {
        hash ^= scramble(block);
    }
    hash ^= total;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

const fn scramble(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

/// Which of the weights the hash falls on; nothing if they sum to zero.
///
/// The hash is scaled to the sum of the weights, so as long as the sum stays, raising the first
/// weight only adds keys to it.
pub(super) fn pick(hash: u32, weights: impl Iterator<Item = u64> + Clone) -> Option<usize> {
    let total: u64 = weights.clone().sum();
    let point = (u128::from(hash) * u128::from(total)) >> 32;
    let mut end = 0;
    weights.enumerate().find_map(|(nth, weight)| {
        end += u128::from(weight);
        (point < end).then_some(nth)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_murmur3() {
        // Published vectors of MurmurHash3_x86_32 with seed 0.
        assert_eq!(murmur3(["", ""]), 0);
        assert_eq!(murmur3(["te", "st"]), 0xba6b_d213);
        assert_eq!(murmur3(["Hello, ", "world!"]), 0xc036_3e43);
        assert_eq!(murmur3(["The quick brown fox", " jumps over the lazy dog"]), 0x2e4f_f723);
    }

    #[test]
    fn where_the_key_is_cut_makes_no_difference() {
        let whole = "flag-key and targeting key";
        let hashes: Vec<u32> = (0..whole.len()).map(|at| murmur3([&whole[..at], &whole[at..]])).collect();
        assert!(hashes.iter().all(|hash| *hash == hashes[0]));
    }

    #[test]
    fn the_ends_of_the_range_fall_on_the_first_and_the_last_weight() {
        let weights = [50, 50];
        for (hash, nth) in [(0, 0), (0x7fff_ffff, 0), (0x8000_0000, 1), (u32::MAX, 1)] {
            assert_eq!(pick(hash, weights.into_iter()), Some(nth), "{hash:#x}");
        }
        assert_eq!(pick(u32::MAX, [0, 7, 0].into_iter()), Some(1));
        assert_eq!(pick(7, [0, 0].into_iter()), None);
        assert_eq!(pick(7, [].into_iter()), None);
    }

    #[test]
    fn raising_a_weight_at_the_same_sum_only_adds_keys() {
        for key in 0..20_000 {
            let hash = murmur3(["flag", &key.to_string()]);
            let on = |weight: u64| pick(hash, [weight, 1_000 - weight].into_iter()) == Some(0);
            let path = [1, 10, 250, 999].map(on);
            assert!(path.is_sorted(), "key {key} was taken away again: {path:?}");
        }
    }
}
