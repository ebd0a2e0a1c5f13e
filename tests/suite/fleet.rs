//! Several proxies on one Redis are one: what one is told, all do, and what opened stays open.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::print_stdout, reason = "figures are shown with `--nocapture`")]

use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::crowd::Crowd;
use serin_tests::eventually::eventually;
use serin_tests::redis::Redis;
use serin_tests::scene::{self, CANARY, SERVICE, STABLE, config};
use serin_tests::serin::Serin;
use serin_tests::standin::Checkbox;
use tokio::time::Instant;

/// By when every proxy must do as one was told. A second is the promise; a busy machine may take longer.
const SOON: Duration = Duration::from_secs(4);
const LISTING: &str = "/api/study/listing";

struct Fleet {
    one: Serin,
    other: Serin,
    _redis: Redis,
    stable: Checkbox,
    canary: Checkbox,
}

impl Fleet {
    async fn start(weight: f64) -> Self {
        let redis = Redis::start().await.unwrap();
        let (stable, canary) = (scene::stable().await.unwrap(), scene::canary().await.unwrap());
        let config = config(&[&stable], &[&canary], &(scene::weight(weight) + &scene::store(&redis.url())));
        let (one, other) = (Serin::start(&config).await.unwrap(), Serin::start(&config).await.unwrap());
        Self { one, other, _redis: redis, stable, canary }
    }
}

async fn is(serin: &Serin, what: &str, wanted: &Value) {
    let start = Instant::now();
    eventually(SOON, &format!("{what} is {wanted}"), async || {
        (serin.service(SERVICE).await.ok()?.pointer(what) == Some(wanted)).then_some(())
    })
    .await;
    println!("{what} is {wanted} after {:?}", start.elapsed());
}

async fn on_canary(serin: &Serin) -> usize {
    let met = Crowd::of(100).ask(serin.http(), &[LISTING]).await.unwrap();
    met.iter().filter(|version| *version == CANARY).count()
}

#[tokio::test]
async fn what_one_proxy_is_told_the_others_do() {
    let fleet = Fleet::start(50.0).await;
    // a weight
    fleet.one.set_weight(SERVICE, 80.0).await.unwrap();
    is(&fleet.other, "/weight/effective", &json!(80.0)).await;
    // a trip
    fleet.other.trip(SERVICE, "it smells").await.unwrap();
    is(&fleet.one, "/circuit/state", &json!("open")).await;
    assert_eq!(fleet.one.service(SERVICE).await.unwrap()["circuit"]["reason"], "it smells");
    assert_eq!((on_canary(&fleet.one).await, on_canary(&fleet.other).await), (0, 0));
    // and a reset, on the proxy where nobody tripped it
    fleet.one.reset(SERVICE, "it was the drains").await.unwrap();
    is(&fleet.other, "/circuit/state", &json!("closed")).await;
    is(&fleet.other, "/weight/effective", &json!(80.0)).await;
    assert!(on_canary(&fleet.one).await > 50 && on_canary(&fleet.other).await > 50);
}

#[tokio::test]
async fn a_canary_that_breaks_for_one_proxy_is_pulled_on_all() {
    let fleet = Fleet::start(50.0).await;
    fleet.canary.fault(json!({ "error_rate": 1 })).await.unwrap();
    Crowd::of(100).ask(fleet.one.http(), &[LISTING]).await.unwrap();
    is(&fleet.one, "/circuit/state", &json!("open")).await;
    is(&fleet.other, "/circuit/cause", &json!("evidence")).await;
    assert_eq!(on_canary(&fleet.other).await, 0);
}

#[tokio::test]
async fn a_restart_keeps_the_circuit_open_in_redis() {
    let mut fleet = Fleet::start(50.0).await;
    fleet.one.trip(SERVICE, "it smells").await.unwrap();
    is(&fleet.other, "/circuit/state", &json!("open")).await;
    fleet.other.kill().await.unwrap();
    fleet.other.start_again().await.unwrap();
    assert_eq!(fleet.other.service(SERVICE).await.unwrap()["circuit"]["state"], "open");
    assert_eq!(on_canary(&fleet.other).await, 0);
    // and in one that never saw it happen
    fleet.one.stop().await.unwrap();
    fleet.one.start_again().await.unwrap();
    assert_eq!(on_canary(&fleet.one).await, 0);
}

#[tokio::test]
async fn a_restart_keeps_the_circuit_open_in_the_embedded_store() {
    let (stable, canary) = (scene::stable().await.unwrap(), scene::canary().await.unwrap());
    let mut serin = Serin::start(&config(&[&stable], &[&canary], &scene::weight(50.0))).await.unwrap();
    serin.trip(SERVICE, "it smells").await.unwrap();
    eventually(SOON, "the trip is on disk", async || serin.has_on_disk("it smells").then_some(())).await;
    serin.kill().await.unwrap();
    serin.start_again().await.unwrap();
    let circuit = serin.service(SERVICE).await.unwrap()["circuit"].take();
    assert_eq!((&circuit["state"], &circuit["reason"]), (&json!("open"), &json!("it smells")));
    let met = Crowd::of(50).ask(serin.http(), &[LISTING]).await.unwrap();
    assert!(met.iter().all(|version| version == STABLE));
}

