//! What Prometheus sees, and whom it tells.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use serin_tests::client::Client;
use serin_tests::eventually::eventually;
use serin_tests::hosts::fleet::address;
use serin_tests::smtp::Received;
use tokio::time::Instant;

use crate::figures::Figures;
use crate::stage::Stage;

const PROMETHEUS: &str = "10.0.0.3:9090";
const SOON: Duration = Duration::from_secs(60);
/// A rule waits a minute until it calls an endpoint down.
const FIRED: Duration = Duration::from_secs(120);
/// Who is asked, by job.
const TARGETS: [(&str, usize); 5] = [("alertmanager", 1), ("node", 13), ("prometheus", 1), ("redis", 2), ("serin", 2)];
/// Two and a canary of checkbox.io, and five of iTrust, by both proxies.
const READY: f64 = 16.0;

pub(crate) async fn all_is_watched_and_a_dead_endpoint_is_mailed(stage: &Stage) -> Figures {
    // given a fleet that is well: whoever is asked answers, and nothing is wrong
    eventually(SOON, "every target is up", async || (up().await? == TARGETS.map(all_up).into()).then_some(())).await;
    eventually(SOON, "both servers of the store tell of themselves", async || {
        (sum("sum(redis_up)").await? == 2.0 && sum("sum(redis_master_link_up)").await? == 1.0).then_some(())
    })
    .await;
    eventually(SOON, "all endpoints are ready", async || {
        (sum("sum(serin_endpoint_ready)").await? == READY).then_some(())
    })
    .await;
    eventually(SOON, "no alert", async || (sum("count(ALERTS)").await.is_none()).then_some(())).await;
    // when an endpoint dies
    stage.on("checkbox-2", "sudo systemctl stop checkbox").await;
    let died = Instant::now();
    // then that is mailed, through the relay
    let mail = eventually(FIRED, "the alert's mail", async || told(stage, "[FIRING] EndpointDown checkbox")).await;
    let figures = Figures::default().and(format!("mailed after {:.0} s", died.elapsed().as_secs_f64()));
    assert_eq!((mail.from.as_str(), mail.to.as_slice()), ("fleet@checkbox.io", &["ops@checkbox.io".to_owned()][..]));
    assert!(mail.header("received").is_some_and(|by| by.contains("ci-1")), "{:?}", mail.headers);
    let text = mail.parts.values().cloned().collect::<String>();
    assert!(text.contains("10.0.0.22:80"), "{text}");
    // and when it is back, that is
    stage.on("checkbox-2", "sudo systemctl start checkbox").await;
    eventually(SOON, "the end of it is mailed", async || told(stage, "[RESOLVED] EndpointDown checkbox")).await;
    figures
}

fn all_up((job, count): (&str, usize)) -> ((String, String), usize) {
    ((job.to_owned(), "up".to_owned()), count)
}

/// How many targets of each job are how.
async fn up() -> Option<BTreeMap<(String, String), usize>> {
    let told = ask("/api/v1/targets?state=active").await?;
    let mut counts = BTreeMap::new();
    for target in told["data"]["activeTargets"].as_array()? {
        let (job, health) = (target["labels"]["job"].as_str()?, target["health"].as_str()?);
        *counts.entry((job.to_owned(), health.to_owned())).or_default() += 1;
    }
    Some(counts)
}

/// The one value of a query; none without any.
async fn sum(query: &str) -> Option<f64> {
    let told = ask(&format!("/api/v1/query?query={query}")).await?;
    told["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

async fn ask(path: &str) -> Option<Value> {
    let reply = Client::to(address(PROMETHEUS).unwrap()).get(path).await.ok()?;
    (reply.status == 200).then(|| reply.json().ok()).flatten()
}

fn told(stage: &Stage, subject: &str) -> Option<Received> {
    let mails = stage.mail.mails().ok()?;
    mails.into_iter().rev().find(|mail| mail.header("subject").is_some_and(|found| found.contains(subject)))
}
