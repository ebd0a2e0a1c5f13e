//! What flagd's own test suite expects of `fractional`: same key, same bucket, there and here.

use serde_json::{Value, json};

use super::*;

fn cards(by: Option<&Value>) -> Value {
    let mut fractional: Vec<Value> = by.cloned().into_iter().collect();
    fractional.extend(["clubs", "diamonds", "hearts", "spades"].map(|suit| json!([suit, 25])));
    let variants = json!({"clubs": "c", "diamonds": "d", "hearts": "h", "spades": "s"});
    json!({"state": "ENABLED", "variants": variants, "targeting": {"fractional": fractional}})
}

#[test]
fn a_bucketing_expression_gives_the_same_variants_as_flagd() {
    let own = json!({"cat": [{"var": "$flagd.flagKey"}, {"var": "user.name"}]});
    let shared = json!({"cat": ["shared-seed", {"var": "user.name"}]});
    let flags = flags(&json!({"flags": {
        "fractional-flag": cards(Some(&own)),
        "fractional-flag-A-shared-seed": cards(Some(&shared)),
        "fractional-flag-B-shared-seed": cards(Some(&shared)),
    }}));
    let expected = [
        ("fractional-flag", json!("jack"), "hearts"),
        ("fractional-flag", json!("queen"), "spades"),
        ("fractional-flag", json!("ten"), "clubs"),
        ("fractional-flag", json!("nine"), "diamonds"),
        ("fractional-flag", json!(3), "clubs"),
        ("fractional-flag-A-shared-seed", json!("seven"), "hearts"),
        ("fractional-flag-A-shared-seed", json!("eight"), "diamonds"),
        ("fractional-flag-A-shared-seed", json!("nine"), "clubs"),
        ("fractional-flag-A-shared-seed", json!("two"), "spades"),
        ("fractional-flag-B-shared-seed", json!("seven"), "hearts"),
        ("fractional-flag-B-shared-seed", json!("two"), "spades"),
    ];
    for (key, name, variant) in expected {
        let data = json!({"user": {"name": name}});
        let evaluation = flags.evaluate(key, &context(&data));
        assert_eq!((evaluation.variant, evaluation.reason), (Some(variant), Reason::Split), "{key} for {name}");
    }
}

#[test]
fn without_an_expression_the_flag_key_and_the_targeting_key_are_hashed() {
    let rule = json!({"fractional": [["heads"], ["tails", 1]]});
    let flags = flags(&json!({"flags": {"fractional-flag-shorthand": {
        "state": "ENABLED", "variants": {"heads": "h", "tails": "t", "draw": "d"}, "defaultVariant": "draw",
        "targeting": rule,
    }}}));
    for (key, variant) in [("jon@company.com", "heads"), ("jane@company.com", "tails")] {
        let data = json!({"targetingKey": key});
        assert_eq!(flags.evaluate("fractional-flag-shorthand", &context(&data)).variant, Some(variant), "{key}");
        let given = Context::empty(NOW).with_targeting_key(key);
        assert_eq!(flags.evaluate("fractional-flag-shorthand", &given).variant, Some(variant), "{key}");
    }
}

#[test]
fn the_ends_of_the_hash_fall_where_flagd_has_them() {
    let rule = json!({"fractional": [{"var": "targetingKey"}, ["lower", 50], ["upper", 50]]});
    let flags = flags(&json!({"flags": {"it": {
        "state": "ENABLED", "variants": {"lower": "l", "upper": "u"}, "targeting": rule,
    }}}));
    let expected =
        [("ejOoVL", "lower"), ("bY9fO-", "lower"), ("SI7p-", "lower"), ("6LvT0", "upper"), ("ceQdGm", "upper")];
    for (key, variant) in expected {
        let context = Context::empty(NOW).with_targeting_key(key);
        assert_eq!(flags.evaluate("it", &context).variant, Some(variant), "{key}");
    }
}

#[test]
fn variants_and_weights_may_be_computed() {
    let variants = json!({"premium": 1, "standard": 2, "red": 3, "blue": 4, "fallback": 5});
    let flag = |rule: Value| json!({"state": "ENABLED", "variants": variants, "defaultVariant": "fallback", "targeting": rule});
    let premium = json!({"==": [{"var": "tier"}, "premium"]});
    let key = json!({"var": "targetingKey"});
    let flags = flags(&json!({"flags": {
        "variant": flag(json!({"fractional": [
            key, [{"if": [premium, "premium", "standard"]}, 50], ["standard", 50]]})),
        "variable": flag(json!({"fractional": [key, [{"var": "color"}, 50], ["blue", 50]]})),
        "weight": flag(json!({"fractional": [key, ["red", {"if": [premium, 100, 0]}], ["blue", 10]]})),
        "condition": flag(json!({"if": [{"fractional": [[false, 0], [true, 100]]}, "red", "blue"]})),
    }}));
    let expected = [
        ("variant", "jon@company.com", "tier", "premium", Some("premium")),
        ("variant", "jon@company.com", "tier", "basic", Some("standard")),
        ("variant", "user1", "tier", "premium", Some("standard")),
        ("variable", "jon@company.com", "color", "red", Some("red")),
        ("variable", "user1", "color", "red", Some("blue")),
        ("variable", "jon@company.com", "other", "", Some("fallback")),
        ("variable", "jon@company.com", "color", "yellow", None),
        ("weight", "jon@company.com", "tier", "premium", Some("red")),
        ("weight", "jon@company.com", "tier", "basic", Some("blue")),
        ("weight", "user1", "tier", "basic", Some("blue")),
        ("condition", "some-targeting-key", "tier", "", Some("red")),
    ];
    for (key, targeting_key, name, value, variant) in expected {
        let data = json!({"targetingKey": targeting_key, name: value});
        assert_eq!(flags.evaluate(key, &context(&data)).variant, variant, "{key} for {data}");
    }
}

#[test]
fn a_split_with_nothing_to_hash_is_left_to_the_default() {
    let rule = json!({"fractional": [{"var": "missing_key"}, ["on", 50], ["off", 50]]});
    let flags = flags(&on_if(&rule));
    let evaluation = flags.evaluate("it", &context(&json!({"targetingKey": "somebody"})));
    assert_eq!((evaluation.variant, evaluation.reason), (Some("off"), Reason::Default));
}
