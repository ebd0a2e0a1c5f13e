//! Values, reasons and faults of whole flags.

use serde_json::{Value, json};

use super::*;

fn flag(state: &str, default: Value, targeting: Value) -> FlagSet {
    let variants = json!({"on": {"size": 3}, "off": {}, "true": {}, "7": {}});
    flags(&json!({"flags": {"it": {
        "state": state, "variants": variants, "defaultVariant": default, "targeting": targeting,
    }}}))
}

/// The variant, the reason and the error code.
fn told(flags: &FlagSet, data: &Value) -> (Option<String>, &'static str, Option<&'static str>) {
    let evaluation = flags.evaluate("it", &context(data));
    assert_eq!(evaluation.variant.is_some(), evaluation.value.is_some());
    assert_eq!(evaluation.fault.is_some(), evaluation.reason == Reason::Error);
    let code = evaluation.fault.map(|fault| fault.code().name());
    (evaluation.variant.map(str::to_owned), evaluation.reason.name(), code)
}

fn some(variant: &str) -> Option<String> {
    Some(variant.to_owned())
}

#[test]
fn a_flag_without_a_rule_is_static() {
    for rule in [json!(null), json!({})] {
        assert_eq!(told(&flag("ENABLED", json!("on"), rule.clone()), &json!({})), (some("on"), "STATIC", None));
        assert_eq!(told(&flag("ENABLED", json!(null), rule), &json!({})), (None, "DEFAULT", None));
    }
}

#[test]
fn a_disabled_flag_says_so_and_gives_no_value() {
    let flags = flag("DISABLED", json!("on"), json!({"if": [true, "on"]}));
    assert_eq!(told(&flags, &json!({})), (None, "DISABLED", None));
}

#[test]
fn a_rule_that_matches_names_its_variant() {
    let flags = flag("ENABLED", json!("off"), json!({"if": [{"==": [{"var": "a"}, 1]}, "on"]}));
    assert_eq!(told(&flags, &json!({"a": 1})), (some("on"), "TARGETING_MATCH", None));
    assert_eq!(told(&flags, &json!({"a": 2})), (some("off"), "DEFAULT", None));
    assert_eq!(flags.evaluate("it", &context(&json!({"a": 1}))).value, Some(&json!({"size": 3})));
}

#[test]
fn truths_and_numbers_name_the_variants_that_are_spelt_like_them() {
    assert_eq!(told(&flag("ENABLED", json!("off"), json!({"!": false})), &json!({})).0, some("true"));
    assert_eq!(told(&flag("ENABLED", json!("off"), json!({"+": [3, 4]})), &json!({})).0, some("7"));
}

#[test]
fn a_rule_that_names_no_variant_is_an_error() {
    for rule in [json!({"var": "a"}), json!({"cat": ["o", "m"]}), json!({"merge": ["on"]}), json!({"var": ""})] {
        let flags = flag("ENABLED", json!("off"), rule);
        assert_eq!(told(&flags, &json!({"a": "nope"})), (None, "ERROR", Some("GENERAL")));
    }
}

#[test]
fn a_split_says_so_wherever_it_is_the_last_word() {
    let split = json!({"fractional": [["on", 1]]});
    let data = json!({"targetingKey": "somebody"});
    for rule in [split.clone(), json!({"if": [true, split]}), json!({"if": [false, "off", {"if": [split]}]})] {
        assert_eq!(told(&flag("ENABLED", json!("off"), rule), &data), (some("on"), "SPLIT", None));
    }
    let condition = json!({"if": [{"fractional": [[true, 1]]}, "on"]});
    assert_eq!(told(&flag("ENABLED", json!("off"), condition), &data), (some("on"), "TARGETING_MATCH", None));
}

#[test]
fn a_split_by_targeting_key_needs_one() {
    let flags = flag("ENABLED", json!("off"), json!({"fractional": [["on", 1]]}));
    assert_eq!(told(&flags, &json!({})), (None, "ERROR", Some("TARGETING_KEY_MISSING")));
    assert_eq!(told(&flags, &json!({"targetingKey": null})), (None, "ERROR", Some("TARGETING_KEY_MISSING")));
    assert_eq!(told(&flags, &json!({"targetingKey": ""})), (some("on"), "SPLIT", None));
}