#[tokio::test]
async fn a_member_with_a_lease_is_there_on_every_proxy_while_it_beats_and_gone_soon_after() {
    let fleet = Fleet::start(50.0).await;
    let leased = scene::stable().await.unwrap();
    let path = format!("/v1/services/{SERVICE}/pools/stable/endpoints/leased");
    let wish = json!({ "address": leased.address().to_string(), "ttl": "1s" });
    let is_member = async |serin: &Serin| {
        let service = serin.service(SERVICE).await.ok()?;
        Some(service["pools"]["stable"]["endpoints"].to_string().contains("\"leased\""))
    };
    // while it beats, for three times its lease, it is a member and gets traffic
    let mut beats = tokio::time::interval(Duration::from_millis(300));
    for beat in 0..10 {
        beats.tick().await;
        let reply = fleet.one.operator().put_json(&path, &wish).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(is_member(&fleet.one).await, Some(true), "at beat {beat}");
    }
    eventually(SOON, "the other proxy knows it", async || is_member(&fleet.other).await?.then_some(())).await;
    // when it beats no more it is gone everywhere
    for serin in [&fleet.one, &fleet.other] {
        eventually(SOON, "the lease ends", async || (!is_member(serin).await?).then_some(())).await;
    }
    let before = leased.requests().await.unwrap();
    on_canary(&fleet.one).await;
    on_canary(&fleet.other).await;
    assert_eq!(leased.requests().await.unwrap(), before);
}

/// Users who are bad for the errors signal, on both arms, as a proxy knows them.
async fn bad_users(serin: &Serin) -> Option<u64> {
    let service = serin.service(SERVICE).await.ok()?;
    let errors = &service["verdict"]["signals"]["errors"];
    Some(errors["stable"]["bad"].as_u64()? + errors["canary"]["bad"].as_u64()?)
}

/// Waits until a proxy knows of exactly so many bad users.
async fn knows(serin: &Serin, wanted: u64) {
    eventually(SOON, &format!("{wanted} bad users are known"), async || {
        (bad_users(serin).await? == wanted).then_some(())
    })
    .await;
}

async fn evidence(serin: &Serin) -> Option<f64> {
    serin.service(SERVICE).await.ok()?["verdict"]["signals"]["errors"]["e"].as_f64()
}

#[tokio::test]
async fn users_of_both_proxies_are_judged_together_and_nobody_twice() {
    // given errors on both arms, which pull nothing
    let fleet = Fleet::start(50.0).await;
    for app in [&fleet.canary, &fleet.stable] {
        app.fault(json!({ "error_rate": 1 })).await.unwrap();
    }
    let mut crowd = Crowd::of(40);
    crowd.ask(fleet.one.http(), &[LISTING]).await.unwrap();
    // when the same users come to the other proxy, and ten more
    crowd.ask(fleet.other.http(), &[LISTING]).await.unwrap();
    Crowd::of(10).ask(fleet.other.http(), &[LISTING]).await.unwrap();
    // then both know of fifty, and find the same
    knows(&fleet.one, 50).await;
    knows(&fleet.other, 50).await;
    eventually(SOON, "both find the same", async || {
        let (one, other) = (evidence(&fleet.one).await?, evidence(&fleet.other).await?);
        ((one - other).abs() < 1e-6 * one).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_proxy_that_is_killed_leaves_its_evidence_and_knows_it_again() {
    let mut fleet = Fleet::start(50.0).await;
    for app in [&fleet.canary, &fleet.stable] {
        app.fault(json!({ "error_rate": 1 })).await.unwrap();
    }
    let mut crowd = Crowd::of(30);
    crowd.ask(fleet.one.http(), &[LISTING]).await.unwrap();
    knows(&fleet.other, 30).await;
    fleet.one.kill().await.unwrap();
    fleet.one.start_again().await.unwrap();
    knows(&fleet.one, 30).await;
    // and those users count no second time
    crowd.ask(fleet.one.http(), &[LISTING]).await.unwrap();
    Crowd::of(1).ask(fleet.one.http(), &[LISTING]).await.unwrap();
    knows(&fleet.other, 31).await;
    knows(&fleet.one, 31).await;
}

#[tokio::test]
async fn a_restart_forgets_no_evidence_in_the_embedded_store() {
    let (stable, canary) = (scene::stable().await.unwrap(), scene::canary().await.unwrap());
    let mut serin = Serin::start(&config(&[&stable], &[&canary], &scene::weight(50.0))).await.unwrap();
    for app in [&canary, &stable] {
        app.fault(json!({ "error_rate": 1 })).await.unwrap();
    }
    let mut crowd = Crowd::of(20);
    crowd.ask(serin.http(), &[LISTING]).await.unwrap();
    let journal = serin.dir().join("state.json.evidence");
    eventually(SOON, "the evidence is on disk", async || {
        let text = std::fs::read_to_string(&journal).ok()?;
        (text.matches(" bad ").count() == 20).then_some(())
    })
    .await;
    serin.kill().await.unwrap();
    serin.start_again().await.unwrap();
    crowd.ask(serin.http(), &[LISTING]).await.unwrap();
    Crowd::of(1).ask(serin.http(), &[LISTING]).await.unwrap();
    knows(&serin, 21).await;
}

#[tokio::test]
async fn bad_users_spread_over_two_proxies_pull_the_canary_together() {
    // given a canary that is broken, at a weight at which a few users of one proxy prove nothing
    let fleet = Fleet::start(50.0).await;
    fleet.canary.fault(json!({ "error_rate": 1 })).await.unwrap();
    // when users come in turn to both, until it is pulled
    let pulled = eventually(SOON * 4, "the canary is pulled", async || {
        for serin in [&fleet.one, &fleet.other] {
            Crowd::of(3).ask(serin.http(), &[LISTING]).await.ok()?;
        }
        let service = fleet.one.service(SERVICE).await.ok()?;
        (service["circuit"]["state"] == "open").then_some(service)
    })
    .await;
    // then by evidence, and on both
    assert_eq!(pulled["circuit"]["cause"], "evidence");
    is(&fleet.other, "/circuit/cause", &json!("evidence")).await;
    assert_eq!(on_canary(&fleet.other).await, 0);
}
