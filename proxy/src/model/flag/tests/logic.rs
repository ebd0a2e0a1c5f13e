//! The operators, by a table of what they say: JsonLogic's own and flagd's.

use serde_json::{Value, json};

use super::*;
use crate::model::flag::compile::Compiler;
use crate::model::flag::machine::{Machine, Scope};

/// What an expression says, as JSON.
fn said(rule: &Value, data: &Value) -> Value {
    let evaluators = serde_json::Map::new();
    // An evaluator may say anything, a flag's rule only the names of variants.
    let (rule, _) = Compiler::for_evaluator("it", &evaluators).rule(rule).unwrap_or_else(|refusal| panic!("{refusal}"));
    let mut machine = Machine::new("new-ui", context(data));
    let datum = machine.eval(&rule.expr, Scope::Root).expect("an answer");
    to_json(&datum)
}

fn to_json(datum: &crate::model::flag::datum::Datum<'_>) -> Value {
    use crate::model::flag::datum::Datum;
    match datum {
        Datum::Null => Value::Null,
        Datum::Bool(truth) => json!(truth),
        Datum::Number(number) => json!(number),
        Datum::Object(members) => Value::Object((*members).clone()),
        Datum::List(_) | Datum::Built(_) => datum.items().map(|item| to_json(&item)).collect(),
        Datum::Text(_) | Datum::Made(_) => json!(datum.as_text()),
    }
}

/// Each case: a rule, the context, what it says. Numbers compare as numbers.
fn check(cases: &[(Value, Value, Value)]) {
    for (rule, data, expected) in cases {
        let said = said(rule, data);
        assert!(same(&said, expected), "{rule} of {data} says {said}, not {expected}");
    }
}

fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        _ => left == right,
    }
}

/// Cases without a context.
fn check_constant(cases: &[(Value, Value)]) {
    let cases: Vec<_> = cases.iter().map(|(rule, expected)| (rule.clone(), json!({}), expected.clone())).collect();
    check(&cases);
}

#[test]
fn variables_come_from_the_context() {
    let data =
        json!({"a": 1, "n": null, "e": "", "b": {"c": {"d": "deep"}}, "list": [10, [20, 21]], "targetingKey": "k"});
    let cases = [
        (json!({"var": "a"}), json!(1)),
        (json!({"var": ["a"]}), json!(1)),
        (json!({"var": "b.c.d"}), json!("deep")),
        (json!({"var": "list.1.0"}), json!(20)),
        (json!({"var": "z"}), json!(null)),
        (json!({"var": ["z", 7]}), json!(7)),
        (json!({"var": ["z", {"var": "a"}]}), json!(1)),
        (json!({"var": ["b.x.y", "no"]}), json!("no")),
        (json!({"var": ["a.b", "no"]}), json!("no")),
        (json!({"var": ["n", "no"]}), json!(null)),
        (json!({"var": ["e", "no"]}), json!("")),
        (json!({"var": {"cat": ["b.", "c.d"]}}), json!("deep")),
        (json!({"var": [{"var": "z"}, 1]}), data.clone()),
        (json!({"var": ""}), data.clone()),
        (json!({"var": []}), data.clone()),
        (json!({"var": null}), data.clone()),
        (json!({"var": "targetingKey"}), json!("k")),
        (json!({"var": "$flagd.flagKey"}), json!("new-ui")),
        (json!({"var": "$flagd.timestamp"}), json!(1_780_272_000)),
        (json!({"var": {"cat": ["$flagd.", "flagKey"]}}), json!("new-ui")),
    ];
    check(&cases.map(|(rule, expected)| (rule, data.clone(), expected)));
}

