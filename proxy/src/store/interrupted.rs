//! A store for tests in which others are quicker, or whose writes hang: what stands behind is the embedded one.

use std::collections::BTreeMap;
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
}

impl Interrupted {
    /// Before this store.
    pub(crate) fn before(store: Arc<EmbeddedStore>) -> Self {
        Self { store, meanwhile: Mutex::default(), flags_hang: AtomicBool::new(false) }
    }

    /// Has others do this just before flags change here the next time.
    pub(crate) fn meanwhile(&self, service: &str, changes: impl IntoIterator<Item = Change>) {
        let changes = changes.into_iter().map(|change| (service.to_owned(), change));
        self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner).extend(changes);
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
        self.store.posted(service, episode, after).await
    }

    async fn share(&self, word: Word<'_>) -> Result<BTreeMap<String, String>, StoreError> {
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
