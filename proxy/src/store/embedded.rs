//! The store inside this process: one serin, nothing else to install.
//!
//! Leases are counted by this process' own clock; after a restart they count anew.
//! May know: model, telemetry.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::audit::{AuditLog, File, Noted};
use super::evidence::Journal;
use super::lease::{self, LeaseChange};
use super::state_file::{Kept, OnFailure};
use super::{
    Changed, Freshness, LOOK, Loaded, Place, Posted, Store, StoreError, Word, check_revision, is_news, runs,
    stops_a_canary,
};
use crate::model::audit::Entry;
use crate::model::flag::{Definitions, FlagChange};
use crate::model::rollout::Fence;
use crate::model::split::{Arm, EpisodeId};
use crate::model::state::{Change, ServiceState, State};
use crate::model::verdict::Post;
use crate::telemetry;

/// The store inside this process, kept in the state file.
#[derive(Debug)]
pub struct EmbeddedStore {
    kept: Arc<Kept>,
    journal: Arc<Journal>,
    audit: Arc<AuditLog<File>>,
    leases: Arc<Leases>,
    bell: Notify,
    /// Services that changed since somebody last heard of any. Nothing changes them but this process.
    news: Mutex<BTreeSet<String>>,
    /// When everything was to be looked at last.
    looked: Mutex<Instant>,
    /// Above those of any process that had the state file before.
    fence: Fence,
}

impl EmbeddedStore {
    /// The state of this file, to be used by this process alone.
    ///
    /// # Errors
    /// [`StoreError::StateFile`] when it can't be used, is in use, or makes no sense.
    pub fn open(state_file: &Path) -> Result<Self, StoreError> {
        Ok(Self::of(Kept::open(state_file)?, state_file))
    }

    /// A store that is gone with this process, and takes no time.
    #[cfg(test)]
    pub(crate) fn simulated() -> Self {
        Self::of(Kept::simulated(Arc::default()), Path::new("nowhere/state.json"))
    }

