//! The circuit of a service: closed = the canary may get traffic; open = it gets none.
//!
//! It latches: what opened it is kept, and only a person's reset closes it. Two
//! proxies, a state file and a store may each hold a version of it; [`Circuit::merge`]
//! says which one stands, so that no missing key, older copy or flushed store
//! ever closes a circuit.

mod evidence;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::MOST_COUNTED;
use super::split::EpisodeId;
use super::text::read_short;
use super::time::Timestamp;
use super::weight::Weight;
pub use evidence::{ArmEvidence, ControlEvidence, Evidence, SignalEvidence};

/// Whether the canary may get traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CircuitState {
    /// The canary may get traffic.
    #[default]
    Closed,
    /// The canary gets none until a person resets the circuit.
    Open,
}

/// What opened a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The verdict: the canary is worse, by evidence.
    Evidence,
    /// A hard rule: the canary's bad units exceed stable's by more than `max_excess_errors`.
    MaxExcessErrors,
    /// A hard rule: the canary had a ready endpoint in this episode and lost the last one.
    NoReadyCanary,
    /// An external alert was firing.
    Alert,
    /// A person asked for it.
    Person,
}

impl Cause {
    /// The cause as a sentence for people, without a full stop.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Evidence => "the canary is worse than stable, by evidence",
            Self::MaxExcessErrors => "the canary's errors exceed stable's by more than max_excess_errors",
            Self::NoReadyCanary => "the canary has no ready endpoint left",
            Self::Alert => "an external alert fired",
            Self::Person => "a person tripped it",
        }
    }

    /// Its name in JSON, labels and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::MaxExcessErrors => "max_excess_errors",
            Self::NoReadyCanary => "no_ready_canary",
            Self::Alert => "alert",
            Self::Person => "person",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The longest reason of a trip or a reset, in bytes.
const LONGEST_REASON: usize = 2_048;
/// The longest name of who it was, in bytes.
const LONGEST_NAME: usize = 256;

/// The act of opening a circuit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trip {
    /// What opened it.
    pub cause: Cause,
    /// The reason in words: a person's, or serin's own.
    #[serde(deserialize_with = "read_short::<LONGEST_REASON, _>")]
    pub reason: String,
    /// Who: a token's name, or the proxy.
    #[serde(deserialize_with = "read_short::<LONGEST_NAME, _>")]
    pub by: String,
    /// When the decision was taken.
    pub at: Timestamp,
    /// The weight in force until then.
    pub weight_before: Weight,
    /// The proof, where the verdict decided or had something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

#[cfg(test)]
impl Trip {
    /// A person's.
    pub(crate) fn sample() -> Self {
        Self {
            cause: Cause::Person,
            reason: "smells".into(),
            by: "ann".into(),
            at: Timestamp::from_millis(1),
            weight_before: Weight::FULL,
            evidence: None,
        }
    }
}

/// A circuit as it is kept: its state, how it came about, and the order of its changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Circuit {
    /// Open or closed.
    pub state: CircuitState,
    /// Rises by one with each trip and each reset.
    pub epoch: u64,
    /// The episode this record speaks of: the one tripped, or the one whose trip was reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episode: Option<EpisodeId>,
    /// The trip; kept after the reset, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trip: Option<Trip>,
    /// Who reset it, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<Reset>,
    /// The epoch of the trip, where others moved on since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trip_epoch: Option<u64>,
    /// The resets of other episodes than the one that this record speaks of, the latest [`CLOSINGS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    closings: Vec<Closing>,
}

/// Resets remembered: a trip that comes late is known by them as one that a person has dealt with.
const CLOSINGS: usize = 16;

/// That the trips of an episode up to an epoch were reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Closing {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    episode: Option<EpisodeId>,
    epoch: u64,
}

