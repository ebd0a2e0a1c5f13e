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
/// The bits of a word that hold its value; the tag has the others.
pub(super) const VALUE_BITS: u32 = 44;
/// A value's bits.
pub(super) const VALUE: u64 = (1 << VALUE_BITS) - 1;

/// The words.
#[derive(Debug)]
pub(super) struct Sets {
    sets: Box<[Set]>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// The tag of a key: a word's upper bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u64);

impl Tag {
    /// Whether a word is of a key with this tag.
    pub(super) const fn is_of(self, word: u64) -> bool {
        word & !VALUE == self.0
    }

    /// The word that gives a key this value.
    pub(super) const fn with(self, value: u64) -> u64 {
        self.0 | value & VALUE
    }
}

impl Sets {
    /// Room for this many keys, or a few more.
    pub(super) fn new(keys: usize) -> Self {
        let sets = keys.div_ceil(WAYS).next_power_of_two();
        Self { sets: (0..sets).map(|_| Set::default()).collect(), hasher: RandomState::new() }
    }

    /// Where a key may be, and its tag. Two keys share both by chance alone: one in 100,000 that meets a full set.
    pub(super) fn of(&self, key: impl Hash) -> (&[AtomicU64; WAYS], Tag) {
        let hash = self.hasher.hash_one(key);
        // The tag takes the upper bits and the place the lower ones.
        let place = usize::try_from(hash & VALUE).unwrap_or(0) & (self.sets.len() - 1);
        (&self.sets[place].0, Tag(hash & !VALUE))
    }
}