#[test]
fn a_flag_that_does_not_exist_is_not_found() {
    let evaluation = FlagSet::default().evaluate("it", &Context::empty(NOW)).fault.map(Fault::code);
    assert_eq!(evaluation, Some(ErrorCode::FlagNotFound));
}

#[test]
fn a_context_is_an_object_with_a_text_as_key() {
    for data in [json!([]), json!("x"), json!(1), json!({"targetingKey": 7})] {
        assert_eq!(Context::new(&data, NOW).map(|_| ()), Err(Fault::InvalidContext), "{data}");
    }
    assert!(Context::new(&json!(null), NOW).is_ok());
}

#[test]
fn the_targeting_key_that_is_given_beats_the_one_in_the_context() {
    let flags = flag("ENABLED", json!("off"), json!({"if": [{"==": [{"var": "targetingKey"}, "b"]}, "on"]}));
    let data = json!({"targetingKey": "a"});
    assert_eq!(flags.evaluate("it", &context(&data).with_targeting_key("b")).variant, Some("on"));
}

#[test]
fn the_time_is_what_it_is_told() {
    let flags = flag("ENABLED", json!("off"), json!({"if": [{"<": [{"var": "$flagd.timestamp"}, 100]}, "on"]}));
    assert!(flags.uses_time());
    for (millis, variant) in [(99_999, "on"), (100_000, "off")] {
        let context = Context::empty(Timestamp::from_millis(millis));
        assert_eq!(flags.evaluate("it", &context).variant, Some(variant));
    }
    assert!(!flag("ENABLED", json!("off"), json!({"if": [true, "on"]})).uses_time());
}

#[test]
fn a_context_that_would_take_too_long_is_an_error() {
    let pairs = json!({"some": [{"var": "a"}, {"some": [{"var": "b"}, {"==": [{"var": "c"}, 1]}]}]});
    let flags = flag("ENABLED", json!("off"), json!({"if": [pairs, "on"]}));
    let many: Vec<Value> = (0..200).map(|_| json!({"b": vec![json!({"c": 2}); 200]})).collect();
    assert_eq!(told(&flags, &json!({"a": many})), (None, "ERROR", Some("GENERAL")));
    assert_eq!(told(&flags, &json!({"a": many[..2]})), (some("off"), "DEFAULT", None));
}

#[test]
fn long_texts_are_paid_for_wherever_they_are_read() {
    let long = "7".repeat(200_000);
    let data = json!({"long": long, "copies": vec![&long; 10]});
    let readers = [
        json!({"==": [{"var": "long"}, "x"]}),
        json!({"<": [{"var": "long"}, "x"]}),
        json!({"in": [{"var": "long"}, "x"]}),
        json!({"in": ["x", {"var": "long"}]}),
        json!({"in": ["x", {"var": "copies"}]}),
        json!({"starts_with": [{"var": "long"}, "x"]}),
        json!({"sem_ver": [{"var": "long"}, "=", "1.0.0"]}),
        json!({"+": [{"var": "long"}]}),
        json!({"cat": [{"var": "copies"}]}),
        json!({"substr": [{"var": "long"}, 1, 1]}),
        json!({"fractional": [{"var": "long"}, ["a", 1]]}),
    ];
    for reader in readers {
        let many = json!({"if": [{"!": [vec![&reader; 20]]}, "on", "off"]});
        let told = told(&flag("ENABLED", json!("off"), many), &data);
        assert_eq!(told, (None, "ERROR", Some("GENERAL")), "{reader}");
    }
}

#[test]
fn a_rule_can_not_make_text_or_lists_without_bound() {
    let doubled = json!({"cat": [{"var": "accumulator"}, {"var": "accumulator"}]});
    let nested = json!([{"var": "accumulator"}]);
    let data = json!({"a": vec![1; 60], "b": vec![1; 500]});
    for (list, body) in [("a", doubled), ("b", nested)] {
        let rule = json!({"if": [{"reduce": [{"var": list}, body, "x"]}, "on"]});
        assert_eq!(told(&flag("ENABLED", json!("off"), rule), &data), (None, "ERROR", Some("GENERAL")));
    }
}

#[test]
fn a_boolean_flag_reads_as_a_boolean() {
    let flags = flags(&on_if(&json!({"if": [{"var": "go"}, "on"]})));
    assert_eq!(flags.evaluate("it", &context(&json!({"go": 1}))).as_bool(), Some(true));
    assert_eq!(flags.evaluate("it", &context(&json!({"go": 0}))).as_bool(), Some(false));
}
