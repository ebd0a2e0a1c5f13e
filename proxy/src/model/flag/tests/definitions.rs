//! What a store holds, how it changes, and what takes the place of what is refused.

use std::sync::Arc;

use super::*;

const SOUND: &str = r#"{"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"}"#;
const OFF: &str = r#"{"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"}"#;
/// A flag that is on for whom the evaluator `staff` names.
const FOR_STAFF: &str = r#"{"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
                            "targeting": {"if": [{"$ref": "staff"}, "on"]}}"#;
const STAFF: &str = r#"{"ends_with": [{"var": "email"}, "@checkbox.io"]}"#;

fn put(key: &str, definition: &str) -> FlagChange {
    FlagChange::Put { key: key.into(), definition: definition.into() }
}

fn put_evaluator(name: &str, evaluator: &str) -> FlagChange {
    FlagChange::PutEvaluator { name: name.into(), evaluator: evaluator.into() }
}

fn after(changes: &[FlagChange]) -> Definitions {
    changes.iter().fold(Definitions::default(), |definitions, change| definitions.apply(change))
}

fn is_on(definitions: &Definitions, key: &str, email: &str) -> Option<bool> {
    let (set, _) = definitions.compile(&FlagSet::default());
    set.evaluate(key, &context(&json!({"email": email}))).as_bool()
}

#[test]
fn a_change_made_twice_is_made_once() {
    let mut definitions = Definitions::default();
    for (revision, change) in (1..).zip([
        put("study.create", SOUND),
        put("study.create", OFF),
        put_evaluator("staff", STAFF),
        FlagChange::RemoveEvaluator { name: "staff".into() },
        FlagChange::Remove { key: "study.create".into() },
        FlagChange::Replace(after(&[put("a", SOUND), put("b", SOUND)])),
    ]) {
        definitions = definitions.apply(&change);
        assert_eq!(definitions.revision, revision, "{change:?}");
        assert_eq!(definitions.apply(&change), definitions, "{change:?}");
    }
    assert_eq!(definitions.flags.keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn an_exchange_alters_only_what_it_was_meant_for() {
    let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let exchange = FlagChange::Exchange { key: "kill".into(), from: value(SOUND), to: value(OFF) };
    for other in [put("kill", OFF), put("kill", "spoiled"), put("other", SOUND)] {
        let definitions = after(&[other]);
        assert_eq!(definitions.apply(&exchange), definitions);
    }
    // however it is written
    let spaced = SOUND.replace(':', " : ");
    let exchanged = after(&[put("kill", &spaced)]).apply(&exchange);
    assert_eq!((exchanged.revision, value(&exchanged.flags["kill"])), (2, value(OFF)));
}

#[test]
fn a_document_and_its_parts_put_one_by_one_are_the_same_flags() {
    let text = format!(
        r#"{{"flags": {{"it": {FOR_STAFF}}}, "$evaluators": {{"staff": {STAFF}}}, "metadata": {{"owner": "ops"}}}}"#
    );
    let whole = Definitions::parse(text.as_bytes()).expect("a document");
    let mut parts = after(&[put("it", FOR_STAFF), put_evaluator("staff", STAFF)]);
    parts.metadata = Some(r#"{"owner": "ops"}"#.into());
    let digest = |definitions: &Definitions| {
        let (set, refusals) = definitions.compile(&FlagSet::default());
        assert_eq!(refusals, []);
        set.digest()
    };
    assert_eq!(digest(&whole), digest(&parts));
    assert_eq!(is_on(&whole, "it", "ann@checkbox.io"), Some(true));
}

#[test]
fn definitions_survive_the_state_file() {
    let mut definitions = after(&[put("it", FOR_STAFF), put_evaluator("staff", STAFF)]);
    definitions.metadata = Some("{}".into());
    let text = serde_json::to_string(&definitions).expect("JSON");
    assert_eq!(serde_json::from_str::<Definitions>(&text).expect("the same"), definitions);
    assert_eq!(serde_json::from_str::<Definitions>("{}").expect("nothing yet"), Definitions::default());
}

#[test]
fn a_poisoned_definition_gives_way_to_the_last_good_one_and_spoils_no_other() {
    let last_good = after(&[put("kill", OFF), put("other", SOUND)]);
    for poison in ["", "{", "[]", "off", &SOUND.replace("\"on\"}", "\"om\"}")] {
        let held = last_good.apply(&put("kill", poison)).apply(&put("new", poison)).apply(&put("other", OFF));
        let (mended, refusals) = held.clone().mended(&last_good);
        let refused: Vec<_> = refusals.iter().map(|refusal| refusal.flag.as_deref()).collect();
        assert_eq!(refused, [Some("kill"), Some("new")], "{poison:?}");
        assert_eq!(is_on(&mended, "kill", ""), Some(false), "{poison:?}: the last good one stays");
        assert_eq!(is_on(&mended, "other", ""), Some(false), "{poison:?}: the new one counts");
        assert_eq!(mended.flags["new"], Arc::from(poison), "what was never good is known to be refused");
        assert_eq!(mended.revision, held.revision);
    }
}

#[test]
fn an_evaluator_that_is_spoiled_or_gone_stays_while_flags_need_it() {
    let last_good = after(&[put("it", FOR_STAFF), put_evaluator("staff", STAFF)]);
    let gone = FlagChange::RemoveEvaluator { name: "staff".into() };
    for spoil in [put_evaluator("staff", "{"), put_evaluator("staff", r#"{"no_such": []}"#), gone.clone()] {
        let (mended, refusals) = last_good.apply(&spoil).mended(&last_good);
        assert!(!refusals.is_empty(), "{spoil:?}");
        assert_eq!(is_on(&mended, "it", "ann@checkbox.io"), Some(true), "{spoil:?}");
    }
    // without a flag that needs it, it goes
    let unneeded = last_good.apply(&put("it", SOUND)).apply(&gone);
    let (mended, refusals) = unneeded.mended(&last_good);
    assert_eq!((mended.evaluators.len(), refusals), (0, vec![]));
}

#[test]
fn metadata_that_make_no_sense_give_way_to_the_last_good_ones() {
    let mut last_good = after(&[put("it", SOUND)]);
    last_good.metadata = Some(r#"{"owner": "ops"}"#.into());
    for poison in ["{", "[]", r#"{"owner": 1}"#] {
        let spoiled = Definitions { metadata: Some(poison.into()), ..last_good.clone() };
        let (mended, refusals) = spoiled.mended(&last_good);
        assert_eq!((mended, refusals.len()), (last_good.clone(), 1), "{poison}");
    }
}
