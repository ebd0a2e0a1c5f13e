//! What the load was in the last seven days, by which a rule grows ahead of what comes again.
//!
//! Kept by slots of five minutes, each once, and no longer than until that slot comes again: what was missed isn't
//! guessed. It is of one size whatever it is told, and read from text that anybody may have written.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::time::Timestamp;

/// A slot, in milliseconds.
const SLOT: u64 = 300_000;
/// Slots in a week.
const SLOTS: u64 = 2_016;
/// How high this week is beside the last one is told from so many slots that are over.
const COMPARED: u64 = 3;
/// Kept are so many more than a week's, so that these can still be compared.
const KEPT: u64 = SLOTS + COMPARED;
/// A slot that was looked at less often isn't learned: half of one.
const FEWEST: u32 = 30;
/// A slot beyond this is none: the year 30,000.
const LAST: u64 = 1 << 32;
/// What came a week ago is believed up to so many times what comes now.
const MOST: f64 = 3.0;

/// A load is kept as a logarithm, to this share of it.
const GRAIN: f64 = 0.004;
/// The digits of a place: two of them, 0 for a load that isn't known.
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
/// The highest place.
const HIGHEST: u16 = 4_095;

/// The load of the last seven days, as far as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Week {
    /// The last slot that is known, counted from the Unix epoch.
    last: u64,
    /// By slot: the load as a logarithm, or 0.
    places: Arc<[u16]>,
}

/// Text that tells of no week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the load of a week is the number of a slot and {} letters, digits, `-` and `_`", 2 * KEPT)]
pub struct WeekError;

/// What the last week says of the minutes to come.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recall {
    /// Nothing: some of it isn't known.
    Unknown,
    /// So much for each instance.
    Promises(f64),
}

/// The load in a slot that is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lesson {
    slot: u64,
    /// Requests a second, on average.
    load: f64,
}

impl Lesson {
    /// What came in the slot of a moment, on average.
    #[cfg(test)]
    pub(crate) const fn of(at: Timestamp, load: f64) -> Self {
        Self { slot: slot_of(at), load }
    }
}

