//! Posts that wait to be told: what the court leaves and the exchange fetches. Nobody waits here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::split::EpisodeId;
use crate::model::verdict::Post;
use crate::model::verdict::units;

/// Posts of one episode that may wait, as while the store is away. When more come they are thinned.
const POSTS: usize = 16_384;
/// Samples that go with the posts of one batch: the latest, for people.
const SAMPLES: usize = 10;

/// Posts that wait, by episode.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<HashMap<EpisodeId, Queue>>);

#[derive(Debug, Default)]
struct Queue {
    posts: Vec<Post>,
    /// Only units whose thinning hash begins with so many zero bits wait.
    level: u32,
}

impl Pending {
    /// Leaves a post to be told.
    pub(super) fn push(&self, episode: EpisodeId, post: Post) {
        self.lock().entry(episode).or_default().add([post]);
    }

    /// Takes all that waits.
    pub(super) fn take(&self, episode: EpisodeId) -> Vec<Post> {
        let mut queues = self.lock();
        let mut posts = queues.get_mut(&episode).map(|queue| std::mem::take(&mut queue.posts)).unwrap_or_default();
        let samples = posts.iter_mut().rev().filter_map(|post| match post {
            Post::Bad { sample, .. } if sample.is_some() => Some(sample),
            _ => None,
        });
        samples.skip(SAMPLES).for_each(|sample| *sample = None);
        posts
    }

    /// Puts back what couldn't be told, before what came since.
    pub(super) fn put_back(&self, episode: EpisodeId, posts: Vec<Post>) {
        let mut queues = self.lock();
        let queue = queues.entry(episode).or_default();
        let since = std::mem::replace(&mut queue.posts, posts);
        queue.add(since);
    }

    /// Forgets the episodes for which this says no.
    pub(super) fn retain(&self, keep: impl Fn(EpisodeId) -> bool) {
        self.lock().retain(|episode, _| keep(*episode));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EpisodeId, Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn add(&mut self, posts: impl IntoIterator<Item = Post>) {
        self.posts.extend(posts);
        self.thin();
        while self.posts.len() > POSTS && self.level < u64::BITS {
            self.level += 1;
            self.thin();
        }
    }

    /// Units are left out by a hash that doesn't know their arm, so that both arms' are alike.
    fn thin(&mut self) {
        let level = self.level;
        if level > 0 {
            self.posts.retain(|post| match post {
                Post::Bad { fact, .. } => units::counts(fact.unit, level),
                Post::Seen(_) => true,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::{BadReason, BadSample, Signal};
    use crate::model::split::{Arm, Salt, Unit};
    use crate::model::time::Timestamp;
    use crate::model::verdict::addresses::ClientNet;
    use crate::model::verdict::{Fact, Seen};
    use crate::model::weight::Weight;

    const EPISODE: EpisodeId = EpisodeId(1);

    fn bad(key: u32) -> Post {
        let (unit, weight) = (Unit::of_key(Salt(1), &key.to_le_bytes()), Weight::from_hundredths(3_000));
        let at = Timestamp::from_millis(key.into());
        let address = ClientNet::from_bits(1);
        let (arm, control) = (unit.arm(weight), Weight::ZERO);
        let fact = Fact { unit, arm, weight, signal: Signal::Errors, drawn_at: at, address, control };
        let sample = BadSample {
            request_id: key.to_string(),
            method: "GET".into(),
            path: "/".into(),
            status: None,
            reason: BadReason::Reset,
            endpoint: "a".into(),
            at,
        };
        Post::Bad { fact, sample: Some(sample) }
    }

    fn unit(post: &Post) -> Option<Unit> {
        if let Post::Bad { fact, .. } = post { Some(fact.unit) } else { None }
    }

    #[test]
    fn what_could_not_be_told_goes_before_what_came_since() {
        let pending = Pending::default();
        pending.push(EPISODE, bad(1));
        let taken = pending.take(EPISODE);
        pending.push(EPISODE, bad(2));
        pending.put_back(EPISODE, taken);
        let units: Vec<_> = pending.take(EPISODE).iter().map(unit).collect();
        assert_eq!(units, [unit(&bad(1)), unit(&bad(2))]);
        assert_eq!(pending.take(EPISODE), []);
    }

    #[test]
    fn a_store_that_is_long_away_thins_both_arms_alike_and_loses_no_count() {
        let pending = Pending::default();
        pending.push(EPISODE, Post::Seen(Seen::default()));
        (0..100_000).for_each(|key| pending.push(EPISODE, bad(key)));
        let taken = pending.take(EPISODE);
        assert!((POSTS / 2 - 200..=POSTS).contains(&taken.len()), "{}", taken.len());
        assert_eq!(taken[0], Post::Seen(Seen::default()));
        let of =
            |wanted| taken.iter().filter(|post| matches!(post, Post::Bad { fact, .. } if fact.arm == wanted)).count();
        let (canary, all) = (of(Arm::Canary), of(Arm::Canary) + of(Arm::Stable));
        assert!((all * 27 / 100..all * 33 / 100).contains(&canary), "{canary} of {all} on the canary at 30 %");
    }

    #[test]
    fn a_batch_has_the_latest_samples() {
        let pending = Pending::default();
        (0..30).for_each(|key| pending.push(EPISODE, bad(key)));
        let taken = pending.take(EPISODE);
        let sampled = taken.iter().filter(|post| matches!(post, Post::Bad { sample: Some(_), .. }));
        assert_eq!(sampled.collect::<Vec<_>>(), (20..30).map(bad).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    }
}
