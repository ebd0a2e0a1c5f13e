//! `serin demo`: what a newcomer sees in the first minute, as they run it.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serin_tests::process::{Build, Process, Signal, serin_binary};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

/// How long the whole may take: three times what it needs.
const PATIENCE: Duration = Duration::from_secs(60);
/// A machine that is busy with other tests gets another chance to be quick.
const TRIES: usize = 3;

fn demo(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(serin_binary(Build::Dev).unwrap());
    command.arg("demo").args(arguments).env("TMPDIR", folder).kill_on_drop(true);
    command
}

/// A run of `demo --once`, and the folder in which it put its files.
async fn told() -> (Output, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let output = timeout(PATIENCE, demo(&["--once"], folder.path()).output()).await.unwrap().unwrap();
    (output, folder)
}

/// The value that stands behind a label.
fn fact<'a>(text: &'a str, label: &str) -> &'a str {
    let line = text.lines().find(|line| line.trim_start().starts_with(label));
    line.unwrap_or_else(|| panic!("no {label} in:\n{text}")).trim_start()[label.len()..].trim()
}

fn pulled_after(text: &str) -> Duration {
    let (ms, _) = fact(text, "pulled after").split_once(" ms").unwrap();
    Duration::from_millis(ms.parse().unwrap())
}

fn is_empty(folder: &TempDir) -> bool {
    fs::read_dir(folder.path()).unwrap().next().is_none()
}

#[tokio::test]
async fn demo_once_tells_the_whole_story() {
    let mut tries = 0;
    let (text, folder) = loop {
        tries += 1;
        let (output, folder) = told().await;
        let text = String::from_utf8(output.stdout).unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}\n{complaints}");
        assert_eq!(complaints, "");
        if pulled_after(&text) < Duration::from_secs(1) {
            break (text, folder);
        }
        assert!(tries < TRIES, "pulled only after {:?}:\n{text}", pulled_after(&text));
    };
    for part in [
        "1  Two pools behind serin",
        "(version 2, just released)",
        "Every user came back, and met the same version again.",
        "requests to the canary, ",
        "│ Evidence ",
        " failing requests\n",
        "│   serin reset shop --reason",
        "Summary",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    assert!(fact(&text, "since the pull").starts_with("0 requests to the canary"), "{text}");
    assert!(fact(&text, "subject").contains("shop: canary pulled (evidence)"), "{text}");
    assert!(!text.contains(['\x1b', '\r']), "the terminal's codes are in a pipe");
    let broad = text.lines().find(|line| !line.starts_with('│') && line.chars().count() > 80);
    assert_eq!(broad.filter(|line| !line.contains("serin-demo-")), None);
    nothing_is_left(&text, &folder);
}

/// Files are gone, and nobody listens where somebody did.
fn nothing_is_left(text: &str, folder: &TempDir) {
    assert!(is_empty(folder), "files are left");
    let listened: Vec<SocketAddr> = ["stable pool", "canary pool", "users come to", "dashboard, API"]
        .into_iter()
        .flat_map(|label| fact(text, label).split([' ', ',', '/']))
        .filter_map(|word| word.parse().ok())
        .collect();
    assert_eq!(listened.len(), 5, "{text}");
    for address in listened {
        assert!(TcpStream::connect(address).is_err(), "somebody still listens on {address}");
    }
}

#[tokio::test]
async fn ctrl_c_ends_the_demo_with_nothing_left() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Process::start("demo", demo(&[], folder.path())).unwrap();
    assert!(demo.first_line().await.unwrap().starts_with("serin demo: "));
    assert!(!is_empty(&folder), "it keeps its files elsewhere");
    demo.signal(Signal::INT).unwrap();
    assert!(demo.wait(PATIENCE).await.unwrap().success(), "{}", demo.log());
    assert!(is_empty(&folder), "files are left");
}
