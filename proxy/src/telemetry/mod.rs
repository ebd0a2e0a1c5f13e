//! Logs, the metrics registry, what the supervisor is told, and the one place that asks the wall clock.
//!
//! May know: model. Never: the rooms that call it.

pub mod child;
pub mod log;
pub mod metrics;
pub mod panics;
pub mod supervisor;

use crate::model::time::Timestamp;

/// The wall clock, now.
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks")]
pub fn now() -> Timestamp {
    #[cfg(test)]
    if let Some(simulated) = simulated::CLOCK.get() {
        return simulated;
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A wall clock that tests set, for this thread alone.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::Cell;

    use crate::model::time::Timestamp;

    thread_local! {
        pub(super) static CLOCK: Cell<Option<Timestamp>> = const { Cell::new(None) };
    }

    /// From now on, to this thread, it is this time; with none it is the real one again.
    pub(crate) fn set_clock(now: Option<Timestamp>) {
        CLOCK.set(now);
    }
}
