//! The circuit of a service: closed = the canary may get traffic; open = it gets none.
//!
//! It latches: what opened it is kept, and only a person's reset closes it. Two
//! proxies, a state file and a store may each hold a version of it; [`Circuit::merge`]
//! says which one stands, so that no missing key, older copy or flushed store
//! ever closes a circuit.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::outcome::{BadSample, PerSignal, Signal};
use super::split::{EpisodeId, PerArm};
use super::time::Timestamp;
use super::weight::Weight;

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

/// What one arm showed in an episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmEvidence {
    /// Distinct units seen: exact up to some thousands, then an estimate, ± 3 %.
    pub units: u64,
    /// Units that went bad: exact.
    pub bad: u64,
}

/// The evidence of one signal in an episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SignalEvidence {
    /// The evidence against "the canary is no worse", by this signal alone.
    pub e: f64,
    /// What this `e` must reach for a pull: 1/α, divided by the signal's share of α.
    pub threshold: f64,
    /// How many times stable's risk the canary's may be.
    pub tolerance: f64,
    /// Units that went bad for it.
    pub bad: PerArm<u64>,
}

/// What is known where a service has a control: three comparisons, each against "the first is no worse".
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ControlEvidence {
    /// The canary against the control, both restarted together: of the draws while there was a control.
    pub canary_vs_control: f64,
    /// The canary against all of stable: of all draws, as if there were no control. Decides nothing.
    pub canary_vs_stable: f64,
    /// The control against the rest of stable: what the restart does by itself. Decides nothing.
    pub control_vs_rest: f64,
    /// Units that went bad on the canary and are compared with the control.
    pub bad_canary: u64,
    /// Units that went bad in the control.
    pub bad_control: u64,
}

/// The proof of a pull: what was known at the moment of the decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The evidence against "the canary is no worse", over all signals: the largest of theirs, each by its
    /// share of α.
    pub e: f64,
    /// What `e` must reach: 1/α.
    pub threshold: f64,
    /// Each arm's units; bad are those that went bad for any signal.
    #[serde(flatten)]
    pub arms: PerArm<ArmEvidence>,
    /// Distinct client addresses seen in the episode, good outcomes included, by estimate.
    pub addresses: u64,
    /// The smallest `e` with any one address left out; absent where it can't be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_without_any_address: Option<f64>,
    /// The latest bad outcomes of the canary, the oldest first.
    #[serde(default)]
    pub samples: Vec<BadSample>,
    /// When the canary's first bad response of the episode was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<Timestamp>,
    /// Each signal that counts; none in what older versions wrote.
    #[serde(default)]
    pub signals: PerSignal<Option<SignalEvidence>>,
    /// The comparisons with the control; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlEvidence>,
}

impl Evidence {
    /// The signals whose evidence is enough for a pull, the strongest first.
    pub fn decisive(&self) -> Vec<Signal> {
        let part = |signal: &SignalEvidence| signal.e / signal.threshold;
        let mut enough: Vec<(Signal, f64)> = self
            .signals
            .iter()
            .filter_map(|(name, signal)| Some((name, signal.as_ref().map(part)?)))
            .filter(|(_, part)| *part >= 1.0)
            .collect();
        enough.sort_by(|one, other| other.1.total_cmp(&one.1));
        enough.into_iter().map(|(signal, _)| signal).collect()
    }
}

