//! The split: which arm a sticky key is on.
//!
//! A key is on the canary exactly when `hash(salt, key) < weight`. The salt is
//! secret and new for each episode, so nothing a client sends can be made to
//! say which arm it gets, and each episode draws anew. Raising the weight only
//! adds keys; lowering it re-homes exactly those above it.
//!
//! A control, where a service has one, is the canary's mirror image: as many keys, from the other end of
//! the range. So raising the weight moves no key out of the control but into the canary, once both meet.

use std::fmt;
use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::weight::Weight;

/// Which pool a request was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// The version that everybody knows.
    Stable,
    /// The version on trial.
    Canary,
}

impl Arm {
    /// Both arms, stable first.
    pub const BOTH: [Self; 2] = [Self::Stable, Self::Canary];

    /// The other arm.
    pub const fn other(self) -> Self {
        match self {
            Self::Stable => Self::Canary,
            Self::Canary => Self::Stable,
        }
    }

    /// Its name, as in labels, paths and keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value for each arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerArm<T> {
    /// The stable arm's.
    pub stable: T,
    /// The canary arm's.
    pub canary: T,
}

impl<T> PerArm<T> {
    /// The arm's value.
    pub const fn get(&self, arm: Arm) -> &T {
        match arm {
            Arm::Stable => &self.stable,
            Arm::Canary => &self.canary,
        }
    }

    /// The arm's value, to change.
    pub const fn get_mut(&mut self, arm: Arm) -> &mut T {
        match arm {
            Arm::Stable => &mut self.stable,
            Arm::Canary => &mut self.canary,
        }
    }

    /// Another value made of each.
    pub fn map<U>(self, mut make: impl FnMut(T) -> U) -> PerArm<U> {
        PerArm { stable: make(self.stable), canary: make(self.canary) }
    }

    /// One value made for each arm, stable first.
    pub fn from_fn(mut make: impl FnMut(Arm) -> T) -> Self {
        Self { stable: make(Arm::Stable), canary: make(Arm::Canary) }
    }
}

/// What names an episode: 64 random bits, written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpisodeId(pub u64);

/// The secret of an episode's draw: 128 random bits, written as 32 hex digits, never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub u128);

/// From the moment a canary gets traffic until it is promoted, pulled or set to zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// Its name.
    pub id: EpisodeId,
    /// The secret of its draw.
    pub salt: Salt,
}

/// What an episode counts: one sticky key, known only by its salted hash.
///
/// Holds nothing from which the key (a cookie or an address) can be read back,
/// so it may be stored and sent to other proxies, as 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unit(pub u128);

impl Unit {
    /// The unit of a sticky key in an episode (SipHash-1-3, 128 bits).
    pub fn of_key(salt: Salt, key: &[u8]) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of the salt")]
        let mut hasher = SipHasher13::new_with_keys(salt.0 as u64, (salt.0 >> 64) as u64);
        hasher.write(key);
        Self(hasher.finish128().as_u128())
    }

    /// Which arm the unit is on at this weight.
    pub fn arm(self, weight: Weight) -> Arm {
        if self.slice() < u64::from(weight.hundredths()) { Arm::Canary } else { Arm::Stable }
    }

    /// Whether the unit is in a control of this share: see [`control_share`].
    pub fn is_control(self, share: Weight) -> bool {
        self.slice() >= u64::from(Weight::FULL.hundredths() - share.hundredths())
    }

    /// Whether the unit's mirror image is in a control of this share: it is on the canary for as long as
    /// that one is in the control.
    pub fn mirrors_control(self, share: Weight) -> bool {
        self.slice() < u64::from(share.hundredths())
    }

    /// Where it is in the range: one of 10,000 equal slices, at most one part in 2^50 off.
    fn slice(self) -> u64 {
        ((u128::from(self.upper()) * 10_000) >> 64) as u64
    }

    /// The half that decides the arm.
    const fn upper(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// The half that doesn't decide the arm: for sketches and thinning, which must not know it.
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
    pub const fn lower(self) -> u64 {
        self.0 as u64
    }
}

/// The control's share of the keys beside a canary of this weight: as large as the canary, at most `most`,
/// and at most what the canary leaves.
///
/// As large, so that each unit of one has its mirror image in the other for as long: whatever hosts do to
/// users because they are new, or because the users are new to them, the dice alone say which of the two
/// it befalls.
pub fn control_share(weight: Weight, most: Weight) -> Weight {
    let left = Weight::from_hundredths(Weight::FULL.hundredths() - weight.hundredths());
    weight.min(most).min(left)
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for EpisodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for EpisodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(secret)")
    }
}

/// Text that is not the expected number of hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0} hex digits")]
pub struct HexError(usize);

