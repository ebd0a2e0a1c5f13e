//! `serin backtest` on the log of a daemon that pulled its canary: the same decision, on the same evidence, at
//! the line of the same request.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::client::Client;
use serin_tests::crowd::address_of;
use serin_tests::eventually::eventually;
use serin_tests::process::{Build, serin_binary};
use serin_tests::scene::{self, SERVICE, config};
use serin_tests::serin::Serin;
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(20);
/// Far more users than a broken canary needs.
const USERS: usize = 2_000;

/// The daemon's access log of a canary that broke, and its circuit.
async fn pulled_by_a_daemon(format: &str) -> (Serin, Value) {
    let (stable, canary) = (scene::stable().await.unwrap(), scene::canary().await.unwrap());
    let start = format!("SERIN_LOG=info,access=info exec \"$@\" --log-format {format}");
    let more = format!("[runtime]\nthreads = 1\n{}", scene::weight(20.0));
    let under = ["sh", "-c", &start, "sh"];
    let serin = Serin::start_under(&config(&[&stable], &[&canary], &more), Build::Dev, &under).await.unwrap();
    for arm in [&stable, &canary] {
        arm.fault(json!({ "error_rate": 0.02 })).await.unwrap();
    }
    let mut bad = 0;
    for user in 0..USERS {
        if user == 100 {
            canary.fault(json!({ "error_rate": 1 })).await.unwrap();
        }
        let reply = Client::to(serin.http()).forwarded_for(address_of(user)).get("/api/study/listing").await.unwrap();
        if reply.status != 200 {
            bad += 1;
            // The court has heard of each one before the next comes: what it knew at the pull is no accident.
            let circuit = eventually(SOON, "the court hears of it", async || {
                let service = serin.service(SERVICE).await.ok()?;
                let errors = &service["verdict"]["signals"]["errors"];
                let heard = errors["stable"]["bad"].as_u64()? + errors["canary"]["bad"].as_u64()?;
                (heard == bad).then(|| service["circuit"].clone())
            })
            .await;
            if circuit["state"] == "open" {
                serin.stop().await.unwrap();
                return (serin, circuit);
            }
        }
    }
    panic!("not pulled: {}", serin.service(SERVICE).await.unwrap());
}

async fn replay_finds_what_the_daemon_found(format: &str) {
    let (serin, circuit) = pulled_by_a_daemon(format).await;
    let log = serin.dir().join("access.log");
    fs::write(&log, serin.logs()).unwrap();
    let words = ["backtest", "--json", "--config"];
    let mut command = Command::new(serin_binary(Build::Dev).unwrap());
    let output = command.args(words).arg(serin.dir().join("serin.toml")).arg(&log).output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_str(&said).unwrap();
    let [episode] = &found["episodes"].as_array().unwrap()[..] else { panic!("one episode: {said}") };

    let (live, replayed) = (&circuit["evidence"], &episode["evidence"]);
    let of = |evidence: &Value| evidence["e"].as_f64().unwrap();
    assert!((of(live) / of(replayed) - 1.0).abs() < 1e-6, "{live}\n{replayed}");
    for path in ["/canary/bad", "/stable/bad", "/decided_by", "/signals"] {
        assert_eq!(live.pointer(path), replayed.pointer(path), "{path}: {live}\n{replayed}");
    }
    let ids = |evidence: &Value| -> Vec<Value> {
        evidence["samples"].as_array().unwrap().iter().map(|sample| sample["request_id"].clone()).collect()
    };
    assert_eq!(ids(live), ids(replayed));
    assert_eq!(ids(live).last(), Some(&episode["pulled"]["request_id"]));
    let line = episode["pulled"]["reached"]["line"].as_u64().unwrap();
    let text = serin.logs().lines().nth(usize::try_from(line).unwrap() - 1).unwrap().to_owned();
    assert!(text.contains(episode["pulled"]["request_id"].as_str().unwrap()), "{text}");
    assert_eq!(found["lines"]["broken"], 0);
}

#[tokio::test]
async fn the_text_log_of_a_daemon_leads_to_its_decision_at_the_same_request() {
    replay_finds_what_the_daemon_found("text").await;
}

#[tokio::test]
async fn the_json_log_of_a_daemon_leads_to_its_decision_at_the_same_request() {
    replay_finds_what_the_daemon_found("json").await;
}
