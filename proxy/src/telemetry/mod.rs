//! Logs, the metrics registry, and the one place that asks the wall clock.
//!
//! May know: model. Never: the rooms that call it.

pub mod log;
pub mod metrics;

use crate::model::time::Timestamp;

/// The wall clock, now.
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks")]
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
