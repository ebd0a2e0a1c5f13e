//! How big a definition and an evaluation may get.
//!
//! Definitions come through an API and a shared store, contexts from anybody: neither may
//! stop a core. `docs/flags.md` repeats these figures, and a test compares.

use serde_json::Value;

/// Bytes of a whole document.
pub const DOCUMENT_BYTES: usize = 1024 * 1024;

/// Bytes of one definition, written as compact JSON.
pub const DEFINITION_BYTES: usize = 64 * 1024;

/// Bytes of a flag's key, a variant's name or an evaluator's name.
pub const NAME_BYTES: usize = 128;

/// Variants of a flag.
pub const VARIANTS: usize = 100;

/// Objects and lists inside one another, the definition itself included: as deep as the deepest rule needs. Readers of
/// JSON end at 127, and a definition stands inside of other things in state files, bodies and mails.
pub const DEFINITION_DEPTH: usize = 100;

/// Operators and lists inside one another, `$ref`s followed.
pub const DEPTH: usize = 32;

/// Operators, lists and values of one targeting rule, `$ref`s followed.
pub const NODES: usize = 1_000;

/// Steps of one evaluation: one for each operator or value that is evaluated, for each member of
/// a list that is looked at, and for each [`BYTES_PER_STEP`] of text that is read or made.
pub const STEPS: u32 = 10_000;

/// Bytes of text that cost one step.
pub const BYTES_PER_STEP: usize = 256;

/// How long a list from the context is taken to be when a rule's cost is counted beforehand.
pub const ASSUMED_LIST: u64 = 16;

/// Lists inside one another that an evaluation may build or read as text.
pub const LIST_DEPTH: u8 = 32;

/// Sum of the weights of one `fractional`, as in flagd.
pub const TOTAL_WEIGHT: u64 = i32::MAX as u64;

/// How many objects and lists stand inside one another, the value itself included.
pub fn depth_of(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or_default(),
        Value::Object(members) => 1 + members.values().map(depth_of).max().unwrap_or_default(),
        _ => 0,
    }
}
