//! Redis goes away, comes back, forgets, or holds nonsense: users never notice, and no circuit closes.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::cable::{Cable, State};
use serin_tests::client::Reply;
use serin_tests::crowd::{Crowd, Strangers, all_were_served};
use serin_tests::eventually::{eventually, logged};
use serin_tests::redis::{Redis, Signal};
use serin_tests::scene::{self, CANARY, SERVICE, STABLE, config};
use serin_tests::serin::Serin;
use serin_tests::standin::Checkbox;
use tokio::time::Instant;

/// By when all must be back once Redis is. Two seconds are the promise; a busy machine may take longer.
const BACK: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(20);
const LISTING: &str = "/api/study/listing";
const HASH: &str = "serin:{test}:service:checkbox";
const CANARY_POOL: &str = "serin:{test}:service:checkbox:pool:canary";

struct World {
    redis: Redis,
    serin: Serin,
    stable: Checkbox,
    canary: Checkbox,
}

impl World {
    async fn start(weight: f64, redis_options: &[&str]) -> Self {
        let redis = Redis::start_with(redis_options).await.unwrap();
        let url = redis.url();
        Self::start_at(weight, redis, &url).await
    }

    /// As [`World::start`], where serin reaches this Redis by this URL.
    async fn start_at(weight: f64, redis: Redis, url: &str) -> Self {
        let (stable, canary) = (scene::stable().await.unwrap(), scene::canary().await.unwrap());
        let more = scene::weight(weight) + &scene::store(url);
        let serin = Serin::start(&config(&[&stable], &[&canary], &more)).await.unwrap();
        Self { redis, serin, stable, canary }
    }

    async fn put_weight(&self, percent: f64) -> Reply {
        let path = format!("/v1/services/{SERVICE}/canary/weight");
        self.serin.operator().put_json(&path, &json!({ "percent": percent })).await.unwrap()
    }

    /// Adds an endpoint to a pool: the one of this stand-in, under another name.
    async fn add(&self, pool: &str, id: &str, standin: &Checkbox) {
        let path = format!("/v1/services/{SERVICE}/pools/{pool}/endpoints/{id}");
        let wish = json!({ "address": standin.address().to_string() });
        let reply = self.serin.operator().put_json(&path, &wish).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    async fn service(&self) -> Value {
        self.serin.service(SERVICE).await.unwrap()
    }

    async fn until_reachable(&self, reachable: bool, within: Duration) {
        eventually(within, "serin knows how Redis is", async || {
            (self.serin.service(SERVICE).await.ok()?["store"]["reachable"] == reachable).then_some(())
        })
        .await;
    }

    async fn in_redis(&self, field: &str) -> Option<String> {
        self.redis.command(&["HGET", HASH, field]).await.unwrap()
    }

    /// Waits until Redis holds the circuit as open.
    async fn until_open_in_redis(&self, within: Duration) {
        eventually(within, "Redis is told of the open circuit", async || {
            let circuit: Value = serde_json::from_str(&self.in_redis("circuit").await?).unwrap();
            (circuit["state"] == "open").then_some(())
        })
        .await;
    }

    /// Waits until users were answered so many more times.
    async fn until_answered(&self, more: u64) {
        let answered = async || self.stable.requests().await.unwrap() + self.canary.requests().await.unwrap();
        let wanted = answered().await + more;
        eventually(SOON, "users are answered", async || (answered().await >= wanted).then_some(())).await;
    }
}

#[tokio::test]
async fn a_redis_that_dies_under_load_costs_no_request_and_is_told_when_it_is_back() {
    let mut world = World::start(30.0, &["--appendonly", "yes"]).await;
    let users = Strangers::come(world.serin.http(), 100.0, LISTING);
    world.until_answered(50).await;
    assert_eq!(world.serin.metric("serin_store_reachable").await.unwrap(), 1.0);

    // when Redis dies
    world.redis.stop().await.unwrap();
    world.until_reachable(false, SOON).await;
    // then everything says so, with the reason
    let ready = world.serin.ask("/readyz").await.unwrap();
    assert_eq!(ready.status, 200, "{}", ready.text());
    let store = ready.json().unwrap()["store"].take();
    assert!(store["detail"].as_str().unwrap().contains("Redis can't be reached"), "{store}");
    assert!(store["age_seconds"].is_number(), "{store}");
    assert_eq!(world.serin.metric("serin_store_reachable").await.unwrap(), 0.0);
    logged("The store can't be reached: serving the last good state", || world.serin.logs()).await;
    // and a change is refused with what to do next
    let refused = world.put_weight(50.0).await;
    assert_eq!((refused.status, refused.header("content-type")), (503, Some("application/problem+json")));
    let detail = refused.json().unwrap()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("a trip works all the same") && detail.contains("try again when /readyz"), "{detail}");
    assert_eq!(world.service().await["weight"]["asked"], 30.0);
    // and the canary still gets its share
    let before = world.canary.requests().await.unwrap();
    world.until_answered(100).await;
    assert!(world.canary.requests().await.unwrap() > before);

