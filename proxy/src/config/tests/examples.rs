//! The shipped files: valid, complete, and true about their defaults.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;

use super::*;
use crate::model::alert::Condition;
use crate::model::gate::NormalPath;
use crate::model::scaling::InRollout;
use crate::model::split::Arm;

const SERIN: &str = include_str!("../../../../config/serin.toml");
const CHECKBOX: &str = include_str!("../../../../config/checkbox.toml");
const AUTOSCALE: &str = include_str!("../../../../config/autoscale.toml");

/// Keys that aren't named as they are: these by the keys in them.
const NAMED_OTHERWISE: [&str; 3] = ["docker", "http2", "tls"];

/// A table of `serin.toml` with its keys.
struct Section<'a> {
    header: &'a str,
    keys: Vec<Key<'a>>,
}

/// A key's line without the `#` in front.
struct Key<'a> {
    line: &'a str,
    is_default: bool,
}

impl Key<'_> {
    fn name(&self) -> &str {
        self.line.split(' ').next().expect("a key")
    }
}

/// A commented-out line has no blank behind its `#`; prose has one.
fn uncommented(line: &str) -> &str {
    line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase())).unwrap_or(line)
}

fn sections() -> Vec<Section<'static>> {
    let mut sections: Vec<Section<'static>> = Vec::new();
    for line in SERIN.lines() {
        let bare = uncommented(line);
        if bare.starts_with('[') {
            let header = bare.split('#').next().expect("a header").trim();
            sections.push(Section { header, keys: Vec::new() });
        } else if bare.starts_with(|c: char| c.is_ascii_lowercase()) {
            let is_default = line.starts_with('#') && !bare.contains("# no default");
            sections.last_mut().expect("keys stand in a table").keys.push(Key { line: bare, is_default });
        }
    }
    sections
}

#[test]
fn serin_toml_is_valid_as_it_is_and_with_every_comment_taken_away() {
    let (spec, notes) = parsed(SERIN);
    assert_eq!((spec.listeners.len(), spec.services.len()), (1, 1));
    assert_eq!(spec.services[0].seeds.get(Arm::Stable).len(), 1);
    assert_eq!(notes.len(), 1, "only the store's: {notes:?}");
    let full: String = SERIN.lines().map(|line| format!("{}\n", uncommented(line))).collect();
    let (spec, _) = parsed(&full);
    assert_eq!((spec.listeners.len(), spec.services.len()), (2, 2));
    assert!(spec.email.is_some() && spec.services[0].health.is_some() && spec.services[0].alerts.len() == 3);
}

#[test]
fn serin_toml_names_every_key() {
    let mut named: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut sections = sections();
    // The short service and the one in full name their keys together.
    sections.iter_mut().filter(|s| s.header == "[service.web]").for_each(|s| s.header = "[service.shop]");
    for section in &sections {
        let keys = named.entry(section.header).or_default();
        keys.extend(section.keys.iter().map(|key| key.name().to_owned()));
    }
    // `[alert]` names the key `alert` of the root, `[service.shop.split]` the key `split` of its service.
    for section in &sections {
        let path = section.header.trim_matches(['[', ']']);
        let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
        let parent = if parent == "service" { continue } else { format!("[{parent}]") };
        if let Some(keys) = named.get_mut(parent.as_str()) {
            keys.insert(key.to_owned());
        }
    }
    let mut seen = 0;
    for (header, keys) in &named {
        let message =
            toml::from_str::<RawConfig>(&format!("{header}\nzzz = 1\n")).err().expect("zzz is unknown").to_string();
        let message = message.lines().last().expect("a message");
        let (_, known) = explain::unknown_field(message).expect(message);
        for key in known.iter().filter(|key| !NAMED_OTHERWISE.contains(key)) {
            assert!(keys.contains(*key), "{header} doesn't name `{key}`");
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} keys were looked at");
    let root = toml::from_str::<RawConfig>("zzz = 1\n").err().expect("zzz is unknown").to_string();
    let (_, known) = explain::unknown_field(root.lines().last().expect("a message")).expect("an unknown field");
    for key in known {
        assert!(
            sections.iter().any(|s| s.header.trim_matches(['[', ']']).split('.').next() == Some(key)),
            "`{key}` has no table"
        );
    }
}

#[test]
fn taking_the_comment_from_a_default_changes_nothing() {
    let spec_of = |section: &Section<'_>, more: Option<&str>| {
        let needed: String = section.keys.iter().filter(|k| !k.is_default).map(|k| format!("{}\n", k.line)).collect();
        // A table that is there already is only written out once.
        let text = format!("{}\n{needed}{}\n", section.header, more.unwrap_or(""));
        format!("{:#?}", parsed(&text).0)
    };
    let mut looked_at = 0;
    for section in sections() {
        for key in section.keys.iter().filter(|key| key.is_default) {
            let same = spec_of(&section, None) == spec_of(&section, Some(key.line));
            assert!(same, "{}: this is not the default: {}", section.header, key.line);
            looked_at += 1;
        }
    }
    assert!(looked_at > 35, "only {looked_at} defaults were looked at");
}

