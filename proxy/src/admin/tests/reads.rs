//! What can be read: probes, services, the page, the description.

use std::time::Duration;

use super::super::router::routes;
use super::*;
use crate::live::VerdictStatus;
use crate::model::circuit::{ArmEvidence, Evidence, SignalEvidence};
use crate::model::outcome::PerSignal;
use crate::model::split::PerArm;
use crate::model::verdict::{Expected, Outlook};

#[tokio::test]
async fn a_service_reads_as_the_contract_says() {
    let world = World::new().await;
    let evidence = Evidence {
        e: 1.8,
        threshold: 1_000.0,
        arms: PerArm { stable: ArmEvidence { units: 9_012, bad: 5 }, canary: ArmEvidence { units: 1_003, bad: 2 } },
        signals: PerSignal {
            errors: Some(SignalEvidence {
                e: 2.25,
                threshold: 1_250.0,
                tolerance: 1.0,
                bad: PerArm { stable: 4, canary: 2 },
            }),
            slow: Some(SignalEvidence { bad: PerArm { stable: 1, canary: 0 }, ..SignalEvidence::default() }),
            ..PerSignal::default()
        },
        ..Evidence::default()
    };
    let pass = Outlook { canary_units: 420, time: Some(Duration::from_secs(420)) };
    let status = VerdictStatus {
        why: "not enough evidence".into(),
        evidence,
        expected: Expected { pull: None, pass: Some(pass) },
        ..VerdictStatus::default()
    };
    world.live.service("checkbox").set_verdict(status);
    let answer = world.get(SERVICE).await;
    assert_eq!(answer.header("etag"), "\"0\"");
    let service = answer.ok();
    assert_eq!(service["name"], "checkbox");
    assert_eq!(service["weight"], serde_json::json!({"asked": 0.0, "effective": 0.0}));
    assert_eq!(service["circuit"]["state"], "closed");
    assert!(service["circuit"]["cause"].is_null() && service["circuit"]["since"].is_null());
    assert_eq!(service["verdict"]["decision"], "hold");
    assert_eq!(service["verdict"]["why"], "not enough evidence");
    let errors = &service["verdict"]["signals"]["errors"];
    assert_eq!((&service["verdict"]["e"], &service["verdict"]["threshold"]), (&1.8.into(), &1_000.0.into()));
    assert_eq!(errors["e"], 2.25);
    assert_eq!(errors["threshold"], 1_250.0);
    assert_eq!(service["verdict"]["signals"]["slow"]["stable"]["bad"], 1);
    assert!(service["verdict"]["signals"]["client_errors"].is_null(), "it doesn't count");
    assert_eq!(service["verdict"]["pass"]["threshold"], 20.0);
    assert_eq!(
        service["verdict"]["expected"],
        serde_json::json!({"pull": null, "pass": {"canary_units": 420, "seconds": 420.0}})
    );
    assert_eq!(errors["stable"], serde_json::json!({"units": 9_012, "bad": 4}));
    assert_eq!(errors["canary"], serde_json::json!({"units": 1_003, "bad": 2}));
    let endpoint = &service["pools"]["stable"]["endpoints"][0];
    assert_eq!(endpoint["id"], "127.0.0.1:3001");
    assert_eq!(endpoint["address"], "127.0.0.1:3001");
    assert_eq!(endpoint["state"], "ready");
    assert_eq!(endpoint["in_flight"], 0);
    assert_eq!(service["store"]["reachable"], true);
    let all = world.get("/v1/services").await.ok();
    assert_eq!(all["services"][0]["name"], "checkbox");
    assert_eq!(all["services"][1]["has_canary"], false);
}

#[tokio::test]
async fn evidence_beyond_any_number_is_still_a_number() {
    let world = World::new().await;
    let evidence = Evidence { e: f64::INFINITY, ..Evidence::default() };
    world.live.service("checkbox").set_verdict(VerdictStatus { evidence, ..VerdictStatus::default() });
    let verdict = &world.get(SERVICE).await.ok()["verdict"];
    assert_eq!(verdict["e"].as_f64(), Some(f64::MAX));
    assert_eq!(verdict["threshold"], 1_000.0, "the threshold is known before the verdict has spoken");
}

#[tokio::test]
async fn readiness_ends_with_draining_and_not_with_the_store() {
    let world = World::new().await;
    assert_eq!(world.get("/healthz").await.status, StatusCode::OK);
    assert_eq!(world.get("/readyz").await.ok()["state"], "ready");
    // when the store goes away, and one of its values makes no sense
    world.live.set_store_health(StoreHealth {
        reachable: false,
        read_at: None,
        detail: Some("connection refused".into()),
        poisoned: vec![("serin:test:weight".into(), "no number".into())],
        mirror: None,
    });
    // then traffic is still welcome, and the detail says what is wrong
    let ready = world.get("/readyz").await.ok();
    assert_eq!(ready["store"]["reachable"], false);
    assert_eq!(ready["store"]["detail"], "connection refused");
    assert_eq!(ready["store"]["poisoned"][0]["key"], "serin:test:weight");
    world.live.start_draining();
    let draining = world.get("/readyz").await;
    assert_eq!(draining.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(draining.json()["state"], "draining");
    assert_eq!(world.get("/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let answer = World::new().await.get("/metrics").await;
    assert!(answer.header("content-type").starts_with("text/plain"), "{answer:?}");
    assert!(answer.text.contains("serin_circuit_open{service=\"checkbox\"} 0"), "{}", answer.text);
}

#[tokio::test]
async fn what_is_not_there_is_named_with_what_is() {
    let world = World::new().await;
    world.get("/v1/services/chekbox").await.problem(404, "known: checkbox, plain");
    world.get("/v1/services/checkbox/pools/blue/endpoints").await.problem(404, "known: stable, canary");
    world.get(&format!("{CANARY}/10.0.0.9:1")).await.problem(404, "known: 127.0.0.1:4001");
    world.get("/v2/services").await.problem(404, "/openapi.json");
    world.get("/v1/services/%ff").await.problem(400, "UTF-8");
    world.put("/v1/services", "{}").await.problem(405, "Allow");
    let missing = world.get("/v1/services/%3Cscript%3E").await;
    assert_eq!(missing.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn the_page_runs_nothing_but_its_own_script() {
    let answer = World::new().await.get("/").await;
    assert_eq!(answer.status, StatusCode::OK);
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for foreign in
        ["http://", "https://", "src=", "innerHTML", "href=", "/*STYLE*/", "/*SCRIPT*/", " style=", " onclick="]
    {
        assert!(!answer.text.contains(foreign), "the page holds {foreign}");
    }
}

#[tokio::test]
async fn every_route_is_described_with_its_role_and_nothing_else_is() {
    let described = World::new().await.get("/openapi.json").await.ok();
    let paths = described["paths"].as_object().expect("paths");
    let mut told: Vec<String> = Vec::new();
    for (path, item) in paths {
        for (verb, operation) in item.as_object().expect("a path item") {
            told.push(format!("{verb} {path} {}", operation["x-role"].as_str().expect("a role")));
        }
    }
    let mut routed: Vec<String> = routes()
        .iter()
        .map(|route| {
            let role = route.role.map_or("none", |role| role.name());
            format!("{} {} {role}", format!("{:?}", route.verb).to_lowercase(), route.path)
        })
        .collect();
    told.sort();
    routed.sort();
    assert_eq!(told, routed);
}

#[tokio::test]
async fn every_reference_of_the_description_leads_somewhere() {
    let described = World::new().await.get("/openapi.json").await.ok();
    let text = described.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().expect("a pointer");
        assert!(described.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
}
