//! What stores promise of evidence: what is posted is there for all, in order, also after a restart.

use redis::Value;
use serin::model::outcome::Signal;
use serin::model::split::{Arm, EpisodeId, Salt, Unit};
use serin::model::time::Timestamp;
use serin::model::verdict::addresses::ClientNet;
use serin::model::verdict::{Fact, Post, Seen};
use serin::model::weight::Weight;
use serin::store::{Place, Posted, Store, StoreError};
use serin_tests::eventually::eventually;

use super::world::{SECOND, SERVICE, World, apply, load, set_weight, state};

/// Writes survive a kill.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

fn bad(key: u32) -> Post {
    let (unit, weight) = (Unit::of_key(Salt(1), &key.to_le_bytes()), Weight::from_hundredths(1_000));
    let drawn_at = Timestamp::from_millis(key.into());
    let address = ClientNet::from_bits(key.into());
    Post::Bad {
        fact: Fact { unit, arm: Arm::Canary, weight, signal: Signal::Slow, drawn_at, address, control: Weight::ZERO },
        sample: None,
    }
}

fn seen(exposed: u64) -> Post {
    Post::Seen(Seen { exposed, ..Seen::default() })
}

/// Begins an episode.
async fn begin(store: &dyn Store) -> EpisodeId {
    apply(store, &set_weight(10.0)).await.episode.expect("it runs").id
}

async fn post(store: &dyn Store, episode: EpisodeId, posts: &[Post]) {
    store.post(SERVICE, episode, posts).await.expect("it is posted");
}

async fn posted(store: &dyn Store, episode: EpisodeId, after: Place) -> Posted {
    store.posted(SERVICE, episode, after).await.expect("the store answers")
}

/// All there is: first what the process knew, then what the store has.
async fn all(store: &dyn Store, episode: EpisodeId) -> Vec<Post> {
    let known = posted(store, episode, Place::default()).await;
    let found = posted(store, episode, known.place).await;
    let news = found.posts.into_iter().filter(|post| !known.posts.contains(post));
    known.posts.iter().cloned().chain(news).collect()
}

pub(super) async fn evidence_is_kept_in_order_and_survives_a_restart(world: World) {
    let store = world.open("a").await;
    let episode = begin(&*store).await;
    assert_eq!(all(&*store, episode).await, []);
    post(&*store, episode, &[bad(3), seen(7)]).await;
    let first = posted(&*store, episode, posted(&*store, episode, Place::default()).await.place).await;
    post(&*store, episode, &[bad(1)]).await;
    post(&*store, EpisodeId(episode.0 ^ 1), &[bad(99)]).await;
    // then what is new comes after the place where one was, once
    let news = posted(&*store, episode, first.place).await;
    let after = posted(&*store, episode, news.place).await;
    assert_eq!(news.posts.last(), Some(&bad(1)));
    assert_eq!((after.posts, after.place), (vec![], news.place));
    assert_eq!(all(&*store, episode).await, [bad(3), seen(7), bad(1)]);
    // and a great many are no other matter
    let many: Vec<Post> = (1_000..6_000).map(bad).collect();
    post(&*store, episode, &many).await;
    drop(store);
    let store = world.open("a").await;
    let mut expected = vec![bad(3), seen(7), bad(1)];
    expected.extend(many);
    assert_eq!(posted(&*store, episode, Place::default()).await.posts, expected, "what the process knew itself");
    assert_eq!(all(&*store, episode).await, expected);
}

pub(super) async fn evidence_goes_with_its_episode(world: World) {
    let store = world.open("a").await;
    let episode = begin(&*store).await;
    post(&*store, episode, &[bad(1)]).await;
    let journal = std::path::PathBuf::from(format!("{}.evidence", world.state_file("a").display()));
    assert!(journal.exists());
    apply(&*store, &set_weight(0.0)).await;
    assert!(!journal.exists());
    // what comes late brings nothing back
    post(&*store, episode, &[bad(2)]).await;
    assert_eq!(all(&*store, episode).await, []);
    assert!(!journal.exists());
    // and the next episode begins with nothing
    let next = begin(&*store).await;
    assert_eq!(all(&*store, next).await, []);
}

fn stream(episode: EpisodeId) -> String {
    format!("serin:{{test}}:evidence:{SERVICE}:{episode}")
}

async fn seconds_left(world: &World, episode: EpisodeId) -> i64 {
    let Value::Int(seconds) = world.cli(&["TTL", &stream(episode)]).await else { panic!("TTL answers with a number") };
    seconds
}

