//! Feature flags: definitions in flagd's format, compiled once, and what they are for somebody.
//!
//! [`FlagSet`] is what a snapshot holds: all flags, each a compiled [`Flag`]; a definition that
//! can't be compiled is a [`Refusal`] and the last good one stays. An evaluation reads a
//! [`Context`], knows no clock and no chance, and ends after a bounded number of steps whatever
//! flag and context say. [`stale`] tells which flags have had their day.
//!
//! From definition to answer: `definitions.rs` is what a store holds and how that changes, `document.rs` reads
//! the text, `definition.rs` one flag's fields, `compile.rs` with `operators.rs` its rule into an `expr.rs`,
//! which `machine.rs` with `lists.rs` runs on the values of `datum.rs`. `docs/flags.md` is the format for
//! users. May know: the rest of `model`.

mod bucket;
mod compile;
mod context;
mod datum;
mod definition;
mod definitions;
mod digest;
mod document;
mod evaluation;
mod expr;
pub mod limits;
mod lists;
mod machine;
mod metadata;
mod operators;
mod refusal;
mod semver;
mod set;
pub mod stale;
mod steps;
pub mod switch;
#[cfg(test)]
mod tests;

pub use context::Context;
pub use definition::{Flag, Kind, is_name};
pub use definitions::{Definitions, FlagChange, FlagFile};
pub use digest::Digest;
pub use document::Document;
pub use evaluation::{ErrorCode, Evaluation, Fault, Reason};
pub use refusal::{Quoted, Refusal, Why};
pub use set::FlagSet;
