//! What a store in Redis adds: other proxies and people at the same data, and an
//! outage, a flush or a value that makes no sense at any moment.

use std::time::Duration;

use redis::Value;
use serin::model::split::Arm;
use serin::model::state::{Change, Member};
use serin::store::{Freshness, Loaded, Store, StoreError};
use serin_tests::eventually::eventually;

use super::world::{
    SECOND, SERVICE, World, apply, beat, begin, load, percent, put, reset, set_weight, state, trip, until_loaded,
    until_silent,
};
use super::write_a_hundred;

const HASH: &str = "serin:{test}:service:checkbox";
const CANARY: &str = "serin:{test}:service:checkbox:pool:canary";
/// Writes survive a kill.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

async fn loads(store: &dyn Store, deadline: Duration, what: &str, is_it: impl Fn(&Loaded) -> bool) -> Loaded {
    until_loaded(store, &[SERVICE.to_owned()], deadline, what, is_it).await
}

async fn hears_at_once(store: &dyn Store) -> bool {
    tokio::time::timeout(SECOND / 4, store.changed()).await.is_ok()
}

fn is_open(loaded: &Loaded) -> bool {
    loaded.state[SERVICE].circuit.is_open()
}

fn is_fresh(loaded: &Loaded) -> bool {
    loaded.freshness == Freshness::Fresh
}

#[tokio::test]
async fn two_proxies_see_each_other_within_a_second() {
    let world = World::with_redis(&[]).await;
    let (one, other) = (world.open("one").await, world.open("other").await);
    assert_eq!(state(&*other).await.revision, 0);
    until_silent(&*other).await;
    apply(&*one, &set_weight(10.0)).await;
    assert!(hears_at_once(&*other).await, "only the periodic look would have seen it");
    loads(&*other, SECOND, "the weight arrives", |loaded| loaded.state[SERVICE].weight == Some(percent(10.0))).await;
    apply(&*other, &trip("bad")).await;
    loads(&*one, SECOND, "the trip arrives", is_open).await;
}

