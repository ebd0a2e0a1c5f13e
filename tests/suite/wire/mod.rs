//! The daemon on the wire: raw bytes from clients on one side, endpoints that say what a test
//! says on the other.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]

mod attacks;
mod bodies;
mod drain;
mod early;
mod fields;
pub(crate) mod given;
mod leaving;
mod limits;
mod long;
mod misbehaviour;
mod retries;
mod reuse;
mod sticky;
mod timeouts;
mod trailers;
mod tunnels;
mod uploads;
