//! checkbox.io by a canary: `canary.yml` and `promote.yml`.

use std::time::Duration;

use serde_json::json;
use serin_tests::crowd::all_were_served;
use serin_tests::eventually::eventually;
use serin_tests::hosts::fleet::PROXIES;

use crate::figures::Figures;
use crate::stage::{CHECKBOX, Stage, failed};

/// How many users a bad version may cost.
const BUDGET: usize = 40;

pub(crate) async fn a_good_version_is_promoted(stage: &Stage) -> Figures {
    // given users, and a good version
    let users = stage.users(CHECKBOX);
    let before = stage.version(CHECKBOX, "stable").await;
    let release = stage.checkbox("");
    let version = release.version.as_str();
    // when it is given to the canary
    let plan = json!({ "steps": ["20%:1s:time", "60%:1s"], "patience": 240 });
    stage.play("canary-good", "canary", &release.deployed(plan)).await.expect_well();
    // then serin passes it, and stable is as it was
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
    Figures::of(&visits).and(format!("{on_new} answered by the new version"))
}

pub(crate) async fn a_bad_version_is_pulled_and_stable_never_knows(stage: &Stage) -> Figures {
    // given users, and a version that fails every second one of them, and no health check: by this seed those who check
    // are among the lucky ones
    let users = stage.users(CHECKBOX);
    let before = stage.version(CHECKBOX, "stable").await;
    let release = stage.checkbox("--set seed=16 --set error_users=0.5");
    // when it is given to the canary
    let plan = json!({ "steps": ["20%:1s:time", "60%:1s"], "patience": 240 });
    let played = stage.play("canary-bad", "canary", &release.deployed(plan)).await;
    // then the playbook fails and says why
    played.expect_refusal(&["pulled"]);
    // and no proxy sends it anybody, stable is untouched, and few users have suffered
    for proxy in PROXIES {
        let service = stage.fleet.service(proxy, CHECKBOX.name).await.unwrap();
        assert_eq!((&service["circuit"]["state"], &service["circuit"]["cause"]), (&json!("open"), &json!("evidence")));
        assert_eq!(service["weight"]["effective"], 0.0);
    }
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
