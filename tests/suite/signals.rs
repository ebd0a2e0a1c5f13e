//! By what serin learns that a canary is bad, beside plain errors: each through the real daemon.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use serin_tests::client::Client;
use serin_tests::crowd::{Strangers, rush};
use serin_tests::eventually::eventually;
use serin_tests::origin::{Origin, Played};
use serin_tests::process::Build;
use serin_tests::pull::{Break, RATE, Trial};
use serin_tests::scene::SERVICE;
use serin_tests::serin::Serin;
use serin_tests::wire::{Message, Wire};

const SOON: Duration = Duration::from_secs(20);
const PATH: &str = "/api/study/listing";
/// `{"error": "Invalid invitecode", "again": "Invalid invitecode", "more": "Invalid invitecode"}`.
const GZIP: &str = "H4sIAAAAAAACA6tWSi0qyi9SslJQ8swrS8zJTFHIzCvLLElNzk9JVdJRUEpMT8zMwy2dm1+UikO2FgBJxcnBXAAAAA==";
const BROTLI: &str = "G1sAQBwHbqzYmyBxn65Fktz2JotOX4CAQw7YvyVpgAEGGkzkJIEWXp+zRtoA6kMDoUifAv0HDw==";

fn reasons(circuit: &Value) -> Vec<&str> {
    let samples = circuit["evidence"]["samples"].as_array().unwrap();
    samples.iter().map(|sample| sample["reason"].as_str().unwrap()).collect()
}

async fn bad(serin: &Serin, arm: &str, reason: &str) -> f64 {
    let series = format!("serin_bad_requests_total{{service=\"{SERVICE}\",arm=\"{arm}\",reason=\"{reason}\"}}");
    serin.metric(&series).await.unwrap()
}

/// The circuit, once it is open; none while it is closed.
async fn pulled(serin: &Serin) -> Option<Value> {
    let circuit = serin.service(SERVICE).await.unwrap()["circuit"].take();
    (circuit["state"] == "open").then_some(circuit)
}

#[tokio::test]
async fn a_canary_that_hangs_is_pulled_before_it_answers() {
    let trial = Trial::start(Build::Dev, "[service.checkbox.verdict.slow]\nthreshold = \"300ms\"\n").await.unwrap();
    // given a canary that never answers, and endpoints that may take half a minute
    trial.canary.fault(json!({ "hang_rate": 1 })).await.unwrap();
    let _users = Strangers::come(trial.serin.http(), RATE, PATH);
    let circuit = eventually(SOON, "the canary is pulled", async || pulled(&trial.serin).await).await;
    assert!(reasons(&circuit).contains(&"slow"), "{circuit}");
    assert!(circuit["evidence"]["samples"][0]["status"].is_null(), "{circuit}");
    assert_eq!(bad(&trial.serin, "canary", "timeout").await, 0.0);
}

/// A trial in which serin has learned what is slow.
async fn learned() -> Trial {
    let trial = Trial::start(Build::Dev, "").await.unwrap();
    rush(trial.serin.http(), PATH, 1_500).await;
    eventually(SOON, "a threshold is learned", async || {
        trial.serin.metric(&format!("serin_slow_threshold_seconds{{service=\"{SERVICE}\"}}")).await.ok()
    })
    .await;
    trial
}

#[tokio::test]
async fn a_canary_that_is_slower_than_before_is_pulled() {
    let trial = learned().await;
    // when all that it answers is right, and late
    let late = Break {
        is_bad: |visit| visit.took >= Duration::from_millis(1_500),
        ..Break::with(&json!({ "latency_ms": 1_500 }))
    };
    let pull = trial.try_break(&late).await.unwrap().unwrap();
    assert_eq!(reasons(&pull.circuit).iter().filter(|reason| **reason != "slow").count(), 0, "{}", pull.circuit);
    assert_eq!(pull.circuit["cause"], "evidence");
}

#[tokio::test]
async fn a_slowdown_of_both_arms_pulls_nothing() {
    let trial = learned().await;
    for arm in [&trial.stable, &trial.canary] {
        arm.fault(json!({ "latency_ms": 1_500 })).await.unwrap();
    }
    let users = Strangers::come(trial.serin.http(), RATE, PATH);
    eventually(SOON, "users are kept waiting on both arms", async || {
        let enough =
            bad(&trial.serin, "stable", "slow").await >= 400.0 && bad(&trial.serin, "canary", "slow").await >= 20.0;
        (enough || pulled(&trial.serin).await.is_some()).then_some(())
    })
    .await;
    assert_eq!(pulled(&trial.serin).await, None);
    users.leave().await.unwrap();
}

/// Two arms that tests play, half of the users on each.
struct Arms {
    serin: Serin,
    stable: Played,
    canary: Played,
}

impl Arms {
    async fn start(more: &str, canary: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let (stable, bad) = (Origin::bind().await.unwrap(), Origin::bind().await.unwrap());
        let (stable, canary) = (stable.play(|_| answer("X-Arm: stable", b"fine")), bad.play(canary));
        let config = format!(
            "[service.{SERVICE}]\nhosts = [\"*\"]\nstable = [\"{}\"]\ncanary = [\"{}\"]\n{more}",
            stable.address(),
            canary.address()
        );
        Self { serin: Serin::start(&config).await.unwrap(), stable, canary }
    }

