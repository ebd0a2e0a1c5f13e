//! Ansible's modules and inventory, by real playbooks against real daemons: `tests/ansible/`.

use std::path::Path;

use serin_tests::process::{Build, serin_binary};
use tokio::process::Command;

#[tokio::test]
async fn playbooks_do_what_they_say_once_and_in_check_mode_nothing() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = repository.join("target/ansible-env/bin/python");
    assert!(python.exists(), "{} is missing: `tests/run` makes it", python.display());
    let output = Command::new(python)
        .args(["-m", "pytest", "--config-file", "tests/ansible/pytest.ini", "tests/ansible"])
        .current_dir(repository)
        .env("SERIN_BIN", serin_binary(Build::Dev).unwrap())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
