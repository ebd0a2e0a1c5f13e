//! The agent's file: what it means, what is refused, and the example of the manual.

use std::time::Duration;

use super::*;
use crate::config::agent::RawFile;
use crate::model::agent::AgentSpec;
use crate::model::spec::StoreKind;
use crate::model::split::Arm;

const LEAST: &str = "[agent]\nservice = \"checkbox\"\naddress = \"10.0.0.11:3002\"\n";

fn agent(text: &str) -> (AgentSpec, Vec<Note>) {
    parse_agent(text, "agent.toml").unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// What is said of a file that adds this to the least.
fn refused(more: &str) -> String {
    let text = format!("{LEAST}{more}\n");
    parse_agent(&text, "agent.toml").map(|_| text).expect_err(more).to_string()
}

#[test]
fn a_service_and_an_address_are_enough() {
    let (spec, notes) = agent(LEAST);
    assert_eq!((&*spec.service, spec.arm, &*spec.id), ("checkbox", Arm::Stable, "10.0.0.11:3002"));
    assert_eq!((spec.member.weight, spec.member.ttl()), (1, Some(Duration::from_secs(15))));
    assert_eq!((spec.drain_wait, &*spec.namespace), (Duration::from_secs(30), "production"));
    assert!(matches!(spec.store, StoreKind::Redis(_)) && spec.health.is_none());
    assert_eq!(notes.len(), 2, "no checks, no word on a drain: {notes:?}");
}

#[test]
fn the_example_of_the_manual_is_valid_and_uses_most_of_the_keys() {
    let manual = include_str!("../../../../docs/agent.md");
    let example = manual.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let (spec, notes) = agent(example);
    assert_eq!(notes, []);
    assert_eq!((spec.member.zone.as_deref(), &*spec.member.metadata["rack"]), (Some("cellar"), "r7"));
    assert!(spec.health.is_some_and(|health| health.expect_status.contains(404)));
    assert_eq!((spec.admin.len(), spec.drain_wait), (2, Duration::from_secs(60)));
}

#[test]
fn the_manual_names_every_key() {
    let manual = include_str!("../../../../docs/agent.md");
    let error = toml::from_str::<RawFile>("[agent]\nzzz = 1\n").err().expect("zzz is unknown");
    let error = error.to_string();
    let (_, known) = explain::unknown_field(error.lines().last().expect("a message")).expect("an unknown field");
    assert!(known.len() > 10, "{known:?}");
    for key in known.iter().filter(|key| !["metadata", "health"].contains(key)) {
        assert!(manual.contains(&format!("`{key}`")), "docs/agent.md doesn't name `{key}`");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    for (more, says) in [
        ("adress = \"x\"", "address"),
        ("pool = \"blue\"", "`pool` is \"stable\" or \"canary\""),
        ("id = \"a b\"", "an id is"),
        ("weight = 0", "from 1 to 1000"),
        ("ttl = \"100ms\"", "a ttl is from 1s to 1d"),
        ("zone = \"a\\nb\"", "a zone is one line"),
        ("pool = \"canary\"\ncontrol = true", "only a member of stable"),
        ("admin = [\"10.0.0.1:9901\"]", "an admin API is"),
        ("admin = [\"https://10.0.0.1:9901\"]", "an admin API is"),
        ("admin = [\"http://10.0.0.1\"]", "an admin API is"),
        ("metadata = { \"a b\" = \"x\" }", "a key of metadata"),
        ("[agent.health]\nexpect_status = []", "no endpoint could be healthy"),
        ("[store]\nurl = \"embedded\"", "share a store in Redis"),
    ] {
        let told = refused(more);
        assert!(told.contains(says) && told.contains("agent.toml:"), "{more}: {told}");
    }
    let error = parse_agent("[agent]\nservice = \"checkbox\"\n", "agent.toml").expect_err("no address").to_string();
    assert!(error.contains("address"), "{error}");
}

#[test]
fn a_password_in_the_store_s_url_is_never_told() {
    for text in [
        "[store]\nurl = \"redis://u:s3cret@h:port/0\"",
        "[store]\nurl = \"redis://u:s3cret@h/x\"",
        "[store]\nurl = 3 # redis://u:s3cret@h",
    ] {
        assert!(!refused(text).contains("s3cret"), "{text}");
    }
}

#[test]
fn the_version_is_the_first_line_of_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("VERSION");
    for (text, version) in [("1.5.1\n", Some("1.5.1")), (" 1.5.1 \nbuilt today\n", Some("1.5.1")), ("\n", None)] {
        std::fs::write(&path, text).expect("written");
        assert_eq!(version_of(&path).as_deref(), version, "{text:?}");
    }
    assert_eq!(version_of(&folder.path().join("absent")), None);
}
