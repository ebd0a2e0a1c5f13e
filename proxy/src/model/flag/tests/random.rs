//! Random definitions and contexts: none panics, none takes more steps than it may.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};

use super::*;
use crate::model::flag::machine::Machine;

const OPERATORS: &[&str] = &[
    "if",
    "?:",
    "and",
    "or",
    "!",
    "!!",
    "var",
    "missing",
    "missing_some",
    "in",
    "cat",
    "merge",
    "substr",
    "==",
    "===",
    "!=",
    "!==",
    "<",
    "<=",
    ">",
    ">=",
    "map",
    "filter",
    "all",
    "none",
    "some",
    "reduce",
    "starts_with",
    "ends_with",
    "sem_ver",
    "fractional",
    "+",
    "*",
    "-",
    "/",
    "%",
    "min",
    "max",
    "$ref",
    "nonsense",
];

const WORDS: &[&str] = &[
    "",
    "a",
    "b",
    "a.b",
    "0",
    "list",
    "list.0",
    "on",
    "off",
    "true",
    "1",
    "-1",
    "1.2.3",
    ">=",
    "~",
    "current",
    "accumulator",
    "targetingKey",
    "$flagd.timestamp",
    "$flagd.flagKey",
    "$flagd",
    "e",
    "é→",
    "NaN",
    "1e999",
];

fn one_of<'w>(random: &mut StdRng, words: &[&'w str]) -> &'w str {
    words[random.random_range(0..words.len())]
}

/// Any JSON, with a liking for what means something to a rule.
fn anything(random: &mut StdRng, depth: u32) -> Value {
    match random.random_range(0..if depth == 0 { 6 } else { 12 }) {
        0 => Value::Null,
        1 => json!(random.random::<bool>()),
        2 => json!(random.random_range(-3..30)),
        3 => json!(random.random::<f64>() * 10f64.powi(random.random_range(-300..300))),
        4 | 5 => json!(one_of(random, WORDS)),
        6..=8 => (0..random.random_range(0..5)).map(|_| anything(random, depth - 1)).collect(),
        9 => (0..random.random_range(0..4))
            .map(|_| (one_of(random, WORDS).to_owned(), anything(random, depth - 1)))
            .collect::<Map<_, _>>()
            .into(),
        _ => json!({ one_of(random, OPERATORS): anything(random, depth - 1) }),
    }
}

/// A rule that is right by construction, but for how dear it is.
fn rule(random: &mut StdRng, depth: u32) -> Value {
    if depth == 0 {
        return match random.random_range(0..4) {
            0 => json!({"var": one_of(random, &["", "a", "list", "text"])}),
            1 => json!(random.random_range(-3..30)),
            2 => json!(one_of(random, WORDS)),
            _ => json!([1, "a", [true, null]]),
        };
    }
    let mut args = |count: usize| (0..count).map(|_| rule(random, depth - 1)).collect::<Vec<_>>();
    let (one, two, three) = (args(1), args(2), args(3));
    match random.random_range(0..14) {
        0 => json!({"if": three}),
        1 => json!({"and": two}),
        2 => json!({"!": one}),
        3 => json!({"==": two}),
        4 => json!({"<=": three}),
        5 => json!({"in": two}),
        6 => json!({"cat": three}),
        7 => json!({"substr": three}),
        8 => json!({"merge": two}),
        9 => json!({ one_of(random, &["map", "filter", "all", "none", "some"]): two }),
        10 => json!({"reduce": three}),
        11 => json!({ one_of(random, &["+", "*", "min", "max", "cat", "missing"]): three }),
        12 => json!({"fractional": [{"or": [two[0]]}, [two[1], 3], ["on", {"max": one}]]}),
        _ => json!({"sem_ver": [{"cat": two}, "^", "1.2.3"]}),
    }
}

/// A context with long lists and texts.
fn random_context(random: &mut StdRng) -> Value {
    let long = random.random_range(0..300);
    json!({
        "a": anything(random, 4),
        "list": (0..long).map(|_| anything(random, 2)).collect::<Vec<_>>(),
        "text": "xyz".repeat(random.random_range(0..20_000)),
        "targetingKey": one_of(random, WORDS),
    })
}

fn random_contexts(random: &mut StdRng) -> Vec<Value> {
    (0..50).map(|_| random_context(random)).collect()
}