#[test]
fn missing_variables_are_named() {
    let data = json!({"a": 1, "n": null, "e": "", "f": false, "b": {"c": 2}});
    let cases = [
        (json!({"missing": ["a", "z"]}), json!(["z"])),
        (json!({"missing": "z"}), json!(["z"])),
        (json!({"missing": ["a", "f", "b.c"]}), json!([])),
        (json!({"missing": ["n", "e", "b.d"]}), json!(["n", "e", "b.d"])),
        (json!({"missing": []}), json!([])),
        (json!({"missing": {"merge": ["a", ["y", "z"]]}}), json!(["y", "z"])),
        (json!({"missing_some": [1, ["a", "y", "z"]]}), json!([])),
        (json!({"missing_some": [2, ["a", "y", "z"]]}), json!(["y", "z"])),
        (json!({"missing_some": [0, []]}), json!([])),
    ];
    check(&cases.map(|(rule, expected)| (rule, data.clone(), expected)));
}

#[test]
fn conditions_take_the_first_branch_that_is_true() {
    check_constant(&[
        (json!({"if": [true, "yes", "no"]}), json!("yes")),
        (json!({"if": [false, "yes", "no"]}), json!("no")),
        (json!({"if": [false, "yes"]}), json!(null)),
        (json!({"if": ["only"]}), json!("only")),
        (json!({"if": [false, 1, true, 2, 3]}), json!(2)),
        (json!({"if": [false, 1, false, 2, 3]}), json!(3)),
        (json!({"if": [false, 1, false, 2]}), json!(null)),
        (json!({"?:": [[], 1, 2]}), json!(2)),
        (json!({"and": [true, "a", 3]}), json!(3)),
        (json!({"and": [true, "", 3]}), json!("")),
        (json!({"or": [false, 0, "a", true]}), json!("a")),
        (json!({"or": [false, 0]}), json!(0)),
    ]);
}

#[test]
fn truth_is_that_of_json_logic() {
    let truths = [json!(true), json!(1), json!(-1), json!("0"), json!("false"), json!(" "), json!([0])];
    let untruths = [json!(false), json!(0), json!(-0.0), json!(""), json!([]), json!(null)];
    for (values, truth) in [(&truths[..], true), (&untruths[..], false)] {
        for value in values {
            assert_eq!(said(&json!({"!!": [value]}), &json!({})), json!(truth), "{value}");
            assert_eq!(said(&json!({"!": [value]}), &json!({})), json!(!truth), "{value}");
        }
    }
    check(&[
        (json!({"!!": {"var": ""}}), json!({}), json!(true)),
        (json!({"!!": {"var": "o"}}), json!({"o": {}}), json!(true)),
        (json!({"!!": {"/": [0, 0]}}), json!({}), json!(false)),
    ]);
}

#[test]
fn equality_is_loose_or_strict() {
    let equal = [
        (json!(1), json!(1.0), true, true),
        (json!(1), json!("1"), true, false),
        (json!(1), json!(" 1 "), true, false),
        (json!(0), json!(""), true, false),
        (json!(0), json!(false), true, false),
        (json!("1"), json!(true), true, false),
        (json!("true"), json!(true), false, false),
        (json!("a"), json!("a"), true, true),
        (json!("a"), json!("A"), false, false),
        (json!(null), json!(null), true, true),
        (json!(null), json!(0), false, false),
        (json!(null), json!(false), false, false),
        (json!(null), json!(""), false, false),
        (json!("inf"), json!("Infinity"), false, false),
        (json!([1, 2]), json!("1,2"), true, false),
        (json!([1]), json!(1), true, false),
        (json!([1]), json!([1]), false, false),
        (json!(1), json!(2), false, false),
    ];
    for (left, right, loose, strict) in equal {
        for (left, right) in [(&left, &right), (&right, &left)] {
            check_constant(&[
                (json!({"==": [left, right]}), json!(loose)),
                (json!({"!=": [left, right]}), json!(!loose)),
                (json!({"===": [left, right]}), json!(strict)),
                (json!({"!==": [left, right]}), json!(!strict)),
            ]);
        }
    }
}

