//! From when on an answer is slow: learned from how long answers took before.
//!
//! The threshold must be fixed before the requests that it judges, and must not know who
//! was on which arm: then a slow answer is as much a matter of the dice as an error. So it
//! is the 99.9th percentile of the window before, both arms pooled. At p99 most busy users
//! would soon be slow once.

use std::time::Duration;

use tokio::time::Instant;

use super::counters::HistogramSum;

/// How long a window is, at least.
const WINDOW: Duration = Duration::from_secs(60);
/// Fewer answers have no 99.9th percentile: a window lasts until it has them.
const ENOUGH: u64 = 1_000;
/// What takes less than this is never slow, whatever others take: below it lies the noise of the machine.
const FLOOR: Duration = Duration::from_millis(10);

/// Learns one service's threshold.
#[derive(Debug)]
pub struct SlowLearner {
    /// When the window began, and what had been counted by then.
    begin: Instant,
    before: HistogramSum,
    /// Whether a window has ended yet.
    knows: bool,
}

impl SlowLearner {
    /// A learner whose first window begins now.
    pub const fn new(now: Instant, counted: HistogramSum) -> Self {
        Self { begin: now, before: counted, knows: false }
    }

    /// Looks at what was counted up to now. Returns the threshold for what comes, when a window
    /// has ended; until the next the old one stands. The first ends as soon as it has enough.
    pub fn look(&mut self, now: Instant, counted: &HistogramSum) -> Option<Duration> {
        let window = counted.since(&self.before);
        if window.count() < ENOUGH || (self.knows && now - self.begin < WINDOW) {
            return None;
        }
        *self = Self { begin: now, before: counted.clone(), knows: true };
        // The end of the percentile's bucket, so at most a quarter above it.
        let p999 = window.quantile(0.999)?;
        Some(Duration::try_from_secs_f64(p999).unwrap_or(Duration::MAX).max(FLOOR))
    }
}

#[cfg(test)]
mod tests {
    use super::super::counters::Histogram;
    use super::*;

    /// A histogram that goes on, and its learner.
    struct Service {
        histogram: Histogram,
        learner: SlowLearner,
        begin: Instant,
    }

    impl Service {
        fn new() -> Self {
            let begin = Instant::now();
            Self { histogram: Histogram::default(), learner: SlowLearner::new(begin, HistogramSum::default()), begin }
        }

        /// So many more answers after so many milliseconds each; a look so many seconds after the beginning.
        fn after(&mut self, answers: &[(usize, u64)], second: u64) -> Option<Duration> {
            for (count, millis) in answers {
                (0..*count).for_each(|_| self.histogram.record(Duration::from_millis(*millis)));
            }
            let mut sum = HistogramSum::default();
            self.histogram.add_to(&mut sum);
            self.learner.look(self.begin + Duration::from_secs(second), &sum)
        }
    }

    fn is_about(threshold: Option<Duration>, millis: u64) {
        let exact = Duration::from_millis(millis);
        let threshold = threshold.expect("a window has ended");
        assert!(threshold > exact && threshold <= exact.mul_f64(1.26), "{threshold:?}, not {exact:?}");
    }

    #[test]
    fn the_threshold_is_the_99_9th_percentile_of_the_window_before() {
        let mut service = Service::new();
        assert_eq!(service.after(&[(999, 20)], 1), None, "too few to tell");
        is_about(service.after(&[(1, 20)], 2), 20);
        assert_eq!(service.after(&[(2_000, 500)], 60), None, "the window isn't over");
        is_about(service.after(&[], 62), 500);
        assert_eq!(service.after(&[(999, 20)], 1_000), None, "too few again: the old one stands");
        // what came before the window says nothing in it
        is_about(service.after(&[(1_001, 20)], 1_001), 20);
    }

    #[test]
    fn one_in_a_thousand_is_not_looked_at_and_two_are() {
        is_about(Service::new().after(&[(9_991, 20), (9, 700)], 1), 20);
        is_about(Service::new().after(&[(9_980, 20), (20, 700)], 1), 700);
    }

    #[test]
    fn what_takes_no_time_is_never_slow() {
        assert_eq!(Service::new().after(&[(1_000, 0)], 1), Some(FLOOR));
        let mut service = Service::new();
        assert_eq!(service.after(&[(1_000, 3_000_000)], 1), Some(Duration::from_micros(83_886_080)), "the last bucket");
    }
}
