//! The canary that gets worse is gone within a second and people are told with proof; one that
//! doesn't stays. The bounds on time are wide, for busy machines: `time-to-pull` measures.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::print_stdout, reason = "figures are shown with `--nocapture`")]

use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::crowd::Strangers;
use serin_tests::eventually::eventually;
use serin_tests::process::{Build, Signal};
use serin_tests::pull::{Pull, RATE, Trial, all_error_bodies, all_errors, median};
use serin_tests::scene::SERVICE;
use serin_tests::smtp::{Behaviour, Received, SmtpServer};

/// What a busy machine may take. The figure itself is a second.
const BOUND: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(20);

/// The table that has serin write to this server.
pub(crate) fn mail_to(server: &SmtpServer) -> String {
    let port = server.port();
    format!(
        "[alert.email]\nsmtp = \"smtp://127.0.0.1:{port}\"\nfrom = \"serin@example.org\"\nto = [\"ops@example.org\"]\n"
    )
}

/// The mails of a server, once there are so many.
pub(crate) async fn mails(server: &SmtpServer, count: usize) -> Vec<Received> {
    let enough = async || Some(server.mails().unwrap()).filter(|mails| mails.len() >= count);
    let mails = eventually(SOON, "the mail arrives", enough).await;
    assert_eq!(mails.len(), count, "one trip, one mail");
    mails
}

/// The mail holds what the circuit does: the counts, the evidence, the requests, the way back.
fn is_the_proof(mail: &Received, circuit: &Value) {
    let (plain, evidence) = (&mail.parts["text/plain"], &circuit["evidence"]);
    assert_eq!(mail.header("subject"), Some("[serin] checkbox: canary pulled (evidence)"));
    assert!(evidence["e"].as_f64() >= Some(1_000.0), "{circuit}");
    let bad = evidence["canary"]["bad"].as_u64().unwrap();
    let samples = evidence["samples"].as_array().unwrap();
    assert!(bad >= 3 && samples.len() >= 3, "{circuit}");
    let mut said = vec!["10 % → 0 %".to_owned(), "serin reset checkbox --reason".to_owned()];
    said.extend(samples.iter().map(|sample| sample["request_id"].as_str().unwrap().to_owned()));
    said.extend(["/api/study/listing", "the limit is 1,000 : 1"].map(str::to_owned));
    for said in said {
        assert!(plain.contains(&said), "{said:?} isn't in:\n{plain}");
    }
    let arm =
        |name: &str| plain.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default().to_owned();
    let cells = arm("canary ").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(cells[2], bad.to_string(), "{plain}");
    assert!(!arm("stable ").is_empty(), "{plain}");
}

fn in_time(pulls: &[Pull]) {
    let decided = median(pulls.iter().map(|pull| pull.decided));
    let gone = median(pulls.iter().filter_map(|pull| pull.gone));
    println!("decided after {decided:?}, gone after {gone:?}, over {} runs", pulls.len());
    assert!(decided <= BOUND && gone <= BOUND, "{pulls:?}");
}

#[tokio::test]
async fn a_canary_that_breaks_is_gone_in_a_second_and_the_mail_proves_it() {
    let server = SmtpServer::start(Behaviour::default()).await.unwrap();
    let trial = Trial::start(Build::Dev, &mail_to(&server)).await.unwrap();
    let mut pulls = Vec::new();
    for round in 1..=5 {
        let pull = trial.break_canary(&all_errors()).await.unwrap();
        let mails = mails(&server, round).await;
        is_the_proof(&mails[round - 1], &pull.circuit);
        pulls.push(pull);
        trial.begin_anew().await.unwrap();
    }
    in_time(&pulls);
}

#[tokio::test]
async fn errors_that_hide_behind_200_pull_the_canary_as_soon() {
    let server = SmtpServer::start(Behaviour::default()).await.unwrap();
    let trial = Trial::start(Build::Dev, &mail_to(&server)).await.unwrap();
    let pull = trial.break_canary(&all_error_bodies()).await.unwrap();
    let sample = &pull.circuit["evidence"]["samples"][0];
    assert_eq!((&sample["status"], &sample["reason"]), (&json!(200), &json!("body")));
    is_the_proof(&mails(&server, 1).await[0], &pull.circuit);
    in_time(&[pull]);
}

#[tokio::test]
async fn a_healthy_canary_stays_and_when_it_breaks_late_it_is_gone_as_soon() {
    let trial = Trial::start(Build::Dev, "").await.unwrap();
    trial.healthy(12_000).await.unwrap();
    let pull = trial.break_canary(&all_errors()).await.unwrap();
    let stable = &pull.circuit["evidence"]["stable"];
    assert!(stable["bad"].as_u64() > Some(20), "stable's errors weren't counted: {stable}");
    in_time(&[pull]);
}

/// Both arms fail everybody under load, until a thousand users have erred.
async fn is_not_pulled_by_a_common_outage(stall: Option<Signal>) {
    let trial = Trial::start(Build::Dev, "").await.unwrap();
    for arm in [&trial.stable, &trial.canary] {
        arm.fault(all_errors()).await.unwrap();
    }
    let users = Strangers::come(trial.serin.http(), RATE, "/api/study/listing");
    if let Some(stop) = stall {
        trial.canary.signal(stop).unwrap();
        erred(&trial, 200).await;
        trial.canary.signal(Signal::CONT).unwrap();
    }
    let service = erred(&trial, 1_000).await;
    assert_eq!(service["circuit"]["state"], "closed", "{service}");
    assert_eq!(service["weight"]["effective"], 10.0);
    assert!(users.leave().await.unwrap().iter().all(|visit| visit.status == Some(500)));
}

/// Waits until so many users have erred, or the canary was pulled.
async fn erred(trial: &Trial, users: u64) -> Value {
    eventually(SOON, "users err", async || {
        let service = trial.serin.service(SERVICE).await.ok()?;
        let signal = &service["verdict"]["signals"]["errors"];
        let bad = signal["stable"]["bad"].as_u64()? + signal["canary"]["bad"].as_u64()?;
        (bad >= users || service["circuit"]["state"] == "open").then_some(service)
    })
    .await
}

#[tokio::test]
async fn issue_flagger_739_a_fault_on_both_arms_pulls_nothing() {
    is_not_pulled_by_a_common_outage(None).await;
}

#[tokio::test]
async fn a_canary_that_stalls_while_both_arms_fail_and_then_fails_all_at_once_is_not_pulled() {
    is_not_pulled_by_a_common_outage(Some(Signal::STOP)).await;
}

#[tokio::test]
async fn under_what_the_applications_users_do_a_canary_that_breaks_is_pulled() {
    let trial = Trial::start(Build::Dev, "").await.unwrap();
    let pull = trial.break_canary_under_mix(&all_errors(), 1).await.unwrap().unwrap();
    println!("decided after {:?} under the mix", pull.decided);
    assert!(pull.decided < 3 * BOUND, "{pull:?}");
}
