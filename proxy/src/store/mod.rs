//! Where changeable state lives: Redis, or this process, behind one trait.
//!
//! Only this room writes the store. What a change means is [`ServiceState::apply`]'s
//! to say, for every kind of store alike; a kind only makes it atomic and durable.
//! May know: model, telemetry. Never: planes, admin.

use async_trait::async_trait;

use crate::model::split::{Episode, EpisodeId, Salt};
use crate::model::state::{Change, ServiceState, State};
use crate::model::time::Timestamp;

/// Why a store couldn't do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It can't be reached, or doesn't answer in time. Nothing was changed as far as is known.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The service is at another revision than the caller thought.
    #[error("the service is at revision {actual}, not {expected}: read it again, then repeat the change")]
    Conflict {
        /// What the caller thought.
        expected: u64,
        /// What is.
        actual: u64,
    },
    /// The state file can't be read, written or locked.
    #[error("{0}")]
    StateFile(String),
}

/// Where a loaded state came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// From the store, just now.
    Fresh,
    /// From memory or the state file: the store didn't answer.
    LastGood {
        /// When it was last read from the store; none if it never was.
        read_at: Option<Timestamp>,
        /// Why the store wasn't used.
        because: String,
    },
}

/// A value in the store that makes no sense. The rest is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// The key, and the field where there is one.
    pub key: String,
    /// What is wrong with the value, without the value.
    pub problem: String,
}

/// What a store holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The state of the services asked for; a service the store has nothing of has the default state.
    /// Members whose lease ran out aren't in it.
    pub state: State,
    /// Where it came from.
    pub freshness: Freshness,
    /// Values that made no sense and were passed over.
    pub poisoned: Vec<Poison>,
}

/// A store. All its methods may be called at any time, from any task.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// The state of these services. Never fails: a store that can't be reached gives the
    /// last good state and says so.
    async fn load(&self, services: &[String]) -> Loaded;

    /// Changes a service, atomically, and returns its new state. With `expected`, only
    /// if the service is at that revision.
    ///
    /// [`Change::Trip`] and [`Change::MergeCircuit`] are written to the state file before
    /// the store proper is tried.
    ///
    /// # Errors
    /// When the store can't be reached, or the revision is another.
    async fn apply(&self, service: &str, change: &Change, expected: Option<u64>) -> Result<ServiceState, StoreError>;

    /// Waits until something may have changed: a message from the store, a change made
    /// through this very store, or the time for a periodic look.
    async fn changed(&self);

    /// Writes the last good state back into a store that lost it (flushed, or failed over to
    /// an empty one). Does nothing for a service that the store still knows.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn restore(&self, state: &State) -> Result<(), StoreError>;
}

/// A draw for a new episode: an id and a secret salt from the system's randomness.
pub fn fresh_episode() -> Episode {
    Episode { id: EpisodeId(rand::random()), salt: Salt(rand::random()) }
}