#[test]
fn order_is_of_numbers_or_of_texts() {
    check_constant(&[
        (json!({"<": [1, 2]}), json!(true)),
        (json!({"<": [2, 2]}), json!(false)),
        (json!({"<=": [2, 2]}), json!(true)),
        (json!({">": [2, 1]}), json!(true)),
        (json!({">=": [2, 3]}), json!(false)),
        (json!({"<": [1, 5, 10]}), json!(true)),
        (json!({"<": [1, 11, 10]}), json!(false)),
        (json!({"<": [3, 2, 10]}), json!(false)),
        (json!({"<=": [1, 1, 1]}), json!(true)),
        (json!({"<": ["10", 9]}), json!(false)),
        (json!({"<": ["10", "9"]}), json!(true)),
        (json!({">": ["b", "a"]}), json!(true)),
        (json!({">": ["x", 1]}), json!(false)),
        (json!({"<=": ["x", 1]}), json!(false)),
        (json!({"<": [null, 1]}), json!(true)),
    ]);
}

#[test]
fn arithmetic_reads_numbers_from_texts() {
    check_constant(&[
        (json!({"+": [1, 2, 3]}), json!(6)),
        (json!({"+": "3.25"}), json!(3.25)),
        (json!({"+": ["1", "2apples", "-1e1x"]}), json!(-7)),
        (json!({"*": [2, 3, 4]}), json!(24)),
        (json!({"-": [5, 2]}), json!(3)),
        (json!({"-": "2"}), json!(-2)),
        (json!({"/": [9, 2]}), json!(4.5)),
        (json!({"%": [101, 2]}), json!(1)),
        (json!({"%": [-7, 3]}), json!(-1)),
        (json!({"max": [1, 3, 2]}), json!(3)),
        (json!({"min": [1, "-3", 2]}), json!(-3)),
        (json!({"max": [[1, 9]]}), json!(9)),
        (json!({"min": [[]]}), json!(null)),
        (json!({"!!": {"+": ["x"]}}), json!(false)),
        (json!({"!!": {"max": [1, "x", 2]}}), json!(false)),
    ]);
}

#[test]
fn texts_are_searched_cut_and_joined() {
    check_constant(&[
        (json!({"in": ["Spring", "Springfield"]}), json!(true)),
        (json!({"in": ["Illinois", "Springfield"]}), json!(false)),
        (json!({"in": ["Mike", ["Bob", "Mike"]]}), json!(true)),
        (json!({"in": ["1", [1, 2]]}), json!(false)),
        (json!({"in": [1, [1, 2]]}), json!(true)),
        (json!({"in": [1, "a1"]}), json!(true)),
        (json!({"in": [{"var": "none"}, "anything"]}), json!(false)),
        (json!({"in": ["a", {"var": "none"}]}), json!(false)),
        (json!({"in": ["", "a"]}), json!(true)),
        (json!({"cat": ["a", 1, true, null, 1.5, [1, null, "x"]]}), json!("a1true1.51,,x")),
        (json!({"cat": [1e21, "/", 1e-7, "/", 3.0, "/", 123456789012.0]}), json!("1e+21/1e-7/3/123456789012")),
        (json!({"cat": "one"}), json!("one")),
        (json!({"cat": []}), json!("")),
        (json!({"substr": ["jsonlogic", 4]}), json!("logic")),
        (json!({"substr": ["jsonlogic", -5]}), json!("logic")),
        (json!({"substr": ["jsonlogic", 1, 3]}), json!("son")),
        (json!({"substr": ["jsonlogic", 4, -2]}), json!("log")),
        (json!({"substr": ["jsonlogic", 50]}), json!("")),
        (json!({"substr": ["jsonlogic", -50, 4]}), json!("json")),
        (json!({"substr": ["jsonlogic", 4, -50]}), json!("")),
        (json!({"substr": ["héé→x", 1, 3]}), json!("éé→")),
        (json!({"substr": [12345, 1, 2]}), json!("23")),
        (json!({"starts_with": ["192.168.0.1", "192.168"]}), json!(true)),
        (json!({"starts_with": ["10.0.0.1", "192.168"]}), json!(false)),
        (json!({"ends_with": ["noreply@example.com", "@example.com"]}), json!(true)),
        (json!({"ends_with": ["noreply@example.com", "@test.com"]}), json!(false)),
        (json!({"starts_with": [3, "3"]}), json!(null)),
        (json!({"ends_with": ["3", 3]}), json!(null)),
    ]);
}

