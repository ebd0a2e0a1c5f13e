//! What breaks by itself: the store's primary, the network of a host, a proxy.

use std::time::Duration;

use serde_json::json;
use serin_tests::client::Client;
use serin_tests::crowd::Visit;
use serin_tests::eventually::eventually;
use serin_tests::hosts::fleet::{ENTRANCES, PROXIES, VIRTUAL, address};
use tokio::time::Instant;

use crate::figures::Figures;
use crate::flags;
use crate::stage::{CHECKBOX, ITRUST, REDIS_CLI, Stage, all_were_well, failed};

/// How long the virtual address may be with nobody.
const MOVED: Duration = Duration::from_secs(3);
/// How many users may be with a host in the moment when its network goes.
const CAUGHT: usize = 40;
const LONG: Duration = Duration::from_secs(60);
/// systemd would have it back before anybody had missed it.
const STAYS_DEAD: &str = "/run/systemd/system/redis-server.service.d";

pub(crate) async fn the_primary_of_the_store_is_killed_and_nobody_notices(stage: &Stage) -> Figures {
    // given users, and the store's primary
    let users = stage.users(CHECKBOX);
    let primary = stage.primary().await;
    let host = stage.fleet.at(&primary).unwrap();
    // when it dies and doesn't come back
    host.run(&format!(
        "sudo mkdir -p {STAYS_DEAD} && printf '[Service]\\nRestart=no\\n' | sudo tee {STAYS_DEAD}/dead.conf \
         && sudo systemctl daemon-reload && sudo systemctl kill --signal=KILL redis-server"
    ))
    .await
    .unwrap();
    let died = Instant::now();
    // then another takes its place, what proxies are told is kept there, and no user notices
    eventually(LONG, "another primary", async || (stage.primary().await != primary).then_some(())).await;
    let elected = died.elapsed();
    for proxy in PROXIES {
        eventually(LONG, "a proxy takes changes", async || takes_changes(stage, proxy).await.then_some(())).await;
    }
    let changes = died.elapsed();
    // and the one that died comes back as its replica
    let back = format!("sudo rm -r {STAYS_DEAD} && sudo systemctl daemon-reload && sudo systemctl start redis-server");
    host.run(&back).await.unwrap();
    let password = stage.fleet.secret("redis-sentinel").unwrap();
    let role = format!("REDISCLI_AUTH={password} {REDIS_CLI} -h {primary} --user sentinel role");
    eventually(LONG, "the old primary follows the new one", async || {
        let role = host.run(&role).await.ok()?;
        (role.starts_with("slave") && role.contains("connected")).then_some(())
    })
    .await;
    let times = (elected.as_secs_f64(), changes.as_secs_f64());
    let measured = format!("another primary after {:.1} s, changes taken after {:.1} s", times.0, times.1);
    all_were_well(users).await.and(measured)
}

/// Whether a change through this proxy is kept.
pub(crate) async fn takes_changes(stage: &Stage, proxy: &str) -> bool {
    let flag = json!({ "state": "ENABLED", "variants": { "on": true, "off": false }, "defaultVariant": "on" });
    let reply = stage.fleet.admin(proxy).unwrap().put_json("/v1/flags/story.of-the-store", &flag).await;
    reply.is_ok_and(|reply| (200..300).contains(&reply.status))
}

pub(crate) async fn a_host_that_is_cut_off_stops_a_roll_and_comes_back(stage: &Stage) -> Figures {
    // given users, and an instance whose network goes
    let users = stage.users(ITRUST);
    let before = stage.version(ITRUST, "stable").await;
    let lost = stage.fleet.machine("itrust-3").unwrap();
    lost.plug(false).unwrap();
    until_ready_are(stage, 4).await;
    // when somebody wants to roll
    let release = stage.itrust(true);
    let refused = stage.play("rolling-cut-off", "rolling", &release.deployed(json!({}))).await;
    // then that is refused and nothing is left behind
    refused.expect_refusal(&["UNREACHABLE", "itrust-3"]);
    assert_eq!(stage.lock().await, "");
    // and when the network is back the instance has work again, as it was
    lost.plug(true).unwrap();
    until_ready_are(stage, 5).await;
    assert_eq!(stage.ready(ITRUST, "stable").await, [before.as_str(); 5]);
    let visits = users.leave().await.unwrap();
    let (bad, kinds) = failed(&visits);
    assert!(bad <= CAUGHT, "{bad} of {} failed: {kinds:?}", visits.len());
    Figures::of(&visits)
}

pub(crate) async fn until_ready_are(stage: &Stage, count: usize) {
    eventually(LONG, &format!("{count} instances are ready"), async || {
        for proxy in PROXIES {
            let service = stage.fleet.service(proxy, ITRUST.name).await.ok()?;
            let endpoints = service["pools"]["stable"]["endpoints"].as_array()?.iter();
            if endpoints.filter(|one| one["state"] == "ready").count() != count {
                return None;
            }
        }
        Some(())
    })
    .await;
}

pub(crate) async fn a_proxy_loses_power_and_the_address_moves(stage: &Stage) -> Figures {
    // given users, an instance that somebody drained, and a route that is switched off
    let users = stage.users(CHECKBOX);
    drained(stage, true).await;
    flags::set(stage, "off").await;
    for proxy in ENTRANCES {
        flags::until_its_gate_is(proxy, true).await;
    }
    until_ready_are(stage, 4).await;
    // when the proxy that has the address loses its power
    let holder = stage.holder().await;
    stage.fleet.machine(holder).unwrap().cut().await.unwrap();
    // then the address is with the other one, within three seconds
    eventually(LONG, "the address moves", async || {
        let mut user = Client::to(address(VIRTUAL).unwrap()).header("host", CHECKBOX.host).deadline(MOVED);
        let reply = user.get("/api/study/listing").await.ok()?;
        (reply.status == 200 && stage.holder().await != holder).then_some(())
    })
    .await;
    let visits = users.leave().await.unwrap();
    let gap = longest_gap(&visits);
    assert!(gap < MOVED, "nobody was served for {gap:?}");
    // and it knows all that was decided, as does the other when it is back
    let (entrance, other) =
        if holder == "proxy-1" { (ENTRANCES[1], ENTRANCES[0]) } else { (ENTRANCES[0], ENTRANCES[1]) };
    flags::until_its_gate_is(entrance, true).await;
    stage.fleet.boot_again(holder).await.unwrap();
    flags::until_its_gate_is(other, true).await;
    until_ready_are(stage, 4).await;
    drained(stage, false).await;
    flags::set(stage, "on").await;
    until_ready_are(stage, 5).await;
    for proxy in ENTRANCES {
        flags::until_its_gate_is(proxy, false).await;
    }
    Figures::of(&visits).and(format!("nobody served for {} ms", gap.as_millis()))
}

/// Takes an instance out of work, or gives it work again.
pub(crate) async fn drained(stage: &Stage, drained: bool) {
    let (verb, body) = if drained { ("drain", json!({ "min_ready": 4 })) } else { ("ready", json!({})) };
    let path = format!("/v1/services/itrust/pools/stable/endpoints/10.0.0.32:8080/{verb}");
    eventually(LONG, "the endpoint is as it shall be", async || {
        let reply = stage.fleet.admin(PROXIES[0]).unwrap().post_json(&path, &body).await.ok()?;
        (reply.status == 200).then_some(())
    })
    .await;
}

/// The longest time in which nobody had a good answer.
fn longest_gap(visits: &[Visit]) -> Duration {
    let good: Vec<Instant> = visits.iter().filter(|visit| !visit.erred()).map(|visit| visit.at).collect();
    good.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX)
}
