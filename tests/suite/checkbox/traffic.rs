//! The traffic driver against the stand-in: its users meet what real ones would.

use std::time::Duration;

use serin_tests::standin::{Checkbox, Setup};
use serin_tests::traffic::{Load, Mix, drive, each_from_another_user};

#[tokio::test]
async fn the_mix_runs_through_without_killing_or_hanging_the_application() {
    let checkbox = Checkbox::start(Setup::version("1.0").behind_nginx()).await.unwrap();
    let mix = Mix { files: 1_000..=20_000, think_scale: 0.001, ..Mix::default() };
    let report = drive(checkbox.address(), &mix, Load::new(400.0, 1_200)).await;
    assert_eq!((report.requests(), report.failures()), (1_200, 0), "{:?}", report.total.failures);
    assert!(report.status(200) > 1_150, "{:?}", report.total.statuses);
    assert!(report.users.len() > 50, "{} users", report.users.len());
    assert_eq!(report.users_on("1.0").len(), report.users.len());
    let state = checkbox.state().await.unwrap();
    assert!(state["votes"].as_u64().unwrap() > 0 && state["studies"].as_u64().unwrap() > 5, "{state}");
    assert_eq!(state["requests"], 1_200);
}

#[tokio::test]
async fn a_users_wait_behind_a_slow_answer_counts_as_latency() {
    let checkbox = Checkbox::start(Setup::version("1.0").with("latency_ms", 100)).await.unwrap();
    let mix = Mix { think_scale: 0.0, shares: [1, 0, 0, 0], ..Mix::default() };
    let report = drive(checkbox.address(), &mix, Load::new(1_000.0, 10)).await;
    assert!(report.latency(1.0) > Duration::from_millis(400), "{:?}", report.total.latencies);
}

#[tokio::test]
async fn the_rate_is_kept_whatever_the_answers_take() {
    let checkbox = Checkbox::start(Setup::version("1.0").with("latency_ms", 500)).await.unwrap();
    let report = each_from_another_user(checkbox.address(), Load::new(200.0, 100), "/healthz").await;
    assert_eq!((report.requests(), report.users.len()), (100, 100));
    assert!((450..1_500).contains(&report.took.as_millis()), "sent in {:?}", report.took);
    assert!(report.latency(0.5) >= Duration::from_millis(500), "{:?}", report.latency(0.5));
}

#[tokio::test]
async fn users_differ_by_address_so_that_a_share_of_them_can_fail() {
    let checkbox = Checkbox::start(Setup::version("1.0").with("error_users", 0.4)).await.unwrap();
    let report = each_from_another_user(checkbox.address(), Load::new(400.0, 200), "/healthz").await;
    assert!((50..110).contains(&report.server_errors()), "{} of 200 users fail", report.server_errors());
}

#[tokio::test]
async fn failures_are_counted_by_kind() {
    let checkbox = Checkbox::start(Setup::version("1.0")).await.unwrap();
    checkbox.kill().await.unwrap();
    let report = each_from_another_user(checkbox.address(), Load::new(500.0, 20), "/healthz").await;
    assert_eq!((report.failures(), report.total.failures.get("refused")), (20, Some(&20)));
}
