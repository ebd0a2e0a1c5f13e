//! The words of serin as types, and the pure rules over them.
//!
//! Time, randomness and the outside world are passed in: nothing here knows a
//! socket, a clock, a store or a runtime. May know: std, serde, http, regex.

pub mod agent;
pub mod alert;
pub mod audit;
pub mod balance;
pub mod circuit;
pub mod discovery;
pub mod fields;
pub mod flag;
pub mod gate;
pub mod health;
pub mod limits;
pub mod member;
pub mod naming;
pub mod outcome;
pub mod path;
pub mod place;
pub mod policy;
pub mod proxy_protocol;
pub mod redis;
pub mod rollout;
pub mod route;
pub mod scaling;
pub mod secret;
pub mod span;
pub mod spec;
pub mod spending;
pub mod split;
pub mod state;
pub mod sticky;
pub mod text;
pub mod time;
pub mod tls;
pub mod verdict;
pub mod weight;

/// No revision, epoch or fence is higher: they rise by one, or with the clock in milliseconds, and here 285,000 years are
/// over. Readers of JSON agree on numbers up to this one. A higher one was never counted, and nothing could follow it.
pub const MOST_COUNTED: u64 = 1 << 53;
