//! checkbox.io scaled by serin: the driver is Ansible, the instances are hosts that were spare.

use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::crowd::Visit;
use serin_tests::eventually::eventually;
use serin_tests::hosts::fleet::PROXIES;

use crate::controller::{Controller, Manner};
use crate::figures::Figures;
use crate::stage::{CHECKBOX, Stage, failed, merged};

/// A look each 5 s, failures with their rests, and a playbook, on a machine that may have other work too.
const LONG: Duration = Duration::from_secs(600);
const FLOOR: usize = 2;
const CEILING: usize = 3;
/// Users a second whom the floor bears, and five times as many.
const FEW: f64 = 30.0;
const MANY: f64 = 120.0;
/// The host that is spare.
const SPARE: &str = "10.0.0.24:80";
const RULES: &str = "warm_up = \"0s\"\ncooldown = \"15s\"\nshrink_after = \"15s\"\n\
    [[service.checkbox.autoscale.rule]]\nmetric = \"requests\"\ntarget = 35\n";

pub(crate) async fn load_brings_a_host_and_its_end_takes_it_away(stage: &Stage) -> Figures {
    // given proxies that may call a driver, one that fails
    let controller = Controller::start(stage).await;
    controller.is_now(Manner::Fails);
    scale(stage, &controller, true).await;
    // when five times as many users come as the floor is made for
    let (few, many) = (stage.users_at(CHECKBOX, FEW), stage.users_at(CHECKBOX, MANY));
    // then nothing appears, serin rests between its calls, and people are told
    until_failed(stage, 2.0).await;
    assert_eq!(endpoints(stage, PROXIES[0]).await.len(), FLOOR);
    let mail = eventually(LONG, "the mail of the driver", async || {
        let mails = stage.mail.mails().ok()?;
        mails.into_iter().find(|mail| mail.header("subject").is_some_and(|subject| subject.contains("driver")))
    });
    assert!(mail.await.parts["text/plain"].contains("no quota"));
    // and one that lies is found out, and starts nothing either
    controller.is_now(Manner::Lies);
    until_failed(stage, 3.0).await;
    assert_eq!(endpoints(stage, PROXIES[0]).await.len(), FLOOR);
    // and when it works, then the spare host becomes an instance, and there are as many as there may be
    controller.is_now(Manner::Works);
    until_ready(stage, CEILING).await;
    let registered = stage.registered(CHECKBOX, "stable").await;
    assert!(registered.contains_key(SPARE), "{registered:?}");
    until_asked(stage).await;
    eventually(LONG, "the ceiling is what holds it", async || {
        let cuts = plan(stage, "decision").await.ok()?["cuts"].as_array()?.clone();
        cuts.iter().any(|cut| cut["limit"] == "max").then_some(())
    })
    .await;
    // and a deploy finds it, as every other instance
    let release = stage.checkbox("");
    stage.play("deploy-scaled", "deploy", &release.deployed(json!({ "soak": 1 }))).await.expect_well();
    assert_eq!(stage.ready(CHECKBOX, "stable").await, [release.version.as_str(); CEILING]);
    // and when the many go, then the pool shrinks to its floor, and what left it is stopped
    let mut visits = many.leave().await.unwrap();
    until_ready(stage, FLOOR).await;
    visits.extend(few.leave().await.unwrap());
    scale(stage, &controller, false).await;
    let mut figures = nobody_failed(&visits);
    let resting = stage.resting(CHECKBOX).await;
    assert_eq!(resting.len(), 1, "{resting:?}");
    figures += by_hand(stage, resting[0], &release.version).await;
    figures
}

/// What a person does with the same playbook; at the end the fleet is as it was.
async fn by_hand(stage: &Stage, resting: &str, version: &str) -> Figures {
    let users = stage.users(CHECKBOX);
    if resting != "checkbox-4" {
        // serin let another host rest: first that one is back at work.
        stage.play("scale-back", "scale", &json!({ "scale": "out" })).await.expect_well();
    } else {
        let out = stage.play("scale-out", "scale", &json!({ "scale": "out", "wish": "sale" })).await;
        out.expect_well();
        assert_eq!(stage.ready(CHECKBOX, "stable").await, [version; CEILING]);
        let again = stage.play("scale-out-again", "scale", &json!({ "scale": "out", "wish": "sale" })).await;
        again.expect_well();
        assert_eq!(again.sum("changed"), 0, "{:?}", again.changes());
    }
    let more = stage.play("scale-beyond", "scale", &json!({ "scale": "out" })).await;
    more.expect_refusal(&["1 more wanted, and no host is left that is spare"]);
    stage.play("scale-in", "scale", &json!({ "scale": "in", "instances": ["checkbox-4"] })).await.expect_well();
    assert_eq!(stage.resting(CHECKBOX).await, ["checkbox-4"]);
    until_ready(stage, FLOOR).await;
    nobody_failed(&users.leave().await.unwrap())
}

fn nobody_failed(visits: &[Visit]) -> Figures {
    assert_eq!(failed(visits), (0, vec![]), "of {}", visits.len());
    Figures::of(visits)
}

/// Tells the proxies by which rules they scale, or that they don't.
async fn scale(stage: &Stage, controller: &Controller, scaled: bool) {
    let rules = format!(
        "[service.checkbox.autoscale]\nmin = {FLOOR}\nmax = {CEILING}\n{RULES}[service.checkbox.autoscale.driver]\n\
         exec = {:?}\ntimeout = \"300s\"\nready_within = \"20s\"\n",
        Controller::exec()
    );
    let variables = merged(controller.known(), json!({ "serin_scaling": if scaled { &rules } else { "" } }));
    let what = if scaled { "scaling-on" } else { "scaling-off" };
    stage.fleet.play_so(what, "site", &variables, &["--tags", "serin"]).await.unwrap().expect_well();
}

async fn endpoints(stage: &Stage, proxy: &str) -> Vec<Value> {
    let service = stage.fleet.service(proxy, CHECKBOX.name).await.unwrap();
    service["pools"]["stable"]["endpoints"].as_array().unwrap().clone()
}

/// Waits until every proxy has so many that are ready, and no others.
async fn until_ready(stage: &Stage, count: usize) {
    eventually(LONG, &format!("{count} instances"), async || {
        for proxy in PROXIES {
            let all = endpoints(stage, proxy).await;
            assert!(all.len() <= CEILING, "{all:?}");
            if all.len() != count || all.iter().any(|one| one["state"] != "ready") {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// What the proxy that leads says of its plan.
async fn plan(stage: &Stage, part: &str) -> anyhow::Result<Value> {
    for proxy in PROXIES {
        let path = format!("/v1/services/{}/autoscale", CHECKBOX.name);
        let plan = stage.fleet.admin(proxy)?.get(&path).await?.json()?;
        if !plan[part].is_null() {
            return Ok(plan[part].clone());
        }
    }
    Ok(Value::Null)
}

async fn until_failed(stage: &Stage, times: f64) {
    eventually(LONG, &format!("the driver failed {times} times"), async || {
        (stage.metric("serin_autoscale_driver_failures{service=\"checkbox\"}").await >= times).then_some(())
    })
    .await;
}

/// Waits until the new one is asked by users.
async fn until_asked(stage: &Stage) {
    let series = format!("serin_endpoint_requests_total{{service=\"checkbox\",arm=\"stable\",endpoint=\"{SPARE}\"}}");
    eventually(LONG, "it is asked", async || (stage.metric(&series).await > 50.0).then_some(())).await;
}
