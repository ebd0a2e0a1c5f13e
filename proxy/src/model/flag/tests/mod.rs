//! Flags as their users see them: definitions in, answers out.

mod definitions;
mod documented;
mod evaluation;
mod flagd;
mod logic;
mod random;
mod refusals;
mod set;

use serde_json::{Value, json};

use super::*;
use crate::model::time::Timestamp;

/// 2026-06-01T00:00:00Z
const NOW: Timestamp = Timestamp::from_millis(1_780_272_000_000);

/// The set of a document in which nothing is refused.
fn flags(document: &Value) -> FlagSet {
    let (flags, refusals) = FlagSet::update(&FlagSet::default(), document.to_string().as_bytes());
    assert_eq!(refusals, [], "{document}");
    flags
}

/// What is refused of a document.
fn refused(document: &Value) -> Vec<Refusal> {
    FlagSet::update(&FlagSet::default(), document.to_string().as_bytes()).1
}

/// A document with one flag, `it`, that is `off` unless the rule says `on`.
fn on_if(targeting: &Value) -> Value {
    let variants = json!({"on": true, "off": false});
    json!({"flags": {"it": {
        "state": "ENABLED", "variants": variants, "defaultVariant": "off", "targeting": targeting,
    }}})
}

fn context(data: &Value) -> Context<'_> {
    Context::new(data, NOW).expect("a context")
}