const fn slot_of(at: Timestamp) -> u64 {
    at.as_millis() / SLOT
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Week {
    /// What is known once a first slot is.
    pub fn of(lesson: Lesson) -> Self {
        Self { last: 0, places: vec![0; index(KEPT)].into() }.and(lesson)
    }

    /// What is known once a slot is, beside what was known before.
    pub fn after(known: Option<&Self>, lesson: Lesson) -> Self {
        known.map_or_else(|| Self::of(lesson), |week| week.and(lesson))
    }

    /// What is known once one more slot is. Of those between it and the last one nothing is known any more.
    pub fn and(&self, Lesson { slot, load }: Lesson) -> Self {
        let mut places = self.places.to_vec();
        let mut set = |slot: u64, place: u16| {
            if let Some(kept) = places.get_mut(index(slot % KEPT)) {
                *kept = place;
            }
        };
        if slot > LAST || (slot <= self.last && self.last - slot < SLOTS / 7) {
            // Told twice, or by a clock that was wrong.
            return self.clone();
        }
        if slot <= self.last || slot - self.last > KEPT {
            // What is known is of other days; or was told by a clock that was far ahead.
            (0..KEPT).for_each(|slot| set(slot, 0));
        } else {
            (self.last + 1..slot).for_each(|missed| set(missed, 0));
        }
        set(slot, place(load));
        Self { last: slot, places: places.into() }
    }

    /// All loads that are known, the oldest first.
    #[cfg(test)]
    pub(crate) fn known(&self) -> Vec<f64> {
        (self.last.saturating_sub(KEPT - 1)..=self.last).filter_map(|slot| self.load(slot)).collect()
    }

    /// The load of a slot, if it is known.
    fn load(&self, slot: u64) -> Option<f64> {
        let is_kept = slot <= self.last && slot + KEPT > self.last;
        let place = self.places.get(index(slot % KEPT)).filter(|_| is_kept)?;
        place.checked_sub(1).map(|place| (f64::from(place) * GRAIN).exp_m1())
    }

    /// The most that came a week ago in this slot and those that begin within so long, at the height of this week.
    /// None where anything of it isn't known.
    fn before(&self, now: Timestamp, ahead: Duration) -> Option<f64> {
        let slot = slot_of(now);
        let ago = |slot: u64| slot.checked_sub(SLOTS).and_then(|slot| self.load(slot));
        let (mut sum, mut sum_ago) = (0.0, 0.0);
        for over in slot.checked_sub(COMPARED)?..slot {
            sum += self.load(over)?;
            sum_ago += ago(over)?;
        }
        let mut coming = (slot..=slot_of(now + ahead)).map(ago);
        let most = coming.try_fold(0.0_f64, |most, load| load.map(|load| most.max(load)))?;
        // Where nobody came a week ago, nobody says how much this one is above it.
        (sum_ago >= 1.0).then(|| most * sum / sum_ago)
    }

    /// The load to expect within so long, where there is so much now; none where the last week says nothing of it.
    pub(super) fn promises(&self, now: Timestamp, ahead: Duration, load: f64) -> Option<f64> {
        self.before(now, ahead).map(|promised| promised.min(MOST * load)).filter(|promised| promised.is_finite())
    }
}

/// The place of a load among all that can be kept.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, and NaN becomes zero")]
fn place(load: f64) -> u16 {
    let place = (load.max(0.0).ln_1p() / GRAIN).round() as u16;
    place.saturating_add(1).min(HIGHEST)
}

/// `SLOT LOADS`: the last slot that is known, and two digits for each load.
impl fmt::Display for Week {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |value: u16| char::from(DIGITS[usize::from(value % 64)]);
        let loads: String = self.places.iter().flat_map(|place| [digit(place / 64), digit(place % 64)]).collect();
        write!(f, "{} {loads}", self.last)
    }
}

impl FromStr for Week {
    type Err = WeekError;

    fn from_str(text: &str) -> Result<Self, WeekError> {
        let (last, loads) = text.split_once(' ').ok_or(WeekError)?;
        let last = last.parse().ok().filter(|last| *last <= LAST).ok_or(WeekError)?;
        let value = |digit: u8| DIGITS.iter().position(|known| *known == digit).and_then(|at| u16::try_from(at).ok());
        let places = loads.as_bytes().chunks(2).map(|pair| match *pair {
            [high, low] => Some(64 * value(high)? + value(low)?),
            _ => None,
        });
        let places: Vec<u16> = places.collect::<Option<_>>().ok_or(WeekError)?;
        if places.len() == index(KEPT) { Ok(Self { last, places: places.into() }) } else { Err(WeekError) }
    }
}

impl From<Week> for String {
    fn from(week: Week) -> Self {
        week.to_string()
    }
}

impl TryFrom<String> for Week {
    type Error = WeekError;

    fn try_from(text: String) -> Result<Self, WeekError> {
        text.parse()
    }
}

/// What a leader sees of the slot that goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Diary {
    slot: u64,
    sum: f64,
    looks: u32,
    lesson: Option<Lesson>,
}

impl Diary {
    /// Takes a look's load in.
    pub(super) fn note(&mut self, now: Timestamp, load: f64) {
        let slot = slot_of(now);
        if slot != self.slot {
            let load = self.sum / f64::from(self.looks.max(1));
            self.lesson = (self.looks >= FEWEST).then_some(Lesson { slot: self.slot, load });
            (self.slot, self.sum, self.looks) = (slot, 0.0, 0);
        }
        self.sum += load;
        self.looks += 1;
    }

    /// What was learned: each slot once.
    pub(super) const fn lesson(&mut self) -> Option<Lesson> {
        self.lesson.take()
    }
}

#[cfg(test)]
mod tests;
