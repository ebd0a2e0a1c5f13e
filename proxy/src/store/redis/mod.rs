//! The store in Redis: many proxies, scripts and people on one state.
//!
//! Keys are made in `keys`, fields are understood in `codec`. `dial` and `tls` make connections, `connection` keeps
//! lines to the server, which `sentinel` finds where sentinels watch it; `read`, `write`, `register`, `evidence`,
//! `audit` and `flags` use them, by `rounds` where nobody else's write may be lost. `look` says what is read where, `mirror` keeps an eye on a replica, `watch` hears of
//! changes, and `remote` is all of these. Here it meets the last good state, which lives in the state file: it
//! answers while Redis is away, and it keeps an open circuit open whatever Redis forgot.
//! May know: model, telemetry.

mod audit;
mod bell;
mod codec;
mod connection;
mod dial;
mod evidence;
mod flags;
mod keys;
mod loads;
mod look;
mod mirror;
mod read;
mod register;
mod remote;
mod rounds;
mod schema;
mod sentinel;
#[cfg(test)]
pub(crate) mod simulated;
mod stream;
mod tls;
mod watch;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use self::bell::Bell;
use self::codec::Decoded;
use self::connection::Down;
use self::flags::Known;
use self::keys::Keys;
pub(super) use self::register::RedisRegistry;
pub use self::remote::Redis;
use self::remote::Remote;
use self::write::Wish;
use super::audit::Noted;
use super::evidence::Journal;
use super::state_file::{Kept, OnFailure, Saved};
use super::{
    Changed, Freshness, Loaded, Place, Poison, Posted, Store, StoreError, Word, is_news, runs, stops_a_canary,
};
use crate::model::audit::Entry;
use crate::model::flag::{Definitions, FlagChange};
use crate::model::redis::RedisSpec;
use crate::model::rollout::Fence;
use crate::model::split::EpisodeId;
use crate::model::state::{Change, Scope, ServiceState, State};
use crate::model::verdict::Post;
use crate::telemetry;

/// The store in Redis, with the last good state in the state file.
#[derive(Debug)]
pub struct RedisStore<R = Redis> {
    remote: R,
    kept: Arc<Kept>,
    bell: Arc<Bell>,
    flags: Known,
    /// Services that were read from Redis by this process.
    met: Mutex<BTreeSet<String>>,
    /// What made no sense of each service when it was last read.
    poisoned: Mutex<BTreeMap<String, Vec<Poison>>>,
}

impl RedisStore {
    /// The store there. Succeeds also while it can't be reached: it is tried again with
    /// each read and write. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Settings`] when a login's or a certificate's file can't be used or the namespace makes no sense, and
    /// [`StoreError::StateFile`] when the file can't be used, is in use, or makes no sense.
    pub fn connect(spec: &RedisSpec, namespace: &str, state_file: &Path) -> Result<Self, StoreError> {
        let keys = Keys::of(namespace)?;
        dial::check_all_files(spec)?;
        let kept = Kept::open(state_file)?;
        let journal =
            Journal::open(state_file, kept.claim(), |episode| kept.peek(|saved| runs(&saved.services, episode)));
        let bell = Arc::new(Bell::default());
        let remote = Redis::connect(spec, &keys, journal, Arc::clone(&bell));
        Ok(Self::of(remote, kept, bell))
    }
}

#[async_trait]
impl<R: Remote> Store for RedisStore<R> {
    async fn load(&self, services: &[String]) -> Loaded {
        self.load_in(services, Scope::Whole).await
    }

    async fn load_some(&self, services: &[String]) -> Loaded {
        self.load_in(services, Scope::Part).await
    }

    async fn apply(&self, service: &str, change: &Change, expected: Option<u64>) -> Result<ServiceState, StoreError> {
        // A trip on condition of a revision that only Redis knows is tried there first.
        let record_first = stops_a_canary(change) && expected.is_none();
        let mut recorded = record_first && self.record(service, change).await;
        let last_good = self.last_good_of(service);
        let outcome = self.remote.change(&Wish { service, change, expected, last_good: &last_good }).await;
        match &outcome {
            Ok(state) => self.remember(State::from([(service.to_owned(), state.clone())])).await,
            Err(StoreError::Conflict { .. }) => {}
            Err(_) if stops_a_canary(change) && !record_first => recorded = self.record(service, change).await,
            Err(_) => {}
        }
        // What arrived though its answer was lost, Redis itself tells of, or the next look finds.
        if recorded || is_news(&outcome) {
            self.bell.ring();
        }
        outcome
    }

    async fn change_flags(&self, change: &FlagChange, expected: Option<u64>) -> Result<Arc<Definitions>, StoreError> {
        self.change_flags_there(change, expected).await
    }

    async fn lead(&self, holder: &str, ttl: Duration) -> Result<Option<Fence>, StoreError> {
        let known = self.kept.peek(|saved| saved.services.values().map(ServiceState::fence).max().unwrap_or_default());
        self.remote.lead(holder, ttl, known).await
    }