/// Runs a flag's rule, and says how many steps it took.
fn steps(flag: &Flag, data: &Value) -> u32 {
    let Some(rule) = flag.rule() else { return 0 };
    let mut machine = Machine::new(flag.key(), context(data));
    let decided = machine.decide(&rule.expr).map(|_| ());
    let spent = machine.steps.spent();
    assert_eq!(decided == Err(Fault::OutOfSteps), spent == limits::STEPS, "{spent} steps, then {decided:?}");
    spent
}

#[test]
fn random_definitions_and_contexts_do_no_harm() {
    let mut random = StdRng::seed_from_u64(1);
    let contexts = random_contexts(&mut random);
    let mut compiled = 0;
    for _ in 0..3_000 {
        let mut document = on_if(&anything(&mut random, 6));
        document["$evaluators"] = json!({"e": anything(&mut random, 3)});
        if random.random_range(0..10) == 0 {
            document["flags"]["it"] = anything(&mut random, 4);
        }
        let (flags, refusals) = FlagSet::update(&FlagSet::default(), document.to_string().as_bytes());
        let told = refusals.iter().any(|refusal| refusal.flag.as_deref() == Some("it"));
        assert_eq!(flags.get("it").is_none(), told, "{document}: {refusals:?}");
        for flag in flags.iter() {
            compiled += 1;
            let data = &contexts[random.random_range(0..contexts.len())];
            assert!(steps(flag, data) <= limits::STEPS);
            let first = flags.evaluate("it", &context(data));
            assert_eq!(first, flags.evaluate("it", &context(data)), "the same question, another answer: {document}");
        }
    }
    assert!(compiled > 250, "only {compiled} of the definitions could be compiled");
}

#[test]
fn random_texts_do_no_harm() {
    let mut random = StdRng::seed_from_u64(2);
    let good = on_if(&rule(&mut random, 3)).to_string();
    for _ in 0..4_000 {
        let mut text = good.clone().into_bytes();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..text.len());
            text[at] = b"{}[]\",:0e-\\u\0\xff x"[random.random_range(0..16)];
        }
        let (flags, refusals) = FlagSet::update(&FlagSet::default(), &text);
        assert!(flags.len() <= 1 && refusals.len() <= 1, "{refusals:?}");
        for _ in flags.evaluate_all(&Context::empty(NOW)) {}
    }
}

#[test]
fn rules_that_are_right_keep_within_their_steps() {
    let mut random = StdRng::seed_from_u64(3);
    let contexts = random_contexts(&mut random);
    let (mut compiled, mut most) = (0, 0);
    for _ in 0..2_000 {
        let depth = random.random_range(1..6);
        let condition = rule(&mut random, depth);
        let document = on_if(&json!({"if": [condition, "on"]}));
        let (flags, refusals) = FlagSet::update(&FlagSet::default(), document.to_string().as_bytes());
        assert!(
            refusals.iter().all(|refusal| matches!(refusal.why, Why::TooBig { .. } | Why::Version(_))),
            "{refusals:?} of {document}"
        );
        for flag in flags.iter() {
            compiled += 1;
            most = most.max(steps(flag, &contexts[random.random_range(0..contexts.len())]));
        }
    }
    assert!(compiled > 1_000 && most > 1_000, "{compiled} compiled, {most} steps at most");
}

#[test]
fn a_rule_without_lists_and_long_texts_costs_what_was_counted() {
    let mut random = StdRng::seed_from_u64(4);
    let data = json!({"a": "short", "b": 1, "targetingKey": "somebody"});
    for _ in 0..2_000 {
        let mut condition = json!({"var": "a"});
        for _ in 0..random.random_range(0..20) {
            condition = match random.random_range(0..4) {
                0 => json!({"==": [condition, {"var": "b"}]}),
                1 => json!({"or": [{"!": condition}, false, {"cat": ["x", 1]}]}),
                2 => json!({"if": [condition, {"substr": ["abc", 1]}, {"sem_ver": ["1.0.0", "=", {"var": "a"}]}]}),
                _ => json!({"fractional": [[condition, 1], [{"var": "b"}, 2]]}),
            };
        }
        let flags = flags(&on_if(&json!({"if": [condition, "on"]})));
        let flag = flags.get("it").expect("a flag");
        assert!(u64::from(steps(flag, &data)) <= flag.cost(), "{condition}");
    }
}
