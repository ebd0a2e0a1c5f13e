//! Small facts on very many keys in memory that never grows, shared by all cores without a lock: a fact is one word,
//! the key's tag with a value, in one of eight places that the key's hash names.
//!
//! The hash is keyed anew in each process, so that nobody can choose keys that share places. A key that has none of its
//! eight free takes the place of another, or none: that is for each use to say.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::sync::atomic::AtomicU64;

/// Places of a key: one line of a cache.
const WAYS: usize = 8;

/// The words, whose lower bits, so many, are the value of a key; the others are its tag.
#[derive(Debug)]
pub(super) struct Sets<const BITS: u32> {
    sets: Box<[Set]>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// The tag of a key: a word's upper bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag<const BITS: u32>(u64);

impl<const BITS: u32> Tag<BITS> {
    /// Whether a word is of a key with this tag.
    pub(super) const fn is_of(self, word: u64) -> bool {
        word & !Sets::<BITS>::VALUE == self.0
    }

    /// The word that gives a key this value.
    pub(super) const fn with(self, value: u64) -> u64 {
        self.0 | value & Sets::<BITS>::VALUE
    }
}

impl<const BITS: u32> Sets<BITS> {
    /// The bits of a value.
    pub(super) const VALUE: u64 = (1 << BITS) - 1;

    /// Room for this many keys, or a few more.
    pub(super) fn new(keys: usize) -> Self {
        let sets = keys.div_ceil(WAYS).next_power_of_two();
        Self { sets: (0..sets).map(|_| Set::default()).collect(), hasher: RandomState::new() }
    }

    /// Where a key may be, and its tag. Two keys of the same eight places share their tag by chance alone: one pair in
    /// 2^(64 - BITS).
    pub(super) fn of(&self, key: impl Hash) -> (&[AtomicU64; WAYS], Tag<BITS>) {
        let hash = self.hasher.hash_one(key);
        // The tag takes the upper bits and the place the lower ones.
        let place = usize::try_from(hash & Self::VALUE).unwrap_or(0) & (self.sets.len() - 1);
        (&self.sets[place].0, Tag(hash & !Self::VALUE))
    }
}