    // when a person trips the circuit, it holds at once
    world.serin.trip(SERVICE, "users report lost answers").await.unwrap();
    assert!(Crowd::of(50).ask(world.serin.http(), &[LISTING]).await.unwrap().iter().all(|version| version == STABLE));

    // when Redis is back, it is told of the trip and takes changes
    world.redis.restart().await.unwrap();
    let back = Instant::now();
    world.until_open_in_redis(BACK).await;
    world.until_reachable(true, BACK).await;
    println!("all is as before {:?} after Redis came back", back.elapsed());
    assert_eq!(world.put_weight(50.0).await.status, 200);
    assert_eq!(world.serin.metric("serin_store_reachable").await.unwrap(), 1.0);
    assert_eq!(world.in_redis("weight").await.as_deref(), Some("50"));
    world.serin.reset(SERVICE, "they were found").await.unwrap();
    assert_eq!(world.service().await["weight"]["effective"], 50.0);
    all_were_served(&users.leave().await.unwrap());
}

#[tokio::test]
async fn a_daemon_that_starts_without_redis_serves_as_it_last_did() {
    // given users who know their arms, and an endpoint that only the store knows
    let mut world = World::start(10.0, &[]).await;
    let second = scene::canary().await.unwrap();
    world.add("canary", "second", &second).await;
    assert_eq!(world.put_weight(40.0).await.status, 200);
    let mut crowd = Crowd::of(200);
    let met = crowd.ask(world.serin.http(), &[LISTING]).await.unwrap();
    assert!(met.iter().any(|version| version == CANARY));
    // when serin starts again and Redis is gone
    world.serin.kill().await.unwrap();
    world.redis.stop().await.unwrap();
    world.serin.start_again().await.unwrap();
    // then everybody is where they were, served by all endpoints
    let before = second.requests().await.unwrap();
    assert_eq!(crowd.ask(world.serin.http(), &[LISTING]).await.unwrap(), met);
    assert!(second.requests().await.unwrap() > before);
    let service = world.service().await;
    assert_eq!((&service["weight"]["effective"], &service["store"]["reachable"]), (&json!(40.0), &json!(false)));
}

#[tokio::test]
async fn a_trip_made_without_redis_outlives_a_crash_and_is_told_later() {
    let mut world = World::start(50.0, &[]).await;
    world.redis.stop().await.unwrap();
    world.serin.trip(SERVICE, "it smells").await.unwrap();
    eventually(SOON, "the trip is on disk", async || world.serin.has_on_disk("it smells").then_some(())).await;
    world.serin.kill().await.unwrap();
    world.serin.start_again().await.unwrap();
    assert_eq!(world.service().await["circuit"]["state"], "open");
    world.redis.restart().await.unwrap();
    world.until_open_in_redis(BACK).await;
    assert_eq!(world.service().await["circuit"]["reason"], "it smells");
}

#[tokio::test]
async fn a_flushed_redis_closes_no_circuit_and_loses_no_weight_and_no_endpoint() {
    let world = World::start(10.0, &[]).await;
    let users = Strangers::come(world.serin.http(), 100.0, LISTING);
    assert_eq!(world.put_weight(35.0).await.status, 200);
    let extra = scene::stable().await.unwrap();
    world.add("stable", "extra", &extra).await;
    world.serin.trip(SERVICE, "it smells").await.unwrap();
    world.until_open_in_redis(SOON).await;
    world.until_answered(20).await;
    let canary_before = world.canary.requests().await.unwrap();

    let _: String = world.redis.command(&["FLUSHALL"]).await.unwrap();

    world.until_open_in_redis(BACK).await;
    assert_eq!(world.in_redis("weight").await.as_deref(), Some("35"));
    world.until_answered(100).await;
    let service = world.service().await;
    assert_eq!((&service["circuit"]["state"], &service["weight"]["asked"]), (&json!("open"), &json!(35.0)));
    let ids = |service: &Value| service["pools"]["stable"]["endpoints"].to_string();
    assert!(ids(&service).contains("\"extra\""), "{service}");
    assert_eq!(world.canary.requests().await.unwrap(), canary_before, "the canary got traffic");
    all_were_served(&users.leave().await.unwrap());
    // and it can be reset as ever
    world.serin.reset(SERVICE, "fixed").await.unwrap();
    assert_eq!(world.service().await["weight"]["effective"], 35.0);
}

