//! checkbox.io by pushes to production, with a canary: `canary.yml` and `promote.yml`, called by `ansible/bin/pipeline`.

use std::time::Duration;

use serde_json::json;
use serin_tests::crowd::all_were_served;
use serin_tests::eventually::eventually;
use serin_tests::hosts::fleet::PROXIES;

use crate::desk::Desk;
use crate::figures::Figures;
use crate::regulars::{COUNT, Regulars};
use crate::stage::{CHECKBOX, Stage, failed};

/// Of those who come again, how many the plan's last step, 60 %, may have moved: four deviations more than the mean.
const MOVED: usize = COUNT * 60 / 100 + 15;
/// What a pipeline ends with when its canary wasn't taken.
const PULLED: i32 = 3;
/// How many users a bad version may cost.
const BUDGET: usize = 40;

pub(crate) async fn a_good_push_is_canaried_and_promoted(stage: &Stage) -> Figures {
    // given users, and somebody who pushes
    let desk = desk(stage).await;
    let before = stage.version(CHECKBOX, "stable").await;
    let (users, regulars) = (stage.many_users(CHECKBOX), Regulars::come(CHECKBOX));
    // when a good version is pushed
    let version = desk.push_and_tell(&sources("")).await;
    let (ended, met) = tokio::join!(desk.pipeline("run", &version), met_by_the_decision(&desk, &version, &regulars));
    // then it goes to the canary, and whoever comes again is moved to it once or never, and not by more than the plan
    assert_eq!(ended.0, 0, "{}", ended.1);
    let moved = met.iter().filter(|met| met.len() > 1).count();
    let once = [before.as_str(), version.as_str()];
    assert!(met.iter().all(|met| *met == once || *met == once[..1] || *met == once[1..]), "{met:?}");
    assert!((1..=MOVED).contains(&moved), "{moved} of {}", met.len());
    // and then to everybody, which takes it from nobody who has it
    let last = regulars.leave().await;
    for (met, last) in met.iter().zip(&last).filter(|(met, _)| met.last() == Some(&version)) {
        assert_eq!(met, last, "back and forth");
    }
    assert_eq!(stage.ready(CHECKBOX, "stable").await, [version.as_str(); 2]);
    for proxy in PROXIES {
        let service = stage.fleet.service(proxy, CHECKBOX.name).await.unwrap();
        assert_eq!((&service["rollout"]["phase"], &service["weight"]["asked"]), (&json!("promoted"), &json!(0.0)));
    }
    // and every user had an answer
    let visits = users.leave().await.unwrap();
    all_were_served(&visits);
    assert_eq!(failed(&visits), (0, vec![]));
    let on_new = visits.iter().filter(|visit| visit.is_by(&version)).count();
    let moved = format!("{moved} of {} who came again moved, once", met.len());
    Figures::of(&visits).and(format!("{on_new} answered by the new version")).and(moved)
}

/// What those who come again have met when the version is through, and stable is as it was.
async fn met_by_the_decision(desk: &Desk, commit: &str, regulars: &Regulars) -> Vec<Vec<String>> {
    let decided = async || desk.report(commit).map(|_| regulars.met());
    eventually(Duration::from_secs(240), "a decision", decided).await
}

pub(crate) async fn bad_pushes_are_pulled_and_stable_never_knows(stage: &Stage) -> Figures {
    let desk = desk(stage).await;
    let before = stage.version(CHECKBOX, "stable").await;
    let mut figures = Figures::default();
    // a version that fails every second user, and no health check: by this seed those who check are among the lucky
    // ones; one that tells them so with status 200; and one by which everybody is served, and waits
    for (fault, signal) in [
        ("--set seed=16 --set error_users=0.5", "errors"),
        ("--set seed=16 --set error_body_users=0.5", "errors"),
        ("--set latency_ms=300", "slow"),
    ] {
        figures += is_pulled(stage, &desk, fault, signal, &before).await;
        stage.fleet.reset(CHECKBOX.name).await.unwrap();
    }
    // and the canary's host runs what everybody has again, if somebody wants it to
    let back = json!({ "app": "checkbox_canary", "soak": 1, "version": before });
    stage.play("canary-restored", "rollback", &back).await.expect_well();
    assert_eq!(stage.ready(CHECKBOX, "canary").await, [before.as_str()]);
    desk.tell_later(stage, &sources("--set seed=18")).await;
    figures.and("failed are those of bad versions")
}

