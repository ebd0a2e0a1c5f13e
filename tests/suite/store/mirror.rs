//! A mirror: read while it is fresh, and never believed where that would matter.

use std::sync::Arc;
use std::time::Duration;

use serin::model::flag::FlagChange;
use serin::model::redis::Mirrored;
use serin::store::{Freshness, Loaded, Store};
use serin_tests::cable::{Cable, State};
use serin_tests::eventually::eventually;
use serin_tests::redis::{Redis, Signal};

use super::world::{SECOND, SERVICE, World, apply, beat, canary, load, percent, set_weight, state, trip};

const HASH: &str = "serin:{test}:service:checkbox";
/// By when a mirror's trouble must have been noticed, and by when its end.
const NOTICED: Duration = Duration::from_secs(5);

/// A primary and a mirror, each behind a cable.
struct Pair {
    world: World,
    primary: Redis,
    mirror: Redis,
    to_primary: Cable,
    to_mirror: Cable,
    /// Between the two: how the mirror hears of changes.
    between: Cable,
}

impl Pair {
    async fn start() -> Self {
        let primary = Redis::start().await.expect("redis-server runs");
        let between = Cable::to(primary.port()).await.expect("a cable");
        let port = between.port().to_string();
        let options = ["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"];
        let mirror = Redis::start_with(&options).await.expect("redis-server runs");
        mirror.until_it_follows().await.expect("it follows");
        let to_primary = Cable::to(primary.port()).await.expect("a cable");
        let to_mirror = Cable::to(mirror.port()).await.expect("a cable");
        Self { world: World::embedded(), primary, mirror, to_primary, to_mirror, between }
    }

    /// The store of this proxy, once it reads the mirror.
    async fn open(&self, proxy: &str) -> Arc<dyn Store> {
        let (primary, mirror) = (self.to_primary.port(), self.to_mirror.port());
        let store = format!(
            "url = \"redis://127.0.0.1:{primary}\"\nmirror = \"redis://127.0.0.1:{mirror}\"\nmirror_max_age = \"2s\"\n"
        );
        let store = self.world.open_with(proxy, &store).expect("opens");
        until_in_use(&*store, true).await;
        store
    }
}

async fn mirrored(store: &dyn Store) -> Mirrored {
    load(store).await.mirror.expect("it has a mirror")
}

async fn until_in_use(store: &dyn Store, wanted: bool) -> Mirrored {
    eventually(NOTICED, if wanted { "the mirror is read" } else { "the mirror isn't read" }, async || {
        Some(mirrored(store).await).filter(|mirror| mirror.in_use == wanted)
    })
    .await
}

/// How often a server was sent a command.
async fn calls(server: &Redis, command: &str) -> u64 {
    let text: String = server.command(&["INFO", "commandstats"]).await.expect("it answers");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.unwrap_or("0,").split(',').next().and_then(|calls| calls.parse().ok()).expect("a number")
}

/// Loads as control does until it is so, and says how it came.
async fn loads(store: &dyn Store, what: &str, is_it: impl Fn(&Loaded) -> bool) -> Loaded {
    eventually(NOTICED, what, async || Some(load(store).await).filter(|loaded| is_it(loaded))).await
}

#[tokio::test]
async fn a_fresh_mirror_is_read_and_a_write_is_read_back_at_once() {
    let redis = Pair::start().await;
    let (one, other) = (redis.open("one").await, redis.open("other").await);
    // when the mirror hears of changes late
    redis.between.set(State::Through(Duration::from_millis(300)));
    for (revision, weight) in [(1, 10.0), (2, 20.0), (3, 30.0)] {
        let written = apply(&*one, &set_weight(weight)).await;
        assert_eq!(written.revision, revision);
        // then whoever wrote never sees less than it wrote
        for _ in 0..20 {
            assert_eq!(state(&*one).await, written);
        }
    }
    loads(&*other, "the other sees it", |loaded| loaded.state[SERVICE].weight == Some(percent(30.0))).await;
    eventually(NOTICED, "the mirror has it", async || {
        (redis.mirror.command::<String>(&["HGET", HASH, "revision"]).await.ok()? == "3").then_some(())
    })
    .await;
    // and it is the mirror that is read: the primary has next to nothing to answer
    let before = (calls(&redis.primary, "hgetall").await, calls(&redis.mirror, "hgetall").await);
    for _ in 0..50 {
        state(&*one).await;
    }
    let after = (calls(&redis.primary, "hgetall").await, calls(&redis.mirror, "hgetall").await);
    assert!(after.1 >= before.1 + 150, "the mirror wasn't read: {before:?} {after:?}");
    assert_eq!(after.0, before.0, "the primary was read");
}

