//! checkbox.io by a canary: `canary.yml` and `promote.yml`.

use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::crowd::all_were_served;
use serin_tests::eventually::eventually;
use serin_tests::hosts::fleet::PROXIES;
use serin_tests::hosts::playbook::Played;

use crate::figures::Figures;
use crate::regulars::{COUNT, Regulars};
use crate::stage::{CHECKBOX, Stage, all_were_well, failed};

/// Of those who come again, how many the plan's last step, 60 %, may have moved: four deviations more than the mean.
const MOVED: usize = COUNT * 60 / 100 + 15;
/// How many users a bad version may cost.
const BUDGET: usize = 40;

pub(crate) async fn a_good_version_is_promoted(stage: &Stage) -> Figures {
    // given users, and a good version
    let users = stage.many_users(CHECKBOX);
    let before = stage.version(CHECKBOX, "stable").await;
    let release = stage.checkbox("");
    let version = release.version.as_str();
    // when it is given to the canary
    let regulars = Regulars::come(CHECKBOX);
    stage.play("canary-good", "canary", &release.deployed(plan())).await.expect_well();
    // then serin passes it, and whoever comes again is moved to it once or never, and not by more than the plan
    let met = regulars.leave().await;
    let moved = met.iter().filter(|met| met.len() > 1).count();
    let once = [before.as_str(), version];
    assert!(met.iter().all(|met| *met == once || *met == once[..1] || *met == once[1..]), "{met:?}");
    assert!((1..=MOVED).contains(&moved), "{moved} of {}", met.len());
    // and stable is as it was
    assert_eq!(stage.ready(CHECKBOX, "canary").await, [version]);
    assert_eq!(stage.ready(CHECKBOX, "stable").await, [before.as_str(); 2]);
    // and when it is promoted
    stage.play("promote", "promote", &release.deployed(json!({ "soak": 1 }))).await.expect_well();
    // then stable has it, the canary is empty, and every user had an answer
    assert_eq!(stage.ready(CHECKBOX, "stable").await, [version; 2]);
    for proxy in PROXIES {
        let service = stage.fleet.service(proxy, CHECKBOX.name).await.unwrap();
        assert_eq!((&service["rollout"]["phase"], &service["weight"]["asked"]), (&json!("promoted"), &json!(0.0)));
    }
    let visits = users.leave().await.unwrap();
    all_were_served(&visits);
    assert_eq!(failed(&visits), (0, vec![]));
    let on_new = visits.iter().filter(|visit| visit.is_by(version)).count();
    let moved = format!("{moved} of {} who came again moved, once", met.len());
    Figures::of(&visits).and(format!("{on_new} answered by the new version")).and(moved)
}

pub(crate) async fn bad_versions_are_pulled_and_stable_never_knows(stage: &Stage) -> Figures {
    let before = stage.version(CHECKBOX, "stable").await;
    let mut figures = one_that_fails_is_pulled(stage).await;
    figures += one_that_is_slow_is_pulled(stage).await;
    // and the canary's host runs what everybody has again, if somebody wants it to
    let back = json!({ "app": "checkbox_canary", "soak": 1, "version": before });
    stage.play("canary-restored", "rollback", &back).await.expect_well();
    assert_eq!(stage.ready(CHECKBOX, "canary").await, [before.as_str()]);
    figures
}

async fn one_that_fails_is_pulled(stage: &Stage) -> Figures {
    // given users, and a version that fails every second one of them, and no health check: by this seed those who check
    // are among the lucky ones
    let users = stage.many_users(CHECKBOX);
    let before = stage.version(CHECKBOX, "stable").await;
    let release = stage.checkbox("--set seed=16 --set error_users=0.5");
    // when it is given to the canary
    let played = stage.play("canary-bad", "canary", &release.deployed(plan())).await;
    // then it is pulled, stable is untouched, and few users have suffered
    is_pulled(stage, &played, "errors").await;
    assert_eq!(stage.ready(CHECKBOX, "stable").await, [before.as_str(); 2]);
    let visits = users.leave().await.unwrap();
    let (bad, kinds) = failed(&visits);
    assert!((1..=BUDGET).contains(&bad), "{bad} of {} failed: {kinds:?}", visits.len());
    // and the proof is mailed
    let mail = eventually(Duration::from_secs(20), "the mail of the pull", async || {
        let mails = stage.mail.mails().ok()?;
        mails.into_iter().find(|mail| mail.header("subject").is_some_and(|subject| subject.contains("pulled")))
    });
    let mail = mail.await;
    assert!(mail.parts["text/plain"].contains("evidence"), "{:?}", mail.parts);
    // until a person closes the circuit nothing is deployed to the canary
    let again = stage.play("canary-refused", "canary", &release.deployed(json!({}))).await;
    again.expect_refusal(&["the circuit of checkbox is open"]);
    stage.fleet.reset(CHECKBOX.name).await.unwrap();
    Figures::of(&visits)
}

/// Nobody gets an error of it, and everybody waits.
async fn one_that_is_slow_is_pulled(stage: &Stage) -> Figures {
    // given users, and a version that takes 300 ms more
    let users = stage.many_users(CHECKBOX);
    let before = stage.version(CHECKBOX, "stable").await;
    let release = stage.checkbox("--set latency_ms=300");
    // when it is given to the canary
    let played = stage.play("canary-slow", "canary", &release.deployed(plan())).await;
    // then it is pulled for that, and every user had an answer
    is_pulled(stage, &played, "slow").await;
    assert_eq!(stage.ready(CHECKBOX, "stable").await, [before.as_str(); 2]);
    stage.fleet.reset(CHECKBOX.name).await.unwrap();
    all_were_well(users).await
}

/// What a new version goes through.
fn plan() -> Value {
    json!({ "steps": ["20%:1s:time", "60%:1s"], "patience": 240 })
}

/// The playbook fails and says why, and no proxy sends the canary anybody any more, by evidence of this signal.
async fn is_pulled(stage: &Stage, played: &Played, signal: &str) {
    played.expect_refusal(&["pulled"]);
    for proxy in PROXIES {
        let service = stage.fleet.service(proxy, CHECKBOX.name).await.unwrap();
        assert_eq!((&service["circuit"]["state"], &service["circuit"]["cause"]), (&json!("open"), &json!("evidence")));
        assert_eq!(service["weight"]["effective"], 0.0);
        assert!(service["circuit"].to_string().contains(&format!("\"{signal}\"")), "{}", service["circuit"]);
    }
}
