//! What is refused, where it says the fault is, and why.

use serde_json::{Value, json};

use super::*;

/// The one refusal of a document, as text.
fn refusal(document: &Value) -> String {
    let refused = refused(document);
    assert_eq!(refused.len(), 1, "{refused:?} of {document}");
    refused[0].to_string()
}

fn of_rule(targeting: &Value) -> String {
    refusal(&on_if(targeting))
}

/// A document with one flag made from a good one by replacing fields.
fn with(fields: Value) -> Value {
    let mut document = on_if(&json!({}));
    let flag = document["flags"]["it"].as_object_mut().expect("a flag");
    for (name, value) in fields.as_object().expect("fields") {
        flag.insert(name.clone(), value.clone());
    }
    document
}

#[test]
fn a_document_is_an_object_with_flags() {
    let texts = [
        ("{", "document: not valid JSON: EOF while parsing an object at line 1 column 1"),
        ("[]", "document: expected an object, found a list"),
        ("{}", "document: `flags` is missing"),
        (r#"{"flags": []}"#, "flags: expected an object, found a list"),
        (r#"{"flags": {}, "$evaluators": 1}"#, "$evaluators: expected an object, found a number"),
        (r#"{"flags": {}, "flag": {}}"#, "document: unknown key `flag`"),
        (
            r#"{"flags": {}, "metadata": {"a": []}}"#,
            "metadata.a: expected a string, a number or a boolean, found a list",
        ),
    ];
    for (text, expected) in texts {
        let (_, refusals) = FlagSet::update(&FlagSet::default(), text.as_bytes());
        assert_eq!(refusals.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    }
    let (_, refusals) = FlagSet::update(&FlagSet::default(), br#"{"flags": {}, "$schema": "x"}"#);
    assert_eq!(refusals, []);
}

#[test]
fn a_flag_says_what_is_wrong_with_its_fields() {
    let cases = [
        (json!({"state": "enabled"}), "flags.it.state: `enabled` is no state: ENABLED or DISABLED"),
        (json!({"variants": {}}), "flags.it.variants: there is no variant"),
        (json!({"variants": [true]}), "flags.it.variants: expected an object, found a list"),
        (
            json!({"variants": {"on": true, "off": "false"}}),
            "flags.it.variants.on: is a boolean, but an earlier variant is a string: all variants have one type",
        ),
        (
            json!({"variants": {"off": [1]}}),
            "flags.it.variants.off: expected a boolean, a number, a string or an object, found a list",
        ),
        (
            json!({"variants": {"off": 9_007_199_254_740_992_u64}}),
            "flags.it.variants.off: is beyond ±(2^53 - 1), which not every language can hold",
        ),
        (json!({"defaultVariant": "of"}), "flags.it.defaultVariant: `of` is not among the variants"),
        (json!({"defaultVariant": 1}), "flags.it.defaultVariant: expected the name of a variant, found a number"),
        (json!({"tageting": {}}), "flags.it: unknown key `tageting`"),
        (json!({"metadata": {"owner": 1}}), "flags.it.metadata.owner: expected a string, found a number"),
        (json!({"metadata": {"permanent": "yes"}}), "flags.it.metadata.permanent: expected a boolean, found a string"),
        (
            json!({"metadata": {"expires": "soon"}}),
            "flags.it.metadata.expires: `soon` is no date: write 2026-12-31 or 2026-12-31T12:00:00Z",
        ),
        (
            json!({"metadata": {"x": {}}}),
            "flags.it.metadata.x: expected a string, a number or a boolean, found an object",
        ),
    ];
    for (fields, expected) in cases {
        assert_eq!(refusal(&with(fields)), expected);
    }
    assert_eq!(refusal(&json!({"flags": {"it": 1}})), "flags.it: expected an object, found a number");
    assert_eq!(refusal(&json!({"flags": {"it": {}}})), "flags.it: `state` is missing");
    assert_eq!(refusal(&json!({"flags": {"it": {"state": "ENABLED"}}})), "flags.it: `variants` is missing");
}

#[test]
fn names_must_be_fit_for_headers_and_keys() {
    let flag = on_if(&json!({}))["flags"]["it"].clone();
    for key in ["", "a:b", "a\nb", "a\0", " a", "a ", "a\u{7f}", &"x".repeat(129)] {
        let found = refused(&json!({"flags": {key: flag}}));
        assert!(matches!(found[..], [Refusal { why: Why::Name(_), .. }]), "{key:?}: {found:?}");
        assert!(!found[0].to_string().contains(['\n', '\0', '\u{7f}']), "{key:?} shows as it is");
        assert!(found[0].to_string().len() < 400, "{key:?} shows at length");
        let found = refused(&with(json!({"variants": {"off": true, key: true}})));
        assert!(matches!(found[..], [Refusal { why: Why::Name(_), .. }]), "{key:?}: {found:?}");
        let found = refused(&json!({"flags": {}, "$evaluators": {key: true}}));
        assert!(matches!(found[..], [Refusal { why: Why::Name(_), .. }]), "{key:?}: {found:?}");
    }
    flags(&json!({"flags": {"new-ui.Ü/2 b_c": flag, &"x".repeat(128): flag}}));
}

#[test]
fn a_rule_says_where_it_is_wrong() {
    let cases = [
        (json!({"if": [{"foo": 1}, "on"]}), "flags.it.targeting.if[0].foo: there is no operator `foo`"),
        (json!({"if": [true, "om"]}), "flags.it.targeting.if[1]: `om` is not among the variants"),
        (json!({"if": [true, true]}), "flags.it.targeting.if[1]: `true` is not among the variants"),
        (json!({"if": [true, 7.0]}), "flags.it.targeting.if[1]: `7.0` is not among the variants"),
        (json!("om"), "flags.it.targeting: `om` is not among the variants"),
        (json!(["on"]), "flags.it.targeting: `[\"on\"]` is not among the variants"),
        (json!({"if": [{}, "on"]}), "flags.it.targeting.if[0]: an operator is an object with one key, this one has 0"),
        (
            json!({"if": [{"and": [true], "or": [true]}, "on"]}),
            "flags.it.targeting.if[0]: an operator is an object with one key, this one has 2",
        ),
        (json!({"if": [{"!": {"==": [1]}}, "on"]}), "flags.it.targeting.if[0].!.==: takes 2 arguments, not 1"),
        (json!({"if": []}), "flags.it.targeting.if: takes at least 1 argument, not 0"),
        (json!({"starts_with": ["a"]}), "flags.it.targeting.starts_with: takes 2 arguments, not 1"),
        (
            json!({"if": [{"<": [{"var": "$flagd.time"}, 1]}, "on"]}),
            "flags.it.targeting.if[0].<[0].var: there is no `$flagd.time`: $flagd.flagKey and $flagd.timestamp",
        ),
        (
            json!({"sem_ver": [{"var": "v"}, "===", "1.0.0"]}),
            "flags.it.targeting.sem_ver[1]: `===` is no comparison of versions: = != < <= > >= ^ ~",
        ),
        (json!({"sem_ver": [{"var": "v"}, "=", "one"]}), "flags.it.targeting.sem_ver[2]: `one` is no semantic version"),
    ];
    for (rule, expected) in cases {
        assert_eq!(of_rule(&rule), expected);
    }
}

#[test]
fn weights_are_whole_and_sum_to_something() {
    let rule = |weights: [Value; 2]| {
        let [on, off] = weights;
        json!({"fractional": [["on", on], ["off", off]]})
    };
    for bad in [json!(-1), json!(0.5), json!("1"), json!(null), json!(2_147_483_648_u32), json!(1e300)] {
        let expected = "flags.it.targeting.fractional[1][1]: a weight is a whole number";
        let found = of_rule(&rule([json!(1), bad.clone()]));
        assert!(found.starts_with(expected), "{bad}: {found}");
    }
    assert_eq!(of_rule(&rule([json!(0), json!(0)])), "flags.it.targeting.fractional: the weights sum to zero");
    assert_eq!(
        of_rule(&rule([json!(2_147_483_647), json!(1)])),
        "flags.it.targeting.fractional: the sum of the weights is 2147483648, more than 2147483647"
    );
    assert_eq!(of_rule(&json!({"fractional": []})), "flags.it.targeting.fractional: takes at least 1 bucket, not 0");
    assert_eq!(
        of_rule(&json!({"fractional": [{"var": "a"}, "on"]})),
        "flags.it.targeting.fractional[1]: expected a bucket: [variant, weight], found a string"
    );
    assert_eq!(
        of_rule(&json!({"fractional": [["om", 1]]})),
        "flags.it.targeting.fractional[0][0]: `om` is not among the variants"
    );
    flags(&on_if(&rule([json!(1.0), json!(0)])));
}

#[test]
fn evaluators_must_exist_and_end() {
    let mut document = on_if(&json!({"if": [{"$ref": "a"}, "on"]}));
    assert_eq!(refusal(&document), "flags.it.targeting.if[0].$ref: there is no evaluator `a`");
    document["$evaluators"] = json!({"a": {"!": {"$ref": "b"}}, "b": {"==": [1, {"$ref": "a"}]}});
    let found: Vec<String> = refused(&document).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "$evaluators.b.==[1].$ref: evaluators lead in a circle: `a` to `b` to `a`",
            "$evaluators.a.!.$ref: evaluators lead in a circle: `b` to `a` to `b`",
            "$evaluators.b.==[1].$ref: evaluators lead in a circle: `a` to `b` to `a`",
        ]
    );
    document["$evaluators"] = json!({"a": {"in": ["x"]}});
    let found = refused(&document);
    assert_eq!(found.iter().map(|refusal| refusal.flag.as_deref()).collect::<Vec<_>>(), [None, Some("it")]);
    assert_eq!(found[1].to_string(), "$evaluators.a.in: takes 2 arguments, not 1");
    assert_eq!(
        of_rule(&json!({"$ref": 1})),
        "flags.it.targeting.$ref: expected the name of an evaluator, found a number"
    );
}

#[test]
fn a_rule_that_is_too_deep_too_long_or_too_dear_is_refused() {
    let deep = |levels: usize| (0..levels).fold(json!(true), |rule, _| json!({"!": [rule]}));
    let rule = |condition: Value| json!({"if": [condition, "on"]});
    flags(&on_if(&rule(deep(limits::DEPTH - 1))));
    assert!(of_rule(&rule(deep(limits::DEPTH))).ends_with("the depth is 33, more than 32"));

    let wide = |width: usize| json!({"or": vec![json!({"var": "a"}); width]});
    flags(&on_if(&rule(wide(limits::NODES - 3))));
    let found = of_rule(&rule(wide(limits::NODES - 2)));
    assert!(found.ends_with("the number of operators and values is 1001, more than 1000"), "{found}");

    let nested = |body: Value| json!({"some": [{"var": "a"}, body]});
    flags(&on_if(&rule(nested(nested(json!({"var": ""}))))));
    let found = of_rule(&rule(nested(nested(nested(nested(json!({"var": ""})))))));
    assert!(found.starts_with("flags.it.targeting: what an evaluation may cost is "), "{found}");
}

#[test]
fn evaluators_that_blow_up_when_they_are_put_in_are_refused() {
    let mut evaluators = serde_json::Map::new();
    evaluators.insert("e0".to_owned(), json!({"var": "a"}));
    for level in 1..20 {
        let inner = json!({"$ref": format!("e{}", level - 1)});
        evaluators.insert(format!("e{level}"), json!({"or": vec![inner; 10]}));
    }
    let mut document = on_if(&json!({"if": [{"$ref": "e19"}, "on"]}));
    document["$evaluators"] = Value::Object(evaluators);
    let found = refused(&document);
    assert!(found.iter().any(|refusal| refusal.flag.as_deref() == Some("it")), "{found:?}");
    assert!(found.iter().all(|refusal| matches!(refusal.why, Why::TooBig { .. })), "{found:?}");
}

#[test]
fn what_is_too_big_is_refused() {
    let blown = with(json!({"variants": {"off": {"x": "y".repeat(limits::DEFINITION_BYTES)}}}));
    assert!(refusal(&blown).starts_with("flags.it: the definition in bytes is 65"), "{}", refusal(&blown));

    let many: serde_json::Map<String, Value> =
        (0..=limits::VARIANTS).map(|nth| (format!("v{nth}"), json!(1))).collect();
    let found = refusal(&with(json!({"variants": many, "defaultVariant": null})));
    assert_eq!(found, "flags.it: the number of variants is 101, more than 100");

    let text = format!("{{\"flags\": {{}}{}}}", " ".repeat(limits::DOCUMENT_BYTES));
    let (_, refusals) = FlagSet::update(&FlagSet::default(), text.as_bytes());
    assert!(refusals[0].to_string().starts_with("document: the document in bytes is 1048"), "{refusals:?}");

    let bomb = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let (_, refusals) = FlagSet::update(&FlagSet::default(), bomb.as_bytes());
    assert!(refusals[0].to_string().contains("recursion limit exceeded"), "{refusals:?}");
}

/// A definition with objects and lists by turns inside one another, this many with itself.
fn deep(depth: usize) -> Value {
    let nest = |inner: Value, nth: usize| if nth.is_multiple_of(2) { json!([inner]) } else { json!({ "in": inner }) };
    with(json!({"$comment": (1..depth).fold(json!("deep"), nest)}))
}

#[test]
fn a_definition_is_no_deeper_than_readers_of_what_it_stands_in_can_follow() {
    flags(&deep(limits::DEFINITION_DEPTH));
    let expected = "flags.it: the depth of the definition is 101, more than 100";
    assert_eq!(refusal(&deep(limits::DEFINITION_DEPTH + 1)), expected);
    // the deepest rule that there may be fits, also once it is kept by a switch
    let bucket = |inner: Value, _| json!({"fractional": [[inner, 1], ["off", 1]]});
    let rule = (0..limits::DEPTH).fold(json!("on"), bucket);
    let flag = flags(&on_if(&rule));
    assert!(flag.get("it").is_some());
}