#[tokio::test]
async fn what_the_primary_tells_waits_for_no_mirror() {
    // given a mirror that hears nothing any more, which isn't known yet
    let redis = Pair::start().await;
    let (one, other) = (redis.open("one").await, redis.open("other").await);
    apply(&*one, &set_weight(10.0)).await;
    loads(&*other, "the weight", |loaded| loaded.state[SERVICE].weight == Some(percent(10.0))).await;
    redis.between.set(State::Held);
    // when a proxy trips the circuit, then the other one knows at once, and keeps knowing
    apply(&*one, &trip("bad")).await;
    let is_open = |loaded: &Loaded| loaded.state[SERVICE].circuit.is_open();
    eventually(SECOND, "the trip arrives", async || Some(load(&*other).await).filter(is_open)).await;
    for _ in 0..50 {
        assert!(is_open(&load(&*other).await), "an older copy was believed");
    }
}

#[tokio::test]
async fn a_lease_is_not_lost_because_a_mirror_is_late() {
    let redis = Pair::start().await;
    let store = redis.open("a").await;
    apply(&*store, &beat("m", 1_000)).await;
    // when the mirror hears of no beat any more, until it is given up
    redis.between.set(State::Held);
    let mut in_use = 0;
    eventually(NOTICED, "the mirror is given up", async || {
        apply(&*store, &beat("m", 1_000)).await;
        assert!(canary(&*store, "m").await.is_some(), "a member that beats was lost");
        let mirror = mirrored(&*store).await;
        in_use += u32::from(mirror.in_use);
        (!mirror.in_use).then_some(())
    })
    .await;
    // then that took longer than the lease
    assert!(in_use > 10, "the mirror was given up too early to show anything");
}

#[tokio::test]
async fn a_stale_mirror_is_noticed_left_and_taken_back() {
    let redis = Pair::start().await;
    let store = redis.open("a").await;
    apply(&*store, &set_weight(10.0)).await;
    for (what, mend) in [("held", State::Held), ("cut", State::Cut)] {
        redis.between.set(mend);
        let left = until_in_use(&*store, false).await;
        assert!(left.age.is_some_and(|age| age > Duration::from_secs(2)), "{what}: {left:?}");
        assert!(left.detail.as_ref().is_some_and(|why| why.contains("more than store.mirror_max_age")), "{left:?}");
        // the primary is read, and so is what is written there by hand
        let _: i64 = redis.primary.command(&["HSET", HASH, "weight", "33"]).await.expect("it answers");
        let loaded = loads(&*store, "the weight", |it| it.state[SERVICE].weight == Some(percent(33.0))).await;
        assert_eq!(loaded.freshness, Freshness::Fresh);
        redis.between.set(State::Through(Duration::ZERO));
        let back = until_in_use(&*store, true).await;
        assert!(back.age.is_some_and(|age| age < Duration::from_secs(2)), "{what}: {back:?}");
    }
}

#[tokio::test]
async fn a_mirror_that_dies_or_hangs_is_left_within_a_moment_and_taken_back() {
    let mut redis = Pair::start().await;
    let store = redis.open("a").await;
    apply(&*store, &set_weight(10.0)).await;
    redis.mirror.stop().await.expect("killed");
    let dead = until_in_use(&*store, false).await;
    assert!(dead.detail.is_some_and(|why| why.contains("can't be reached")));
    assert_eq!(load(&*store).await.freshness, Freshness::Fresh);
    redis.mirror.restart().await.expect("it starts");
    until_in_use(&*store, true).await;

    redis.mirror.signal(Signal::STOP).expect("a signal");
    let hung = until_in_use(&*store, false).await;
    assert!(hung.detail.is_some_and(|why| why.contains("in time")));
    let written = apply(&*store, &set_weight(20.0)).await;
    assert_eq!(state(&*store).await, written);
    redis.mirror.signal(Signal::CONT).expect("a signal");
    until_in_use(&*store, true).await;
    assert_eq!(state(&*store).await, written);
}

