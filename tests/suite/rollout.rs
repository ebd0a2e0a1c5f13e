//! Rollouts through real daemons: steps, gates, ends, and several proxies that act as one.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::crowd::Crowd;
use serin_tests::eventually::eventually;
use serin_tests::redis::Redis;
use serin_tests::scene::{self, CANARY, SERVICE, config};
use serin_tests::serin::Serin;
use serin_tests::standin::Checkbox;

/// By when a rollout of a few seconds must be where it goes. A busy machine may take long.
const SOON: Duration = Duration::from_secs(30);
const LISTING: &str = "/api/study/listing";
const ROLLOUT: &str = "/v1/services/checkbox/rollout";

struct Stage {
    serin: Serin,
    stable: Checkbox,
    canary: Checkbox,
}

impl Stage {
    async fn start(more: &str) -> Self {
        let (stable, canary) = (scene::stable().await.unwrap(), scene::canary().await.unwrap());
        let serin = Serin::start(&config(&[&stable], &[&canary], more)).await.unwrap();
        Self { serin, stable, canary }
    }

    async fn on_canary(&self) -> usize {
        on_canary(&self.serin).await
    }

    /// Says which version an endpoint runs.
    async fn register(&self, pool: &str, of: &Checkbox, version: &str) {
        let address = of.address();
        let path = format!("/v1/services/{SERVICE}/pools/{pool}/endpoints/{address}");
        let reply = self.serin.operator().put_json(&path, &json!({ "version": version })).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

/// The answer to a verb on the rollout of the service; none of them begins one.
pub(crate) async fn post(serin: &Serin, verb: &str, body: &Value) -> (u16, Value) {
    let reply = serin.operator().post_json(&format!("{ROLLOUT}{verb}"), body).await.unwrap();
    (reply.status, reply.json().unwrap())
}

/// Begins a rollout of version 1.5.
pub(crate) async fn start(serin: &Serin, steps: &[&str]) -> Value {
    let (status, rollout) = post(serin, "", &json!({ "version": "1.5", "steps": steps })).await;
    assert_eq!(status, 200, "{rollout}");
    rollout
}

async fn rollout(serin: &Serin) -> Option<Value> {
    let reply = serin.ask(ROLLOUT).await.ok()?;
    (reply.status == 200).then(|| reply.json().ok())?
}

/// The rollout, once this is so.
pub(crate) async fn until(serin: &Serin, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually(SOON, what, async || rollout(serin).await.filter(|rollout| is_so(rollout))).await
}

/// The rollout, once it is in this phase.
pub(crate) async fn until_phase(serin: &Serin, phase: &str) -> Value {
    until(serin, &format!("the rollout is {phase}"), |rollout| rollout["phase"] == phase).await
}

/// How many of a hundred new users meet the canary.
pub(crate) async fn on_canary(serin: &Serin) -> usize {
    let met = Crowd::of(100).ask(serin.http(), &[LISTING]).await.unwrap();
    met.iter().filter(|version| *version == CANARY).count()
}

fn moves(serin: &Serin) -> usize {
    serin.logs().matches("Rollout moved").count()
}

#[tokio::test]
async fn steps_go_up_by_time_and_end_in_a_promotion() {
    let stage = Stage::start("").await;
    start(&stage.serin, &["30%:1s:time", "60%:1s:time"]).await;
    until(&stage.serin, "the first step", |rollout| rollout["step"] == 1).await;
    assert!((10..60).contains(&stage.on_canary().await));
    let waited = stage.serin.command(&["rollout", "status", SERVICE, "--wait", "--timeout", "30s"]).await.unwrap();
    let said = String::from_utf8_lossy(&waited.stdout).into_owned();
    assert_eq!(waited.status.code(), Some(0), "{said}");
    assert!(said.contains("1.5 promoted, step 2 of 2"), "{said}");
    // the canary keeps its users, and says what is awaited
    let rollout =
        until(&stage.serin, "what is awaited", |rollout| rollout["why"].to_string().contains("register")).await;
    assert_eq!(rollout["finished"], false);
    assert!(stage.on_canary().await > 30);
    // until every stable endpoint carries the version
    stage.register("stable", &stage.stable, "1.5").await;
    until(&stage.serin, "it is finished", |rollout| rollout["finished"] == true).await;
    assert_eq!(stage.on_canary().await, 0);
    assert_eq!(until_phase(&stage.serin, "promoted").await["weight"], 0.0);
}

#[tokio::test]
async fn what_stands_against_a_start_is_said() {
    let stage = Stage::start("[service.checkbox.rollout]\nmax_weight = 50\n").await;
    for (body, status, says) in [
        (json!({ "version": "1.5\n", "steps": ["10%:1s"] }), 422, "one line"),
        (json!({ "version": "x".repeat(200) }), 422, "128 characters"),
        (json!({ "version": "1.5", "steps": ["60%:1s"] }), 422, "max_weight"),
        (json!({ "version": "1.5", "steps": ["20%:1s", "10%:1s"] }), 422, "falls"),
        (json!({ "version": "1.5", "steps": ["20%"] }), 422, "WEIGHT:HOLD"),
        (json!({ "steps": ["20%:1s"] }), 400, "version"),
    ] {
        let (got, problem) = post(&stage.serin, "", &body).await;
        assert_eq!(got, status, "{problem}");
        assert!(problem["detail"].to_string().contains(says), "{problem}");
    }
    let (none, problem) = post(&stage.serin, "/pause", &json!({})).await;
    assert_eq!(none, 404, "{problem}");
    // an open circuit
    stage.serin.trip(SERVICE, "it smells").await.unwrap();
    let (open, problem) = post(&stage.serin, "", &json!({ "version": "1.5" })).await;
    assert!(open == 409 && problem["detail"].to_string().contains("serin reset"), "{problem}");
    stage.serin.reset(SERVICE, "aired").await.unwrap();
    // another rollout, and a weight by hand beside it
    let first = start(&stage.serin, &["10%:1h"]).await;
    let (second, problem) = post(&stage.serin, "", &json!({ "version": "1.6" })).await;
    assert!(second == 409 && problem["detail"].to_string().contains("begun by suite"), "{problem}");
    let same = json!({ "version": "1.5", "steps": ["10%:1h"], "id": first["id"] });
    assert_eq!(post(&stage.serin, "", &same).await.0, 200);
    let refused = stage.serin.set_weight(SERVICE, 20.0).await.unwrap_err().to_string();
    assert!(refused.contains("409") && refused.contains("rollout pause"), "{refused}");
}

#[tokio::test]
async fn a_person_pauses_resumes_promotes_and_swaps() {
    let stage = Stage::start("").await;
    start(&stage.serin, &["30%:1h", "60%:0s:manual"]).await;
    until(&stage.serin, "the first step", |rollout| rollout["step"] == 1).await;
    assert_eq!(post(&stage.serin, "/pause", &json!({ "reason": "lunch" })).await.1["phase"], "paused");
    assert!(stage.on_canary().await > 5);
    assert_eq!(post(&stage.serin, "/resume", &json!({})).await.1["phase"], "progressing");
    assert_eq!(post(&stage.serin, "/promote", &json!({})).await.1["phase"], "promoted");
    // one canary for one stable can carry all
    let (swapped, rollout) = post(&stage.serin, "/promote", &json!({ "swap": true })).await;
    assert_eq!((swapped, &rollout["finished"]), (200, &json!(true)), "{rollout}");
    assert_eq!(stage.on_canary().await, 100, "the canary's endpoint isn't stable now");
    let service = stage.serin.service(SERVICE).await.unwrap();
    let id = |pool: &str| service["pools"][pool]["endpoints"][0]["id"].clone();
    assert_eq!(id("stable"), stage.canary.address().to_string());
    assert_eq!(id("canary"), stage.stable.address().to_string());
}

#[tokio::test]
async fn a_canary_that_cannot_carry_all_is_not_swapped() {
    let stage = Stage::start("").await;
    let second = scene::stable().await.unwrap();
    stage.register("stable", &second, "1.4").await;
    start(&stage.serin, &["30%:1h"]).await;
    until(&stage.serin, "the first step", |rollout| rollout["step"] == 1).await;
    let (status, problem) = post(&stage.serin, "/promote", &json!({ "swap": true })).await;
    assert!(status == 409 && problem["detail"].to_string().contains("can't carry"), "{problem}");
}

#[tokio::test]
async fn the_first_step_waits_for_the_version() {
    let stage = Stage::start("").await;
    stage.register("canary", &stage.canary, "1.4").await;
    start(&stage.serin, &["30%:1h"]).await;
    let waits = until(&stage.serin, "it says why", |rollout| rollout["why"].to_string().contains("carries 1.4")).await;
    assert_eq!((&waits["phase"], &waits["step"]), (&json!("pending"), &json!(0)));
    assert_eq!(stage.on_canary().await, 0);
    stage.register("canary", &stage.canary, "1.5").await;
    until_phase(&stage.serin, "progressing").await;
}

#[tokio::test]
async fn a_rollout_that_nobody_drives_or_decides_is_aborted() {
    let stage = Stage::start("").await;
    let ends: [(&str, &str); 2] = [("lease", "its lease ended"), ("deadline", "deadline of 2s")];
    for (limit, says) in ends {
        let body = json!({ "version": "1.5", "steps": ["30%:1h"], limit: "2s" });
        assert_eq!(post(&stage.serin, "", &body).await.0, 200);
        let aborted = until_phase(&stage.serin, "aborted").await;
        assert!(aborted["why"].to_string().contains(says), "{aborted}");
        assert_eq!(stage.on_canary().await, 0);
    }
    // whoever waits for it keeps it alive
    let body = json!({ "version": "1.5", "steps": ["30%:5s:time"], "lease": "2s" });
    assert_eq!(post(&stage.serin, "", &body).await.0, 200);
    let waited = stage.serin.command(&["rollout", "status", SERVICE, "--wait", "--timeout", "30s"]).await.unwrap();
    assert_eq!(waited.status.code(), Some(0), "{}", String::from_utf8_lossy(&waited.stdout));
}

#[tokio::test]
async fn a_canary_that_breaks_during_a_rollout_is_pulled_and_the_pipeline_fails() {
    let stage = Stage::start("").await;
    start(&stage.serin, &["50%:1h"]).await;
    until(&stage.serin, "the first step", |rollout| rollout["step"] == 1).await;
    stage.canary.fault(json!({ "error_rate": 1 })).await.unwrap();
    let waits = tokio::time::timeout(SOON, async {
        let words = ["rollout", "status", SERVICE, "--wait"];
        let mut crowd = Crowd::of(200);
        tokio::join!(stage.serin.command(&words), crowd.ask(stage.serin.http(), &[LISTING])).0
    });
    let waited = waits.await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&waited.stdout).into_owned();
    assert_eq!(waited.status.code(), Some(3), "{said}");
    assert!(said.contains("pulled"), "{said}");
    // and a reset alone gives the canary nothing back
    stage.serin.reset(SERVICE, "found it").await.unwrap();
    assert_eq!(stage.on_canary().await, 0);
}

#[tokio::test]
async fn two_proxies_move_a_rollout_as_one_and_one_goes_on_when_the_leader_dies() {
    let redis = Redis::start().await.unwrap();
    let (stable, canary) = (scene::stable().await.unwrap(), scene::canary().await.unwrap());
    let text = config(&[&stable], &[&canary], &scene::store(&redis.url()));
    let (one, other) = (Serin::start(&text).await.unwrap(), Serin::start(&text).await.unwrap());
    // each step is taken once, whoever leads
    start(&one, &["10%:1s:time", "20%:1s:time", "30%:1s:time"]).await;
    until_phase(&other, "promoted").await;
    let all = "three steps and a promotion";
    eventually(SOON, all, async || (moves(&one) + moves(&other) >= 4).then_some(())).await;
    assert_eq!(moves(&one) + moves(&other), 4, "{all}");
    one.set_weight(SERVICE, 0.0).await.unwrap();
    until(&one, "it is over", |rollout| rollout["finished"] == true).await;
    // and the other goes on when the leader is killed in the middle
    let (before_one, before_other) = (moves(&one), moves(&other));
    start(&one, &["10%:1s:time", "20%:1s:time", "30%:1s:time", "40%:1s:time"]).await;
    eventually(SOON, "somebody leads", async || {
        (moves(&one) > before_one || moves(&other) > before_other).then_some(())
    })
    .await;
    let (leader, left) = if moves(&one) > before_one { (&one, &other) } else { (&other, &one) };
    leader.kill().await.unwrap();
    until_phase(left, "promoted").await;
}

#[tokio::test]
async fn an_abort_works_with_the_store_gone_and_stands_when_it_is_back() {
    let mut redis = Redis::start_with(&["--appendonly", "yes"]).await.unwrap();
    let (stable, canary) = (scene::stable().await.unwrap(), scene::canary().await.unwrap());
    let text = config(&[&stable], &[&canary], &scene::store(&redis.url()));
    let mut serin = Serin::start(&text).await.unwrap();
    start(&serin, &["50%:1h"]).await;
    until(&serin, "the first step", |rollout| rollout["step"] == 1).await;
    redis.stop().await.unwrap();
    let (status, rollout) = post(&serin, "/abort", &json!({ "reason": "it smells" })).await;
    assert_eq!(status, 200, "{rollout}");
    assert!(rollout["note"].to_string().contains("store is unreachable"), "{rollout}");
    assert_eq!(on_canary(&serin).await, 0);
    // not even a crash before the store is back undoes it
    eventually(SOON, "the abort is on disk", async || serin.has_on_disk("it smells").then_some(())).await;
    serin.kill().await.unwrap();
    redis.restart().await.unwrap();
    serin.start_again().await.unwrap();
    assert_eq!(until_phase(&serin, "aborted").await["weight"], 0.0);
    assert_eq!(on_canary(&serin).await, 0);
}

#[tokio::test]
async fn a_weight_straight_into_redis_pauses_the_rollout_and_zero_ends_it() {
    let redis = Redis::start().await.unwrap();
    let (stable, canary) = (scene::stable().await.unwrap(), scene::canary().await.unwrap());
    let serin = Serin::start(&config(&[&stable], &[&canary], &scene::store(&redis.url()))).await.unwrap();
    start(&serin, &["10%:1h"]).await;
    until(&serin, "the first step", |rollout| rollout["step"] == 1).await;
    let key = "serin:{test}:service:checkbox";
    redis.command::<i64>(&["HSET", key, "weight", "25"]).await.unwrap();
    let paused = until_phase(&serin, "paused").await;
    assert!(paused["why"].to_string().contains("25 %"), "{paused}");
    redis.command::<i64>(&["HSET", key, "weight", "0"]).await.unwrap();
    until_phase(&serin, "aborted").await;
}
