//! Evidence in Redis: a stream for each episode, to which proxies add batches of posts, and which all of them
//! read in its order.
//!
//! It has a connection of its own: a trip never queues behind evidence. What was posted or read is in the
//! journal as well, from which it comes back after a restart without Redis, or after Redis lost it.

use std::sync::Arc;

use super::connection::{Down, Line};
use super::keys::Keys;
use super::rounds::in_time;
use super::stream::{Entry, Stream};
use crate::model::split::EpisodeId;
use crate::model::verdict::Post;
use crate::store::evidence::{Journal, decode, encode};
use crate::store::{Place, Poison, Posted, StoreError};

/// How long a stream lives without a new post, in seconds: seven days.
const LIFE: u64 = 604_800;
/// How long it lives after its episode, for who is late or curious.
pub(super) const AFTERLIFE: u64 = 3_600;
/// Entries of a stream, about; older ones make room. The verdict thins what comes to far less.
const ENTRIES: usize = 262_144;
/// Posts in one entry.
const BATCH: usize = 512;
/// Entries read at once.
const PAGE: usize = 64;
/// The field of an entry that holds its posts, a line each.
const FIELD: &str = "posts";
/// Before the first entry, and after what the journal knew at the start.
const FIRST: Place = Place(0, 1);

const WRONG_TYPE: &str = "the key isn't a stream: delete it, and leave it to serin";
const BAD_ENTRY: &str = "not evidence: leave it to serin";

/// The evidence of all episodes.
#[derive(Debug)]
pub(super) struct Evidence {
    keys: Keys,
    line: Line,
    pub(super) journal: Arc<Journal>,
}

impl Evidence {
    /// Evidence over this line.
    pub(super) const fn new(keys: Keys, line: Line, journal: Arc<Journal>) -> Self {
        Self { keys, line, journal }
    }

    /// Adds posts, to the journal first.
    pub(super) async fn post(&self, service: &str, episode: EpisodeId, posts: &[Post]) -> Result<(), StoreError> {
        self.journal.add(episode, posts).await;
        self.send(service, episode, posts).await
    }

    /// What was posted after a place: from the journal at first, then from Redis.
    pub(super) async fn posted(&self, service: &str, episode: EpisodeId, after: Place) -> Result<Posted, StoreError> {
        if after < FIRST {
            let posts = self.journal.posts(episode, 0);
            return Ok(Posted { posts, place: FIRST, more: true, poisoned: Vec::new() });
        }
        let mut found = self.read(&self.keys.evidence(service, episode), after).await?;
        self.journal.hear(episode, &found.posts).await;
        if !found.more {
            // What Redis lacks: it wasn't posted when this process ended the last time, or was lost there.
            let unheard = self.journal.unheard(episode, BATCH);
            self.send(service, episode, &unheard).await?;
            self.journal.hear(episode, &unheard).await;
            found.more = !unheard.is_empty();
        }
        Ok(found)
    }

    /// Has a Redis that lost it told all that is known of an episode, by and by as it is asked for news: whoever found
    /// the loss has more urgent things to restore.
    pub(super) fn tell_again(&self, episode: EpisodeId) {
        self.journal.forget_hearing(episode);
    }

    async fn send(&self, service: &str, episode: EpisodeId, posts: &[Post]) -> Result<(), StoreError> {
        if posts.is_empty() {
            return Ok(());
        }
        let key = self.keys.evidence(service, episode);
        for batch in posts.chunks(BATCH) {
            let lines: Vec<String> = batch.iter().map(encode).collect();
            // Each in its own time: what is long is no reason to give up.
            in_time(async {
                let mut held = self.line.take().await?;
                stream(&key).add(&mut held, &lines.join("\n")).await?;
                let mut expire = redis::cmd("EXPIRE");
                expire.arg(&key).arg(LIFE);
                expire.exec_async(&mut held.connection).await.map_err(Down::from)?;
                held.keep();
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// The next page.
    async fn read(&self, key: &str, after: Place) -> Result<Posted, StoreError> {
        in_time(async {
            let mut found = Posted { place: after, ..Posted::default() };
            let mut held = self.line.take().await?;
            match stream(key).after(&mut held, after, PAGE).await? {
                Some(page) => {
                    found.more = page.len() >= PAGE;
                    page.into_iter().for_each(|entry| found.take_in(key, entry));
                }
                None => found.poisoned.push(Poison { key: key.to_owned(), problem: WRONG_TYPE.to_owned() }),
            }
            held.keep();
            Ok(found)
        })
        .await
    }
}

const fn stream(key: &str) -> Stream<'_> {
    Stream { key, field: FIELD, most: ENTRIES }
}

impl Posted {
    fn take_in(&mut self, key: &str, Entry { place, text }: Entry) {
        self.place = self.place.max(place);
        let posts: Option<Vec<Option<Post>>> = text.map(|text| text.lines().map(decode).collect());
        if posts.as_ref().is_none_or(|posts| posts.iter().any(Option::is_none)) {
            let key = format!("{key} {}-{}", place.0, place.1);
            self.poisoned.push(Poison { key, problem: BAD_ENTRY.to_owned() });
        }
        self.posts.extend(posts.into_iter().flatten().flatten());
    }
}