#[tokio::test]
async fn while_the_primary_is_cut_off_from_one_proxy_it_hears_of_the_others_by_the_mirror() {
    let redis = Pair::start().await;
    let cut_off = redis.open("cut-off").await;
    let url = format!(
        "url = \"redis://127.0.0.1:{}\"\nmirror = \"redis://127.0.0.1:{}\"\n",
        redis.primary.port(),
        redis.mirror.port()
    );
    let other = redis.world.open_with("other", &url).expect("opens");
    apply(&*other, &set_weight(10.0)).await;
    apply(&*other, &beat("m", 60_000)).await;
    loads(&*cut_off, "the member", |loaded| loaded.state[SERVICE].pools.canary.contains_key("m")).await;
    redis.to_primary.set(State::Cut);
    apply(&*other, &trip("bad")).await;
    let open = loads(&*cut_off, "the trip", |loaded| loaded.state[SERVICE].circuit.is_open()).await;
    assert_eq!(open.freshness, Freshness::Fresh);
    assert!(open.state[SERVICE].pools.canary.contains_key("m"), "a leased member was lost");
    // and its own changes are refused until the primary is back
    cut_off.apply(SERVICE, &set_weight(1.0), None).await.expect_err("the primary is cut off");
    redis.to_primary.set(State::Through(Duration::ZERO));
    eventually(NOTICED, "changes are taken again", async || cut_off.apply(SERVICE, &set_weight(1.0), None).await.ok())
        .await;
}

#[tokio::test]
async fn an_emptied_mirror_empties_nothing() {
    let redis = Pair::start().await;
    let store = redis.open("a").await;
    let written = apply(&*store, &set_weight(10.0)).await;
    // A replica takes writes once it is told that it is none: then it holds nothing, and follows nobody.
    let _: redis::Value = redis.mirror.command(&["REPLICAOF", "NO", "ONE"]).await.expect("it answers");
    let _: redis::Value = redis.mirror.command(&["FLUSHALL"]).await.expect("it answers");
    for _ in 0..20 {
        let loaded = load(&*store).await;
        assert_eq!((&loaded.state[SERVICE], loaded.freshness), (&written, Freshness::Fresh));
    }
    let left = until_in_use(&*store, false).await;
    assert!(left.detail.is_some_and(|why| why.contains("no heartbeat")));
}

#[tokio::test]
async fn flags_are_read_from_a_fresh_mirror_and_an_older_copy_is_not_believed() {
    let redis = Pair::start().await;
    let (one, other) = (redis.open("one").await, redis.open("other").await);
    let put = |state: &str| FlagChange::Put {
        key: "kill".into(),
        definition: format!(r#"{{"state": "{state}", "variants": {{"on": true}}, "defaultVariant": "on"}}"#).into(),
    };
    one.change_flags(&put("ENABLED"), None).await.expect("changes");
    let is_known = |revision: u64| move |loaded: &Loaded| loaded.flags.revision == revision;
    loads(&*other, "the flag", is_known(1)).await;
    eventually(NOTICED, "the mirror has it", async || {
        (redis.mirror.command::<String>(&["HGET", "serin:{test}:flagset", "revision"]).await.ok()? == "1").then_some(())
    })
    .await;
    load(&*one).await;
    // when flags are looked at, then the primary isn't asked
    let before = (calls(&redis.primary, "hmget").await, calls(&redis.mirror, "hmget").await);
    for _ in 0..50 {
        assert!(is_known(1)(&load(&*one).await));
    }
    let after = (calls(&redis.primary, "hmget").await, calls(&redis.mirror, "hmget").await);
    assert!(after.1 >= before.1 + 50, "the mirror wasn't read: {before:?} {after:?}");
    assert_eq!(after.0, before.0, "the primary was read");
    // and when the mirror hears of nothing any more, whoever wrote and whoever was told know better
    redis.between.set(State::Held);
    one.change_flags(&put("DISABLED"), None).await.expect("changes");
    loads(&*other, "the switch arrives", is_known(2)).await;
    for _ in 0..50 {
        assert!(is_known(2)(&load(&*one).await) && is_known(2)(&load(&*other).await), "an older copy was believed");
    }
}

#[tokio::test]
async fn a_change_of_one_service_reads_that_one() {
    let redis = Redis::start().await.expect("redis-server runs");
    let world = World::embedded();
    let store = world.open_with("a", &format!("url = {:?}\n", redis.url())).expect("opens");
    let names: Vec<String> = (0..100).map(|n| format!("s{n}")).collect();
    for name in &names[..3] {
        store.apply(name, &set_weight(10.0), None).await.expect("applies");
    }
    store.load(&names).await;
    let before = (calls(&redis, "hgetall").await, calls(&redis, "hmget").await);
    let loaded = store.load_some(&names[1..2]).await;
    // then its three hashes are read, and nothing of the others or of flags
    let after = (calls(&redis, "hgetall").await, calls(&redis, "hmget").await);
    assert_eq!((after.0 - before.0, after.1 - before.1), (3, 0));
    assert_eq!((loaded.state.len(), loaded.freshness), (1, Freshness::Fresh));
}
