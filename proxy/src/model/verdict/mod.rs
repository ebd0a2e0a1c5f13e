//! When is the canary worse, when is it good enough, and how soon may we say so.
//!
//! Every newly bad unit is one fact: under the null it is on the canary with
//! probability exactly the weight, since serin threw the dice itself. An
//! e-process over these facts ([`eprocess`]) stays honest however often one
//! looks; [`judge`] keeps one for each signal ([`signals`]), counts each unit once
//! for each ([`units`]) and asks whether the evidence survives leaving out any one address
//! ([`addresses`]). Where a service has a fresh control, `control` says with what the canary is compared. `ledger` holds the facts in the order in which arms were drawn.
//!
//! [`pass`] tests the opposite, step by step; [`ratio`] tests the split itself; [`forecast`] says how
//! long it will take, and [`decision`] what all that comes to. [`post`] is what proxies tell each other.
//! [`replay`] judges an episode again from its log, at the same [`pace`].

pub mod addresses;
mod control;
pub mod decision;
pub mod eprocess;
pub mod forecast;
pub mod judge;
mod ledger;
pub mod pace;
pub mod pass;
pub mod post;
pub mod ratio;
pub mod replay;
pub mod signals;
pub mod units;

pub use decision::{Decision, Guards};
pub use forecast::{Expected, Outlook, Traffic};
pub use judge::{Judge, Ruling};
pub use pass::Pass;
pub use post::{Post, Seen};
pub use ratio::{Returned, SampleRatio};
pub use signals::Fact;