#[tokio::test]
async fn a_flush_while_the_canary_runs_moves_nobody() {
    let world = World::start(10.0, &[]).await;
    assert_eq!(world.put_weight(40.0).await.status, 200);
    let mut crowd = Crowd::of(200);
    let met = crowd.ask(world.serin.http(), &[LISTING]).await.unwrap();
    let _: String = world.redis.command(&["FLUSHALL"]).await.unwrap();
    eventually(BACK, "Redis has the weight again", async || world.in_redis("weight").await).await;
    assert_eq!(crowd.ask(world.serin.http(), &[LISTING]).await.unwrap(), met);
}

#[tokio::test]
async fn nonsense_in_redis_is_named_and_passed_over_and_the_rest_counts() {
    let world = World::start(10.0, &[]).await;
    assert_eq!(world.put_weight(25.0).await.status, 200);
    let second = scene::canary().await.unwrap();
    let set = async |words: &[&str]| {
        let _: redis::Value = world.redis.command(words).await.unwrap();
    };
    // given a weight, a member and a whole pool that make no sense, and one change that does
    set(&["HSET", HASH, "weight", "abc"]).await;
    set(&["HSET", CANARY_POOL, "broken", "{\"state\":\"ready\""]).await;
    let member = json!({ "state": "ready", "address": second.address().to_string() }).to_string();
    set(&["HSET", CANARY_POOL, "second", &member]).await;
    let stable_pool = "serin:{test}:service:checkbox:pool:stable";
    set(&["DEL", stable_pool]).await;
    set(&["SET", stable_pool, "a string"]).await;
    // then each is named in the metric, the status and the log
    eventually(BACK, "serin finds all three", async || {
        (world.serin.metric("serin_store_poisoned_values").await.ok()? == 3.0).then_some(())
    })
    .await;
    let service = world.service().await;
    let told = service["store"]["poisoned"].to_string();
    for key in [format!("{HASH} weight"), format!("{CANARY_POOL} broken"), stable_pool.to_owned()] {
        assert!(told.contains(&key), "{key} isn't named in {told}");
        logged(&key, || world.serin.logs()).await;
    }
    assert!(!told.contains("abc") && !world.serin.logs().contains("abc"), "values may be secrets");
    // and the rest holds: the last good weight, the seeds, the new endpoint
    assert_eq!(service["weight"]["effective"], 25.0);
    let met = Crowd::of(400).ask(world.serin.http(), &[LISTING]).await.unwrap();
    let on_canary = met.iter().filter(|version| *version == CANARY).count();
    assert!((60..140).contains(&on_canary), "{on_canary} of 400 at 25 %");
    assert!(second.requests().await.unwrap() > 0, "the sound member gets nothing");
    // and the next change puts things right
    assert_eq!(world.put_weight(5.0).await.status, 200);
    assert_eq!(world.in_redis("weight").await.as_deref(), Some("5"));
}

#[tokio::test]
async fn a_redis_that_hangs_costs_no_request_and_holds_up_no_trip() {
    let world = World::start(30.0, &[]).await;
    let users = Strangers::come(world.serin.http(), 100.0, LISTING);
    world.until_answered(50).await;
    // when Redis answers nobody, with all its connections open
    world.redis.signal(Signal::STOP).unwrap();
    world.until_reachable(false, SOON).await;
    let detail = world.service().await["store"]["detail"].take();
    assert!(detail.as_str().unwrap().contains("in time"), "{detail}");
    // then a trip holds at once, and a change is refused soon
    let start = Instant::now();
    world.serin.trip(SERVICE, "it smells").await.unwrap();
    assert!(Crowd::of(50).ask(world.serin.http(), &[LISTING]).await.unwrap().iter().all(|version| version == STABLE));
    assert_eq!(world.put_weight(50.0).await.status, 503);
    println!("a trip and a refusal took {:?}", start.elapsed());
    world.until_answered(100).await;
    // and when Redis goes on, all is told
    world.redis.signal(Signal::CONT).unwrap();
    world.until_open_in_redis(BACK).await;
    world.until_reachable(true, BACK).await;
    all_were_served(&users.leave().await.unwrap());
}

#[tokio::test]
async fn a_redis_that_takes_no_commands_for_a_while_is_waited_for() {
    let world = World::start(30.0, &[]).await;
    let users = Strangers::come(world.serin.http(), 100.0, LISTING);
    let _: String = world.redis.command(&["CLIENT", "PAUSE", "3000", "ALL"]).await.unwrap();
    world.until_reachable(false, SOON).await;
    world.until_reachable(true, SOON).await;
    assert_eq!(world.put_weight(50.0).await.status, 200);
    all_were_served(&users.leave().await.unwrap());
}

