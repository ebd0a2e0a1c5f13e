//! The command as a whole: from files to what people and programs are told.

use std::fs;

use clap::Parser as _;
use serde_json::Value;

use super::*;

/// The command alone.
#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// What the command answers to these words, `@` being a log with this text: code, text and JSON.
fn answer(words: &str, log: &str) -> (u8, String, Value) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("access.log");
    fs::write(&path, log).expect("a file");
    let words = words.replace('@', path.to_str().expect("UTF-8"));
    let line = Line::try_parse_from(["backtest"].into_iter().chain(words.split(' '))).expect("well-formed words");
    match examine(&line.options) {
        Ok(report) => {
            let json = serde_json::from_str(&report.json()).expect("JSON");
            (report.code(), report.text(Page::new(false)), json)
        }
        Err(error) => (UNREADABLE, with_causes(&error), Value::Null),
    }
}

/// nginx's lines: every tenth user on v2, which fails from line 500 on.
fn nginx(users: usize) -> String {
    let line = |user: usize| {
        let canary = user % 10 == 3;
        let (status, version) = (if canary && user > 500 { 502 } else { 200 }, if canary { "v2" } else { "v1" });
        let (minute, second) = (user / 600, user / 10 % 60);
        let address = format!("10.0.{}.{}", user / 250, user % 250);
        format!(
            "{address} - - [22/Nov/2026:03:{minute:02}:{second:02} +0000] \"GET /a HTTP/1.1\" {status} 12 \"-\" \"cu\\\"rl\" {version}\n"
        )
    };
    (0..users).map(line).collect()
}

const NGINX: &str = "--format combined --weight 10 --arm canary=v2,stable=v1 @";

#[test]
fn a_foreign_log_of_a_canary_that_breaks_says_where_and_what_is_assumed() {
    let (code, text, json) = answer(NGINX, &nginx(1_000));
    assert_eq!(code, PULLED, "{text}");
    for said in
        ["PULLED", "access.log:5", "assumed: the canary got 10 %", "assumed: a user is a client address", "GET /a"]
    {
        assert!(text.contains(said), "no {said} in:\n{text}");
    }
    let (episode, pulled) = (&json["episodes"][0], &json["episodes"][0]["pulled"]);
    let line = pulled["reached"]["line"].as_u64().expect("a line");
    assert!((524..600).contains(&line) && line % 10 == 4, "{pulled}");
    assert_eq!(pulled["canary_users_hurt"], episode["evidence"]["canary"]["bad"]);
    assert!(episode["evidence"]["signals"]["slow"].is_null(), "such a log tells nothing of it");
}

#[test]
fn options_are_the_settings_of_the_judge() {
    let pulled_at = |options: &str| {
        let (_, text, json) = answer(&format!("{options} {NGINX}"), &nginx(1_000));
        json["episodes"][0]["pulled"]["reached"]["line"].as_u64().unwrap_or_else(|| panic!("{text}"))
    };
    let by_default = pulled_at("--max-excess-errors 0");
    assert!(pulled_at("--false-pull-rate 0.000001") > by_default);
    assert!(pulled_at("--max-excess-errors 1") < by_default);
    let (code, text, _) = answer(&format!("--signal errors=off,client_errors=on {NGINX}"), &nginx(1_000));
    assert_eq!(code, 0, "{text}");
    let (code, ..) = answer(&format!("--bad-status 4xx,503 {NGINX}"), &nginx(1_000));
    assert_eq!(code, 0);
}

#[test]
fn a_healthy_canary_stays_and_what_is_to_come_is_said() {
    let (code, text, json) = answer(NGINX, &nginx(400));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("would have stayed") && text.contains("more canary users to a pass"), "{text}");
    assert_eq!(json["episodes"][0]["steps"][0]["units"]["canary"], 40);
}

#[test]
fn a_split_that_is_none_is_said() {
    let (_, text, _) = answer(&NGINX.replace("weight 10", "weight 50"), &nginx(400));
    assert!(text.contains("the canary had 40 of 400 users, which is no chance"), "{text}");
}

#[test]
fn broken_lines_are_counted_and_named_and_can_not_forge_what_is_said() {
    let forged = format!(
        "10.0.0.1 - - [22/Nov/2026:03:00:00 +0000] \"GET /\x1b[2J HTTP/1.1\" 502 12 \"-\" \"x\" v\x1b]9\nnonsense\n{}",
        nginx(1_000)
    );
    let (code, text, json) = answer(NGINX, &forged);
    assert_eq!((code, json["lines"]["broken"].as_u64()), (PULLED, Some(2)), "{text}");
    assert!(text.contains("access.log:1: `v\\u{1b}]9` is no arm") && !text.contains('\x1b'), "{text}");
    let hostile = nginx(1_000).replace("GET /a", "GET /\x1b[2J\u{9b}");
    assert!(!answer(NGINX, &hostile).1.contains(['\x1b', '\u{9b}']));
}

#[test]
fn what_can_not_be_replayed_ends_with_2_and_the_next_step() {
    for (words, log, said) in [
        ("@", "Ready\n", "0 requests"),
        ("--format combined @", "", "say by --weight"),
        ("--weight 10 @", "", "serin's own lines say the arm"),
        ("--format combined --weight 10 --false-pull-rate 2 @", "", "false_pull_rate"),
        ("--config /nowhere/serin.toml @", "", "/nowhere/serin.toml can't be read"),
        ("/nowhere/access.log", "", "/nowhere/access.log can't be read"),
    ] {
        let (code, text, _) = answer(words, log);
        assert_eq!(code, UNREADABLE, "{words}");
        assert!(text.contains(said), "{words}: {text}");
    }
}

/// The commands and the lines of `docs/backtest.md`.
#[test]
fn the_page_is_true() {
    let page = include_str!("../../../../docs/backtest.md");
    let blocks: Vec<&str> = page.split("```").skip(1).step_by(2).collect();
    let commands: Vec<&str> = blocks
        .iter()
        .flat_map(|block| block.lines())
        .filter_map(|line| line.strip_prefix("$ serin backtest "))
        .collect();
    assert!(commands.len() >= 4, "{commands:?}");
    for command in &commands {
        let words = command.split(" | ").next().expect("a command").split_whitespace();
        Line::try_parse_from(["backtest"].into_iter().chain(words))
            .unwrap_or_else(|error| panic!("{command}: {error}"));
    }
    let log = blocks.iter().find_map(|block| block.strip_prefix("nginx\n")).expect("an example of a log");
    let (code, text, json) = answer(NGINX, log);
    assert_eq!((code, &json["lines"]["broken"]), (0, &Value::from(0)), "{text}");
    assert_eq!(json["lines"]["requests"].as_u64(), Some(log.lines().count() as u64));
}
