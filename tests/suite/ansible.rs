//! Ansible's modules, roles and inventory, by real playbooks against real daemons: `tests/ansible/`. What takes long
//! has a fleet of its own, so that one needn't wait for another.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeSet;
use std::path::Path;

use serin_tests::process::{Build, serin_binary};
use tokio::process::Command;

const MODULES: [&str; 6] = ["canary", "endpoint", "flag", "info", "scale", "waiting"];
const OTHER: [&str; 6] = ["connection", "docs", "inventory", "monitoring", "provision", "vault"];
const STORE: [&str; 3] = ["restore", "store", "store_tls"];
const DEPLOYS: [&str; 2] = ["deploys", "release"];
const PIPELINE: &str = "pipeline";
const PUSH: &str = "push";
const ROLES: &str = "roles";

/// The place of everything.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Has the tests of these files pass.
async fn pass(files: &[&str]) {
    let repository = repository();
    let python = repository.join("target/ansible-env/bin/python");
    assert!(python.exists(), "{} is missing: `tests/run` makes it", python.display());
    let output = Command::new(python)
        .args(["-m", "pytest", "--config-file", "tests/ansible/pytest.ini"])
        .args(files.iter().map(|file| format!("tests/ansible/test_{file}.py")))
        .current_dir(repository)
        .env("SERIN_BIN", serin_binary(Build::Dev).unwrap())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn every_file_of_tests_has_its_turn() {
    let taken = [&MODULES[..], &OTHER, &STORE, &DEPLOYS, &[PIPELINE, PUSH, ROLES]]
        .concat()
        .into_iter()
        .map(|file| format!("test_{file}.py"));
    let there = std::fs::read_dir(repository().join("tests/ansible")).unwrap();
    let there = there.map(|file| file.unwrap().file_name().into_string().unwrap());
    let there: BTreeSet<_> = there.filter(|name| name.starts_with("test_") && name.ends_with(".py")).collect();
    assert_eq!(taken.collect::<BTreeSet<_>>(), there);
}

#[tokio::test]
async fn modules_do_what_they_say_once_and_in_check_mode_nothing() {
    pass(&MODULES).await;
}

#[tokio::test]
async fn inventory_monitoring_secrets_and_virtual_machines_are_as_documented() {
    pass(&OTHER).await;
}

#[tokio::test]
async fn a_store_is_restored_whole_and_its_passwords_are_in_no_argument() {
    pass(&STORE).await;
}

#[tokio::test]
async fn a_deploy_leaves_nothing_half_done() {
    pass(&DEPLOYS).await;
}

#[tokio::test]
async fn a_pipeline_releases_as_its_playbooks_say() {
    pass(&[PIPELINE]).await;
}

#[tokio::test]
async fn hosts_get_what_is_pushed_to_them() {
    pass(&[PUSH]).await;
}

#[tokio::test]
async fn roles_write_what_the_daemon_takes() {
    pass(&[ROLES]).await;
}