async fn is_pulled(stage: &Stage, desk: &Desk, fault: &str, signal: &str, before: &str) -> Figures {
    // given users
    let (users, mailed) = (stage.many_users(CHECKBOX), stage.pulls().len());
    // when a bad version is pushed
    let version = desk.push_and_tell(&sources(fault)).await;
    let (status, said) = desk.pipeline("run", &version).await;
    // then it is pulled by evidence, the pipeline says so, stable is untouched, and few users have suffered
    assert_eq!(status, PULLED, "{said}");
    let report = desk.report(&version).unwrap().to_string();
    assert!(report.contains("\"pulled\""), "{report}");
    for proxy in PROXIES {
        let service = stage.fleet.service(proxy, CHECKBOX.name).await.unwrap();
        assert_eq!((&service["circuit"]["state"], &service["circuit"]["cause"]), (&json!("open"), &json!("evidence")));
        assert!(service["circuit"].to_string().contains(&format!("\"{signal}\"")), "{}", service["circuit"]);
        assert_eq!((&service["weight"]["effective"], &service["rollout"]["phase"]), (&json!(0.0), &json!("pulled")));
    }
    assert_eq!(stage.ready(CHECKBOX, "stable").await, [before; 2]);
    let visits = users.leave().await.unwrap();
    let (bad, kinds) = failed(&visits);
    let may_fail = if signal == "slow" { 0..=0 } else { 1..=BUDGET };
    assert!(may_fail.contains(&bad), "{bad} of {} failed: {kinds:?}", visits.len());
    // and the proof is mailed
    let mail = eventually(Duration::from_secs(20), "the mail of the pull", async || {
        stage.pulls().get(mailed).map(|mail| mail.parts["text/plain"].clone())
    });
    let mail = mail.await;
    assert!(mail.contains("by evidence (") && mail.contains(signal), "{mail}");
    // and until a person closes the circuit nothing is deployed to the canary
    let (status, said) = desk.pipeline("again", &version).await;
    assert_eq!((status, said.contains("the circuit of checkbox is open")), (1, true), "{said}");
    Figures::of(&visits)
}

async fn desk(stage: &Stage) -> Desk {
    let program = stage.fleet.folder().join("checkbox-1.0/server-side/site/checkbox");
    stage.first_artifacts();
    Desk::set(stage, CHECKBOX, &SETTINGS.replace("@program@", &program.display().to_string())).await
}

/// A version whose stand-in is started with these further arguments.
fn sources(arguments: &str) -> [(&'static str, String); 2] {
    [
        ("public_html/index.html", "<!DOCTYPE html><title>checkbox.io</title>\n".to_owned()),
        ("server-side/site/start", START.replace("@arguments@", arguments)),
    ]
}

/// How the stand-in is started: its sources are not here, so its build is a copy.
const START: &str = "#!/bin/sh\nversion=$(cat ../../VERSION)\n\
    exec ./checkbox --listen \"127.0.0.1:$APP_PORT\" --version-name \"$version\" @arguments@\n";

const SETTINGS: &str = r#"# shellcheck shell=bash
repository=git@10.0.0.3:/srv/git/checkbox.git
options=(--extra-vars '{"steps": ["20%:1s:time", "60%:1s"], "patience": 240, "soak": 1}')
build_it() { cp @program@ server-side/site/; git rev-parse HEAD >VERSION; chmod 0755 server-side/site/start; }
test_it() { sh -n server-side/site/start; }
package_it() { tar --create --exclude .git . | gzip --no-name >"$1"; }
smoke_it() {
    curl --silent --show-error --fail --max-time 5 --output /dev/null --header 'Host: checkbox.io' \
        http://10.0.0.10/api/study/listing
}
"#;