    fn of(kept: Arc<Kept>, state_file: &Path) -> Self {
        let journal =
            Journal::open(state_file, kept.claim(), |episode| kept.peek(|saved| runs(&saved.services, episode)));
        let leases = Leases::default();
        let now = Instant::now();
        // Also after a clock that went back, nobody who led before is listened to.
        let mut fence = telemetry::now().as_millis();
        kept.peek(|saved| {
            let led = saved.services.values().map(|state| state.fence().0);
            fence = led.map(|before| before.saturating_add(1)).fold(fence, u64::max);
            leases.count_anew(&saved.services, now);
        });
        let audit = AuditLog::new(File::beside(state_file, kept.claim()));
        let (leases, bell, news, looked) = (Arc::new(leases), Notify::new(), Mutex::default(), Mutex::new(now));
        Self { kept, journal, audit, leases, bell, news, looked, fence: Fence(fence) }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn load(&self, services: &[String]) -> Loaded {
        self.kept.follow().await;
        let now = Instant::now();
        let is_ours = self.kept.claim().is_held();
        let state = services.iter().map(|name| {
            let mut state = self.kept.peek(|saved| saved.services.get(name).cloned()).unwrap_or_default();
            // Else who has the file hears the heartbeats.
            if is_ours {
                self.leases.prune(name, &mut state, now);
            }
            (name.clone(), state)
        });
        let flags = self.kept.peek(|saved| Arc::clone(&saved.flags));
        Loaded { flags, ..Loaded::of(state.collect(), Freshness::Fresh) }
    }

    async fn apply(&self, service: &str, change: &Change, expected: Option<u64>) -> Result<ServiceState, StoreError> {
        let on_failure = if stops_a_canary(change) { OnFailure::Hold } else { OnFailure::Undo };
        let (name, change, leases) = (service.to_owned(), change.clone(), Arc::clone(&self.leases));
        let now = Instant::now();
        let outcome = self.kept.change(on_failure, move |saved| {
            let service = name;
            let mut state = saved.services.get(&service).cloned().unwrap_or_default();
            leases.prune(&service, &mut state, now);
            check_revision(state.revision, expected)?;
            let next = state.apply(&change);
            if let Some(lease) = LeaseChange::of(&change, &state) {
                leases.set(&service, lease, now);
            }
            saved.services.insert(service, next.clone());
            Ok(next)
        });
        let outcome = outcome.await.flatten();
        // What stops a canary holds in memory, whatever becomes of the disk.
        if on_failure == OnFailure::Hold || is_news(&outcome) {
            self.news().insert(service.to_owned());
            self.bell.notify_one();
        }
        self.journal.keep(|episode| self.runs(episode)).await;
        outcome
    }

    async fn change_flags(&self, change: &FlagChange, expected: Option<u64>) -> Result<Arc<Definitions>, StoreError> {
        let change = change.clone();
        let outcome = self.kept.change(OnFailure::Undo, move |saved| {
            check_revision(saved.flags.revision, expected)?;
            saved.flags = Arc::new(saved.flags.apply(&change));
            Ok(Arc::clone(&saved.flags))
        });
        let outcome = outcome.await.flatten();
        if is_news(&outcome) {
            self.bell.notify_one();
        }
        outcome
    }

    async fn lead(&self, _: &str, _: Duration) -> Result<Option<Fence>, StoreError> {
        // The state file is this process' alone, and so is what it decides; until a new one has it.
        Ok(self.kept.claim().is_held().then_some(self.fence))
    }

    async fn post(&self, _: &str, episode: EpisodeId, posts: &[Post]) -> Result<(), StoreError> {
        if self.runs(episode) {
            self.journal.add(episode, posts).await;
        }
        Ok(())
    }

    async fn posted(&self, _: &str, episode: EpisodeId, after: Place) -> Result<Posted, StoreError> {
        let posts = self.journal.posts(episode, usize::try_from(after.0).unwrap_or(usize::MAX));
        let place = Place(after.0.saturating_add(posts.len() as u64), 0);
        Ok(Posted { posts, place, ..Posted::default() })
    }

    async fn share(&self, word: Word<'_>) -> Result<BTreeMap<String, String>, StoreError> {
        // Nobody shares it.
        Ok(BTreeMap::from([(word.teller.to_owned(), word.said.to_owned())]))
    }

    fn note(&self, entry: Entry) {
        self.audit.note(entry);
    }

    async fn noted(&self, most: usize) -> Noted {
        self.audit.newest(most).await
    }

    async fn changed(&self) -> Changed {
        let look = Instant::now() + LOOK;
        let ends = self.kept.claim().is_held().then(|| self.leases.next_end()).flatten();
        let wake = ends.map_or(look, |end| end.min(look));
        let was_rung = tokio::select! {
            () = self.bell.notified() => true,
            () = tokio::time::sleep_until(wake) => false,
        };
        self.forget_the_dead().await;
        let services = std::mem::take(&mut *self.news());
        let is_about_nothing = !was_rung && services.is_empty();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        // However often it rings: what rings no bell is seen all the same.
        if is_about_nothing || looked.elapsed() >= LOOK {
            *looked = Instant::now();
            return Changed::Anything;
        }
        Changed::Services(services)
    }

    async fn restore(&self, _: &State) -> Result<(), StoreError> {
        // What this store lost, the state file lost with it: there is nothing to restore into.
        Ok(())
    }

    async fn give_up(&self) -> Result<(), StoreError> {
        self.audit.settle().await;
        self.kept.give_up().await
    }

    async fn take_back(&self) -> Result<(), StoreError> {
        self.kept.take_back().await?;
        self.journal.take_back().await;
        self.kept.peek(|saved| self.leases.count_anew(&saved.services, Instant::now()));
        self.bell.notify_one();
        Ok(())
    }
}

impl EmbeddedStore {
    fn news(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs(&self, episode: EpisodeId) -> bool {
        self.kept.peek(|saved| runs(&saved.services, episode))
    }

    /// Takes members whose lease ran out off the disk too: else a restart would bring them back.
    async fn forget_the_dead(&self) {
        let now = Instant::now();
        if !self.kept.claim().is_held() {
            return;
        }
        let services = self.leases.forget_ended(now);
        if services.is_empty() {
            return;
        }
        self.news().extend(services);
        let leases = Arc::clone(&self.leases);
        let pruned = self.kept.change(OnFailure::Hold, move |saved| {
            for (service, state) in &mut saved.services {
                leases.prune(service, state, now);
            }
        });
        if let Err(error) = pruned.await {
            tracing::warn!(%error, "A lease ran out, which could not be written");
        }
    }
}

/// When each lease ends. A leased member that isn't in here doesn't live.
#[derive(Debug, Default)]
struct Leases(Mutex<HashMap<(String, Arm, String), Instant>>);

impl Leases {
    fn ends(&self) -> MutexGuard<'_, HashMap<(String, Arm, String), Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, service: &str, lease: LeaseChange<'_>, now: Instant) {
        let key = (service.to_owned(), lease.arm, lease.id.to_owned());
        match lease.ttl {
            Some(ttl) => self.ends().insert(key, now + ttl),
            None => self.ends().remove(&key),
        };
    }

    /// Each lease from its beginning: after a restart nobody knows when it was beaten last.
    fn count_anew(&self, services: &State, now: Instant) {
        for (service, state) in services {
            for (arm, id, ttl) in lease::leased(state) {
                self.set(service, LeaseChange { arm, id, ttl: Some(ttl) }, now);
            }
        }
    }

    fn prune(&self, service: &str, state: &mut ServiceState, now: Instant) {
        let ends = self.ends();
        lease::retain(state, |arm, id| {
            ends.get(&(service.to_owned(), arm, id.to_owned())).is_some_and(|end| *end > now)
        });
    }

    /// Forgets the leases that ended. Returns the services whose they were.
    fn forget_ended(&self, now: Instant) -> BTreeSet<String> {
        self.ends().extract_if(|_, end| *end <= now).map(|((service, ..), _)| service).collect()
    }

    fn next_end(&self) -> Option<Instant> {
        self.ends().values().min().copied()
    }
}

#[cfg(test)]
mod tests;