    async fn post(&self, service: &str, episode: EpisodeId, posts: &[Post]) -> Result<(), StoreError> {
        // Late ones would only bring its stream and its journal back.
        match self.remote.evidence() {
            Some(evidence) if self.runs(episode) => evidence.post(service, episode, posts).await,
            _ => Ok(()),
        }
    }

    async fn posted(&self, service: &str, episode: EpisodeId, after: Place) -> Result<Posted, StoreError> {
        match self.remote.evidence() {
            Some(evidence) if self.runs(episode) => evidence.posted(service, episode, after).await,
            _ => Ok(Posted { place: after, ..Posted::default() }),
        }
    }

    async fn share(&self, word: Word<'_>) -> Result<BTreeMap<String, String>, StoreError> {
        match self.remote.loads() {
            Some(loads) => loads.share(word).await,
            None => Ok(BTreeMap::from([(word.teller.to_owned(), word.said.to_owned())])),
        }
    }

    fn note(&self, entry: Entry) {
        if let Some(audit) = self.remote.audit() {
            audit.note(entry);
        }
    }

    async fn noted(&self, most: usize) -> Noted {
        match self.remote.audit() {
            Some(audit) => audit.newest(most).await,
            None => Noted::default(),
        }
    }

    async fn changed(&self) -> Changed {
        self.bell.heard().await
    }

    async fn restore(&self, state: &State) -> Result<(), StoreError> {
        for (service, state) in state {
            if state.revision > 0 {
                let mut state = state.clone();
                state.keep_stopped(&self.last_good_of(service));
                self.remote.restore(service, &state).await?;
                if let (Some(episode), Some(evidence)) = (state.episode, self.remote.evidence()) {
                    evidence.tell_again(episode.id);
                }
            }
        }
        self.bell.ring();
        Ok(())
    }

    async fn give_up(&self) -> Result<(), StoreError> {
        self.kept.give_up().await
    }

    async fn take_back(&self) -> Result<(), StoreError> {
        self.kept.take_back().await?;
        if let Some(evidence) = self.remote.evidence() {
            evidence.journal.take_back().await;
        }
        self.bell.ring();
        Ok(())
    }
}

#[expect(private_bounds, reason = "only this room can name a remote, and make a store of one")]
impl<R: Remote> RedisStore<R> {
    fn of(remote: R, kept: Arc<Kept>, bell: Arc<Bell>) -> Self {
        Self { remote, kept, bell, flags: Known::default(), met: Mutex::default(), poisoned: Mutex::default() }
    }

    async fn load_in(&self, services: &[String], scope: Scope) -> Loaded {
        let found = match self.read(services).await {
            Ok(found) => self.restore_what_was_lost_meanwhile(services, found).await,
            Err(down) => Err(down),
        };
        let mut loaded = match found {
            Ok(found) => self.take_in(services, scope, found).await,
            Err(down) => self.last_good(services, down.to_string()),
        };
        if loaded.freshness == Freshness::Fresh && (scope == Scope::Whole || self.bell.expects_flags()) {
            loaded.poisoned.extend(self.look_at_flags().await);
        }
        self.add_flags(&mut loaded);
        Loaded { mirror: self.remote.mirror(), ..loaded }
    }

    fn runs(&self, episode: EpisodeId) -> bool {
        self.kept.peek(|saved| runs(&saved.services, episode))
    }

    async fn forget_evidence_of_the_past(&self) {
        if let Some(evidence) = self.remote.evidence() {
            evidence.journal.keep(|episode| self.runs(episode)).await;
        }
    }

    async fn read(&self, services: &[String]) -> Result<Vec<Decoded>, Down> {
        let last_good = self.kept.peek(|saved| {
            let known = services.iter().filter_map(|name| saved.services.get_key_value(name));
            known.map(|(name, state)| (name.clone(), state.clone())).collect()
        });
        self.remote.read(services, &last_good).await
    }

