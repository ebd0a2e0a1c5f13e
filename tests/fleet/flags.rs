//! A kill switch in the store: on each instance's mirror, and before the route on each proxy.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use serin_tests::client::Client;
use serin_tests::eventually::eventually;
use serin_tests::hosts::fleet::{ENTRANCES, address};

use crate::figures::Figures;
use crate::stage::{CHECKBOX, REDIS_CLI, Stage, all_were_well};

/// By when every proxy does as the store says.
const SOON: Duration = Duration::from_secs(1);
/// The flag that gates a route in the example inventory.
pub(crate) const FLAG: &str = "study.create";
const KEYS: &str = "serin:{production}";
const INSTANCES: [&str; 8] =
    ["checkbox-1", "checkbox-2", "checkbox-3", "itrust-1", "itrust-2", "itrust-3", "itrust-4", "itrust-5"];

pub(crate) async fn a_flag_is_mirrored_on_each_instance_and_gates_both_proxies(stage: &Stage) -> Figures {
    // given users, and a route that is open
    let users = stage.users(CHECKBOX);
    set(stage, "on").await;
    for proxy in ENTRANCES {
        until_its_gate_is(proxy, false).await;
    }
    // when its flag is switched off in the store, by nothing but redis-cli
    let switched = set(stage, "off").await;
    // then both proxies answer the route themselves, within a second
    let mut closed_after = Vec::new();
    for proxy in ENTRANCES {
        until_its_gate_is(proxy, true).await;
        let took = Timestamp::now().duration_since(switched).unsigned_abs();
        assert!(took < SOON, "{proxy} has closed the gate after {took:?}");
        closed_after.push(format!("{} ms", took.as_millis()));
    }
    // and each instance reads it beside itself
    for instance in INSTANCES {
        eventually(Duration::from_secs(5), instance, async || {
            mirrored(stage, instance).await.contains("\"off\"}").then_some(())
        })
        .await;
    }
    // and so it is by the playbook
    set(stage, "on").await;
    for (switch, closed) in [("off", true), ("back", false)] {
        let switched = stage.play(&format!("flag-{switch}"), "flags", &json!({ "flag": FLAG, "switch": switch })).await;
        switched.expect_well();
        assert_eq!(switched.sum("changed"), 1);
        for proxy in ENTRANCES {
            until_its_gate_is(proxy, closed).await;
        }
    }
    // and nobody who asked for something else noticed
    all_were_well(users).await.and(format!("gates closed after {}", closed_after.join(" and ")))
}

/// Sets the flag for everybody, and returns when that was.
pub(crate) async fn set(stage: &Stage, variant: &str) -> Timestamp {
    let flag = format!(r#"{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"{variant}"}}"#);
    let (primary, password) = (stage.primary().await, stage.fleet.secret("redis-operator").unwrap());
    let script = format!(
        "date +%s%N; REDISCLI_AUTH={password} {REDIS_CLI} -h {primary} --user operator <<'END'\n\
         HSET {KEYS}:flags {FLAG} '{flag}'\nHINCRBY {KEYS}:flagset revision 1\nPUBLISH {KEYS}:changes :flags\nEND"
    );
    let said = stage.on("checkbox-1", &script).await;
    let at = said.lines().next().unwrap().parse().unwrap();
    Timestamp::from_nanosecond(at).unwrap()
}

/// What an application on this instance reads.
async fn mirrored(stage: &Stage, instance: &str) -> String {
    let password = stage.fleet.secret("redis-app").unwrap();
    let read = format!("REDISCLI_AUTH={password} redis-cli --user app --no-auth-warning HGET '{KEYS}:flags' {FLAG}");
    stage.on(instance, &read).await
}

/// Waits until a proxy answers the route itself, or doesn't.
pub(crate) async fn until_its_gate_is(proxy: &str, closed: bool) {
    let mut user = Client::to(address(proxy).unwrap()).header("host", CHECKBOX.host);
    eventually(Duration::from_secs(20), &format!("the gate of {proxy}: closed = {closed}"), async || {
        let reply = user.post_form("/api/study/create", &[]).await.ok()?;
        ((reply.header("x-serin-error") == Some("switched_off")) == closed).then_some(())
    })
    .await;
}
