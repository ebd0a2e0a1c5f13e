//! TLS as the side that connects: whom serin believes, and who it says it is.
//!
//! [`client`] makes connections to the endpoints of a service, [`pem`] reads what files hold, [`fault`] says what a
//! failed handshake means. May know: model, telemetry. Never: who connects, and what is said then.

pub mod client;
pub mod fault;
pub mod pem;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientError, Words, examine};
pub use fault::Fault;
