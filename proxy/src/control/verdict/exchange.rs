//! Tells other proxies what goes bad here, and hears what goes bad there. All that is remote in the verdict is
//! here, beside the court: nothing that the court does waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::pending::Pending;
use crate::live::Live;
use crate::model::split::EpisodeId;
use crate::model::verdict::Post;
use crate::store::{Place, Poison, Posted, Store, StoreError};

/// How often what waits is told.
const TELL: Duration = Duration::from_millis(100);
/// Others are asked at every so manieth turn of telling.
const ASK_EACH: u64 = 2;
/// How long a start waits for what others know. What this process knew itself is there at once.
const RECALL: Duration = Duration::from_secs(2);

/// What was heard of an episode.
#[derive(Debug)]
pub(super) struct News {
    pub(super) service: String,
    pub(super) episode: EpisodeId,
    pub(super) posts: Vec<Post>,
    /// Whether it is what this process knew before a restart.
    pub(super) is_recall: bool,
}

/// The exchange of evidence between this process and the store.
#[derive(Debug)]
pub(super) struct Exchange {
    live: Arc<Live>,
    store: Arc<dyn Store>,
    pending: Arc<Pending>,
    readers: HashMap<EpisodeId, Reader>,
    /// Whether the store failed the last time, as was said.
    is_cut_off: bool,
}

/// How far an episode was read.
#[derive(Debug, Default)]
struct Reader {
    place: Place,
    /// What made no sense the last time, so that it is said once.
    poisoned: Vec<Poison>,
}

impl Exchange {
    /// An exchange that told and heard nothing yet.
    pub(super) fn new(live: Arc<Live>, store: Arc<dyn Store>, pending: Arc<Pending>) -> Self {
        Self { live, store, pending, readers: HashMap::new(), is_cut_off: false }
    }

    /// Tells and asks until nobody listens.
    pub(super) async fn run(mut self, news: mpsc::Sender<News>) {
        let mut ticks = interval(TELL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in 0u64.. {
            ticks.tick().await;
            let running = self.running();
            self.forget_all_but(&running);
            for (service, episode) in running {
                self.tell(&service, episode).await;
                if turn.is_multiple_of(ASK_EACH)
                    && let Some(heard) = self.ask(&service, episode).await
                    && news.send(heard).await.is_err()
                {
                    return;
                }
            }
        }
    }

    /// What is known of the episodes that run already: by this process, and if they answer soon, by others.
    pub(super) async fn recall(&mut self) -> Vec<News> {
        let mut all = Vec::new();
        for (service, episode) in self.running() {
            all.extend(self.ask(&service, episode).await);
            let others = tokio::time::timeout(RECALL, self.ask(&service, episode)).await;
            all.extend(others.ok().flatten());
        }
        all
    }

    fn running(&self) -> Vec<(String, EpisodeId)> {
        let snapshot = self.live.snapshot();
        let services = snapshot.services().iter();
        services.filter_map(|service| Some((service.spec.name.clone(), service.episode.as_ref()?.id))).collect()
    }

    fn forget_all_but(&mut self, running: &[(String, EpisodeId)]) {
        let running: HashSet<EpisodeId> = running.iter().map(|(_, episode)| *episode).collect();
        self.pending.retain(|episode| running.contains(&episode));
        self.readers.retain(|episode, _| running.contains(episode));
    }

    async fn tell(&mut self, service: &str, episode: EpisodeId) {
        let posts = self.pending.take(episode);
        if posts.is_empty() {
            return;
        }
        let told = self.store.post(service, episode, &posts).await;
        if told.is_err() {
            self.pending.put_back(episode, posts);
        }
        self.note(service, told.err());
    }

    /// What is new; none if nothing is.
    async fn ask(&mut self, service: &str, episode: EpisodeId) -> Option<News> {
        let after = self.readers.entry(episode).or_default().place;
        let posted = self.store.posted(service, episode, after).await;
        let (posted, error) = posted.map_or_else(|error| (None, Some(error)), |posted| (Some(posted), None));
        self.note(service, error);
        let Posted { posts, place, poisoned } = posted?;
        let reader = self.readers.entry(episode).or_default();
        reader.place = place;
        if reader.poisoned != poisoned {
            for Poison { key, problem } in &poisoned {
                tracing::warn!(key, problem, "Evidence in the store makes no sense and is passed over");
            }
            reader.poisoned = poisoned;
        }
        let is_recall = after == Place::default();
        (!posts.is_empty()).then(|| News { service: service.to_owned(), episode, posts, is_recall })
    }

    fn note(&mut self, service: &str, error: Option<StoreError>) {
        let was = std::mem::replace(&mut self.is_cut_off, error.is_some());
        match error {
            Some(error) if !was => {
                tracing::warn!(service, %error, "Evidence isn't exchanged: each proxy judges its own")
            }
            None if was => tracing::info!("Evidence is exchanged again"),
            _ => {}
        }
    }
}
