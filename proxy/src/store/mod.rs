//! Where changeable state lives: Redis, or this process, behind one trait.
//!
//! Only this room writes the store. What a change means is [`ServiceState::apply`]'s
//! to say, for every kind of store alike; a kind only makes it atomic and durable.
//! May know: model, telemetry. Never: planes, admin.

mod audit;
mod checksum;
mod claim;
pub mod embedded;
mod evidence;
#[cfg(test)]
pub(crate) mod interrupted;
mod lease;
pub mod redis;
pub mod registry;
mod state_file;
pub mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
#[cfg(test)]
use rand::RngExt as _;
use rand::distr::{Distribution, StandardUniform};

use self::embedded::EmbeddedStore;
use self::redis::RedisStore;
use crate::model::audit::Entry;
use crate::model::flag::{Definitions, FlagChange, Refusal};
use crate::model::redis::Mirrored;
use crate::model::rollout::change::RolloutChange;
use crate::model::rollout::{Fence, RolloutId};
use crate::model::spec::{StoreKind, StoreSpec};
use crate::model::split::{Episode, EpisodeId, Salt};
use crate::model::state::{Change, ServiceState, State};
use crate::model::time::Timestamp;
use crate::model::verdict::Post;
pub use audit::Noted;

/// At the latest after this long [`Store::changed`] returns, so that what rings no bell
/// (a lease that runs out, a person at `redis-cli`) is seen within a second all the same.
const LOOK: Duration = Duration::from_millis(500);

/// Why a store couldn't do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It can't be reached, or doesn't answer in time. Nothing was changed as far as is known.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The service, or what there is of flags, is at another revision than the caller thought.
    #[error("it is at revision {actual}, not {expected}: read it again, then repeat the change")]
    Conflict {
        /// What the caller thought.
        expected: u64,
        /// What is.
        actual: u64,
    },
    /// The state file can't be read, written or locked.
    #[error("{0}")]
    StateFile(String),
    /// The configuration of the store can't be used as it is. Only [`open`] says so.
    #[error("{0}")]
    Settings(String),
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
    /// All flags, the last good definition in the place of each that is refused.
    pub flags: Arc<Definitions>,
    /// What is refused of the flags in the store, as far as the store looked.
    pub refused: Arc<[Refusal]>,
    /// Where it came from.
    pub freshness: Freshness,
    /// Values that made no sense and were passed over.
    pub poisoned: Vec<Poison>,
    /// How the mirror is doing; none where there is none.
    pub mirror: Option<Mirrored>,
}

/// What may have changed in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Anything.
    Anything,
    /// These services, some of which the caller may not know, maybe flags, and nothing else as far as anybody said: see
    /// [`Store::load_some`]. What nobody tells of, [`Changed::Anything`] covers, at the latest when the time for the
    /// next periodic look has come.
    Services(BTreeSet<String>),
}

impl Changed {
    /// Whether this service may be among it.
    pub fn is_about(&self, service: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::Services(services) => services.contains(service),
        }
    }
}

impl Loaded {
    /// The state of services, without flags and with nothing passed over.
    pub fn of(state: State, freshness: Freshness) -> Self {
        Self { state, freshness, flags: Arc::default(), refused: Arc::default(), poisoned: Vec::new(), mirror: None }
    }
}

/// A place in the order in which a store gives the posts of an episode. The default one is before all of them.
/// Only of use to the store that gave it, in the process that it gave it to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u64, pub u64);

/// Posts of an episode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Posted {
    /// In the store's order. One may come more than once.
    pub posts: Vec<Post>,
    /// Where to go on: after the last of them.
    pub place: Place,
    /// Whether there may be more after it: who wants all asks again.
    pub more: bool,
    /// Entries that made no sense and were passed over.
    pub poisoned: Vec<Poison>,
}

/// What proxies tell each other of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About<'a> {
    /// The load of a service.
    Load(&'a str),
    /// What rates of the whole fleet let through.
    Rates,
}

/// What a proxy tells the others: something that is true of this moment only.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a> {
    /// Of what.
    pub about: About<'a>,
    /// Who tells.
    pub teller: &'a str,
    /// What.
    pub said: &'a str,
    /// Tellers that are gone.
    pub gone: &'a [String],
}

