//! Back to the version before: `rollback.yml`.

use serde_json::json;

use crate::figures::Figures;
use crate::stage::{CHECKBOX, Stage, all_were_well};

pub(crate) async fn the_version_before_comes_back_by_the_same_path(stage: &Stage) -> Figures {
    // given users, and a stable pool that was updated
    let release = stage.checkbox("");
    let app = json!({ "app": "checkbox_stable", "soak": 1 });
    let before = stage.version(CHECKBOX, "stable").await;
    stage.play("update", "rolling", &release.deployed(app.clone())).await.expect_well();
    let users = stage.many_users(CHECKBOX);
    // when it is rolled back
    let back = json!({ "app": "checkbox_stable", "soak": 1, "version": before });
    stage.play("rollback", "rollback", &back).await.expect_well();
    // then it has the version before, and every user had an answer
    assert_eq!(stage.ready(CHECKBOX, "stable").await, [before.as_str(); 2]);
    let figures = all_were_well(users).await;
    // and what is on no host is refused before anything is touched
    let unknown = json!({ "app": "checkbox_stable", "version": "0.9" });
    let refused = stage.play("rollback-unknown", "rollback", &unknown).await;
    refused.expect_refusal(&["checkbox 0.9 isn't staged on any instance"]);
    assert_eq!(stage.ready(CHECKBOX, "stable").await, [before.as_str(); 2]);
    figures
}
