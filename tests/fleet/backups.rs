//! The store and a database, backed up and restored: `backup.yml` and `restore.yml`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use serin_tests::hosts::fleet::ENTRANCES;

use crate::figures::Figures;
use crate::flags;
use crate::site;
use crate::stage::{CHECKBOX, Stage, all_were_well};

pub(crate) async fn what_was_backed_up_comes_back(stage: &Stage) -> Figures {
    // given users, a route that is switched off, and a backup
    let users = stage.users(CHECKBOX);
    flags::set(stage, "off").await;
    let folder = stage.fleet.folder().join("backups");
    let registered = stage.registered(CHECKBOX, "stable").await;
    sql(stage, "CREATE TABLE visits (who TEXT); INSERT INTO visits VALUES ('Ada')").await;
    stage.play("backup", "backup", &json!({ "backups": folder })).await.expect_well();
    let made: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [backup] = made.as_slice() else { panic!("{made:?}") };
    assert_eq!(fs::metadata(backup).unwrap().permissions().mode() & 0o077, 0, "others can read it");
    // when that changes, and the backup is restored
    flags::set(stage, "on").await;
    for proxy in ENTRANCES {
        flags::until_its_gate_is(proxy, false).await;
    }
    let unasked = stage.play("restore-unasked", "restore", &json!({ "backup": backup })).await;
    unasked.expect_refusal(&["This overwrites what is there"]);
    let wanted = json!({ "backup": backup, "confirm": "redis" });
    stage.play("restore", "restore", &wanted).await.expect_well();
    // then both proxies do as the backup says, the pool is as it was, and no user noticed
    for proxy in ENTRANCES {
        flags::until_its_gate_is(proxy, true).await;
    }
    assert_eq!(stage.registered(CHECKBOX, "stable").await, registered);
    // and the store takes changes
    flags::set(stage, "on").await;
    for proxy in ENTRANCES {
        flags::until_its_gate_is(proxy, false).await;
    }
    // and when a database has lost what it had, that comes back as well, and its application finds it
    sql(stage, "DROP TABLE visits").await;
    let wanted = json!({ "backup": backup, "confirm": "mariadb" });
    stage.play("restore-mariadb", "restore", &wanted).await.expect_well();
    assert_eq!(sql(stage, "SELECT who FROM visits; DROP TABLE visits").await, "Ada\n");
    site::itrust_has_its_database_and_nobody_else_does(stage).await;
    fs::remove_dir_all(folder).unwrap();
    all_were_well(users).await
}

/// What the database of iTrust answers.
async fn sql(stage: &Stage, statements: &str) -> String {
    stage.on("db-1", &format!("sudo mariadb --skip-column-names itrust --execute=\"{statements}\"")).await
}
