//! A deploy whose controller dies: what it leaves, and how it is cleared away with `unlock.yml`.

use std::time::Duration;

use serde_json::json;
use serin_tests::eventually::eventually;
use serin_tests::hosts::fleet::PROXIES;

use crate::figures::Figures;
use crate::stage::{CHECKBOX, Stage, all_were_well};

pub(crate) async fn a_deploy_that_is_killed_leaves_no_canary_behind_and_its_lock_is_taken_away(
    stage: &Stage,
) -> Figures {
    // given users, and a canary deploy that would last for an hour
    let users = stage.many_users(CHECKBOX);
    let release = stage.checkbox("");
    let plan = release.deployed(json!({ "steps": ["30%:1h"], "lease": "5s" }));
    // when whoever runs it dies with the canary at work
    tokio::select! {
        played = stage.play("canary-killed", "canary", &plan) => panic!("it ended by itself: {played:?}"),
        () = until_it_is(stage, "progressing") => {}
    }
    // then serin takes the users back by itself, and who decides it then changes nothing, and leaves the lock to people
    until_it_is(stage, "aborted").await;
    let decided = stage.play("abort", "abort", &json!({ "version": release.version })).await;
    decided.expect_well();
    assert_eq!(decided.sum("changed"), 0);
    assert!(stage.lock().await.starts_with(&format!("canary of checkbox {}", release.version)));
    // and nobody deploys until a person has taken the lock away
    let refused = stage.play("canary-locked", "canary", &release.deployed(json!({}))).await;
    refused.expect_refusal(&[&format!("Another deploy is under way: canary of checkbox {}", release.version)]);
    let taken = stage.play("unlock", "unlock", &json!({})).await;
    taken.expect_well();
    assert_eq!((taken.sum("changed"), stage.lock().await.as_str()), (1, ""));
    // and who takes away what isn't there changes nothing
    assert_eq!(stage.play("unlock-again", "unlock", &json!({})).await.sum("changed"), 0);
    all_were_well(users).await
}

async fn until_it_is(stage: &Stage, phase: &str) {
    eventually(Duration::from_secs(120), phase, async || {
        let service = stage.fleet.service(PROXIES[0], CHECKBOX.name).await.ok()?;
        (service["rollout"]["phase"] == phase).then_some(())
    })
    .await;
}
