//! Weights, trips and resets.

use super::*;
use crate::model::circuit::{Cause, CircuitState, Trip};
use crate::model::time::Timestamp;
use crate::model::weight::Weight;

#[tokio::test]
async fn a_weight_is_in_force_when_the_answer_comes() {
    let world = World::operated().await;
    let answer = world.put(WEIGHT, r#"{"percent":12.5,"reason":"first users"}"#).await;
    let service = answer.ok();
    assert_eq!(service["weight"], serde_json::json!({"asked": 12.5, "effective": 12.5}));
    assert_eq!(answer.header("etag"), "\"1\"");
    assert!(service["note"].is_null(), "{service}");
    let snapshot = world.live.snapshot();
    assert_eq!(snapshot.service("checkbox").expect("it is configured").asked.percent(), 12.5);
    // and the same again changes nothing
    assert_eq!(world.put(WEIGHT, r#"{"percent":12.5}"#).await.header("etag"), "\"1\"");
}

#[tokio::test]
async fn a_weight_that_makes_no_sense_is_refused_with_the_reason() {
    let world = World::operated().await;
    for (body, status, says) in [
        (r#"{"percent":-1}"#, 422, "out of range"),
        (r#"{"percent":100.01}"#, 422, "out of range"),
        (r#"{"percent":0.001}"#, 422, "too fine"),
        (r#"{"percent":"10x"}"#, 400, "a number from 0 to 100"),
        (r#"{"percent":"10"}"#, 400, "without quotes"),
        (r#"{"percent":NaN}"#, 400, "line 1 column"),
        (r#"{"percent":1e999}"#, 400, "out of range"),
        (r#"{"percent":null}"#, 400, "a number from 0 to 100"),
        (r#"{"percent":10"#, 400, "line 1 column"),
        (r#"{"percent":10} {}"#, 400, "trailing"),
        (r#"{"percent":10,"percent":20}"#, 400, "duplicate"),
        (r#"{"weight":10}"#, 400, "expected `percent` or `reason`"),
        (r#"{"percent":10,"reason":"a\nBcc: x"}"#, 400, "one line"),
        ("[10", 400, "in the body"),
        ("", 400, "missing field `percent`"),
    ] {
        world.put(WEIGHT, body).await.problem(status, says);
    }
    assert_eq!(world.store.held("checkbox").revision, 0, "a refused weight was stored");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let world = World::operated().await;
    let long = format!(r#"{{"percent":10,"reason":"{}"}}"#, "x".repeat(65 * 1024));
    world.put(WEIGHT, &long).await.problem(413, "65536 bytes");
}

#[tokio::test]
async fn a_change_meant_for_another_revision_is_refused() {
    let world = World::operated().await;
    let json = ("content-type", "application/json");
    world.put(WEIGHT, r#"{"percent":5}"#).await.ok();
    let stale = world.ask(Method::PUT, WEIGHT, &[json, ("if-match", "\"0\"")], r#"{"percent":50}"#).await;
    stale.problem(412, "revision 1, not 0");
    let nonsense = world.ask(Method::PUT, WEIGHT, &[json, ("if-match", "one")], r#"{"percent":50}"#).await;
    nonsense.problem(400, "ETag");
    let right = world.ask(Method::PUT, WEIGHT, &[json, ("if-match", "\"1\"")], r#"{"percent":50}"#).await;
    assert_eq!(right.ok()["weight"]["asked"], 50.0);
}

#[tokio::test]
async fn without_a_canary_there_is_no_weight_and_no_trip() {
    let world = World::operated().await;
    world.put("/v1/services/plain/canary/weight", r#"{"percent":5}"#).await.problem(409, "plain has no canary");
    world.post("/v1/services/plain/circuit/trip", "{}").await.problem(409, "[service.plain.split]");
}

#[tokio::test]
async fn a_trip_stops_the_canary_before_anything_else_is_told() {
    // given a canary with traffic
    let world = World::operated().await;
    world.put(WEIGHT, r#"{"percent":50}"#).await.ok();
    // when a person trips the circuit
    let service = world.post(TRIP, r#"{"reason":"users complain"}"#).await.ok();
    // then this process sends it nothing, and control was rung to tell the store
    assert_eq!(service["weight"], serde_json::json!({"asked": 50.0, "effective": 0.0}));
    assert_eq!(service["circuit"]["state"], "open");
    assert_eq!(service["circuit"]["cause"], "person");
    assert_eq!(service["circuit"]["reason"], "users complain");
    assert_eq!(service["circuit"]["weight_before"], 50.0);
    assert!(service["circuit"]["by"].as_str().expect("a name").starts_with("uid-"));
    assert!(service["circuit"]["since"].as_str().expect("a time").contains('T'));
    assert!(world.live.service("checkbox").is_open());
    world.live.latched.notified().await;
    // and a second trip leaves the first cause
    let again = world.post(TRIP, r#"{"reason":"another"}"#).await.ok();
    assert_eq!(again["circuit"]["reason"], "users complain");
    assert!(again["note"].as_str().expect("a note").contains("open already"));
}

#[tokio::test]
async fn a_trip_is_stored_before_the_answer_or_the_answer_says_that_it_is_not() {
    // given no control that would tell the store
    let world = World::with(Setup { unix: true, without_control: true, ..Setup::default() }).await;
    let tripped = world.post(TRIP, r#"{"reason":"users complain"}"#).await.ok();
    assert!(tripped.get("note").is_none_or(Value::is_null), "{tripped}");
    assert_eq!(tripped["revision"], world.store.held("checkbox").revision);
    assert_eq!(world.store.held("checkbox").circuit, world.live.service("checkbox").circuit());
    // and a store that never answers
    let world = World::with(Setup { unix: true, without_control: true, ..Setup::default() }).await;
    world.store.hangs.store(true, Ordering::SeqCst);
    let (tripping, latching) =
        (world.post(TRIP, ""), eventually("it is latched", || world.live.service("checkbox").is_open()));
    let (tripped, ()) = tokio::join!(tripping, latching);
    let note = tripped.ok()["note"].as_str().expect("a note").to_owned();
    assert!(note.contains("sends the canary nothing; the store doesn't know yet"), "{note}");
    // said again once the store answers, it is stored
    world.store.hangs.store(false, Ordering::SeqCst);
    let again = world.post(TRIP, "").await.ok();
    assert!(again["note"].as_str().expect("a note").contains("open already"), "{again}");
    assert!(world.store.held("checkbox").circuit.is_open());
}

#[tokio::test]
async fn with_the_store_gone_a_trip_works_and_the_rest_is_refused() {
    let world = World::operated().await;
    world.store.gone.store(true, Ordering::SeqCst);
    world.live.set_store_health(StoreHealth::default());
    world
        .put(WEIGHT, r#"{"percent":5}"#)
        .await
        .problem(503, "weight changes are refused while the store is unreachable");
    world.delete(&format!("{STABLE}/127.0.0.1:3001")).await.problem(503, "endpoint changes are refused");
    let tripped = world.post(TRIP, "").await.ok();
    assert_eq!(tripped["circuit"]["state"], "open");
    assert!(tripped["note"].as_str().expect("a note").contains("the store doesn't know yet"), "{tripped}");
    world.post(RESET, r#"{"reason":"fixed"}"#).await.problem(503, "resets are refused");
    assert!(world.live.service("checkbox").is_open(), "a refused reset closed the circuit");
}

#[tokio::test]
async fn a_reset_closes_a_circuit_that_the_store_never_heard_of() {
    // given a trip that only this process knows
    let world = World::operated().await;
    world.put(WEIGHT, r#"{"percent":50}"#).await.ok();
    world.store.gone.store(true, Ordering::SeqCst);
    world.post(TRIP, r#"{"reason":"no"}"#).await.ok();
    world.store.gone.store(false, Ordering::SeqCst);
    assert!(!world.store.held("checkbox").circuit.is_open());
    // when a person resets it
    let service = world.post(RESET, r#"{"reason":"fixed in 1.4.2"}"#).await.ok();
    // then it is closed here and in the store, where the record names the trip, and the weight is back
    assert_eq!(service["circuit"]["state"], "closed");
    assert_eq!(service["weight"]["effective"], 50.0);
    let circuit = world.store.held("checkbox").circuit;
    assert_eq!(circuit.state, CircuitState::Closed);
    assert_eq!(circuit.reset.expect("a record").reason, "fixed in 1.4.2");
    assert!(!world.live.service("checkbox").is_open());
}

#[tokio::test(start_paused = true)]
async fn a_reset_of_a_trip_that_is_not_known_here_yet_is_a_reset_all_the_same() {
    // given a trip that another proxy brought into the store, and control here has yet to read
    let world = World::with(Setup { unix: true, without_control: true, ..Setup::default() }).await;
    let (at, by) = (Timestamp::from_millis(1), "another proxy".to_owned());
    let (cause, reason) = (Cause::Evidence, "it is worse".to_owned());
    let trip = Trip { cause, reason, by, at, weight_before: Weight::FULL, evidence: None };
    world.store.apply("checkbox", &Change::Trip { episode: None, trip }, None).await.expect("stored");
    // when a person resets it
    let service = world.post(RESET, r#"{"reason":"fixed"}"#).await.ok();
    // then it is closed, nobody is told that it was so before, and the log says who did it
    assert_eq!(world.store.held("checkbox").circuit.state, CircuitState::Closed);
    assert_ne!(service["note"], "it was closed already");
    let audit = world.get("/v1/audit").await.ok();
    assert_eq!((&audit["entries"][0]["what"], &audit["entries"][0]["why"]), (&"reset".into(), &"fixed".into()));
    // and the next one finds nothing to close
    assert_eq!(world.post(RESET, r#"{"reason":"again"}"#).await.ok()["note"], "it was closed already");
    assert_eq!(world.get("/v1/audit").await.ok()["entries"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_reset_closes_here_without_waiting_for_control() {
    let world = World::with(Setup { unix: true, without_control: true, ..Setup::default() }).await;
    world.post(TRIP, "{}").await.ok();
    assert_eq!(world.post(RESET, r#"{"reason":"fixed"}"#).await.ok()["circuit"]["state"], "closed");
    assert!(!world.live.service("checkbox").is_open());
}

#[tokio::test]
async fn a_reset_needs_a_reason_and_keeps_to_its_revision() {
    let world = World::operated().await;
    world.post(RESET, "{}").await.problem(422, "needs a reason");
    world.post(RESET, r#"{"reason":"  "}"#).await.problem(422, "needs a reason");
    world.post(TRIP, "{}").await.ok();
    let headers = [("content-type", "application/json"), ("if-match", "\"9\"")];
    world.ask(Method::POST, RESET, &headers, r#"{"reason":"x"}"#).await.problem(412, "not 9");
    assert!(world.live.service("checkbox").is_open());
    let headers = [("content-type", "application/json"), ("if-match", "\"1\"")];
    world.ask(Method::POST, RESET, &headers, r#"{"reason":"x"}"#).await.ok();
    let again = world.post(RESET, r#"{"reason":"x"}"#).await.ok();
    assert!(again["note"].as_str().expect("a note").contains("closed already"));
}

#[tokio::test]
async fn a_weight_set_while_the_circuit_is_open_says_that_it_waits() {
    let world = World::operated().await;
    world.post(TRIP, "{}").await.ok();
    world
        .store
        .apply("checkbox", &Change::MergeCircuit { circuit: world.live.service("checkbox").circuit() }, None)
        .await
        .expect("the store is there");
    let service = world.put(WEIGHT, r#"{"percent":5}"#).await.ok();
    assert!(service["note"].as_str().expect("a note").contains("circuit is open"));
    assert_eq!(service["weight"], serde_json::json!({"asked": 5.0, "effective": 0.0}));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_control_is_slow_to_take_in_says_so() {
    let world = World::with(Setup { unix: true, without_control: true, ..Setup::default() }).await;
    let answer = world.put(WEIGHT, r#"{"percent":5}"#).await;
    assert!(answer.ok()["note"].as_str().expect("a note").contains("hasn't taken it in"));
    assert_eq!(answer.header("etag"), "\"1\"");
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_and_no_refusal_is() {
    let world = World::operated().await;
    world.put(WEIGHT, r#"{"percent":10,"reason":"first users"}"#).await.ok();
    world.put(WEIGHT, r#"{"percent":101}"#).await.problem(422, "out of range");
    world.post(TRIP, r#"{"reason":"no"}"#).await.ok();
    world.post(RESET, r#"{"reason":"fixed"}"#).await.ok();
    world.put(&format!("{CANARY}/10.0.0.9:80"), r#"{"version":"1.5"}"#).await.ok();
    world.post(&format!("{CANARY}/10.0.0.9:80/drain"), "{}").await.ok();
    world.post(&format!("{CANARY}/10.0.0.9:80/ready"), "{}").await.ok();
    world.delete(&format!("{CANARY}/10.0.0.9:80")).await.ok();
    let audit = world.get("/v1/audit").await.ok();
    let entries = audit["entries"].as_array().expect("entries");
    let told: Vec<_> = entries.iter().rev().map(|entry| entry["what"].as_str().expect("a word")).collect();
    let all = ["weight", "trip", "reset", "endpoint.put", "endpoint.drain", "endpoint.ready", "endpoint.remove"];
    assert_eq!(told, all);
    let weight = &entries[all.len() - 1];
    assert_eq!((weight["from"].as_str(), weight["to"].as_str()), (Some("0"), Some("10")));
    assert_eq!(weight["why"], "first users");
    assert_eq!(entries[0]["endpoint"], "canary/10.0.0.9:80");
    assert!(weight["who"].as_str().expect("a name").starts_with("uid-"));
}