    /// Until a service was read from Redis once: if the state file knows it and Redis doesn't, Redis lost it while
    /// no proxy of this state file was there to see it, or after a write of this proxy that it never read back.
    /// Later losses are the caller's to judge.
    async fn restore_what_was_lost_meanwhile(
        &self,
        services: &[String],
        found: Vec<Decoded>,
    ) -> Result<Vec<Decoded>, Down> {
        let mut lost = State::new();
        {
            let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, decoded) in services.iter().zip(&found) {
                if decoded.known {
                    met.insert(name.clone());
                } else if !met.contains(name) {
                    let last_good = self.last_good_of(name);
                    if last_good.revision > 0 {
                        lost.insert(name.clone(), last_good);
                    }
                }
            }
        }
        if lost.is_empty() {
            return Ok(found);
        }
        if let Err(error) = self.restore(&lost).await {
            tracing::warn!(%error, "Redis lost services, which could not be restored yet");
            return Ok(found);
        }
        tracing::warn!(services = ?lost.keys(), "Redis lost services, they were restored from the state file");
        self.read(services).await
    }

    /// Makes what was found the last good state, and tells Redis of open circuits and aborts that it forgot.
    async fn take_in(&self, services: &[String], scope: Scope, found: Vec<Decoded>) -> Loaded {
        let mut loaded = Loaded::of(State::new(), Freshness::Fresh);
        let (mut news, mut poisoned) = (State::new(), BTreeMap::new());
        for (name, mut decoded) in services.iter().zip(found) {
            let last_good = self.last_good_of(name);
            decoded.state.keep_stopped(&last_good);
            // A store that has nothing of a service that was there has lost it: the rest of the last good
            // state is kept for `restore`, which brings the circuit back with it.
            if decoded.known || last_good.revision == 0 {
                if decoded.forgot_a_stop() {
                    decoded.state = self.tell_of_a_stop(name, &last_good, decoded.state).await;
                }
                news.insert(name.clone(), decoded.state.clone());
            }
            loaded.state.insert(name.clone(), decoded.state);
            poisoned.insert(name.clone(), decoded.poisoned);
        }
        loaded.poisoned = self.all_poisoned(scope, poisoned);
        self.remember(news).await;
        loaded
    }

    /// What makes no sense of any service, now that these were read.
    fn all_poisoned(&self, scope: Scope, mut found: BTreeMap<String, Vec<Poison>>) -> Vec<Poison> {
        let mut known = self.poisoned.lock().unwrap_or_else(PoisonError::into_inner);
        if scope == Scope::Whole {
            known.clear();
        }
        known.append(&mut found);
        known.values().flatten().cloned().collect()
    }

    async fn tell_of_a_stop(&self, service: &str, last_good: &ServiceState, state: ServiceState) -> ServiceState {
        let change = Change::MergeCircuit { circuit: state.circuit.clone() };
        match self.remote.change(&Wish { service, change: &change, expected: None, last_good }).await {
            Ok(state) => {
                tracing::info!(service, "A canary that was stopped here is stopped in Redis too");
                state
            }
            Err(error) => {
                tracing::warn!(service, %error, "A canary is stopped here and not in Redis yet");
                state
            }
        }
    }

    fn last_good(&self, services: &[String], because: String) -> Loaded {
        let state = services.iter().map(|name| (name.clone(), self.last_good_of(name))).collect();
        let read_at = self.kept.peek(|saved| saved.read_at);
        Loaded::of(state, Freshness::LastGood { read_at, because })
    }

    fn last_good_of(&self, service: &str) -> ServiceState {
        self.kept.peek(|saved| saved.services.get(service).cloned()).unwrap_or_default()
    }

    /// Takes states read from Redis as the last good ones. Redis has them: a file that can't be
    /// written is worth a word, and no reason to go without them. What keeps a canary stopped is on disk before this
    /// returns, the rest soon after.
    async fn remember(&self, mut news: State) {
        let read_at = telemetry::now();
        let matters = self.kept.peek(|saved| {
            let mut matters = false;
            news.retain(|name, state| {
                let known = saved.services.get(name);
                known.into_iter().for_each(|known| state.keep_stopped(known));
                let nothing = ServiceState::default();
                let known = known.unwrap_or(&nothing);
                matters |= known.circuit != state.circuit || known.rollout != state.rollout;
                known != state
            });
            matters
        });
        if news.is_empty() {
            return self.kept.touch(read_at);
        }
        let alter = move |saved: &mut Saved| {
            absorb(saved, news);
            saved.read_at = Some(read_at);
        };
        if !matters {
            self.kept.change_soon(alter);
        } else if let Err(error) = self.kept.change(OnFailure::Hold, alter).await {
            tracing::warn!(%error, "The last good state is not on disk");
        }
        self.forget_evidence_of_the_past().await;
    }

    /// Holds a change that stops a canary in memory and on disk, whatever becomes of it in Redis. Says whether it
    /// altered anything.
    async fn record(&self, service: &str, change: &Change) -> bool {
        let before = self.last_good_of(service);
        let (name, change) = (service.to_owned(), change.clone());
        let recorded = self.kept.change(OnFailure::Hold, move |saved| {
            let state = saved.services.entry(name).or_default();
            // The revision stays: it says which state of Redis this was.
            *state = ServiceState { revision: state.revision, ..state.apply(&change) };
        });
        if let Err(error) = recorded.await {
            tracing::error!(service, %error, "A stopped canary is not on disk: it is so in memory only");
        }
        self.forget_evidence_of_the_past().await;
        self.last_good_of(service) != before
    }
}

fn absorb(saved: &mut Saved, news: State) {
    for (name, mut state) in news {
        if let Some(known) = saved.services.get(&name) {
            state.keep_stopped(known);
        }
        saved.services.insert(name, state);
    }
}

#[cfg(test)]
mod tests;
