//! How fast bytes come or go while serin waits for them. An idle limit alone is met by a byte now and then.
//!
//! Only the time counts for which serin waits, so that nobody is called slow for what another does. And it is looked at
//! in portions: who was fast at first can't live on that for ever.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::spec::MinRate;

/// The pace of one who sends or takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// So many bytes may take no longer than `over`, of the time that is waited; zero = as long as they like.
    portion: u64,
    over: Duration,
    since: Option<Instant>,
    waited: Duration,
    moved: u64,
}

impl Pace {
    /// The pace of one of so many who share a connection.
    pub(crate) fn new(rate: MinRate, among: u32) -> Self {
        let millis = u64::try_from(rate.over.as_millis()).unwrap_or(u64::MAX);
        let portion = rate.bytes.saturating_mul(millis) / 1_000 / u64::from(among.max(1));
        let portion = if rate.bytes == 0 { 0 } else { portion.max(1) };
        Self { portion, over: rate.over, since: None, waited: Duration::ZERO, moved: 0 }
    }

    /// It is waited for, from now on.
    pub(crate) const fn waits(&mut self, now: Instant) {
        if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// So many bytes moved: it is waited for no more.
    pub(crate) fn moved(&mut self, bytes: u64, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
        self.moved += bytes;
        if self.moved >= self.portion {
            (self.moved, self.waited) = (0, Duration::ZERO);
        }
    }

    /// When it is too slow, if it is waited for and nothing moves before.
    pub(crate) fn until(&self) -> Option<Instant> {
        let since = self.since.filter(|_| self.portion > 0)?;
        since.checked_add(self.over.saturating_sub(self.waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: MinRate = MinRate { bytes: 100, over: Duration::from_secs(30) };

    /// How long one is waited for, at most an hour, who moves so many bytes after so many seconds each.
    fn patience(rate: MinRate, bytes: u64, each: u64) -> Duration {
        let (start, each) = (Instant::now(), Duration::from_secs(each));
        let (mut pace, mut now) = (Pace::new(rate, 1), start);
        while now < start + Duration::from_secs(3_600) {
            pace.waits(now);
            if let Some(until) = pace.until()
                && until <= now + each
            {
                return until - start;
            }
            now += each;
            pace.moved(bytes, now);
        }
        now - start
    }

    #[test]
    fn a_byte_now_and_then_is_too_slow_and_the_rate_is_not() {
        assert_eq!(patience(RATE, 1, 1), Duration::from_secs(30));
        assert_eq!(patience(RATE, 99, 1), Duration::from_secs(30));
        assert!(patience(RATE, 104, 1) >= Duration::from_secs(3_600));
        assert!(patience(RATE, 3_000, 29) >= Duration::from_secs(3_600), "in pieces");
        assert!(patience(MinRate { bytes: 0, ..RATE }, 1, 60) >= Duration::from_secs(3_600), "switched off");
    }

    #[test]
    fn only_the_time_that_is_waited_counts() {
        let (mut pace, mut now) = (Pace::new(RATE, 1), Instant::now());
        for _ in 0..100 {
            pace.waits(now);
            pace.moved(1, now);
            assert_eq!(pace.until(), None, "nobody waits");
            now += Duration::from_secs(60);
        }
    }

    #[test]
    fn who_was_fast_at_first_may_not_trickle_for_ever() {
        let (mut pace, now) = (Pace::new(RATE, 1), Instant::now());
        pace.moved(1 << 30, now);
        pace.waits(now);
        assert_eq!(pace.until(), Some(now + RATE.over));
    }

    #[test]
    fn those_who_share_a_connection_share_the_rate() {
        let mut pace = Pace::new(RATE, 100);
        let now = Instant::now();
        pace.waits(now);
        pace.moved(30, now + Duration::from_secs(29));
        pace.waits(now + Duration::from_secs(29));
        assert_eq!(pace.until(), Some(now + Duration::from_secs(59)));
    }
}
