//! iTrust by a rolling update: `rolling.yml`, called by who deploys, and by `ansible/bin/pipeline`.

use std::time::Duration;

use serde_json::json;
use serin_tests::eventually::eventually;
use serin_tests::hosts::fleet::{PROXIES, address};
use serin_tests::hosts::playbook::Played;
use serin_tests::hosts::watch::{Seen, Watch};

use crate::desk::Desk;
use crate::failures::until_ready_are;
use crate::figures::Figures;
use crate::sessions::Patients;
use crate::stage::{ITRUST, Stage, all_were_well, failed};

/// How many users may be with an instance in the moment when it dies.
const CAUGHT: usize = 40;

/// Its sources are not here, so its build is a copy.
const SETTINGS: &str = r#"# shellcheck shell=bash
repository=git@10.0.0.3:/srv/git/itrust.git
way=rolling suffix=war
options=(--extra-vars '{"soak": 1}')
build_it() { cp @war@ iTrust.war; }
test_it() { [ -s iTrust.war ]; }
package_it() { cp iTrust.war "$1"; }
smoke_it() {
    curl --silent --show-error --fail --max-time 5 --header 'Host: itrust.checkbox.io' http://10.0.0.10/iTrust/login.jsp |
        grep --quiet '<title>iTrust - Login'
}
"#;

pub(crate) async fn all_are_updated_and_four_of_five_are_always_ready(stage: &Stage) -> Figures {
    // given users, and somebody who hears what each proxy says of the endpoints
    let (users, watches) = (stage.users(ITRUST), watch(stage).await);
    let patients = Patients::log_in().await;
    // when a new version is pushed, by which all are updated, one after the other, and somebody wants to deploy meanwhile
    let war = stage.itrust(true).artifact;
    let desk = Desk::set(stage, ITRUST, &SETTINGS.replace("@war@", &war.display().to_string())).await;
    let version = desk.push_and_tell(&[("README", format!("Built as {}\n", war.display()))]).await;
    let ((status, said), refused) = tokio::join!(desk.pipeline("run", &version), deploy_meanwhile(stage));
    // then that is refused, all are updated, four were ready at any moment, and every user had an answer
    assert_eq!(status, 0, "{said}");
    refused.expect_refusal(&[&format!("Another deploy is under way: rolling itrust to {version}")]);
    assert_eq!(stage.ready(ITRUST, "stable").await, [version.as_str(); 5]);
    let figures = all_were_well(users).await;
    // and who had a session kept it, or was asked to log in again and had one that works
    let sessions = patients.leave().await;
    for seen in all(watches).await {
        assert_eq!(seen.fewest, 4, "{:?}", seen.changes);
        let drained = seen.changes.iter().filter(|(_, from, to)| from == "ready" && to == "draining").count();
        assert_eq!(drained, 5, "{:?}", seen.changes);
    }
    figures.and("never fewer than 4 of 5 ready").and(sessions)
}

pub(crate) async fn what_does_not_start_is_taken_back_and_stops_the_roll(stage: &Stage) -> Figures {
    // given users, and a version that doesn't start
    let (users, watches) = (stage.users(ITRUST), watch(stage).await);
    let before = stage.version(ITRUST, "stable").await;
    let release = stage.itrust(false);
    // when it is rolled out
    let variables = release.deployed(json!({ "soak": 1, "itrust_start_timeout": 20 }));
    let played = stage.play("rolling-bad", "rolling", &variables).await;
    // then the first instance runs the version before again, the others were never touched, and no user noticed
    let stopped = format!("itrust-1 runs {before} again, and the roll stopped there");
    played.expect_refusal(&[&stopped, "Wait until it is ready"]);
    assert_eq!(stage.ready(ITRUST, "stable").await, [before.as_str(); 5]);
    let figures = all_were_well(users).await;
    for seen in all(watches).await {
        assert_eq!(seen.fewest, 4, "{:?}", seen.changes);
        assert!(seen.changes.iter().all(|(endpoint, _, _)| endpoint == "10.0.0.31:8080"), "{:?}", seen.changes);
    }
    figures.and("one instance restored, four never touched")
}

pub(crate) async fn one_that_dies_meanwhile_stops_the_roll(stage: &Stage) -> Figures {
    // given users, and a roll
    let users = stage.users(ITRUST);
    let before = stage.version(ITRUST, "stable").await;
    let release = stage.itrust(true);
    let variables = release.deployed(json!({ "soak": 1 }));
    // when another instance dies by itself as soon as the first is drained
    let dying = async {
        until_one_drains(stage).await;
        stage.on("itrust-5", "sudo systemctl kill --signal=KILL tomcat10 && sudo systemctl stop tomcat10").await;
    };
    let (played, ()) = tokio::join!(stage.play("rolling-dies", "rolling", &variables), dying);
    // then the roll stops before it touches a second one, and others may deploy
    played.expect_refusal(&["not ready: 10.0.0.35:8080", "and the roll stopped there"]);
    let versions = stage.ready(ITRUST, "stable").await;
    let updated = versions.iter().filter(|version| **version == release.version).count();
    assert!(versions.len() == 4 && updated <= 1, "{versions:?}");
    assert_eq!(stage.lock().await, "");
    // and when that one is back, all have one version again by the same playbook
    stage.on("itrust-5", "sudo systemctl start tomcat10").await;
    until_ready_are(stage, 5).await;
    let back = json!({ "app": "itrust", "soak": 1, "version": before });
    stage.play("rolling-back", "rollback", &back).await.expect_well();
    assert_eq!(stage.ready(ITRUST, "stable").await, [before.as_str(); 5]);
    let visits = users.leave().await.unwrap();
    let (bad, kinds) = failed(&visits);
    assert!(bad <= CAUGHT, "{bad} of {} failed: {kinds:?}", visits.len());
    Figures::of(&visits).and(format!("{updated} of 5 updated when it stopped"))
}

async fn watch(stage: &Stage) -> Vec<Watch> {
    let mut watches = Vec::new();
    for proxy in PROXIES {
        let token = stage.fleet.token().unwrap();
        watches.push(Watch::begin(address(proxy).unwrap(), &token, ITRUST.name, "stable").await.unwrap());
    }
    watches
}

async fn all(watches: Vec<Watch>) -> Vec<Seen> {
    let mut seen = Vec::new();
    for watch in watches {
        seen.push(watch.end().await.unwrap());
    }
    seen
}

/// Deploys a canary as soon as the roll has begun to drain.
async fn deploy_meanwhile(stage: &Stage) -> Played {
    until_one_drains(stage).await;
    let release = stage.checkbox("");
    let refused = stage.play("canary-meanwhile", "canary", &release.deployed(json!({}))).await;
    let now = stage.on("checkbox-3", "/usr/local/sbin/release current checkbox").await;
    assert_ne!(now.trim(), release.version, "a deploy that was refused has touched the canary");
    refused
}

async fn until_one_drains(stage: &Stage) {
    eventually(Duration::from_secs(120), "the roll has begun", async || {
        let service = stage.fleet.service(PROXIES[0], ITRUST.name).await.ok()?;
        let endpoints = service["pools"]["stable"]["endpoints"].as_array()?;
        endpoints.iter().any(|one| one["state"] == "draining").then_some(())
    })
    .await;
}
