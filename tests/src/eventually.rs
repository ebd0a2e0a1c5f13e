//! Waits for a condition instead of for a time, and always ends.

use std::time::Duration;

use tokio::time::Instant;

/// How long to wait between two looks.
const BETWEEN: Duration = Duration::from_millis(10);

/// Looks until there is something to see, and returns it.
///
/// # Panics
/// When there is nothing to see until the deadline: the message says what was waited for.
pub async fn eventually<T>(deadline: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < end, "{what}: not within {deadline:?}");
        tokio::time::sleep(BETWEEN).await;
    }
}
