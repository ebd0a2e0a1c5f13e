//! Rollouts and canaries: little traffic, aborts, gates, and who is told.

use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::crowd::Crowd;
use serin_tests::eventually::eventually;
use serin_tests::process::Build;
use serin_tests::pull::Trial;
use serin_tests::scene::{CANARY, PROBED, SERVICE};
use serin_tests::serin::Serin;
use serin_tests::smtp::{Behaviour, SmtpServer};

use super::Versions;
use crate::pull::{mail_to, mails};
use crate::rollout::{on_canary, post, start, until, until_phase};

const SOON: Duration = Duration::from_secs(30);

async fn serin(versions: &Versions) -> Serin {
    Serin::start(&versions.config(0, "")).await.unwrap()
}

/// Begins a rollout and waits for its first step.
async fn begin(serin: &Serin, step: &str) {
    start(serin, &[step]).await;
    until(serin, "the first step", |rollout| rollout["step"] == 1).await;
}

#[tokio::test]
async fn issue_flagger_1035_a_quiet_canary_is_neither_failed_for_want_of_traffic_nor_pulled_for_one_error_in_ten() {
    let versions = Versions::start().await;
    let serin = serin(&versions).await;
    // given a step whose time is over, and nobody who came
    start(&serin, &["50%:0s"]).await;
    let waits = |rollout: &Value| rollout["why"].to_string().contains("waits for data");
    assert_eq!(until(&serin, "it waits for data", waits).await["phase"], "progressing");
    // when ten users come to the canary, and one of them meets an error
    let mut on_canary = 0;
    while on_canary < 10 {
        let path = if on_canary == 4 { Versions::BROKEN } else { "/" };
        let reply = serin.client().get(path).await.unwrap();
        on_canary += usize::from(reply.version() == Some(CANARY));
    }
    // then that is known, and no reason to do anything
    let service = eventually(SOON, "the error is known", async || {
        let service = serin.service(SERVICE).await.ok()?;
        let canary = &service["verdict"]["canary"];
        (canary["units"] == 10 && canary["bad"] == 1).then_some(service)
    })
    .await;
    assert_eq!((&service["circuit"]["state"], &service["weight"]["effective"]), (&json!("closed"), &json!(50.0)));
    assert_eq!(until(&serin, "it goes on", |_| true).await["phase"], "progressing");
}

#[tokio::test]
async fn issue_argo_1152_an_abort_wins_in_every_phase_and_nothing_undoes_it() {
    let versions = Versions::start().await;
    let serin = serin(&versions).await;
    for phase in ["progressing", "paused", "promoted"] {
        begin(&serin, "50%:1h").await;
        let verb = match phase {
            "paused" => Some("/pause"),
            "promoted" => Some("/promote"),
            _ => None,
        };
        if let Some(verb) = verb {
            assert_eq!(post(&serin, verb, &json!({})).await.1["phase"], phase);
        }
        assert!(on_canary(&serin).await > 20, "{phase}");
        // when somebody aborts it, the next request is for stable
        let (status, rollout) = post(&serin, "/abort", &json!({ "reason": "it smells" })).await;
        assert_eq!((status, &rollout["phase"]), (200, &json!("aborted")), "{phase}: {rollout}");
        assert_eq!(on_canary(&serin).await, 0, "{phase}");
        // then it has an end that nobody can take back
        for verb in ["/resume", "/promote", "/pause"] {
            assert_eq!(post(&serin, verb, &json!({})).await.0, 409, "{phase}: {verb}");
        }
        assert_eq!(on_canary(&serin).await, 0, "{phase}");
        assert_eq!(until_phase(&serin, "aborted").await["weight"], 0.0);
    }
}

#[tokio::test]
async fn issue_argo_3078_after_an_abort_nothing_flaps_and_the_next_try_begins_anew() {
    let versions = Versions::start().await;
    let serin = serin(&versions).await;
    begin(&serin, "50%:1h").await;
    assert!(on_canary(&serin).await > 20);
    assert_eq!(post(&serin, "/abort", &json!({ "reason": "it smells" })).await.0, 200);
    // when users come for a while, none of them meets the canary
    for _ in 0..20 {
        assert_eq!(on_canary(&serin).await, 0);
    }
    // and the same version is tried again without more ado, by nothing of what was
    begin(&serin, "50%:1h").await;
    let service = serin.service(SERVICE).await.unwrap();
    assert_eq!(service["verdict"]["canary"]["units"], 0, "{}", service["verdict"]);
    assert!(on_canary(&serin).await > 20);
}

#[tokio::test]
async fn issue_flagger_1801_a_canary_that_breaks_while_a_gate_waits_for_a_person_is_pulled() {
    let versions = Versions::start().await;
    let serin = serin(&versions).await;
    for paused in [false, true] {
        begin(&serin, "50%:0s:manual").await;
        if paused {
            assert_eq!(post(&serin, "/pause", &json!({})).await.0, 200);
        }
        assert!(on_canary(&serin).await > 20);
        // when it breaks
        eventually(SOON, "the canary is pulled", async || {
            Crowd::of(50).ask(serin.http(), &[Versions::BROKEN]).await.unwrap();
            (serin.service(SERVICE).await.ok()?["circuit"]["state"] == "open").then_some(())
        })
        .await;
        // then nobody was asked
        until_phase(&serin, "pulled").await;
        assert_eq!(on_canary(&serin).await, 0);
        serin.reset(SERVICE, "found it").await.unwrap();
    }
}

#[tokio::test]
async fn issue_flagger_1816_every_way_back_is_told_by_mail_that_names_the_cause() {
    let server = SmtpServer::start(Behaviour::default()).await.unwrap();
    let trial = Trial::start(Build::Dev, &(mail_to(&server) + PROBED)).await.unwrap();
    let serin = &trial.serin;
    // a person pulls it
    serin.trip(SERVICE, "it smells").await.unwrap();
    told(&server, 1, "canary pulled (person)").await;
    serin.reset(SERVICE, "aired").await.unwrap();
    // an alert from outside does
    let alert = json!({ "status": "firing", "labels": { "alertname": "Slow", "service": SERVICE } });
    let webhook = json!({ "version": "4", "status": "firing", "alerts": [alert] });
    assert_eq!(serin.operator().post_json("/v1/alerts", &webhook).await.unwrap().status, 200);
    told(&server, 2, "canary pulled (alert)").await;
    serin.reset(SERVICE, "it is fast again").await.unwrap();
    // nobody drives the rollout any more
    let plan = json!({ "version": "1.5", "steps": ["10%:1h"], "lease": "1s" });
    assert_eq!(post(serin, "", &plan).await.0, 200);
    told(&server, 3, "rollout of 1.5 aborted").await;
    // its endpoints die
    serin.set_weight(SERVICE, 10.0).await.unwrap();
    trial.canary.kill().await.unwrap();
    told(&server, 4, "canary pulled (no ready canary)").await;
}

/// So many mails have come, and the last of them says this of the service.
async fn told(server: &SmtpServer, number: usize, what: &str) {
    let mails = mails(server, number).await;
    assert_eq!(mails[number - 1].header("subject"), Some(&*format!("[serin] {SERVICE}: {what}")));
}
