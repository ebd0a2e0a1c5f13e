//! serin fronts production web applications, splits traffic between a stable and
//! a canary pool, decides by evidence whether the canary is worse, and pulls it.
//!
//! The rooms, from the ground up: [`model`] (words and pure rules), [`config`],
//! [`telemetry`], [`trust`], [`live`] and [`probe`] beside each other, [`store`], then the two planes
//! [`dataplane`] and [`control`] and beside them [`agent`], [`admin`], and on top [`cli`] and [`daemon`].
//! `docs/architecture.md` tells how a request and a change pass through them.

pub mod admin;
pub mod agent;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dataplane;
pub mod live;
pub mod model;
pub mod probe;
pub mod store;
pub mod telemetry;
pub mod trust;
