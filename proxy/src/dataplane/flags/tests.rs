//! Which gates are closed to whom, and what an application is told.

use std::rc::Rc;
use std::sync::Arc;

use http::{Method, Request};
use serde_json::json;

use super::*;
use crate::live::Live;
use crate::live::sample::{self, publish};
use crate::model::gate::GateSpec;
use crate::model::spec::Sticky;
use crate::model::state::State;

const CREATE: &str = "/api/study/create";

fn gate(flag: &str, path: &str, default: bool) -> GateSpec {
    GateSpec { default, ..sample::gate(flag, path) }
}

/// A flag that is `default` for all, but for whom its rule says otherwise.
fn boolean(default: &str, targeting: Value) -> Value {
    let variants = json!({"on": true, "off": false});
    json!({"state": "ENABLED", "variants": variants, "defaultVariant": default, "targeting": targeting})
}

/// A core with one service, whose users are known by a header.
struct World {
    live: Arc<Live>,
    core: Rc<Core>,
}

impl World {
    fn new(flags: Value, gates: Vec<GateSpec>, told: &[&str]) -> Self {
        let (live, _reports) = Live::new(1);
        sample::set_flags(&live, &json!({ "flags": flags }));
        let mut spec = sample::service("shop");
        if let Some(split) = &mut spec.split {
            split.sticky = Sticky::Header(http::HeaderName::from_static("x-user"));
        }
        (spec.gates, spec.told_flags) = (gates, told.iter().map(|key| (*key).to_owned()).collect());
        publish(&live, &[Arc::new(spec)], &State::default());
        let core = Core::new(0, Arc::clone(&live));
        Self { live, core }
    }

    fn ask(&self, method: Method, path: &str, user: &str) -> Said {
        let request = Request::builder().method(method).uri(path).header("host", "shop.example").header("x-user", user);
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let service = ServiceRef::new(self.core.snapshot(), 0);
        let asker = Asker { parts: &parts, client: [203, 0, 113, 9].into(), new_key: None, rewritten: None };
        ask(&self.core, &service, service.flags.as_ref().expect("it has flags"), &asker)
    }

    fn is_closed(&self, method: Method, path: &str) -> bool {
        matches!(self.ask(method, path, "ann"), Said::Closed(0))
    }

    fn told(&self, user: &str) -> String {
        match self.ask(Method::GET, "/", user) {
            Said::Open(Some(told)) => told,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_gate_is_closed_while_its_flag_is_off_and_only_to_its_route() {
    for (default, closed) in [("on", false), ("off", true)] {
        let flags = json!({"study.create": boolean(default, Value::Null)});
        let world = World::new(flags, vec![gate("study.create", CREATE, true)], &[]);
        assert_eq!(world.is_closed(Method::POST, CREATE), closed);
        assert_eq!(world.is_closed(Method::POST, "/api/study/%63reate/?x=1"), closed);
        assert!(!world.is_closed(Method::GET, CREATE) && !world.is_closed(Method::POST, "/"));
    }
}

#[tokio::test]
async fn a_flag_with_no_boolean_to_say_leaves_a_gate_at_its_default() {
    let disabled = json!({"state": "DISABLED", "variants": {"off": false}, "defaultVariant": "off"});
    let text = json!({"state": "ENABLED", "variants": {"off": "off"}, "defaultVariant": "off"});
    let in_error = boolean("off", json!({"var": "targetingKey"}));
    let flags = json!({"disabled": disabled, "text": text, "error": in_error});
    for key in ["disabled", "text", "error", "unknown"] {
        for default in [true, false] {
            let world = World::new(flags.clone(), vec![gate(key, CREATE, default)], &[]);
            assert_eq!(world.is_closed(Method::POST, CREATE), !default, "{key}");
        }
    }
}

#[tokio::test]
async fn every_gate_before_a_route_must_be_open() {
    let flags = json!({"a": boolean("on", Value::Null), "b": boolean("off", Value::Null)});
    let world = World::new(flags, vec![gate("a", CREATE, true), gate("b", CREATE, true)], &[]);
    assert!(matches!(world.ask(Method::POST, CREATE, "ann"), Said::Closed(1)));
}

#[tokio::test]
async fn a_rule_knows_who_asks_for_what() {
    for (rule, closed) in [
        (json!({"==": [{"var": "targetingKey"}, "ann"]}), true),
        (json!({"==": [{"var": "targetingKey"}, "bob"]}), false),
        (json!({"==": [{"var": "host"}, "shop.example"]}), true),
        (json!({"==": [{"var": "path"}, CREATE]}), true),
        (json!({"==": [{"var": "method"}, "POST"]}), true),
        (json!({"!!": [{"var": "arm"}]}), false),
    ] {
        let flags = json!({"it": boolean("on", json!({"if": [rule.clone(), "off"]}))});
        let world = World::new(flags, vec![gate("it", CREATE, true)], &[]);
        assert_eq!(world.is_closed(Method::POST, CREATE), closed, "{rule}");
    }
}

#[tokio::test]
async fn an_application_is_told_the_values_of_its_flags_in_order() {
    let search = json!({"state": "ENABLED", "variants": {"old": "v1", "new": "grün"}, "defaultVariant": "old",
                        "targeting": {"if": [{"==": [{"var": "targetingKey"}, "ann"]}, "new"]}});
    let limits = json!({"state": "ENABLED", "variants": {"small": {"projects": 3}}, "defaultVariant": "small"});
    let disabled = json!({"state": "DISABLED", "variants": {"on": true}, "defaultVariant": "on"});
    let flags = json!({"search": search, "limits": limits, "gone": disabled, "ratio": 
        {"state": "ENABLED", "variants": {"a": 0.125}, "defaultVariant": "a"}});
    let told = ["limits", "search", "gone", "unknown", "ratio"];
    let world = World::new(flags, vec![], &told);
    assert_eq!(world.told("ann"), r#"{"limits":{"projects":3},"search":"gr\u00fcn","ratio":0.125}"#);
    assert_eq!(world.told("bob"), r#"{"limits":{"projects":3},"search":"v1","ratio":0.125}"#);
    let nothing = World::new(json!({}), vec![], &told);
    assert_eq!(nothing.told("ann"), "{}");
}

#[tokio::test]
async fn what_an_application_is_told_is_bounded_and_what_does_not_fit_is_left_out() {
    let long = |length| json!({"state": "ENABLED", "variants": {"a": "x".repeat(length)}, "defaultVariant": "a"});
    let world = World::new(json!({"a": long(3_000), "b": long(3_000), "c": long(1_000)}), vec![], &["a", "b", "c"]);
    let told = world.told("ann");
    assert!(told.len() <= MOST_BYTES, "{} bytes", told.len());
    let keys: Vec<String> =
        serde_json::from_str::<Map<String, Value>>(&told).expect("JSON").into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["a", "c"]);
}

#[tokio::test]
async fn each_evaluation_is_counted_by_variant() {
    let flags = json!({"gate": boolean("on", Value::Null), "told": boolean("off", Value::Null)});
    let world = World::new(flags, vec![gate("gate", CREATE, true)], &["told"]);
    for _ in 0..3 {
        world.ask(Method::POST, CREATE, "ann");
    }
    world.ask(Method::GET, "/", "ann");
    let used = |key: &str| world.live.flag_usage(key).expect("it is counted").read();
    assert_eq!((used("gate").by_variant["on"], used("told").by_variant["off"]), (3, 4));
    assert!(used("told").last.is_some());
}