/// The act of closing a circuit: a person's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reset {
    /// The reason in the person's words.
    #[serde(deserialize_with = "read_short::<LONGEST_REASON, _>")]
    pub reason: String,
    /// Who.
    #[serde(deserialize_with = "read_short::<LONGEST_NAME, _>")]
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl Circuit {
    /// Whether this is a circuit that can have come about: one whose epoch is beyond all counting could be neither
    /// tripped nor reset any more.
    pub fn is_sound(&self) -> bool {
        let epochs = self.closings.iter().map(|closing| closing.epoch).chain(self.trip_epoch);
        epochs.chain([self.epoch]).all(|epoch| epoch <= MOST_COUNTED)
    }

    /// Whether the canary gets nothing.
    pub fn is_open(&self) -> bool {
        self.state == CircuitState::Open
    }

    /// Opens it. An open circuit stays as it is: the first cause is the one that counts.
    pub fn trip(&mut self, episode: Option<EpisodeId>, trip: Trip) {
        if self.is_open() {
            return;
        }
        *self = Self {
            state: CircuitState::Open,
            epoch: self.epoch + 1,
            episode,
            trip: Some(trip),
            reset: None,
            trip_epoch: None,
            closings: self.all_closings(),
        };
    }

    /// Closes it, by a record of the tripped episode with a higher epoch. A closed one stays as it is.
    pub fn reset(&mut self, reset: Reset) {
        if !self.is_open() {
            return;
        }
        self.state = CircuitState::Closed;
        self.epoch += 1;
        self.trip_epoch = None;
        self.reset = Some(reset);
        let episode = self.episode;
        self.closings.retain(|closing| closing.episode != episode);
    }

    /// What two versions come to: the one held here, and one that came from elsewhere.
    ///
    /// A trip stands until a reset of its own episode with a higher epoch is known, however late it comes and
    /// whatever happened since. Of several trips that stand, and of several closed versions, the newest counts, and
    /// of equally new ones the same wherever they meet. What is known only grows by this, so versions that go
    /// round between proxies, files and a store settle.
    pub fn merge(&self, other: &Self) -> Self {
        let mut closings = self.all_closings();
        closings.extend(other.all_closings());
        let closings = latest(closings);
        let (one, two) = (self.stands(&closings), other.stands(&closings));
        let newest = match (one, two) {
            (true, false) => self,
            (false, true) => other,
            _ if self.order() <= other.order() => self,
            _ => other,
        };
        let mut merged = newest.clone();
        merged.epoch = self.epoch.max(other.epoch);
        if one || two {
            merged.trip_epoch = Some(newest.opened_at()).filter(|epoch| *epoch != merged.epoch);
        } else {
            // Both are closed, or each by what the other one knows.
            merged.state = CircuitState::Closed;
            merged.trip_epoch = None;
        }
        merged.closings = closings;
        let (is_open, episode) = (merged.is_open(), merged.episode);
        // A closed one says by itself that its episode was reset.
        merged.closings.retain(|closing| is_open || closing.episode != episode);
        merged
    }

    /// Whether it is open and nobody reset that trip.
    fn stands(&self, closings: &[Closing]) -> bool {
        let closed = |closing: &Closing| closing.episode == self.episode && closing.epoch > self.opened_at();
        self.is_open() && !closings.iter().any(closed)
    }

    /// The epoch of the trip of an open one; of a closed one its own.
    fn opened_at(&self) -> u64 {
        self.trip_epoch.unwrap_or(self.epoch)
    }

    /// The resets that are known, its own included.
    fn all_closings(&self) -> Vec<Closing> {
        let mut closings = self.closings.clone();
        if !self.is_open() && self.epoch > 0 {
            closings.push(Closing { episode: self.episode, epoch: self.epoch });
        }
        latest(closings)
    }

    /// The newest first, and what is closed by a person before what is closed by hearsay.
    fn order(&self) -> impl Ord {
        (std::cmp::Reverse(self.opened_at()), self.is_open(), self.record())
    }

    /// What puts equally new versions in order: the earliest trip stands, as the first cause is the one that counts.
    fn record(&self) -> impl Ord {
        let trip = self.trip.as_ref().map(|trip| (trip.at, trip.by.as_str(), trip.reason.as_str(), trip.cause.name()));
        let reset = self.reset.as_ref().map(|reset| (reset.at, reset.by.as_str(), reset.reason.as_str()));
        (trip, reset, self.episode)
    }
}

/// One closing for each episode, its highest, in order of epochs; only the latest.
fn latest(mut closings: Vec<Closing>) -> Vec<Closing> {
    closings.sort_by_key(|closing| (closing.episode, std::cmp::Reverse(closing.epoch)));
    closings.dedup_by_key(|closing| closing.episode);
    closings.sort_by_key(|closing| (closing.epoch, closing.episode));
    let old = closings.len().saturating_sub(CLOSINGS);
    closings.drain(..old);
    closings
}

#[cfg(test)]
mod tests;