    /// Users come one after the other until the canary is pulled. Returns what they got from it, and the circuit.
    async fn until_pulled(&self, prepare: impl Fn(&mut Client)) -> (Vec<Vec<u8>>, Value) {
        let mut got = Vec::new();
        for _ in 0..200 {
            let mut user = self.serin.client();
            prepare(&mut user);
            let reply = user.get("/").await.unwrap();
            assert_eq!(reply.status, 200, "{}", reply.text());
            if reply.header("x-arm") == Some("canary") {
                got.push(reply.body.to_vec());
            }
            if let Some(circuit) = pulled(&self.serin).await {
                return (got, circuit);
            }
        }
        panic!("not pulled: {}", self.serin.service(SERVICE).await.unwrap());
    }
}

const HALF: &str = "[service.checkbox.split]\nweight = 50\n";

fn answer(field: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{field}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn errors_in_compressed_bodies_pull_the_canary_and_arrive_unchanged() {
    for (coding, body) in [("gzip", GZIP), ("br", BROTLI)] {
        let body = STANDARD.decode(body).unwrap();
        let (sent, fields) =
            (body.clone(), format!("X-Arm: canary\r\nContent-Type: application/json\r\nContent-Encoding: {coding}"));
        let more = format!("{HALF}[service.checkbox.verdict.errors]\nbody_contains = ['\"error\":']\n");
        let arms = Arms::start(&more, move |_| answer(&fields, &sent)).await;
        let (got, circuit) = arms.until_pulled(|_| {}).await;
        assert!(got.len() >= 3 && got.iter().all(|one| *one == body), "{coding}: something else arrived");
        assert!(reasons(&circuit).iter().all(|reason| *reason == "body"), "{coding}: {circuit}");
    }
}

#[tokio::test]
async fn a_header_that_means_an_error_pulls_the_canary() {
    let more = format!("{HALF}[service.checkbox.verdict.errors]\nheaders = [\"x-status: failed\"]\n");
    let arms = Arms::start(&more, |_| answer("X-Arm: canary\r\nX-Status: has failed", b"")).await;
    let (_, circuit) = arms.until_pulled(|_| {}).await;
    assert!(reasons(&circuit).iter().all(|reason| *reason == "header"), "{circuit}");
}

#[tokio::test]
async fn a_canary_that_loses_sessions_is_pulled() {
    let more = format!("{HALF}[service.checkbox.verdict.errors]\nsession_cookies = [\"JSESSIONID\"]\n");
    let login = "X-Arm: canary\r\nSet-Cookie: JSESSIONID=BB; Path=/; HttpOnly";
    let arms = Arms::start(&more, move |_| answer(login, b"<title>iTrust - Login")).await;
    // given users without a session: the canary may begin one
    for _ in 0..40 {
        arms.serin.client().get("/").await.unwrap();
    }
    assert_eq!(bad(&arms.serin, "canary", "session").await, 0.0);
    let (_, circuit) = arms.until_pulled(|user| user.set_cookie("JSESSIONID", "AA")).await;
    assert!(reasons(&circuit).iter().all(|reason| *reason == "session"), "{circuit}");
}

#[tokio::test]
async fn whoever_leaves_early_blames_nobody_and_who_leaves_late_is_missing() {
    let origin = Origin::bind().await.unwrap();
    let slow = "[service.checkbox.verdict.slow]\nthreshold = \"300ms\"\n";
    let config = format!("[service.{SERVICE}]\nhosts = [\"*\"]\nstable = [\"{}\"]\n{slow}", origin.address());
    let serin = Serin::start(&config).await.unwrap();
    let asks = async || {
        let mut user = Wire::connect(serin.http()).await.unwrap();
        user.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        (user, origin.request().await.unwrap())
    };
    let (user, (mut wire, _)) = asks().await;
    drop(user);
    wire.ended().await.unwrap();
    assert_eq!((bad(&serin, "stable", "slow").await, bad(&serin, "stable", "missing").await), (0.0, 0.0));

    let (user, (mut wire, _)) = asks().await;
    eventually(SOON, "it is slow", async || (bad(&serin, "stable", "slow").await == 1.0).then_some(())).await;
    assert_eq!(bad(&serin, "stable", "missing").await, 0.0, "the client is still there");
    drop(user);
    wire.ended().await.unwrap();
    eventually(SOON, "it is missing", async || (bad(&serin, "stable", "missing").await == 1.0).then_some(())).await;
    assert_eq!(bad(&serin, "stable", "slow").await, 1.0);
}

#[tokio::test]
async fn a_tester_who_knows_the_secret_chooses_the_arm_and_no_endpoint_hears_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("override");
    std::fs::write(&file, "this-is-for-testers\n").unwrap();
    let more = format!("[service.checkbox.split]\noverride_secret_file = {file:?}\n");
    let arms = Arms::start(&more, |_| answer("X-Arm: canary", b"")).await;
    let arm = async |chosen: &str| {
        let mut tester = arms.serin.client().header("x-serin-arm", chosen);
        tester.get("/").await.unwrap().header("x-arm").unwrap().to_owned()
    };
    // given a canary without weight
    for (chosen, served) in [
        ("canary; this-is-for-testers", "canary"),
        ("stable; this-is-for-testers", "stable"),
        ("canary; this-is-for-tester", "stable"),
        ("canary; ", "stable"),
        ("canary", "stable"),
    ] {
        assert_eq!(arm(chosen).await, served, "{chosen}");
    }
    arms.serin.trip(SERVICE, "enough").await.unwrap();
    assert_eq!(arm("canary; this-is-for-testers").await, "stable", "the circuit is open");
    for played in [&arms.stable, &arms.canary] {
        let seen = played.bytes().concat();
        assert!(!seen.is_empty() && !String::from_utf8_lossy(&seen).to_lowercase().contains("x-serin-arm"));
    }
    assert!(!arms.serin.logs().contains("for-testers"), "{}", arms.serin.logs());
}
