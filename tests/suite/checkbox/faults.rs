//! Faults injected on top: they come when told, at their rate, and the same again for the same seed.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;
use serin_tests::client::Failure;
use serin_tests::standin::{Checkbox, Setup};

async fn outcomes(setup: Setup, count: usize) -> anyhow::Result<Vec<u16>> {
    outcomes_of(&Checkbox::start(setup).await?, count).await
}

async fn outcomes_of(checkbox: &Checkbox, count: usize) -> anyhow::Result<Vec<u16>> {
    let mut client = checkbox.client();
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(client.get("/healthz").await?.status);
    }
    Ok(statuses)
}

#[tokio::test]
async fn errors_come_at_their_rate_and_the_same_seed_fails_the_same_requests() {
    let setup = |seed| Setup::version("1").with("error_rate", 0.3).with("seed", seed);
    let first = outcomes(setup(7), 300).await.unwrap();
    let second = outcomes(setup(7), 300).await.unwrap();
    let other = outcomes(setup(8), 300).await.unwrap();
    let errors = first.iter().filter(|status| **status == 500).count();
    assert!((60..120).contains(&errors), "{errors} of 300 failed");
    assert_eq!(first, second);
    assert_ne!(first, other);
}

#[tokio::test]
async fn a_seed_set_while_it_runs_starts_the_dice_again() {
    let checkbox = Checkbox::start(Setup::version("1").with("error_rate", 0.5).with("seed", 7)).await.unwrap();
    let first = outcomes_of(&checkbox, 40).await.unwrap();
    for seed in [8, 7] {
        checkbox.fault(json!({ "seed": seed })).await.unwrap();
    }
    assert_eq!(outcomes_of(&checkbox, 40).await.unwrap(), first);
}

#[tokio::test]
async fn error_bodies_hide_behind_200() {
    let checkbox = Checkbox::start(Setup::version("1").with("error_body_rate", 1)).await.unwrap();
    let reply = checkbox.client().get("/api/study/listing").await.unwrap();
    assert_eq!((reply.status, reply.json().unwrap()), (200, json!({ "error": "An error has occurred" })));
}

#[tokio::test]
async fn a_failing_user_fails_always_and_is_known_by_cookie_before_address() {
    let checkbox = Checkbox::start(Setup::version("1").with("error_users", 0.5)).await.unwrap();
    let mut failing = 0;
    for user in 0..40 {
        let mut client = checkbox.client().forwarded_for(Ipv4Addr::new(10, 0, 0, user));
        let first = client.get("/healthz").await.unwrap().status;
        assert_eq!(client.get("/healthz").await.unwrap().status, first);
        failing += u32::from(first == 500);
    }
    assert!((8..32).contains(&failing), "{failing} of 40 users fail");

    let mut statuses = Vec::new();
    for user in 0..10 {
        let mut client = checkbox.client().forwarded_for(Ipv4Addr::new(10, 0, 0, user));
        client.set_cookie("serin_key", "one and the same");
        statuses.push(client.get("/healthz").await.unwrap().status);
    }
    assert!(statuses.iter().all(|status| *status == statuses[0]), "{statuses:?}");
}

#[tokio::test]
async fn a_hanging_request_is_never_answered() {
    let checkbox = Checkbox::start(Setup::version("1").with("hang_rate", 1)).await.unwrap();
    let reply = checkbox.client().deadline(Duration::from_millis(300)).get("/healthz").await;
    assert!(matches!(reply, Err(Failure::Timeout(_))), "{reply:?}");
}

#[tokio::test]
async fn a_reset_is_a_reset_and_not_an_orderly_end() {
    let checkbox = Checkbox::start(Setup::version("1").with("reset_rate", 1)).await.unwrap();
    let Err(Failure::NoReply(error)) = checkbox.client().get("/healthz").await else { panic!("it was answered") };
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(cause.contains("reset"), "{error:?}");
    assert!(checkbox.is_alive());
}

#[tokio::test]
async fn a_truncated_answer_begins_well_and_breaks_off() {
    let checkbox = Checkbox::start(Setup::version("1").with("truncate_rate", 1)).await.unwrap();
    let reply = checkbox.client().get("/api/study/listing").await;
    assert!(matches!(reply, Err(Failure::Truncated(_))), "{reply:?}");
}

#[tokio::test]
async fn latency_is_added_to_every_request() {
    let checkbox = Checkbox::start(Setup::version("1").with("latency_ms", 150)).await.unwrap();
    let took = checkbox.client().get("/healthz").await.unwrap().took;
    assert!((150..2_000).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn faults_change_while_it_runs_and_heal() {
    let checkbox = Checkbox::start(Setup::version("1").with("latency_ms", 1)).await.unwrap();
    checkbox.fault(json!({ "error_rate": 1 })).await.unwrap();
    assert_eq!(checkbox.client().get("/healthz").await.unwrap().status, 500);
    assert_eq!(checkbox.faults().await.unwrap()["latency_ms"], 1, "what isn't named stays");
    checkbox.heal().await.unwrap();
    assert_eq!(checkbox.client().get("/healthz").await.unwrap().status, 200);
    assert_eq!(checkbox.faults().await.unwrap()["latency_ms"], 1, "healed to how it was started");
}

#[tokio::test]
async fn a_fault_it_does_not_know_is_refused_at_run_time_and_at_start() {
    let checkbox = Checkbox::start(Setup::version("1")).await.unwrap();
    let refused = checkbox.fault(json!({ "eror_rate": 1 })).await.unwrap_err().to_string();
    assert!(refused.contains("eror_rate"), "{refused}");
    let refused = Checkbox::start(Setup::version("1").with("node", 12)).await.unwrap_err().to_string();
    assert!(refused.contains("node is 10 or 20"), "{refused}");
}
