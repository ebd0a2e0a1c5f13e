//! What no playbook does: each refuses by itself, says why, and leaves nothing behind.

use std::fs;

use serde_json::{Value, json};

use crate::figures::Figures;
use crate::stage::{ITRUST, Stage, all_were_well};

pub(crate) async fn what_makes_no_sense_is_refused_before_anything_is_touched(stage: &Stage) -> Figures {
    // given users, and what runs
    let users = stage.users(ITRUST);
    let before = stage.version(ITRUST, "stable").await;
    let release = stage.itrust(true);
    let torn = stage.fleet.folder().join("torn.war");
    let whole = fs::read(&release.artifact).unwrap();
    fs::write(&torn, whole.split_at(whole.len() / 2).0).unwrap();
    let cases: [(&str, Value, &str); 5] = [
        ("checksum", release.deployed(json!({ "sha256": "0".repeat(64) })), "has the checksum"),
        ("artifact", release.deployed(json!({ "artifact": "/builds/none.war" })), "/builds/none.war is not there"),
        ("version", release.deployed(json!({ "version": "../../etc" })), "Say which version"),
        ("conversion", release.deployed(json!({ "artifact": torn })), "can't be converted to jakarta"),
        ("twice", release.deployed(json!({ "version": before })), "a version is given once"),
    ];
    for (case, variables, why) in cases {
        // when something is deployed that is not what it should be
        let refused = stage.play(&format!("refused-{case}"), "rolling", &variables).await;
        // then it is refused, no host was touched, and the next deploy isn't locked out
        refused.expect_refusal(&[why]);
        assert_eq!(stage.ready(ITRUST, "stable").await, [before.as_str(); 5]);
        assert_eq!(stage.lock().await, "", "after {case}");
    }
    all_were_well(users).await
}