/// A number from exactly so many hex digits.
pub(super) fn from_hex(text: &str, digits: usize) -> Result<u128, HexError> {
    if text.len() != digits || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(HexError(digits));
    }
    u128::from_str_radix(text, 16).map_err(|_| HexError(digits))
}

impl std::str::FromStr for EpisodeId {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        let bits = from_hex(text, 16)?;
        u64::try_from(bits).map(Self).map_err(|_| HexError(16))
    }
}

impl std::str::FromStr for Salt {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        from_hex(text, 32).map(Self)
    }
}

impl Salt {
    /// The salt in full: for the store and the state file, and nowhere else.
    pub fn reveal(self) -> String {
        format!("{:032x}", self.0)
    }
}

impl Serialize for EpisodeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EpisodeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Salt {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.reveal())
    }
}

impl<'de> Deserialize<'de> for Salt {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Unit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Unit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_hex(&String::deserialize(deserializer)?, 32).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(percent: f64) -> Weight {
        Weight::from_percent(percent).expect("a weight")
    }

    fn unit(salt: u128, key: u32) -> Unit {
        Unit::of_key(Salt(salt), &key.to_le_bytes())
    }

    #[test]
    fn the_share_of_keys_on_the_canary_is_the_weight() {
        let keys: u32 = 200_000;
        for percent in [0.0, 0.01, 1.0, 10.0, 50.0, 99.99, 100.0] {
            let w = weight(percent);
            let on_canary = (0..keys).filter(|k| unit(7, *k).arm(w) == Arm::Canary).count();
            let expected = f64::from(keys) * w.fraction();
            let sigma = (expected * (1.0 - w.fraction())).sqrt();
            #[expect(clippy::cast_precision_loss, reason = "a count of keys")]
            let off = (on_canary as f64 - expected).abs();
            assert!(off <= 4.0 * sigma + 1e-9, "{percent} %: {on_canary} of {keys}");
        }
    }

    #[test]
    fn raising_the_weight_only_adds_keys() {
        for key in 0..20_000 {
            let arms: Vec<Arm> = [1.0, 5.0, 25.0, 50.0, 100.0].map(|p| unit(7, key).arm(weight(p))).to_vec();
            assert!(arms.is_sorted(), "key {key} left the canary: {arms:?}");
        }
    }

    #[test]
    fn the_control_is_as_large_as_the_canary_up_to_its_share_and_what_is_left() {
        for (percent, most, share) in
            [(0.0, 10.0, 0.0), (1.0, 10.0, 1.0), (10.0, 10.0, 10.0), (50.0, 10.0, 10.0), (95.0, 10.0, 5.0)]
        {
            let control = control_share(weight(percent), weight(most));
            assert_eq!(control, weight(share), "at {percent} %");
            let units = || (0..50_000).map(|key| unit(5, key));
            let (inside, mirrored) =
                (units().filter(|u| u.is_control(control)), units().filter(|u| u.mirrors_control(control)));
            for found in [inside.count(), mirrored.count()] {
                #[expect(clippy::cast_precision_loss, reason = "a count of keys")]
                let off = (found as f64 / 50_000.0 - control.fraction()).abs();
                assert!(off < 0.006, "{found} of 50000 at {percent} %");
            }
        }
        assert_eq!(control_share(Weight::FULL, weight(50.0)), Weight::ZERO);
    }

    #[test]
    fn raising_the_weight_moves_no_key_out_of_the_control_but_into_the_canary() {
        let most = weight(30.0);
        for key in 0..20_000 {
            let unit = unit(9, key);
            let mut was_control = false;
            for w in [1.0, 5.0, 30.0, 50.0, 80.0, 99.0, 100.0].map(weight) {
                let share = control_share(w, most);
                let is_control = unit.is_control(share);
                assert!(!is_control || unit.arm(w) == Arm::Stable, "key {key} is on both at {w} %");
                assert!(!unit.mirrors_control(share) || unit.arm(w) == Arm::Canary, "key {key} at {w} %");
                assert!(is_control || !was_control || unit.arm(w) == Arm::Canary, "key {key} left at {w} %");
                was_control = is_control;
            }
        }
    }

    #[test]
    fn each_episode_draws_anew() {
        let w = weight(50.0);
        let moved = (0..10_000).filter(|k| unit(1, *k).arm(w) != unit(2, *k).arm(w)).count();
        assert!((4_700..5_300).contains(&moved), "{moved} of 10000 keys changed arm");
    }

    #[test]
    fn a_salt_is_never_shown_by_accident() {
        assert_eq!(format!("{:?}", Salt(42)), "Salt(secret)");
    }

    #[test]
    fn ids_and_salts_survive_their_text() {
        let (id, salt) = (EpisodeId(0xfe), Salt(0xabc));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(salt.reveal().parse(), Ok(salt));
        assert!("+0000000000000fe".parse::<EpisodeId>().is_err());
    }
}
