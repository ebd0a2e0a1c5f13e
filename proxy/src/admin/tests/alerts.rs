//! Alertmanager's webhook.

use super::*;

const ALERTS: &str = "/v1/alerts";

fn firing(service: &str) -> String {
    let labels = format!(r#"{{"alertname":"Burn\u000aRate","service":"{service}"}}"#);
    let alert =
        format!(r#"{{"status":"firing","labels":{labels},"annotations":{{"summary":"errors"}},"startsAt":"x"}}"#);
    format!(r#"{{"version":"4","receiver":"serin","alerts":[{alert}]}}"#)
}

#[tokio::test]
async fn a_firing_alert_trips_its_service_and_names_what_it_cannot() {
    let world = World::operated().await;
    world.put(WEIGHT, r#"{"percent":50}"#).await.ok();
    let told = world.post(ALERTS, &firing("checkbox")).await.ok();
    assert_eq!(told["tripped"], serde_json::json!(["checkbox"]));
    assert_eq!(told["unstored"], serde_json::json!([]));
    assert!(world.store.held("checkbox").circuit.is_open(), "it is answered before it is stored");
    let service = world.get(SERVICE).await.ok();
    assert_eq!(service["circuit"]["cause"], "alert");
    assert_eq!(service["circuit"]["reason"], "Burn Rate: errors");
    assert_eq!(service["weight"]["effective"], 0.0);
    // again, and for what isn't there
    assert_eq!(world.post(ALERTS, &firing("checkbox")).await.ok()["open"], serde_json::json!(["checkbox"]));
    world.store.gone.store(true, Ordering::SeqCst);
    assert_eq!(world.post(ALERTS, &firing("checkbox")).await.ok()["unstored"], serde_json::json!(["checkbox"]));
    assert_eq!(world.post(ALERTS, &firing("chekbox")).await.ok()["unknown"], serde_json::json!(["chekbox"]));
    assert_eq!(world.post(ALERTS, &firing("plain")).await.ok()["without_canary"], serde_json::json!(["plain"]));
    world.post(ALERTS, r#"{"version":"3","alerts":[]}"#).await.problem(422, "version 4");
}

#[tokio::test]
async fn many_alerts_at_once_trip_as_well_as_one() {
    // given an outage in which the service's alert comes behind a thousand others
    let world = World::operated().await;
    let other = json!({ "status": "firing", "labels": { "alertname": "Down", "instance": "x".repeat(400) },
        "annotations": { "description": "y".repeat(250) } });
    let mut alerts = vec![other; 1_000];
    alerts.push(json!({ "status": "firing", "labels": { "alertname": "Burn", "service": "checkbox" } }));
    let webhook = json!({ "version": "4", "alerts": alerts }).to_string();
    assert!(webhook.len() > 700_000);
    // when all of them come in one message
    let told = world.post(ALERTS, &webhook).await.ok();
    // then it is heard to its end
    assert_eq!((&told["tripped"], &told["unlabelled"]), (&json!(["checkbox"]), &json!(1_000)));
    // and what is beyond any reason is still refused
    world.post(ALERTS, &" ".repeat(1_100_000)).await.problem(413, "1048576 bytes");
}

#[tokio::test]
async fn a_resolved_alert_or_one_without_a_service_does_nothing() {
    let world = World::operated().await;
    let resolved = firing("checkbox").replace("firing", "resolved");
    assert_eq!(world.post(ALERTS, &resolved).await.ok()["resolved"], 1);
    let unlabelled = r#"{"version":"4","alerts":[{"status":"firing"}]}"#;
    assert_eq!(world.post(ALERTS, unlabelled).await.ok()["unlabelled"], 1);
    assert!(!world.live.service("checkbox").is_open());
}
