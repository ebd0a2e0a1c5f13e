//! Who was seen in an episode, and in the step that runs.

use super::census::{Census, Mark, Sample};
use crate::model::split::{Arm, EpisodeId, Unit};
use crate::model::time::Timestamp;
use crate::model::weight::Weight;
use crate::telemetry;

fn tables(cores: usize) -> Box<[Census]> {
    (0..cores).map(|_| Census::default()).collect()
}

/// Facts on one episode.
#[derive(Debug)]
pub struct EpisodeLive {
    id: EpisodeId,
    known_since: Timestamp,
    seen: Box<[Census]>,
    addresses: Box<[Census]>,
}

impl EpisodeLive {
    pub(super) fn new(id: EpisodeId, cores: usize) -> Self {
        Self { id, known_since: telemetry::now(), seen: tables(cores), addresses: tables(cores) }
    }

    /// Its name.
    pub const fn id(&self) -> EpisodeId {
        self.id
    }

    /// When this process first heard of it.
    pub const fn known_since(&self) -> Timestamp {
        self.known_since
    }

    /// Notes on a core that a unit was on this arm.
    pub fn note(&self, core: usize, arm: Arm, unit: Unit) {
        self.seen[core].note(unit, Mark::new(arm, false));
    }

    /// The units seen.
    pub fn units(&self) -> Sample {
        Sample::of(&self.seen)
    }

    /// Notes on a core that a client address was seen; it comes as the unit of its bits.
    pub fn note_address(&self, core: usize, address: Unit) {
        self.addresses[core].note(address, Mark::new(Arm::Stable, false));
    }

    /// Distinct client addresses seen, by estimate; exact while there are few.
    pub fn addresses(&self) -> u64 {
        Sample::of(&self.addresses).total()
    }

    /// Rises with each client address that a core hadn't seen: as long as it stays, so do the [`Self::addresses`].
    /// Quickly asked, which counting them is not.
    pub fn addresses_learnt(&self) -> u64 {
        self.addresses.iter().map(Census::learnt).sum()
    }
}

/// Facts on one step: as long as an episode's weight stays the same.
#[derive(Debug)]
pub struct StepLive {
    episode: EpisodeId,
    weight: Weight,
    begun_at: Timestamp,
    seen: Box<[Census]>,
}

impl StepLive {
    pub(super) fn new(episode: EpisodeId, weight: Weight, cores: usize) -> Self {
        Self { episode, weight, begun_at: telemetry::now(), seen: tables(cores) }
    }

    pub(super) fn is(&self, episode: EpisodeId, weight: Weight) -> bool {
        self.episode == episode && self.weight == weight
    }

    /// Its weight.
    pub const fn weight(&self) -> Weight {
        self.weight
    }

    /// When this process first drew arms at its weight.
    pub const fn begun_at(&self) -> Timestamp {
        self.begun_at
    }

    /// Notes on a core that a unit was served by this arm, to which it was drawn. `tells_of_split` says
    /// whether it counts for the sample-ratio check: its key is one that serin minted and that
    /// came back, and the other arm could have served it too.
    pub fn note(&self, core: usize, arm: Arm, unit: Unit, tells_of_split: bool) {
        self.seen[core].note(unit, Mark::new(arm, tells_of_split));
    }

    /// The units seen.
    pub fn units(&self) -> Sample {
        Sample::of(&self.seen)
    }
}
