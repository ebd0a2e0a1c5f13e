//! Flags together: what one that is wrong does to the others, and what names them all.

use serde_json::{Value, json};

use super::*;

fn flag(default: &str) -> Value {
    json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": default})
}

fn update(previous: &FlagSet, document: &Value) -> (FlagSet, Vec<Refusal>) {
    FlagSet::update(previous, document.to_string().as_bytes())
}

fn default_of<'f>(flags: &'f FlagSet, key: &str) -> Option<&'f str> {
    flags.get(key).and_then(Flag::default_variant)
}

#[test]
fn a_flag_that_is_refused_keeps_its_last_good_definition_and_spoils_no_other() {
    let first = flags(&json!({"flags": {"a": flag("on"), "b": flag("on"), "c": flag("on")}}));
    let poisoned = json!({"flags": {"a": flag("off"), "b": flag("nope"), "new": flag("nope")}});
    let (second, refusals) = update(&first, &poisoned);
    let named: Vec<_> = refusals.iter().map(|refusal| refusal.flag.as_deref()).collect();
    assert_eq!(named, [Some("b"), Some("new")]);
    assert_eq!(default_of(&second, "a"), Some("off"), "the good one is taken");
    assert_eq!(default_of(&second, "b"), Some("on"), "the last good one stays");
    assert!(second.get("c").is_none(), "what isn't named any more is gone");
    assert!(second.get("new").is_none(), "what was never good isn't there");
    assert_eq!(second.refused().collect::<Vec<_>>(), ["new"]);
    let fault = |key: &str| second.evaluate(key, &Context::empty(NOW)).fault.map(|fault| fault.code().name());
    assert_eq!([fault("b"), fault("new"), fault("c")], [None, Some("PARSE_ERROR"), Some("FLAG_NOT_FOUND")]);
}

#[test]
fn a_document_that_can_not_be_read_changes_nothing() {
    let first = flags(&json!({"flags": {"a": flag("on")}, "metadata": {"team": "shop"}}));
    let (second, refusals) = FlagSet::update(&first, b"{\"flags\": {");
    assert_eq!(refusals.len(), 1);
    assert_eq!((default_of(&second, "a"), second.digest()), (Some("on"), first.digest()));
}

#[test]
fn flags_may_come_one_text_each() {
    let first = flags(&json!({"flags": {"a": flag("on"), "b": flag("on")}}));
    let mut document = Document::default();
    document.put_flag("a", flag("off").to_string().as_bytes());
    document.put_flag("b", b"not JSON");
    document.put_flag("c", flag("on").to_string().as_bytes());
    let refusal = document.put_evaluator("e", b"{").expect_err("no JSON");
    assert!(refusal.to_string().starts_with("$evaluators.e: not valid JSON"), "{refusal}");
    document.put_evaluator("e", br#"{"==": [1]}"#).expect("JSON");
    document.remove_flag("c");
    assert_eq!(document.keys().collect::<Vec<_>>(), ["a", "b"]);
    let (second, refusals) = FlagSet::assemble(&first, &document);
    assert_eq!((default_of(&second, "a"), default_of(&second, "b")), (Some("off"), Some("on")));
    assert_eq!(refusals[0].to_string(), "$evaluators.e.==: takes 2 arguments, not 1");
    assert!(refusals[1].to_string().starts_with("flags.b: not valid JSON"), "{refusals:?}");
}

#[test]
fn a_flag_keeps_the_evaluator_that_it_was_compiled_with() {
    let document = |evaluator: Value| {
        let mut document = on_if(&json!({"if": [{"$ref": "e"}, "on"]}));
        document["$evaluators"] = json!({"e": evaluator});
        document
    };
    let first = flags(&document(json!({"==": [1, 1]})));
    let (second, refusals) = update(&first, &document(json!({"==": [1]})));
    assert_eq!(refusals.len(), 2);
    assert_eq!(second.evaluate("it", &Context::empty(NOW)).variant, Some("on"));
    assert_eq!(second.digest(), first.digest());
}

#[test]
fn metadata_of_the_set_stand_behind_those_of_the_flag() {
    let mut one = flag("on");
    one["metadata"] = json!({"owner": "shop", "ticket": 7});
    let flags = flags(&json!({
        "flags": {"a": one, "b": flag("on")},
        "metadata": {"owner": "platform", "expires": "2026-12-31T12:00:00Z"},
    }));
    let (a, b) = (flags.get("a").expect("a"), flags.get("b").expect("b"));
    assert_eq!((a.owner(), b.owner()), (Some("shop"), Some("platform")));
    assert_eq!(a.expires().map(|at| at.to_string()), Some("2026-12-31T12:00:00.000Z".to_owned()));
    let said = flags.evaluate("a", &Context::empty(NOW)).metadata.expect("metadata");
    assert_eq!(json!(said), json!({"owner": "shop", "ticket": 7, "expires": "2026-12-31T12:00:00Z"}));
}

#[test]
fn the_digest_is_of_the_content_and_of_nothing_else() {
    let text = br#"{"flags": {"a": {"state": "ENABLED", "variants": {"on": 1, "off": 2}}, "b":
        {"state": "ENABLED", "variants": {"x": "y"}, "targeting": {"if": [{"$ref": "e"}, "x"]}}},
        "$evaluators": {"e": {"var": "go"}, "unused": true}}"#;
    let other_order = br#"{"$evaluators": {"e": {"var": "go"}}, "flags": {"b":
        {"variants": {"x": "y"}, "targeting": {"if": [{"$ref": "e"}, "x"]}, "state": "ENABLED"},
        "a": {"variants": {"off": 2, "on": 1}, "state": "ENABLED"}}}"#;
    let digest = |text: &[u8]| FlagSet::update(&FlagSet::default(), text).0.digest();
    assert_eq!(digest(text), digest(other_order));
    // Pinned: an ETag that somebody holds must outlive an upgrade of serin.
    assert_eq!(digest(text).to_string(), "f56cc9aef05cd00c359276a76d9be7ba");
    let text = String::from_utf8_lossy(text).into_owned();
    for (from, to) in [("\"on\": 1", "\"on\": 3"), ("\"go\"", "\"stop\""), ("ENABLED", "DISABLED"), ("\"b\"", "\"c\"")]
    {
        let changed = text.replacen(from, to, 1);
        assert_ne!(digest(changed.as_bytes()), digest(text.as_bytes()), "{from} to {to}");
    }
}

