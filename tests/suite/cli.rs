//! The commands, as a person or a pipeline runs them: against a real daemon, by exit code and output.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::process::Output;

use serde_json::{Value, json};
use serin_tests::process::{Build, serin_binary};
use serin_tests::scene::{self, SERVICE, config};
use serin_tests::serin::Serin;
use serin_tests::standin::Checkbox;
use tokio::process::Command;

struct Desk {
    serin: Serin,
    _stable: Checkbox,
    canary: Checkbox,
}

impl Desk {
    async fn start() -> Self {
        let (stable, canary) = (scene::stable().await.unwrap(), scene::canary().await.unwrap());
        let serin = Serin::start(&config(&[&stable], &[&canary], &scene::weight(10.0))).await.unwrap();
        Self { serin, _stable: stable, canary }
    }

    /// Runs a command with the token of an operator.
    async fn run(&self, words: &[&str]) -> Output {
        let token = self.serin.dir().join("token");
        fs::write(&token, self.serin.token()).unwrap();
        self.run_with(words, &["--token-file", token.to_str().unwrap()]).await
    }

    async fn run_with(&self, words: &[&str], more: &[&str]) -> Output {
        let admin = format!("http://{}", self.serin.admin());
        run(&[words, &["--admin", &admin], more].concat()).await
    }

    /// Runs a command that must succeed, and returns what it says.
    async fn says(&self, words: &[&str]) -> String {
        let output = self.run(words).await;
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    async fn status(&self) -> Value {
        serde_json::from_str(&self.says(&["status", SERVICE, "--json"]).await).unwrap()
    }
}

async fn run(words: &[&str]) -> Output {
    Command::new(serin_binary(Build::Dev).unwrap()).args(words).output().await.unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn the_weight_goes_up_a_trip_pulls_and_a_reset_gives_it_back() {
    let desk = Desk::start().await;
    desk.says(&["weight", SERVICE, "25", "--reason", "second step"]).await;
    assert_eq!(desk.status().await["weight"], json!({ "asked": 25.0, "effective": 25.0 }));
    desk.says(&["trip", SERVICE, "--reason", "users report lost answers"]).await;
    let text = desk.says(&["status", SERVICE]).await;
    assert!(text.contains("OPEN") && text.contains("users report lost answers"), "{text}");
    assert_eq!(desk.status().await["weight"], json!({ "asked": 25.0, "effective": 0.0 }));
    desk.says(&["reset", SERVICE, "--reason", "fixed in 1.5.1"]).await;
    assert_eq!(desk.status().await["circuit"]["state"], "closed");
    assert!(desk.says(&["status"]).await.contains(SERVICE));
}

#[tokio::test]
async fn endpoints_are_added_drained_readied_and_removed() {
    let desk = Desk::start().await;
    let address = desk.canary.address().to_string();
    let state = async || {
        let service = desk.status().await;
        let all = service["pools"]["canary"]["endpoints"].as_array().unwrap().clone();
        all.iter().find(|endpoint| endpoint["id"] == "second").map(|endpoint| endpoint["state"].clone())
    };
    let spot = ["second", "--pool", "canary"];
    let act = async |verb: &str, more: &[&str]| {
        desk.says(&[&["endpoint", verb, SERVICE], &spot[..], more].concat()).await;
    };
    act("add", &["--address", &address, "--version", "1.5"]).await;
    assert_eq!(state().await, Some(json!("ready")));
    act("drain", &["--wait", "10s"]).await;
    assert_eq!(state().await, Some(json!("draining")));
    act("ready", &[]).await;
    assert_eq!(state().await, Some(json!("ready")));
    let list = desk.says(&["endpoint", "list", SERVICE]).await;
    assert!(list.contains("second") && list.contains(&address), "{list}");
    act("remove", &["--reason", "gone"]).await;
    assert_eq!(state().await, None);
}

#[tokio::test]
async fn a_command_that_is_refused_says_why_and_exits_with_1() {
    let desk = Desk::start().await;
    for (words, why) in [
        (vec!["weight", "chekbox", "10"], "known: checkbox"),
        (vec!["status", "chekbox"], "known: checkbox"),
        (vec!["endpoint", "add", SERVICE, "10.0.0.21"], "the port is missing"),
        (vec!["endpoint", "remove", SERVICE, "10.0.0.21:1"], "there is no"),
    ] {
        let output = desk.run(&words).await;
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(stderr(&output).contains(why), "{words:?}: {}", stderr(&output));
    }
    let output = desk.run_with(&["weight", SERVICE, "10"], &[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("a token is needed"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_command_that_makes_no_sense_exits_with_2_and_asks_nobody() {
    for (words, why) in [
        (vec!["weight", SERVICE, "101"], "out of range"),
        (vec!["weight", SERVICE, "0.001"], "too fine"),
        (vec!["weight", SERVICE], "PERCENT"),
        (vec!["trip", SERVICE], "--reason"),
        (vec!["reset", SERVICE], "--reason"),
        (vec!["wieght", SERVICE, "1"], "weight"),
    ] {
        let output = run(&words).await;
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(why), "{words:?}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn a_daemon_that_is_not_there_is_named() {
    let output = run(&["status", "--admin", "http://127.0.0.1:1"]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("cannot reach the admin API at http://127.0.0.1:1") && said.contains("--admin"), "{said}");
}

#[tokio::test]
async fn check_sums_up_what_is_valid_and_points_at_what_is_not() {
    let valid = run(&["check", concat!(env!("CARGO_MANIFEST_DIR"), "/../config/checkbox.toml")]).await;
    assert_eq!(valid.status.code(), Some(0), "{}", stderr(&valid));
    assert!(String::from_utf8_lossy(&valid.stdout).contains("checkbox: 2 stable, 1 canary, weight 10 %"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.toml");
    fs::write(&path, "[service.a]\nstabel = []\n").unwrap();
    let refused = run(&["check", path.to_str().unwrap()]).await;
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said.contains("bad.toml:2:1") && said.contains("stable") && said.contains('^'), "{said}");
    let served = run(&["serve", "--config", path.to_str().unwrap()]).await;
    assert_eq!(served.status.code(), Some(2), "{}", stderr(&served));
}
