//! A token bucket: how many evaluations applications get, so that the rest of the API stays quick.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Fills by so many tokens a second, and holds a second's worth.
#[derive(Debug)]
pub(super) struct Bucket {
    /// None = without limit.
    rate: Option<NonZeroU32>,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Option<NonZeroU32>) -> Self {
        let tokens = rate.map_or(0.0, |rate| f64::from(rate.get()));
        Self { rate, level: Mutex::new(Level { tokens, at: Instant::now() }) }
    }

    /// Takes so many tokens if there is one. What is more than there are is owed, up to a second's
    /// worth: so a large answer is given too, and those after it wait.
    ///
    /// # Errors
    /// How long until there is a token again.
    pub(super) fn take(&self, tokens: usize) -> Result<(), Duration> {
        let Some(rate) = self.rate.map(|rate| f64::from(rate.get())) else { return Ok(()) };
        let wanted = f64::from(u32::try_from(tokens).unwrap_or(u32::MAX));
        let now = Instant::now();
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = now.duration_since(level.at).as_secs_f64() * rate;
        *level = Level { tokens: (level.tokens + filled).min(rate), at: now };
        if level.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - level.tokens) / rate));
        }
        level.tokens = (level.tokens - wanted).max(-rate);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(rate: u32) -> Bucket {
        Bucket::new(NonZeroU32::new(rate))
    }

    #[tokio::test(start_paused = true)]
    async fn a_seconds_worth_is_there_at_once_and_then_the_rate_counts() {
        let bucket = bucket(10);
        assert!((0..10).all(|_| bucket.take(1).is_ok()));
        assert_eq!(bucket.take(1), Err(Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(bucket.take(1), Ok(()));
        assert!(bucket.take(1).is_err());
        // an hour of silence is worth no more than a second
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!((0..20).filter(|_| bucket.take(1).is_ok()).count(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_answer_is_given_and_paid_for_by_those_after_it() {
        let bucket = bucket(10);
        assert_eq!(bucket.take(15), Ok(()));
        assert_eq!(bucket.take(1), Err(Duration::from_millis(600)));
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(bucket.take(1_000_000), Ok(()));
        // what is owed is bounded, so that nobody is locked out for long
        assert_eq!(bucket.take(1), Err(Duration::from_millis(1_100)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_there_is_no_limit() {
        let bucket = bucket(0);
        assert!((0..100_000).all(|_| bucket.take(1_000).is_ok()));
    }
}
