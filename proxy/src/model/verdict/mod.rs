//! When is the canary worse, and how soon may we say so.
//!
//! Every newly bad unit is one fact: under the null it is on the canary with
//! probability exactly the weight, since serin threw the dice itself. An
//! e-process over these facts ([`eprocess`]) stays honest however often one
//! looks; [`judge`] keeps one per episode, counts each unit once ([`units`]) and
//! asks whether the evidence survives leaving out any one address ([`addresses`]).
//! `ledger` holds the facts in the order in which arms were drawn.

pub mod addresses;
pub mod eprocess;
pub mod judge;
mod ledger;
pub mod units;

pub use judge::{Judge, Ruling};
