//! When to speak to the store again: often enough for the lease, and not at once with everybody else.

use std::time::Duration;

use rand::RngExt as _;

use crate::model::state::MemberSpec;

/// The first pause after a failure; it doubles with each failure that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause: an agent is back soon after its store is.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest time between two beats, however long the lease.
const LONGEST_BEAT: Duration = Duration::from_secs(60);

/// The pauses of one agent.
#[derive(Debug)]
pub(super) struct Pace {
    beat: Duration,
    failures: u32,
}

impl Pace {
    /// The pace of a member's lease: three beats, so that two may be lost.
    pub(super) fn new(member: &MemberSpec) -> Self {
        Self { beat: (member.ttl().unwrap_or_default() / 3).min(LONGEST_BEAT), failures: 0 }
    }

    /// The time to the next beat.
    pub(super) fn beat(&self) -> Duration {
        self.beat.mul_f64(rand::rng().random_range(0.9..1.0))
    }

    /// The store was told. Returns the time to the next beat.
    pub(super) fn succeeded(&mut self) -> Duration {
        self.failures = 0;
        self.beat()
    }

    /// The store couldn't be told. Returns the time to the next try.
    pub(super) fn failed(&mut self) -> Duration {
        let full = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE).min(self.beat);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(rand::rng().random_range(0.5..1.0))
    }

    /// Whether the last try failed.
    pub(super) const fn is_failing(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(ttl_ms: u64) -> Pace {
        Pace::new(&MemberSpec { ttl_ms: Some(ttl_ms), ..MemberSpec::new(([127, 0, 0, 1], 80).into()) })
    }

    #[test]
    fn two_beats_may_be_lost_before_the_lease_runs_out() {
        let pace = pace(15_000);
        for _ in 0..100 {
            assert!(pace.beat() * 3 <= Duration::from_secs(15) && pace.beat() * 4 > Duration::from_secs(15));
        }
    }

    #[test]
    fn pauses_grow_and_stay_within_a_beat_and_the_cap() {
        for (ttl_ms, longest) in [(86_400_000, LONGEST_PAUSE), (3_000, Duration::from_secs(1))] {
            let mut pace = pace(ttl_ms);
            let pauses: Vec<Duration> = (0..20).map(|_| pace.failed()).collect();
            assert!(pauses[0] <= FIRST_PAUSE && pauses[19] > longest / 2 - Duration::from_millis(1), "{pauses:?}");
            assert!(pauses.iter().all(|pause| *pause <= longest), "{pauses:?}");
            pace.succeeded();
            assert!(!pace.is_failing() && pace.failed() <= FIRST_PAUSE);
        }
    }
}