/// A store. All its methods may be called at any time, from any task.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// The state of these services, and all flags. Never fails: a store that can't be reached gives the
    /// last good state and says so.
    async fn load(&self, services: &[String]) -> Loaded;

    /// As [`Store::load`], of no more services than changed, and at no greater cost than theirs. All else that is
    /// loaded is of all services and flags, as it was when it was last looked at.
    async fn load_some(&self, services: &[String]) -> Loaded {
        self.load(services).await
    }

    /// Changes a service, atomically, and returns its new state. With `expected`, only
    /// if the service is at that revision.
    ///
    /// What stops a canary ([`Change::Trip`], [`Change::MergeCircuit`], the abort of a rollout) is
    /// written to the state file before the store proper is tried.
    ///
    /// # Errors
    /// When the store can't be reached, or the revision is another.
    async fn apply(&self, service: &str, change: &Change, expected: Option<u64>) -> Result<ServiceState, StoreError>;

    /// Changes flags, atomically, and returns all definitions after it. With `expected`, only if the
    /// definitions are at that revision. What a definition says is the caller's to check before.
    ///
    /// # Errors
    /// When the store can't be reached, or the revision is another.
    async fn change_flags(&self, change: &FlagChange, expected: Option<u64>) -> Result<Arc<Definitions>, StoreError>;

    /// Asks to lead the proxies of this store for so long, or to go on leading them. None while another
    /// one leads. Each new leader has a higher fence than all before; so has one that led before and
    /// lost it.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn lead(&self, holder: &str, ttl: Duration) -> Result<Option<Fence>, StoreError>;

    /// Tells all proxies of this store something about a running episode of a service. It survives a restart
    /// of this process also where it fails; then it is to be posted again, which does no harm to what
    /// arrived. An episode that is over may be forgotten, with all its posts.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn post(&self, service: &str, episode: EpisodeId, posts: &[Post]) -> Result<(), StoreError>;

    /// What was posted about an episode after a place, by this proxy and others. Of an episode that this
    /// process asks about for the first time ([`Place::default`]), what it knows by itself from before a
    /// restart comes first, and needs nothing remote. Nothing new gives no posts and the same place. Of much only a
    /// part is given at a time, which is soon there, so that no stream is too long for a slow way.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn posted(&self, service: &str, episode: EpisodeId, after: Place) -> Result<Posted, StoreError>;

    /// Tells the proxies of this store something, forgets what tellers told that are gone, and hears what all told: by
    /// teller, this one included.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn share(&self, word: Word<'_>) -> Result<BTreeMap<String, String>, StoreError>;

    /// Keeps an entry of the audit log, of which the caller says all but the time, and the id only where others may note the same: at once in
    /// memory, and in the store as soon as it can be reached. Never waits. To be called inside a tokio runtime.
    fn note(&self, entry: Entry);

    /// The newest entries of the audit log, at most so many.
    async fn noted(&self, most: usize) -> Noted;

    /// Waits until something may have changed: a message from the store, a change made
    /// through this very store, or the time for a periodic look. Says what there is to load.
    async fn changed(&self) -> Changed;

    /// Writes the last good state back into a store that lost it (flushed, or failed over to
    /// an empty one). Does nothing for a service that the store still knows.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn restore(&self, state: &State) -> Result<(), StoreError>;

    /// Writes what isn't on disk yet and lets another process, which is to replace this one, have the files. From then
    /// on this one writes none, and follows what the other does; it leads nobody whose state is in the files.
    ///
    /// # Errors
    /// When the files can't be written: then they are still this process'.
    async fn give_up(&self) -> Result<(), StoreError>;

    /// Takes the files back from a process that is gone and replaced nobody.
    ///
    /// # Errors
    /// When it has them still, or what it wrote makes no sense.
    async fn take_back(&self) -> Result<(), StoreError>;
}

/// Opens the store that the configuration asks for. Succeeds also while Redis can't be reached.
///
/// To be called inside a tokio runtime, before traffic is served: it reads the state file.
///
/// # Errors
/// When the state file can't be used or is in use by another serin, or when the store's
/// namespace, or a file of its login or certificates, makes no sense.
pub fn open(spec: &StoreSpec) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match &spec.kind {
        StoreKind::Embedded => Arc::new(EmbeddedStore::open(&spec.state_file)?),
        StoreKind::Redis(redis) => Arc::new(RedisStore::connect(redis, &spec.namespace, &spec.state_file)?),
    })
}

/// Refuses a change that was meant for another revision.
const fn check_revision(actual: u64, expected: Option<u64>) -> Result<(), StoreError> {
    match expected {
        Some(expected) if expected != actual => Err(StoreError::Conflict { expected, actual }),
        _ => Ok(()),
    }
}

/// Whether a change came to anything that a look would find: then it is time for one. What the store refuses or can't
/// take is none, or who tries again at each look would never rest.
const fn is_news<T>(outcome: &Result<T, StoreError>) -> bool {
    // At another revision: then what is known here is old.
    matches!(outcome, Ok(_) | Err(StoreError::Conflict { .. }))
}

/// Whether an episode runs in some service.
fn runs(services: &State, episode: EpisodeId) -> bool {
    services.values().any(|state| state.episode.is_some_and(|running| running.id == episode))
}

/// Whether a change stops a canary, and so must outlive a store or a disk that fails.
const fn stops_a_canary(change: &Change) -> bool {
    matches!(change, Change::Trip { .. } | Change::MergeCircuit { .. } | Change::Rollout(RolloutChange::Abort { .. }))
}

/// A name for a new rollout, from the system's randomness.
pub fn fresh_rollout_id() -> RolloutId {
    RolloutId(random())
}

/// A draw for a new episode: an id and a secret salt from the system's randomness.
pub fn fresh_episode() -> Episode {
    Episode { id: EpisodeId(random()), salt: Salt(random()) }
}

/// Anything, from the system's randomness.
fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    #[cfg(test)]
    if let Some(drawn) = simulated::DRAWS.with_borrow_mut(|draws| Some(draws.as_mut()?.random())) {
        return drawn;
    }
    rand::random()
}

/// Randomness that tests can repeat, for this thread alone.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::RefCell;

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    thread_local! {
        pub(super) static DRAWS: RefCell<Option<StdRng>> = const { RefCell::new(None) };
    }

    /// From now on what this thread draws follows from the seed; with none it is the system's again.
    pub(crate) fn set_seed(seed: Option<u64>) {
        DRAWS.set(seed.map(StdRng::seed_from_u64));
    }
}
