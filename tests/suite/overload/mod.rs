//! More than the daemon and its endpoints can do, or than one client should: real clients on one side, endpoints that say
//! what a test says on the other.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod clients;
mod fleet_rates;
mod pace;
mod queue;
mod rates;