#[test]
fn checkbox_toml_says_what_checkbox_needs() {
    let (spec, notes) = parsed(CHECKBOX);
    assert_eq!(notes, []);
    let checkbox = &spec.services[0];
    assert_eq!((checkbox.seeds.stable.len(), checkbox.seeds.canary.len()), (2, 1));
    assert_eq!(checkbox.split.as_ref().expect("a split").weight.percent(), 10.0);
    assert_eq!(checkbox.max_body_bytes, 20 << 20);
    assert_eq!(checkbox.timeouts.keep_alive.as_secs(), 4);
    assert_eq!(checkbox.verdict.errors.body_contains, ["\"error\":"]);
    assert!(checkbox.verdict.errors.exclude_paths.iter().any(|path| path == "/api/snippets"));
    let health = checkbox.health.as_ref().expect("health");
    assert!(health.path == "/api" && health.expect_status.contains(404) && !health.expect_status.contains(200));
    assert_eq!(health.expect_body.as_deref(), Some("Cannot GET /api"));
    assert_eq!(checkbox.alerts[0].condition, Condition::Above(0.05));
}

#[test]
fn checkbox_toml_has_a_kill_switch_for_each_of_its_features() {
    let (spec, _) = parsed(CHECKBOX);
    let gates = &spec.services[0].gates;
    for (flag, method, path) in [
        ("study.create", Method::POST, "/api/study/create"),
        ("survey.preview", Method::POST, "/api/design/survey"),
        ("vote.submit", Method::POST, "/api/study/vote/submit/"),
        ("vote.upload", Method::POST, "/api/upload"),
        ("study.listing", Method::GET, "/api/study/listing"),
    ] {
        let path = NormalPath::of(path);
        let met: Vec<_> = gates.iter().filter(|gate| gate.stands_before(&method, &path)).collect();
        assert_eq!(met.iter().map(|gate| gate.flag.as_str()).collect::<Vec<_>>(), [flag]);
        assert!(met[0].default, "{flag}: a flag that is lost must not take the application down");
        assert!(!met[0].stands_before(&Method::OPTIONS, &path), "{flag}: browsers ask first");
    }
    for (method, path) in [(Method::GET, "/"), (Method::GET, "/api/study/load/5e7f3a9c1d2b4c6e8f000001")] {
        assert!(!gates.iter().any(|gate| gate.stands_before(&method, &NormalPath::of(path))), "{path}");
    }
    assert_eq!(spec.services[0].told_flags, ["vote.upload", "mail.notify"]);
}

#[test]
fn configurations_in_the_manual_are_valid() {
    for (page, text) in [
        ("http2.md", include_str!("../../../../docs/http2.md")),
        ("tls.md", include_str!("../../../../docs/tls.md")),
        ("upstream-tls.md", include_str!("../../../../docs/upstream-tls.md")),
        ("websocket.md", include_str!("../../../../docs/websocket.md")),
        ("names.md", include_str!("../../../../docs/names.md")),
        ("limits.md", include_str!("../../../../docs/limits.md")),
        ("routing.md", include_str!("../../../../docs/routing.md")),
        ("proxy-protocol.md", include_str!("../../../../docs/proxy-protocol.md")),
        ("autoscaling.md", include_str!("../../../../docs/autoscaling.md")),
        ("balancing.md", include_str!("../../../../docs/balancing.md")),
    ] {
        let examples: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(!examples.is_empty(), "{page} shows no configuration");
        for example in examples {
            assert!(parse(example, page).is_ok(), "{page}: {:?}", parse(example, page).err());
        }
    }
}

#[test]
fn autoscale_toml_is_the_example_of_the_manual() {
    let (spec, notes) = parsed(AUTOSCALE);
    assert_eq!(notes.len(), 1, "only the store's: {notes:?}");
    let scaling = spec.services[0].autoscale.as_ref().expect("rules");
    assert_eq!((scaling.min, scaling.max, scaling.rules.len()), (2, 60, 3));
    assert!(scaling.driver.is_some() && scaling.in_rollout == InRollout::Grow);
    let example = AUTOSCALE.split_once("[service.shop.autoscale]").expect("the rules").1;
    assert!(include_str!("../../../../docs/autoscaling.md").contains(example.trim()), "the manual shows another one");
}