#[tokio::test]
async fn proxies_read_the_same_in_the_same_order_until_the_stream_ends() {
    let world = World::with_redis(&[]).await;
    let (one, other) = (world.open("one").await, world.open("other").await);
    let episode = begin(&*one).await;
    state(&*other).await;
    post(&*one, episode, &[bad(1), bad(2)]).await;
    post(&*other, episode, &[bad(2), bad(3)]).await;
    post(&*one, episode, &[bad(4)]).await;
    let start = posted(&*one, episode, Place::default()).await.place;
    let expected = [bad(1), bad(2), bad(2), bad(3), bad(4)];
    assert_eq!(posted(&*one, episode, start).await.posts, expected);
    // the other knew its own, and reads the same
    let known = posted(&*other, episode, Place::default()).await;
    assert_eq!(known.posts, [bad(2), bad(3)]);
    assert_eq!(posted(&*other, episode, known.place).await.posts, expected);
    // the stream lives for a week, and for an hour after its episode
    let left = seconds_left(&world, episode).await;
    assert!((604_000..=604_800).contains(&left), "{left}");
    apply(&*one, &set_weight(0.0)).await;
    let left = seconds_left(&world, episode).await;
    assert!((3_000..=3_600).contains(&left), "{left}");
}

#[tokio::test]
async fn entries_that_make_no_sense_are_named_and_passed_over() {
    let world = World::with_redis(&[]).await;
    let store = world.open("a").await;
    let episode = begin(&*store).await;
    let key = stream(episode);
    let start = posted(&*store, episode, Place::default()).await.place;
    post(&*store, episode, &[bad(1)]).await;
    world.cli(&["XADD", &key, "*", "joke", "bad luck"]).await;
    world.cli(&["XADD", &key, "*", "posts", "bad luck\nseen 0 0 9 0 0 0"]).await;
    post(&*store, episode, &[bad(2)]).await;
    let found = posted(&*store, episode, start).await;
    assert_eq!(found.posts, [bad(1), seen(9), bad(2)]);
    assert_eq!(found.poisoned.len(), 2, "{:?}", found.poisoned);
    assert!(found.poisoned.iter().all(|poison| poison.key.starts_with(&key)), "{:?}", found.poisoned);
    assert_eq!(posted(&*store, episode, found.place).await.poisoned, [], "it is named once");
    // a key of another type is named, and the next post heals it
    world.cli(&["DEL", &key]).await;
    world.cli(&["SET", &key, "a string"]).await;
    assert_eq!(posted(&*store, episode, found.place).await.poisoned[0].key, key);
    post(&*store, episode, &[bad(3)]).await;
    assert_eq!(posted(&*store, episode, found.place).await.posts, [bad(3)]);
}

#[tokio::test]
async fn what_was_not_posted_in_an_outage_is_known_after_a_restart_and_posted_when_redis_is_back() {
    let mut world = World::with_redis(&DURABLE).await;
    let store = world.open("a").await;
    let episode = begin(&*store).await;
    post(&*store, episode, &[bad(1)]).await;
    // given an outage in which something is posted, in vain
    world.redis().stop().await.expect("it dies");
    let refused = store.post(SERVICE, episode, &[bad(2)]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    // then a restart in it knows that, and says that there may be more
    drop(store);
    let store = world.open("a").await;
    load(&*store).await;
    let known = posted(&*store, episode, Place::default()).await;
    assert_eq!(known.posts, [bad(1), bad(2)]);
    assert!(store.posted(SERVICE, episode, known.place).await.is_err());
    // and when Redis is back others are told
    world.redis().restart().await.expect("it starts again");
    eventually(5 * SECOND, "Redis answers", async || store.posted(SERVICE, episode, known.place).await.ok()).await;
    let other = world.open("other").await;
    load(&*other).await;
    assert_eq!(all(&*other, episode).await, [bad(1), bad(2)]);
}

#[tokio::test]
async fn evidence_that_redis_lost_is_brought_back_with_the_state() {
    let world = World::with_redis(&[]).await;
    let store = world.open("a").await;
    let episode = begin(&*store).await;
    post(&*store, episode, &[bad(1)]).await;
    let last_known = [(SERVICE.to_owned(), state(&*store).await)].into();
    let mut place = posted(&*store, episode, Place::default()).await.place;
    place = posted(&*store, episode, place).await.place;
    world.cli(&["FLUSHALL"]).await;
    post(&*store, episode, &[bad(2)]).await;
    assert_eq!(posted(&*store, episode, place).await.posts, [bad(2)], "a reader goes on where it was");
    store.restore(&last_known).await.expect("restores");
    // Told as it asks for news, which a proxy does all the time.
    all(&*store, episode).await;
    let newcomer = world.open("newcomer").await;
    load(&*newcomer).await;
    let mut found = all(&*newcomer, episode).await;
    found.dedup();
    assert!(found.contains(&bad(1)) && found.contains(&bad(2)), "{found:?}");
}
