//! `docs/flags.md` is true: its examples are good, its operators exist, its limits are the limits.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::model::flag::compile::Compiler;

const FLAGS: &str = include_str!("../../../../../docs/flags.md");

/// The rows of the table whose header begins with this, as cells.
fn rows(header: &str) -> Vec<Vec<&'static str>> {
    let start = FLAGS.find(header).unwrap_or_else(|| panic!("no table {header}"));
    let lines = FLAGS[start..].lines().skip(2);
    lines.take_while(|line| line.starts_with('|')).map(|line| line.trim_matches('|').split(" | ").collect()).collect()
}

/// The words of a cell that stand in backticks.
fn quoted(cell: &'static str) -> impl Iterator<Item = &'static str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn the_examples_are_good_definitions() {
    let examples: Vec<&str> = FLAGS.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 3);
    for example in examples {
        let (flags, refusals) = FlagSet::update(&FlagSet::default(), example.as_bytes());
        assert_eq!(refusals, [], "{example}");
        let data = json!({"email": "a@checkbox.io", "plan": "beta", "userId": "7", "targetingKey": "k"});
        for (flag, evaluation) in flags.evaluate_all(&context(&data)) {
            assert_eq!(evaluation.fault, None, "{}", flag.key());
        }
    }
}

#[test]
fn the_first_example_does_what_the_text_says() {
    let example = FLAGS.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let flags = FlagSet::update(&FlagSet::default(), example.as_bytes()).0;
    let is_on = |data: &Value| flags.evaluate("new-editor", &context(data)).as_bool() == Some(true);
    assert!(is_on(&json!({"email": "somebody@checkbox.io"})));
    let on = (0..10_000).filter(|key| is_on(&json!({"targetingKey": key.to_string()}))).count();
    assert!((900..1_100).contains(&on), "{on} of 10000");
}

#[test]
fn the_operators_are_those_that_exist() {
    let named: BTreeSet<&str> = rows("| Operator | Says |").into_iter().flat_map(|cells| quoted(cells[0])).collect();
    let none = serde_json::Map::new();
    for name in &named {
        let rule = json!({ *name: [] });
        let refused = Compiler::for_evaluator("it", &none).rule(&rule).err();
        assert!(!matches!(refused, Some(Refusal { why: Why::UnknownOperator(_), .. })), "{name} doesn't exist");
    }
    // The names that the compiler matches, read from its source.
    let source = include_str!("../operators.rs");
    let arms = source.lines().map(str::trim).filter(|line| line.starts_with('"') && line.contains("=> "));
    let known = arms.flat_map(|line| line.split(" => ").next().unwrap_or_default().split('"').skip(1).step_by(2));
    for name in known {
        assert!(named.contains(name), "{name} isn't documented");
    }
}

#[test]
fn the_limits_are_the_limits() {
    let documented: Vec<u64> =
        rows("| At most | |").into_iter().map(|cells| cells[1].trim().parse().expect("a figure")).collect();
    let limits = [
        limits::DOCUMENT_BYTES as u64,
        limits::DEFINITION_BYTES as u64,
        limits::NAME_BYTES as u64,
        limits::VARIANTS as u64,
        limits::DEFINITION_DEPTH as u64,
        limits::DEPTH as u64,
        limits::NODES as u64,
        u64::from(limits::STEPS),
        u64::from(limits::LIST_DEPTH),
        limits::TOTAL_WEIGHT,
    ];
    assert_eq!(documented, limits);
    assert!(FLAGS.contains(&format!("or {} bytes of text", limits::BYTES_PER_STEP)));
    assert!(FLAGS.contains(&format!("taken to be {} long", limits::ASSUMED_LIST)));
}

#[test]
fn the_reasons_are_those_of_an_evaluation() {
    let named: BTreeSet<&str> = rows("| Reason | When |").into_iter().flat_map(|cells| quoted(cells[0])).collect();
    let reasons =
        [Reason::Default, Reason::Disabled, Reason::Error, Reason::Split, Reason::Static, Reason::TargetingMatch];
    assert_eq!(named, reasons.map(Reason::name).into_iter().collect());
    assert_eq!(
        reasons.map(Reason::ofrep_name),
        ["UNKNOWN", "DISABLED", "UNKNOWN", "SPLIT", "STATIC", "TARGETING_MATCH"]
    );
}