/// The act of opening a circuit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trip {
    /// What opened it.
    pub cause: Cause,
    /// The reason in words: a person's, or serin's own.
    pub reason: String,
    /// Who: a token's name, or the proxy.
    pub by: String,
    /// When the decision was taken.
    pub at: Timestamp,
    /// The weight in force until then.
    pub weight_before: Weight,
    /// The proof, where the verdict decided or had something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
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
    pub reason: String,
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl Circuit {
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
mod tests {
    use super::*;

    fn trip() -> Trip {
        Trip {
            cause: Cause::Person,
            reason: "smells".into(),
            by: "ann".into(),
            at: Timestamp::from_millis(1),
            weight_before: Weight::FULL,
            evidence: None,
        }
    }

    fn reset() -> Reset {
        Reset { reason: "fixed".into(), by: "ann".into(), at: Timestamp::from_millis(2) }
    }

    fn tripped(episode: u64) -> Circuit {
        let mut circuit = Circuit::default();
        circuit.trip(Some(EpisodeId(episode)), trip());
        circuit
    }

    #[test]
    fn the_first_cause_stands() {
        let mut circuit = tripped(1);
        let first = circuit.clone();
        circuit.trip(Some(EpisodeId(1)), Trip { cause: Cause::Evidence, ..trip() });
        assert_eq!(circuit, first);
    }

    #[test]
    fn a_missing_or_flushed_record_closes_nothing() {
        let open = tripped(1);
        assert!(open.merge(&Circuit::default()).is_open());
    }

    #[test]
    fn an_older_copy_closes_nothing() {
        // given a circuit that was tripped, reset and tripped again
        let mut circuit = tripped(1);
        circuit.reset(reset());
        let older = circuit.clone();
        circuit.trip(Some(EpisodeId(2)), trip());
        // then a failed-over store that still holds the reset of before closes nothing
        assert!(circuit.merge(&older).is_open());
    }

    #[test]
    fn a_reset_of_that_episode_closes_and_stays() {
        let open = tripped(1);
        let mut closed = open.clone();
        closed.reset(reset());
        assert!(!open.merge(&closed).is_open());
        assert!(!closed.merge(&open).is_open(), "the old trip came back");
    }

    #[test]
    fn a_reset_of_another_episode_closes_nothing() {
        let mut other = tripped(2);
        other.reset(reset());
        assert!(tripped(1).merge(&other).is_open());
    }

    #[test]
    fn of_two_trips_at_once_all_come_to_hold_the_first() {
        // given two proxies that each tripped by themselves
        let trip_at = |episode, by: &str, at| {
            let mut circuit = Circuit::default();
            let at = Timestamp::from_millis(at);
            circuit.trip(Some(EpisodeId(episode)), Trip { by: by.into(), at, ..trip() });
            circuit
        };
        let first = trip_at(1, "b", 5);
        for later in [trip_at(1, "a", 6), trip_at(1, "c", 5), trip_at(2, "b", 5)] {
            // then whoever hears of whom, the same one stands
            assert_eq!(first.merge(&later), first);
            assert_eq!(later.merge(&first), first);
        }
    }

    #[test]
    fn a_trip_from_elsewhere_opens() {
        assert!(Circuit::default().merge(&tripped(1)).is_open());
    }

    /// A trip at a moment, so that trips can be told apart.
    fn tripped_at(episode: Option<u64>, at: u64) -> Circuit {
        let mut circuit = Circuit::default();
        circuit.trip(episode.map(EpisodeId), Trip { at: Timestamp::from_millis(at), ..trip() });
        circuit
    }

    #[test]
    fn versions_that_go_round_settle() {
        // given a trip that was reset, the same before its reset, and one of no episode at the same time: each of
        // which had beaten the next
        let (known, stray) = (tripped_at(Some(1), 1), tripped_at(None, 2));
        let mut closed = known.clone();
        closed.reset(reset());
        let mut holders = [known, closed, stray];
        // when they tell each other round and round
        for round in 0..12 {
            let (from, to) = (round % 3, (round + 1) % 3);
            holders[to] = holders[to].merge(&holders[from]);
        }
        // then all agree, on the trip that nobody reset
        assert!(holders.iter().all(|held| held == &holders[0]), "{holders:#?}");
        assert!(holders[0].is_open() && holders[0].episode.is_none());
        // and once that is reset too, neither comes back
        let mut over = holders[0].clone();
        over.reset(reset());
        assert!(!over.merge(&holders[1]).is_open());
        assert!(!over.merge(&tripped_at(Some(1), 1)).is_open(), "the first trip came back");
    }

    #[test]
    fn a_version_merged_with_itself_is_itself() {
        let mut circuit = tripped(1);
        assert_eq!(circuit.merge(&circuit.clone()), circuit);
        circuit.reset(reset());
        assert_eq!(circuit.merge(&circuit.clone()), circuit);
        circuit.trip(Some(EpisodeId(2)), trip());
        assert_eq!(circuit.merge(&circuit.clone()), circuit);
        assert_eq!(circuit.merge(&tripped(1)), circuit, "an old trip brought news");
    }
}
