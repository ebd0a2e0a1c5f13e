//! What steers the data plane from beside it: sync with the store, discovery, health checks, names,
//! the verdict loop, what is slow, ejections, rollouts, autoscaling, alerts.
//!
//! May know: model, live, probe, store, telemetry. Never: dataplane, admin. Only `sync`
//! publishes snapshots; everything else changes the world through the store, or
//! through a latch in `live` where the world must not be waited for.

pub mod alert;
pub mod autoscale;
mod discovery;
pub mod ejection;
pub mod fleet_rates;
pub mod health;
pub mod names;
pub mod rollout;
#[cfg(test)]
mod simulation;
pub mod slow;
pub mod sync;
pub mod verdict;