#[tokio::test]
async fn what_people_write_is_seen_within_a_second_also_unpublished() {
    // given a proxy that waits
    let world = World::with_redis(&[]).await;
    let store = world.open("a").await;
    apply(&*store, &set_weight(10.0)).await;
    // when somebody uses redis-cli, as it is documented
    world.cli(&["HSET", HASH, "weight", "20"]).await;
    world.cli(&["HSET", CANARY, "m", r#"{"state":"ready","address":"10.0.0.21:3002"}"#]).await;
    // then it is there
    let loaded =
        loads(&*store, SECOND, "the weight", |loaded| loaded.state[SERVICE].weight == Some(percent(20.0))).await;
    assert!(matches!(loaded.state[SERVICE].pools.canary["m"], Member::Ready(_)));
    // and a message on the channel makes it quick
    until_silent(&*store).await;
    world.cli(&["PUBLISH", "serin:{test}:changes", SERVICE]).await;
    assert!(hears_at_once(&*store).await, "the message went unheard");
}

#[tokio::test]
async fn the_data_is_where_it_is_documented() {
    let world = World::with_redis(&[]).await;
    let store = world.open("a").await;
    apply(&*store, &set_weight(12.5)).await;
    apply(&*store, &beat("m", 60_000)).await;
    let is = async |words: &[&str], value: &str| {
        assert_eq!(world.cli(words).await, Value::BulkString(value.into()), "{words:?}");
    };
    is(&["HGET", HASH, "revision"], "2").await;
    is(&["HGET", HASH, "weight"], "12.5").await;
    is(&["HGET", CANARY, "m"], r#"{"state":"ready","address":"127.0.0.1:80","weight":1,"ttl_ms":60000}"#).await;
    let Value::Int(ttl) = world.cli(&["PTTL", "serin:{test}:lease:checkbox:canary:m"]).await else {
        panic!("PTTL answers with a number")
    };
    assert!((50_000..=60_000).contains(&ttl), "the lease has {ttl} ms left");
    // when the member goes, then so does its lease, and what died is swept out with the next change
    apply(&*store, &beat("dead", 1)).await;
    loads(&*store, SECOND, "it dies", |loaded| !loaded.state[SERVICE].pools.canary.contains_key("dead")).await;
    apply(&*store, &Change::RemoveMember { arm: Arm::Canary, id: "m".into() }).await;
    is(&["HGET", CANARY, "m"], r#"{"state":"removed"}"#).await;
    assert_eq!(world.cli(&["EXISTS", "serin:{test}:lease:checkbox:canary:m"]).await, Value::Int(0));
    assert_eq!(world.cli(&["HEXISTS", CANARY, "dead"]).await, Value::Int(0));
}

#[tokio::test]
async fn values_that_make_no_sense_are_named_and_passed_over() {
    // given a good state
    let world = World::with_redis(&[]).await;
    let store = world.open("a").await;
    apply(&*store, &set_weight(10.0)).await;
    apply(&*store, &put("m")).await;
    let good = state(&*store).await;
    // when each value is spoiled in turn
    for (words, named) in [
        (vec!["HSET", HASH, "weight", "abc"], format!("{HASH} weight")),
        (vec!["HSET", HASH, "weight", "NaN"], format!("{HASH} weight")),
        (vec!["HSET", HASH, "weight", "101"], format!("{HASH} weight")),
        (vec!["HSET", HASH, "salt", "5a17"], format!("{HASH} episode")),
        (vec!["HSET", HASH, "circuit", "{"], format!("{HASH} circuit")),
        (vec!["HSET", CANARY, "m", "{\"state\":\"ready\",\"address\":\"here\"}"], format!("{CANARY} m")),
        (vec!["SET", CANARY, "a string"], CANARY.to_owned()),
        (vec!["SET", HASH, "a string"], HASH.to_owned()),
    ] {
        world.cli(&words).await;
        // then it is named, and the last good one counts
        let loaded = load(&*store).await;
        assert!(is_fresh(&loaded) && loaded.poisoned.iter().any(|poison| poison.key == named), "{words:?}: {loaded:?}");
        assert_eq!(loaded.state[SERVICE], good, "{words:?}");
    }
    // and a change heals what it finds, and gets through
    let healed = apply(&*store, &trip("bad")).await;
    let loaded = load(&*store).await;
    assert_eq!((&loaded.state[SERVICE], loaded.poisoned.as_slice()), (&healed, [].as_slice()));
    assert_eq!((healed.weight, healed.pools), (good.weight, good.pools));
}

#[tokio::test]
async fn a_hundred_writers_on_two_proxies_lose_no_update() {
    let world = World::with_redis(&[]).await;
    let stores = [world.open("one").await, world.open("other").await];
    write_a_hundred(&stores).await;
    for store in &stores {
        let state = state(&**store).await;
        assert_eq!((state.revision, state.pools.canary.len()), (100, 100));
    }
}

#[tokio::test]
async fn an_outage_leaves_the_last_good_state_and_a_trip_in_it_reaches_redis_after() {
    // given a state in a Redis that dies
    let mut world = World::with_redis(&DURABLE).await;
    let store = world.open("a").await;
    apply(&*store, &set_weight(10.0)).await;
    let good = state(&*store).await;
    world.redis().stop().await.expect("it dies");
    // then the last good state is there, and a weight is refused
    let loaded = load(&*store).await;
    assert!(matches!(&loaded.freshness, Freshness::LastGood { read_at: Some(_), .. }), "{:?}", loaded.freshness);
    assert_eq!(loaded.state[SERVICE], good);
    let refused = store.apply(SERVICE, &set_weight(20.0), None).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    // when a trip is made, then Redis doesn't have it, and the state file does
    let refused = store.apply(SERVICE, &trip("bad"), None).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(is_open(&load(&*store).await));
    assert!(std::fs::read_to_string(world.state_file("a")).expect("the file").contains("\"open\""));
    // and a proxy that starts in the outage goes on from there
    drop(store);
    let store = world.open("a").await;
    assert!(is_open(&load(&*store).await));
    // when Redis is back, then everything is within two seconds, the trip included
    world.redis().restart().await.expect("it starts again");
    let back = loads(&*store, 2 * SECOND, "Redis is used again", is_fresh).await;
    assert!(is_open(&back) && back.state[SERVICE].weight == Some(percent(10.0)), "{back:?}");
    let other = world.open("other").await;
    assert!(is_open(&load(&*other).await), "another proxy wasn't told");
    // and the person's reset counts everywhere
    apply(&*store, &reset()).await;
    assert!(!is_open(&load(&*store).await) && !is_open(&load(&*other).await));
}

#[tokio::test]
async fn a_server_that_hangs_is_waited_for_briefly() {
    let world = World::with_redis(&[]).await;
    let store = world.open("a").await;
    apply(&*store, &set_weight(10.0)).await;
    world.cli(&["CLIENT", "PAUSE", "3000", "ALL"]).await;
    let loaded = tokio::time::timeout(2 * SECOND, load(&*store)).await.expect("an answer in time");
    assert!(!is_fresh(&loaded) && loaded.state[SERVICE].weight == Some(percent(10.0)), "{loaded:?}");
    loads(&*store, 5 * SECOND, "it answers again", is_fresh).await;
}

#[tokio::test]
async fn a_server_that_was_never_there_is_used_once_it_is() {
    let mut world = World::with_redis(&[]).await;
    world.redis().stop().await.expect("it dies");
    let store = world.open("a").await;
    let loaded = load(&*store).await;
    assert!(matches!(&loaded.freshness, Freshness::LastGood { read_at: None, .. }), "{:?}", loaded.freshness);
    world.redis().restart().await.expect("it starts");
    loads(&*store, 2 * SECOND, "Redis is used", is_fresh).await;
    apply(&*store, &set_weight(10.0)).await;
}

#[tokio::test]
async fn a_flush_closes_no_circuit_and_is_undone_by_a_restore() {
    // given a tripped service with a member for good and a leased one, known to two proxies
    let world = World::with_redis(&[]).await;
    let (one, other) = (world.open("one").await, world.open("other").await);
    apply(&*one, &set_weight(10.0)).await;
    apply(&*one, &put("fixed")).await;
    apply(&*one, &beat("leased", 60_000)).await;
    let before = apply(&*one, &trip("bad")).await;
    assert_eq!((state(&*one).await, state(&*other).await), (before.clone(), before.clone()));
    // when Redis is emptied, and a heartbeat by hand comes first
    world.cli(&["FLUSHALL"]).await;
    world.cli(&["HSET", CANARY, "new", r#"{"state":"ready","address":"10.0.0.9:80"}"#]).await;
    // then that is what Redis says, but the circuit stays open, on disk too
    for (store, proxy) in [(&one, "one"), (&other, "other")] {
        let lost = state(&**store).await;
        assert_eq!((lost.revision, lost.weight), (0, None));
        assert!(lost.circuit.is_open());
        let kept = std::fs::read_to_string(world.state_file(proxy)).expect("the file");
        assert!(kept.contains("\"open\"") && kept.contains("fixed"));
    }
    // when both restore it
    let last_known = [(SERVICE.to_owned(), before.clone())].into();
    one.restore(&last_known).await.expect("restores");
    other.restore(&last_known).await.expect("has nothing to do");
    // then all is back, at the next revision, but for the lease
    let after = state(&*other).await;
    assert_eq!((after.revision, after.weight), (before.revision + 1, before.weight));
    assert_eq!(after.circuit, before.circuit);
    assert_eq!(after.pools.canary.keys().collect::<Vec<_>>(), ["fixed", "new"]);
    assert!(!apply(&*one, &reset()).await.circuit.is_open());
}

#[tokio::test]
async fn a_flush_while_serin_is_stopped_is_undone_when_it_starts() {
    let world = World::with_redis(&[]).await;
    let store = world.open("a").await;
    apply(&*store, &set_weight(10.0)).await;
    let before = apply(&*store, &trip("bad")).await;
    drop(store);
    world.cli(&["FLUSHALL"]).await;
    let store = world.open("a").await;
    let after = state(&*store).await;
    assert_eq!((after.revision, after.weight, after.circuit), (before.revision + 1, before.weight, before.circuit));
}

#[tokio::test]
async fn a_circuit_that_is_deleted_by_hand_is_put_back() {
    let world = World::with_redis(&[]).await;
    let store = world.open("a").await;
    apply(&*store, &set_weight(10.0)).await;
    apply(&*store, &trip("bad")).await;
    world.cli(&["HDEL", HASH, "circuit"]).await;
    // a change that comes first doesn't begin an episode either
    let changed = apply(&*store, &set_weight(20.0)).await;
    assert!(changed.circuit.is_open() && changed.episode.is_none());
    world.cli(&["HDEL", HASH, "circuit"]).await;
    assert!(is_open(&load(&*store).await));
    assert!(is_open(&load(&*world.open("other").await).await), "it isn't in Redis again");
}

#[tokio::test]
async fn one_leads_until_its_term_is_over_and_each_new_one_has_a_higher_fence() {
    let world = World::with_redis(&[]).await;
    let (one, other) = (world.open("a").await, world.open("b").await);
    let first = one.lead("p1", SECOND).await.expect("Redis answers").expect("nobody else leads");
    assert_eq!(other.lead("p2", SECOND).await.expect("Redis answers"), None, "two lead at once");
    let next =
        eventually(5 * SECOND, "the term ends", async || other.lead("p2", SECOND).await.expect("Redis answers")).await;
    assert!(next > first, "{next:?} after {first:?}");
    assert_eq!(one.lead("p1", SECOND).await.expect("Redis answers"), None);
    // also when Redis forgot that anybody led
    world.cli(&["FLUSHALL"]).await;
    let after = one.lead("p1", SECOND).await.expect("Redis answers").expect("nobody leads");
    assert!(after > next, "{after:?} after {next:?}");
}

#[tokio::test]
async fn a_rollout_that_makes_no_sense_is_passed_over_and_named() {
    let world = World::with_redis(&[]).await;
    let store = world.open("a").await;
    let begun = apply(&*store, &begin(1)).await;
    let falling = serde_json::to_string(&begun.rollout).expect("JSON").replace("\"weight\":20.0", "\"weight\":5.0");
    for poison in ["{}", "null", "promoted", &falling] {
        world.cli(&["HSET", HASH, "rollout", poison]).await;
        let loaded = load(&*store).await;
        assert_eq!(loaded.state[SERVICE].rollout, begun.rollout, "{poison}");
        assert!(loaded.poisoned[0].key.ends_with("checkbox rollout"), "{:?}", loaded.poisoned);
    }
}

#[tokio::test]
async fn a_password_is_used_and_never_told() {
    let world = World::with_redis(&["--requirepass", "0pen-sesame"]).await;
    let port = world.redis.as_ref().expect("Redis").port();
    let open = |password: &str, proxy: &str| {
        world.open_with(proxy, &format!("url = \"redis://:{password}@127.0.0.1:{port}/0\"\n")).expect("opens")
    };
    let right = open("0pen-sesame", "right");
    apply(&*right, &set_weight(10.0)).await;
    assert_eq!(state(&*right).await.revision, 1);
    let wrong = open("s3cret", "wrong");
    let refused = wrong.apply(SERVICE, &set_weight(10.0), None).await.expect_err("the password is wrong");
    let told = format!("{refused} {refused:?} {wrong:?} {:?} {right:?}", load(&*wrong).await);
    assert!(!told.contains("s3cret") && !told.contains("sesame"), "{told}");
}