#[test]
fn lists_are_mapped_filtered_and_folded() {
    let data = json!({"n": [1, 2, 3, 4], "none": [], "people": [{"age": 12}, {"age": 40}], "text": "x", "of": 9});
    let even = json!({"==": [{"%": [{"var": ""}, 2]}, 0]});
    let sum = json!({"+": [{"var": "current"}, {"var": "accumulator"}]});
    let cases = [
        (json!({"map": [{"var": "n"}, {"*": [{"var": ""}, 2]}]}), json!([2, 4, 6, 8])),
        (json!({"map": [{"var": "people"}, {"var": "age"}]}), json!([12, 40])),
        (json!({"map": [{"var": "people"}, {"var": ["of", "no"]}]}), json!(["no", "no"])),
        (json!({"map": [{"var": "people"}, {"var": ["targetingKey", "no"]}]}), json!(["no", "no"])),
        (json!({"map": [{"var": "people"}, {"var": ["$flagd.timestamp", "no"]}]}), json!(["no", "no"])),
        (json!({"filter": [{"var": "n"}, even]}), json!([2, 4])),
        (json!({"filter": [{"var": "people"}, {">": [{"var": "age"}, 17]}]}), json!([{"age": 40}])),
        (json!({"filter": [{"var": "text"}, true]}), json!([])),
        (json!({"reduce": [{"var": "n"}, sum, 0]}), json!(10)),
        (json!({"reduce": [{"var": "zzz"}, sum, 5]}), json!(5)),
        (json!({"reduce": [{"var": "n"}, {"var": "other"}]}), json!(null)),
        (json!({"all": [{"var": "n"}, {">": [{"var": ""}, 0]}]}), json!(true)),
        (json!({"all": [{"var": "n"}, even]}), json!(false)),
        (json!({"all": [{"var": "none"}, true]}), json!(false)),
        (json!({"some": [{"var": "n"}, even]}), json!(true)),
        (json!({"some": [{"var": "none"}, true]}), json!(false)),
        (json!({"none": [{"var": "n"}, {">": [{"var": ""}, 4]}]}), json!(true)),
        (json!({"none": [{"var": "n"}, even]}), json!(false)),
        (json!({"none": [{"var": "none"}, true]}), json!(true)),
        (json!({"merge": [[1, 2], 3, [[4]]]}), json!([1, 2, 3, [4]])),
        (json!({"merge": []}), json!([])),
        (json!([{"var": "of"}, [{"var": "text"}]]), json!([9, ["x"]])),
        (json!({"var": "people.1.age"}), json!(40)),
        (json!({"map": [{"map": [{"var": "n"}, [{"var": ""}]]}, {"var": "0"}]}), json!([1, 2, 3, 4])),
        (json!({"map": [{"var": "n"}, {"missing": ["x"]}]}), json!([["x"], ["x"], ["x"], ["x"]])),
    ];
    check(&cases.map(|(rule, expected)| (rule, data.clone(), expected)));
}

#[test]
fn versions_are_compared() {
    let test = |actual: &Value, relation: &str, target: &str| {
        said(&json!({"sem_ver": [{"var": "v"}, relation, target]}), &json!({"v": actual}))
    };
    assert_eq!(test(&json!("1.1.2"), ">=", "1.0.0"), json!(true));
    assert_eq!(test(&json!("2.0.0-alpha"), "<", "2.0.0"), json!(true));
    assert_eq!(test(&json!(1.2), "=", "1.2.0"), json!(true));
    assert_eq!(test(&json!("2.0.0.0"), ">", "1.0.0"), json!(null));
    assert_eq!(test(&json!(null), "!=", "1.0.0"), json!(null));
}