#[test]
fn all_flags_are_evaluated_at_once() {
    let flags = flags(&json!({"flags": {
        "a": flag("on"),
        "b": {"state": "DISABLED", "variants": {"x": "y"}},
        "c": {"state": "ENABLED", "variants": {"x": "y"}, "targeting": {"fractional": [["x", 1]]}},
    }}));
    let said: Vec<_> = flags
        .evaluate_all(&Context::empty(NOW))
        .map(|(flag, evaluation)| (flag.key().to_owned(), evaluation.reason, evaluation.fault))
        .collect();
    let expected = [
        ("a".to_owned(), Reason::Static, None),
        ("b".to_owned(), Reason::Disabled, None),
        ("c".to_owned(), Reason::Error, Some(Fault::TargetingKeyMissing)),
    ];
    assert_eq!(said, expected);
    assert_eq!((flags.len(), flags.is_empty()), (3, false));
}

#[test]
fn a_flag_tells_what_it_is() {
    let flags = flags(&on_if(&json!({"if": [{"var": "a"}, "on"]})));
    let flag = flags.get("it").expect("a flag");
    assert_eq!((flag.kind(), flag.is_enabled(), flag.has_targeting()), (Kind::Boolean, true, true));
    assert_eq!(flag.variants().collect::<Vec<_>>(), [("off", &json!(false)), ("on", &json!(true))]);
    assert_eq!(flag.cost(), 3);
    assert_eq!((flag.owner(), flag.expires(), flag.is_permanent()), (None, None, false));
}

#[test]
fn answers_have_the_same_digest_exactly_as_long_as_nothing_that_they_depend_on_changes() {
    let by_time = json!({"if": [{">": [{"var": "$flagd.timestamp"}, 10]}, "on"]});
    let still = flags(&on_if(&json!({"if": [{"var": "a"}, "on"]})));
    let timed = flags(&on_if(&by_time));
    let digest = |set: &FlagSet, data: &Value, seconds: u64| {
        let context = Context::new(data, Timestamp::from_millis(seconds * 1_000)).expect("a context");
        set.answers_digest(&context)
    };
    let (ann, bob) = (json!({"targetingKey": "ann", "a": 1}), json!({"targetingKey": "bob", "a": 1}));
    assert_eq!(digest(&still, &ann, 1), digest(&still, &json!({"a": 1, "targetingKey": "ann"}), 2));
    assert_ne!(digest(&still, &ann, 1), digest(&still, &bob, 1));
    assert_ne!(digest(&still, &ann, 1), digest(&still, &json!({"targetingKey": "ann", "a": 2}), 1));
    assert_ne!(digest(&still, &ann, 1), digest(&timed, &ann, 1));
    assert_ne!(digest(&timed, &ann, 1), digest(&timed, &ann, 2), "the time decides");
    // a flag that is known to be refused is no unknown one
    let nothing = flags(&json!({"flags": {}}));
    let (refused, _) = update(&nothing, &json!({"flags": {"x": {}}}));
    assert_eq!(refused.digest(), nothing.digest());
    assert_ne!(digest(&refused, &ann, 1), digest(&nothing, &ann, 1));
}
