//! Tells other proxies what goes bad here, and hears what goes bad there. All that is remote in the verdict is
//! here, beside the court: nothing that the court does waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::pending::Pending;
use crate::live::Live;
use crate::model::split::EpisodeId;
use crate::model::verdict::Post;
use crate::store::{Place, Poison, Posted, Store, StoreError};

/// How often what waits is told.
const TELL: Duration = Duration::from_millis(100);
/// Others are asked at every so manieth turn of telling.
const ASK_EACH: u64 = 2;
/// For how long one service's news may be asked for at one turn, before the others have theirs: what is left of a
/// stream that is long waits for the next turn.
const SHARE: Duration = Duration::from_secs(1);
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
    /// Whether there was more than one look takes.
    is_behind: bool,
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
            // What is to be told is little, and waits for nobody's long stream.
            for (service, episode) in &running {
                self.tell(service, *episode).await;
            }
            for (service, episode) in running.iter().filter(|_| turn.is_multiple_of(ASK_EACH)) {
                if self.catch_up(service, *episode, &news).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Passes on what is new of an episode, piece by piece, until that is all or took long enough.
    ///
    /// # Errors
    /// When nobody listens.
    async fn catch_up(
        &mut self,
        service: &str,
        episode: EpisodeId,
        news: &mpsc::Sender<News>,
    ) -> Result<(), mpsc::error::SendError<News>> {
        let end = Instant::now() + SHARE;
        loop {
            if let Some(heard) = self.ask(service, episode).await {
                news.send(heard).await?;
            }
            if !self.is_behind(episode) || Instant::now() >= end {
                return Ok(());
            }
        }
    }

    /// What is known of the episodes that run already: by this process, and if they answer soon, by others.
    pub(super) async fn recall(&mut self) -> Vec<News> {
        let running = self.running();
        let mut all = Vec::new();
        for (service, episode) in &running {
            all.extend(self.ask(service, *episode).await);
        }
        let others = async {
            for (service, episode) in &running {
                while self.is_behind(*episode) {
                    all.extend(self.ask(service, *episode).await);
                }
            }
        };
        // What is left is heard later.
        let _in_time_or_not = tokio::time::timeout(RECALL, others).await;
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

    fn is_behind(&self, episode: EpisodeId) -> bool {
        self.readers.get(&episode).is_some_and(|reader| reader.is_behind)
    }

    /// The next piece of what is new; none if nothing is.
    async fn ask(&mut self, service: &str, episode: EpisodeId) -> Option<News> {
        let after = self.readers.entry(episode).or_default().place;
        let posted = self.store.posted(service, episode, after).await;
        let (posted, error) = posted.map_or_else(|error| (None, Some(error)), |posted| (Some(posted), None));
        self.note(service, error);
        let reader = self.readers.entry(episode).or_default();
        reader.is_behind = posted.as_ref().is_some_and(|posted| posted.more);
        let Posted { posts, place, poisoned, .. } = posted?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::sample::{publish, service};
    use crate::model::split::{Episode, Salt};
    use crate::model::state::{ServiceState, State};
    use crate::model::verdict::Seen;
    use crate::model::weight::Weight;
    use crate::store::embedded::EmbeddedStore;
    use crate::store::interrupted::Interrupted;

    /// Two services whose episodes run.
    fn world() -> (Arc<Live>, Arc<Interrupted>) {
        let (live, _) = Live::new(1);
        let specs: Vec<_> = ["long", "short"].map(|name| Arc::new(service(name))).into();
        let state = |id, name: &str| {
            let episode = Some(Episode { id: EpisodeId(id), salt: Salt(2) });
            (name.to_owned(), ServiceState { weight: Some(Weight::FULL), episode, ..Default::default() })
        };
        publish(&live, &specs, &State::from([state(1, "long"), state(2, "short")]));
        (live, Arc::new(Interrupted::before(Arc::new(EmbeddedStore::simulated()))))
    }

    fn seen(exposed: u64) -> Post {
        Post::Seen(Seen { exposed, ..Seen::default() })
    }

    fn pieces(count: u64) -> impl Iterator<Item = (Duration, Posted)> {
        let piece =
            move |nth| Posted { posts: vec![seen(nth)], place: Place(nth, 0), more: nth < count, poisoned: Vec::new() };
        (1..=count).map(move |nth| (Duration::from_millis(20), piece(nth)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_stream_is_heard_piece_by_piece_and_holds_up_no_other_service() {
        // given what takes ten seconds to read of one service, and a word of the other
        let (live, store) = world();
        store.give_posts("long", pieces(500));
        store.give_posts("short", pieces(1));
        let mut exchange = Exchange::new(live, Arc::clone(&store) as Arc<dyn Store>, Arc::default());
        let began = Instant::now();
        let recalled = exchange.recall().await;
        assert!(began.elapsed() <= RECALL + Duration::from_millis(100), "the start waited for {:?}", began.elapsed());
        assert!(recalled.len() > 50, "{} pieces were known at the start", recalled.len());
        // when it goes on, and more is said of the other service
        store.give_posts("short", pieces(2));
        let (sender, mut news) = mpsc::channel(16);
        let running = tokio::spawn(exchange.run(sender));
        let (mut long, mut short_after) = (recalled.iter().filter(|news| news.service == "long").count(), None);
        while long < 500 {
            let heard = news.recv().await.expect("it goes on");
            if heard.service == "long" {
                long += 1;
                assert_eq!(heard.posts, [seen(long as u64)]);
            } else {
                short_after.get_or_insert(began.elapsed());
            }
        }
        // then it is heard long before the end of the first
        assert!(short_after.is_some_and(|after| after < Duration::from_secs(5)), "{short_after:?}");
        running.abort();
    }
}
