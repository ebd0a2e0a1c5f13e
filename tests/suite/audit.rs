//! Who changed what is known to every proxy, whichever of them was told, and each change once.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::eventually::eventually;
use serin_tests::redis::Redis;
use serin_tests::scene::{self, PROBED, SERVICE, config};
use serin_tests::serin::Serin;

const SOON: Duration = Duration::from_secs(20);

/// The entries that a proxy shows, the first one first.
async fn entries(serin: &Serin) -> Vec<Value> {
    let log = serin.ask("/v1/audit").await.unwrap().json().unwrap();
    log["entries"].as_array().unwrap().iter().rev().cloned().collect()
}

/// Waits until a proxy shows that exactly this was done.
async fn shows(serin: &Serin, expected: &[&str]) {
    eventually(SOON, "the log is complete", async || {
        let entries = entries(serin).await;
        entries.iter().map(|entry| entry["what"].as_str().unwrap()).eq(expected.iter().copied()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_change_is_in_the_log_of_all_proxies_once_whoever_made_it() {
    // given two proxies on one store, and a canary that gets traffic
    let redis = Redis::start().await.unwrap();
    let (stable, canary) = (scene::stable().await.unwrap(), scene::canary().await.unwrap());
    let more = scene::weight(50.0) + PROBED + &scene::store(&redis.url());
    let config = config(&[&stable], &[&canary], &more);
    let (one, other) = (Serin::start(&config).await.unwrap(), Serin::start(&config).await.unwrap());
    // when people change this and that through both of them
    one.set_weight(SERVICE, 80.0).await.unwrap();
    let flag = json!({ "state": "ENABLED", "variants": { "on": true, "off": false }, "defaultVariant": "off" });
    let put = other.operator().put_json("/v1/flags/new-editor?reason=first", &flag).await.unwrap();
    assert_eq!(put.status, 200, "{}", put.text());
    shows(&one, &["weight", "flag.put"]).await;
    // when the canary dies, which both of them see: who hears of it only after the reset has nothing to close, or
    // pulls the canary anew
    canary.kill().await.unwrap();
    for serin in [&one, &other] {
        eventually(SOON, "the canary is down, and the circuit open", async || {
            let service = serin.service(SERVICE).await.ok()?;
            let is_down = service["pools"]["canary"]["endpoints"][0]["state"] == "down";
            (is_down && service["circuit"]["state"] == "open").then_some(())
        })
        .await;
    }
    let tripped = ["weight", "flag.put", "trip"];
    shows(&one, &tripped).await;
    shows(&other, &tripped).await;
    // when a person closes the circuit
    other.reset(SERVICE, "it is known").await.unwrap();
    shows(&one, &["weight", "flag.put", "trip", "reset"]).await;
    // then all of it says who, of what, and why
    let entries = entries(&one).await;
    let told = |nth: usize, fields: [&str; 3]| fields.map(|field| entries[nth][field].clone());
    assert_eq!(told(0, ["who", "service", "to"]), [json!("suite"), json!(SERVICE), json!("80")]);
    assert_eq!(told(1, ["who", "flag", "why"]), [json!("suite"), json!("new-editor"), json!("first")]);
    assert_eq!(entries[2]["who"], entries[2]["proxy"], "nobody asked for it: {}", entries[2]);
    assert_eq!(told(3, ["from", "to", "why"]), [json!("open"), json!("closed"), json!("it is known")]);
}

#[tokio::test]
async fn a_trip_by_a_person_is_one_entry() {
    let (stable, canary) = (scene::stable().await.unwrap(), scene::canary().await.unwrap());
    let serin = Serin::start(&config(&[&stable], &[&canary], &scene::weight(50.0))).await.unwrap();
    serin.trip(SERVICE, "users report lost answers").await.unwrap();
    // what control does about the trip is done once the reset is through
    serin.reset(SERVICE, "fixed").await.unwrap();
    shows(&serin, &["trip", "reset"]).await;
    assert_eq!(entries(&serin).await[0]["who"], "suite");
}