#[tokio::test]
async fn a_slow_redis_is_used_slowly() {
    // given a Redis behind 300 ms of round trip
    let redis = Redis::start().await.unwrap();
    let cable = Cable::to(redis.port()).await.unwrap();
    let world = World::start_at(30.0, redis, &format!("redis://127.0.0.1:{}/0", cable.port())).await;
    let users = Strangers::come(world.serin.http(), 100.0, LISTING);
    cable.set(State::Through(Duration::from_millis(150)));
    // then changes are taken, and seen
    for percent in [40.0, 50.0] {
        assert_eq!(world.put_weight(percent).await.status, 200);
        assert_eq!(world.service().await["weight"]["effective"], percent);
    }
    assert_eq!(world.service().await["store"]["reachable"], true);
    // and a cable that swallows everything is an outage
    cable.set(State::Held);
    world.until_reachable(false, SOON).await;
    cable.set(State::Through(Duration::ZERO));
    world.until_reachable(true, BACK).await;
    all_were_served(&users.leave().await.unwrap());
}

#[tokio::test]
async fn data_of_a_later_version_is_left_alone() {
    const SCHEMA: &str = "serin:{test}:schema";
    let world = World::start(30.0, &[]).await;
    assert_eq!(world.put_weight(40.0).await.status, 200);
    let schema: String = world.redis.command(&["GET", SCHEMA]).await.unwrap();
    assert_eq!(schema, "1");
    let users = Strangers::come(world.serin.http(), 100.0, LISTING);
    // when the data is of a later version, which means something else by it
    let _: String = world.redis.command(&["SET", SCHEMA, "2"]).await.unwrap();
    let _: i64 = world.redis.command(&["HSET", HASH, "weight", "99"]).await.unwrap();
    world.until_reachable(false, BACK).await;
    // then nothing is read or written, the last good state serves, and what to do is said
    let service = world.service().await;
    assert_eq!(service["weight"]["asked"], 40.0);
    let detail = service["store"]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("schema 2") && detail.contains("upgrade"), "{detail}");
    assert_eq!(world.put_weight(50.0).await.status, 503);
    assert_eq!(world.in_redis("weight").await.as_deref(), Some("99"));
    world.until_answered(100).await;
    // and nonsense, or nothing, is no version
    for known in ["1", "nonsense"] {
        let _: String = world.redis.command(&["SET", SCHEMA, known]).await.unwrap();
        world.until_reachable(true, BACK).await;
    }
    let _: i64 = world.redis.command(&["DEL", SCHEMA]).await.unwrap();
    eventually(BACK, "the number is there again", async || {
        (world.redis.command::<Option<String>>(&["GET", SCHEMA]).await.ok()?? == "1").then_some(())
    })
    .await;
    all_were_served(&users.leave().await.unwrap());
}

#[tokio::test]
async fn a_redis_that_refuses_writes_is_asked_twice_a_second_and_not_as_fast_as_it_answers() {
    // given a Redis that answers reads and takes no write for want of replicas
    let world = World::start(0.0, &[]).await;
    let refuse = async |replicas: &str| {
        let _: String = world.redis.command(&["CONFIG", "SET", "min-replicas-to-write", replicas]).await.unwrap();
    };
    refuse("1").await;
    // when a reload wants an episode and flags that Redis doesn't have
    let flags = world.serin.dir().join("flags.json");
    let kill = r#"{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"}"#;
    std::fs::write(&flags, format!(r#"{{"flags":{{"kill":{kill}}}}}"#)).unwrap();
    let more = scene::weight(10.0) + &scene::store(&world.redis.url()) + &format!("[flags]\nfile = {flags:?}\n");
    world.serin.rewrite(&config(&[&world.stable], &[&world.canary], &more)).unwrap();
    world.serin.signal(Signal::HUP).unwrap();
    let tries = |what: &str| world.serin.logs().matches(what).count();
    for what in ["A change couldn't be stored", "The flags of the file couldn't be stored"] {
        let first = eventually(SOON, "it is tried", async || Some(tries(what)).filter(|tries| *tries > 0)).await;
        let since = Instant::now();
        let last = eventually(SOON, "it is tried again", async || Some(tries(what)).filter(|n| *n >= first + 4)).await;
        let took = since.elapsed();
        assert!(took.as_secs_f64() > f64::from(u32::try_from(last - first).unwrap()) * 0.3, "{last} tries in {took:?}");
    }
    // then a trip is told at once all the same, and all is stored once Redis takes it
    world.serin.trip(SERVICE, "smells").await.unwrap();
    assert_eq!(world.service().await["circuit"]["state"], "open");
    refuse("0").await;
    world.until_open_in_redis(BACK).await;
    eventually(BACK, "the flags of the file are in Redis", async || {
        let seeded: Option<String> = world.redis.command(&["HGET", "serin:{test}:flags", "kill"]).await.unwrap();
        seeded
    })
    .await;
}
