//! Flags in a store in Redis: seen by all, changed by hand, spoiled, lost, and there without Redis.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serin::model::flag::{Definitions, FlagChange};
use serin::store::{Freshness, Loaded, Store, StoreError};

use super::world::{World, until_loaded};

const FLAGS: &str = "serin:{test}:flags";
const EVALUATORS: &str = "serin:{test}:evaluators";
const SET: &str = "serin:{test}:flagset";
const CHANGES: &str = "serin:{test}:changes";

/// By when a change must be seen. A second is the promise; a busy machine may take another.
const SOON: Duration = Duration::from_secs(2);
/// As long as the unoptimized build may take for 10,000 definitions on a busy machine.
const MANY: Duration = Duration::from_secs(8);

/// A flag that is on or off for all.
fn switch(on: bool) -> String {
    let default = if on { "on" } else { "off" };
    format!(r#"{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"{default}"}}"#)
}

fn put(key: &str, definition: &str) -> FlagChange {
    FlagChange::Put { key: key.into(), definition: definition.into() }
}

async fn change(store: &dyn Store, change: &FlagChange) -> Arc<Definitions> {
    store.change_flags(change, None).await.expect("the change is made")
}

async fn load(store: &dyn Store) -> Loaded {
    store.load(&[]).await
}

async fn loads(store: &dyn Store, what: &str, is_it: impl Fn(&Loaded) -> bool) -> Loaded {
    loads_within(SOON, store, what, is_it).await
}

async fn loads_within(deadline: Duration, store: &dyn Store, what: &str, is_it: impl Fn(&Loaded) -> bool) -> Loaded {
    until_loaded(store, &[], deadline, what, is_it).await
}

fn is_off(loaded: &Loaded, key: &str) -> bool {
    loaded.flags.flags.get(key).is_some_and(|text| **text == *switch(false))
}

#[tokio::test]
async fn a_change_is_seen_by_every_proxy_and_a_stale_one_is_refused() {
    let world = World::with_redis(&[]).await;
    let (one, other) = (world.open("one").await, world.open("other").await);
    assert_eq!(load(&*other).await.flags.revision, 0);
    assert_eq!(change(&*one, &put("kill", &switch(true))).await.revision, 1);
    assert_eq!(change(&*one, &put("kill", &switch(false))).await.revision, 2);
    assert_eq!(change(&*one, &put("kill", &switch(false))).await.revision, 2, "nothing was altered");
    let seen = loads(&*other, "the other proxy sees it", |loaded| is_off(loaded, "kill")).await;
    assert_eq!(seen.flags.revision, 2);
    let stale = other.change_flags(&put("kill", &switch(true)), Some(1)).await;
    assert!(matches!(stale, Err(StoreError::Conflict { expected: 1, actual: 2 })), "{stale:?}");
    let new = Definitions { metadata: Some(r#"{"owner":"ops"}"#.into()), ..Definitions::default() };
    let replaced = other.change_flags(&FlagChange::Replace(new), Some(2)).await.expect("the change is made");
    assert_eq!((replaced.revision, replaced.flags.len()), (3, 0));
    loads(&*one, "the first proxy sees it", |loaded| loaded.flags == replaced).await;
}

#[tokio::test]
async fn a_hundred_writers_at_once_all_come_through() {
    let world = World::with_redis(&[]).await;
    let (one, other) = (world.open("one").await, world.open("other").await);
    let mut tasks = tokio::task::JoinSet::new();
    for nth in 0..100 {
        let store = Arc::clone(if nth % 2 == 0 { &one } else { &other });
        tasks.spawn(async move { store.change_flags(&put(&format!("f{nth}"), &switch(true)), None).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no writer panics").expect("every change is made");
    }
    loads(&*one, "all are there", |loaded| (loaded.flags.flags.len(), loaded.flags.revision) == (100, 100)).await;
}

#[tokio::test]
async fn a_definition_written_by_hand_is_seen_with_and_without_a_message() {
    let world = World::with_redis(&[]).await;
    let store = world.open("a").await;
    world.cli(&["HSET", FLAGS, "kill", &switch(true)]).await;
    let seen = loads(&*store, "a flag that nobody told of is seen", |loaded| loaded.flags.flags.len() == 1).await;
    assert_eq!(seen.flags.revision, 1, "a set that was begun by hand has a revision from then on");
    world.cli(&["HSET", FLAGS, "kill", &switch(false)]).await;
    loads(&*store, "a definition of the same number of flags is seen", |loaded| is_off(loaded, "kill")).await;
    world.cli(&["HDEL", FLAGS, "kill"]).await;
    loads(&*store, "the last flag is gone", |loaded| loaded.flags.flags.is_empty()).await;
    assert!(load(&*store).await.flags.flags.is_empty(), "it came back");
}

#[tokio::test]
async fn ten_thousand_flags_are_read_when_somebody_says_so_and_not_with_each_look() {
    // given 10,000 flags
    let world = World::with_redis(&[]).await;
    let store = world.open("a").await;
    let definition =
        format!("{}{}", switch(true).strip_suffix('}').expect("an object"), r#","$comment":"0123456789"}"#);
    let mut document = String::from(r#"{"flags":{"kill":"#);
    document.push_str(&definition);
    for nth in 1..5_000 {
        // Writing to a string can't fail.
        let _ = write!(document, r#","flag-{nth:05}":{definition}"#);
    }
    document.push_str("}}");
    let first = Definitions::parse(document.as_bytes()).expect("a document");
    let mut all = first.clone();
    all.flags.extend(first.flags.iter().map(|(key, text)| (format!("{key}-b"), Arc::clone(text))));
    change(&*store, &FlagChange::Replace(all)).await;
    assert_eq!(load(&*store).await.flags.flags.len(), 10_000);
    // when nothing happens, then they aren't read again
    let read = async || {
        let stats = world.cli(&["INFO", "commandstats"]).await;
        let stats: String = redis::from_redis_value(stats).expect("text");
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_hgetall:calls=")?.split(',').next());
        calls.map_or(0, |calls| calls.parse::<u64>().expect("a number"))
    };
    load(&*store).await;
    let before = read().await;
    for _ in 0..20 {
        load(&*store).await;
    }
    assert_eq!(read().await, before);
    // when one is written by hand and that is said, then it is seen
    world.cli(&["HSET", FLAGS, "kill", &switch(false)]).await;
    world.cli(&["PUBLISH", CHANGES, ":flags"]).await;
    loads_within(MANY, &*store, "the message has them read", |loaded| is_off(loaded, "kill")).await;
    // and so it is when the revision says so
    world.cli(&["HSET", FLAGS, "flag-00001", &switch(false)]).await;
    world.cli(&["HINCRBY", SET, "revision", "1"]).await;
    loads_within(MANY, &*store, "the revision has them read", |loaded| is_off(loaded, "flag-00001")).await;
}

#[tokio::test]
async fn a_poisoned_definition_is_refused_alone_and_the_last_good_one_stays_over_a_restart() {
    let world = World::with_redis(&[]).await;
    let store = world.open("a").await;
    change(&*store, &put("kill", &switch(false))).await;
    let om = switch(true).replace(r#""on"}"#, r#""om"}"#);
    for poison in ["", "{", &om] {
        world.cli(&["HSET", FLAGS, "kill", poison, "other", &switch(true)]).await;
        let loaded = loads(&*store, "it is refused", |loaded| !loaded.refused.is_empty()).await;
        assert_eq!(loaded.refused[0].flag.as_deref(), Some("kill"), "{:?}", loaded.refused);
        assert!(is_off(&loaded, "kill") && loaded.flags.flags.contains_key("other"), "{poison}: {loaded:?}");
    }
    drop(store);
    let store = world.open("a").await;
    assert!(is_off(&load(&*store).await, "kill"), "a restart lost the last good one");
    // one who doesn't know better says that it is refused, and another change leaves it alone
    let stranger = world.open("b").await;
    change(&*stranger, &put("third", &switch(true))).await;
    assert_eq!(load(&*stranger).await.refused[0].flag.as_deref(), Some("kill"));
    assert!(is_off(&load(&*store).await, "kill"));
    // until somebody corrects it
    change(&*store, &put("kill", &switch(true))).await;
    let loaded = loads(&*stranger, "it is corrected", |loaded| loaded.refused.is_empty()).await;
    assert_eq!(*loaded.flags.flags["kill"], *switch(true));
}

#[tokio::test]
async fn a_key_of_another_type_is_named_and_the_next_change_mends_it() {
    let world = World::with_redis(&[]).await;
    let store = world.open("a").await;
    change(&*store, &put("kill", &switch(false))).await;
    for (nth, key) in [FLAGS, EVALUATORS, SET].into_iter().enumerate() {
        world.cli(&["SET", key, "spoiled"]).await;
        let named = |loaded: &Loaded| loaded.poisoned.iter().any(|poison| poison.key == key);
        let loaded = loads(&*store, "the key is named", named).await;
        assert!(loaded.freshness == Freshness::Fresh && is_off(&loaded, "kill"), "{key}: {loaded:?}");
        let evaluator = format!(r#"{{"==":[1,{nth}]}}"#).into();
        change(&*store, &FlagChange::PutEvaluator { name: "it".into(), evaluator }).await;
        loads(&*store, "it is mended", |loaded| loaded.poisoned.is_empty()).await;
        assert!(is_off(&load(&*store).await, "kill"), "{key}");
    }
}

#[tokio::test]
async fn without_redis_the_last_good_flags_count_also_after_a_restart() {
    let mut world = World::with_redis(&[]).await;
    let store = world.open("a").await;
    change(&*store, &put("kill", &switch(false))).await;
    world.redis().stop().await.expect("it dies");
    let loaded = load(&*store).await;
    assert!(loaded.freshness != Freshness::Fresh && is_off(&loaded, "kill"));
    let refused = store.change_flags(&put("kill", &switch(true)), None).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    drop(store);
    let store = world.open("a").await;
    assert!(is_off(&load(&*store).await, "kill"));
}

#[tokio::test]
async fn flags_that_redis_lost_are_written_back_beneath_what_is_there() {
    let world = World::with_redis(&[]).await;
    let (one, other) = (world.open("one").await, world.open("other").await);
    change(&*one, &put("kill", &switch(false))).await;
    let before = change(&*one, &put("other", &switch(true))).await;
    // while serin runs: somebody was quicker with one of them
    world.cli(&["FLUSHALL"]).await;
    world.cli(&["HSET", FLAGS, "other", &switch(false)]).await;
    let loaded = loads(&*one, "they are back", |loaded| loaded.flags.revision > before.revision).await;
    assert!(is_off(&loaded, "kill") && is_off(&loaded, "other"), "{loaded:?}");
    loads(&*other, "all proxies agree", |seen| seen.flags == loaded.flags).await;
    // a change that comes before anybody looked
    world.cli(&["FLUSHALL"]).await;
    let after = change(&*one, &put("new", &switch(true))).await;
    assert_eq!(after.flags.keys().collect::<Vec<_>>(), ["kill", "new", "other"]);
    // while serin is stopped
    loads(&*other, "all proxies agree", |seen| seen.flags == after).await;
    drop((one, other));
    world.cli(&["FLUSHALL"]).await;
    let one = world.open("one").await;
    let loaded = load(&*one).await;
    assert_eq!((&loaded.flags.flags, loaded.flags.revision), (&after.flags, after.revision + 1));
}

#[tokio::test]
async fn flags_that_cannot_be_read_hold_nothing_else_up() {
    // given a user who may do all but read the flags
    let world = World::with_redis(&[]).await;
    world.cli(&["ACL", "SETUSER", "serin", "on", ">open", "~serin:*:service:*", "&*", "+@all"]).await;
    let url = format!("redis://serin:open@127.0.0.1:{}/0", world.redis.as_ref().expect("Redis").port());
    let store = world.open_with("a", &format!("url = {url:?}\n")).expect("opens");
    let loaded = tokio::time::timeout(Duration::from_secs(5), load(&*store)).await.expect("it answers");
    assert_eq!(loaded.freshness, Freshness::Fresh);
    assert!(loaded.poisoned[0].key == FLAGS && loaded.poisoned[0].problem.contains("NOPERM"), "{:?}", loaded.poisoned);
}
