//! A store for tests in which others are quicker, whose writes hang, or which takes its time: what stands behind is the embedded one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::audit::Noted;
use super::embedded::EmbeddedStore;
use super::{Changed, Loaded, Place, Posted, Store, StoreError, Word};
use crate::model::audit::Entry;
use crate::model::flag::{Definitions, FlagChange};
use crate::model::rollout::Fence;
use crate::model::split::EpisodeId;
use crate::model::state::{Change, ServiceState, State};
use crate::model::verdict::Post;

/// The store of one proxy.
#[derive(Debug)]
pub(crate) struct Interrupted {
    store: Arc<EmbeddedStore>,
    /// What others do to a service just before flags change here the next time.
    meanwhile: Mutex<Vec<(String, Change)>>,
    flags_hang: AtomicBool,
    /// What proxies told each other, by teller.
    words: Mutex<BTreeMap<String, String>>,
    /// Of which service no change comes to an end.
    hangs_for: Mutex<Option<String>>,
    /// What is posted of a service, in pieces, and how long each one takes.
    posted: Mutex<HashMap<String, VecDeque<(Duration, Posted)>>>,
}

impl Interrupted {
    /// Before this store.
    pub(crate) fn before(store: Arc<EmbeddedStore>) -> Self {
        let flags_hang = AtomicBool::new(false);
        let (meanwhile, words, hangs_for, posted) = Default::default();
        Self { store, meanwhile, flags_hang, words, hangs_for, posted }
    }

    /// Has others do this just before flags change here the next time.
    pub(crate) fn meanwhile(&self, service: &str, changes: impl IntoIterator<Item = Change>) {
        let changes = changes.into_iter().map(|change| (service.to_owned(), change));
        self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner).extend(changes);
    }

    /// Who asks what was posted about a service gets these first, each after so long.
    pub(crate) fn give_posts(&self, service: &str, pieces: impl IntoIterator<Item = (Duration, Posted)>) {
        let mut posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        posted.entry(service.to_owned()).or_default().extend(pieces);
    }

    fn heard(&self, word: &Word<'_>) {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        words.insert(word.teller.to_owned(), word.said.to_owned());
    }

    /// What proxies told each other, by teller.
    pub(crate) fn words(&self) -> BTreeMap<String, String> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on no change of this service comes to an end.
    pub(crate) fn hang_for(&self, service: &str) {
        *self.hangs_for.lock().unwrap_or_else(PoisonError::into_inner) = Some(service.to_owned());
    }

    /// From now on no change of flags comes to an end.
    pub(crate) fn hang_flags(&self) {
        self.flags_hang.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Store for Interrupted {
    async fn load(&self, services: &[String]) -> Loaded {
        self.store.load(services).await
    }

    async fn apply(&self, service: &str, change: &Change, expected: Option<u64>) -> Result<ServiceState, StoreError> {
        let hangs = self.hangs_for.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(service);
        if hangs {
            std::future::pending::<()>().await;
        }
        self.store.apply(service, change, expected).await
    }

    async fn change_flags(&self, change: &FlagChange, expected: Option<u64>) -> Result<Arc<Definitions>, StoreError> {
        if self.flags_hang.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let meanwhile = std::mem::take(&mut *self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner));
        for (service, change) in meanwhile {
            self.store.apply(&service, &change, None).await?;
        }
        self.store.change_flags(change, expected).await
    }

    async fn lead(&self, holder: &str, ttl: Duration) -> Result<Option<Fence>, StoreError> {
        self.store.lead(holder, ttl).await
    }

    async fn post(&self, service: &str, episode: EpisodeId, posts: &[Post]) -> Result<(), StoreError> {
        self.store.post(service, episode, posts).await
    }

    async fn posted(&self, service: &str, episode: EpisodeId, after: Place) -> Result<Posted, StoreError> {
        let pieces = || self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        let takes = pieces().get(service).and_then(|pieces| Some(pieces.front()?.0));
        tokio::time::sleep(takes.unwrap_or_default()).await;
        // Who stops waiting has not been given it.
        let piece = pieces().get_mut(service).and_then(VecDeque::pop_front);
        match piece {
            Some((_, posted)) => Ok(posted),
            None => self.store.posted(service, episode, after).await,
        }
    }

    async fn share(&self, word: Word<'_>) -> Result<BTreeMap<String, String>, StoreError> {
        self.heard(&word);
        self.store.share(word).await
    }

    fn note(&self, entry: Entry) {
        self.store.note(entry);
    }

    async fn noted(&self, most: usize) -> Noted {
        self.store.noted(most).await
    }

    async fn changed(&self) -> Changed {
        self.store.changed().await
    }

    async fn restore(&self, state: &State) -> Result<(), StoreError> {
        self.store.restore(state).await
    }

    async fn give_up(&self) -> Result<(), StoreError> {
        self.store.give_up().await
    }

    async fn take_back(&self) -> Result<(), StoreError> {
        self.store.take_back().await
    }
}
