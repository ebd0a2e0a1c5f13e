//! The counters of a service: what became of requests, and how many may be tried again. Each core counts for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::ServiceLive;
use crate::live::counters::{self, Histogram, HistogramSum};
use crate::live::gates::{Gates, TurnedAway};
use crate::live::rotas::GROUPS;
use crate::model::outcome::{BadReason, Signal};
use crate::model::spec::SlowThreshold;
use crate::model::split::{Arm, PerArm};

/// One core's counters of a service.
#[derive(Debug, Default)]
pub(super) struct ServiceCore {
    arms: PerArm<ArmCore>,
    /// Of the times to the response head, those that say nothing of how soon an endpoint answers.
    untimed: Histogram,
    retries: AtomicU64,
    /// What retries took from the budget of this core and requests haven't earned back yet, in
    /// fifths of a retry.
    retry_debt: AtomicU64,
    /// Turns taken, by arm and group of members.
    turns: PerArm<[AtomicU64; GROUPS]>,
}

/// One core's counters of one arm of a service.
#[derive(Debug, Default)]
struct ArmCore {
    by_class: [AtomicU64; CLASSES],
    bad: [AtomicU64; BadReason::ALL.len()],
    latency: Histogram,
}

/// A core may retry ten requests at once; beyond that, one for each five that it serves.
const RETRY_BUDGET_FIFTHS: u64 = 50;

/// 1xx to 5xx, and one for clients that left before the response head.
const CLASSES: usize = 6;
/// The classes' names, as in labels.
pub const CLASS_NAMES: [&str; CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx", "client_gone"];

/// The counters of one arm, summed over cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArmTotals {
    /// Requests by class: see [`CLASS_NAMES`].
    pub by_class: [u64; CLASSES],
    /// Bad first attempts by reason, in the order of [`BadReason::ALL`].
    pub bad: [u64; BadReason::ALL.len()],
    /// The time to the response head.
    pub latency: HistogramSum,
}

impl ArmTotals {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.by_class.iter().sum()
    }

    /// First attempts that failed: those that are bad by the `errors` signal. A request may be bad
    /// by others as well, and what is slow hasn't failed.
    pub fn bad_requests(&self) -> u64 {
        let failed = |(reason, _): &(&BadReason, &u64)| reason.signal() == Signal::Errors;
        BadReason::ALL.iter().zip(&self.bad).filter(failed).map(|(_, count)| count).sum()
    }
}

/// How a request ended, as far as counting goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a response of this status.
    Status(u16),
    /// The client left before the response head.
    ClientGone,
}

impl ServiceLive {
    /// Counts how a request on this core ended, and the time to its response head.
    pub fn count(&self, core: usize, arm: Arm, ending: Ending, head: Option<Duration>) {
        let counters = self.cores[core].0.arms.get(arm);
        let class = match ending {
            Ending::Status(status) => usize::from(status / 100).clamp(1, 5) - 1,
            Ending::ClientGone => CLASSES - 1,
        };
        counters::add(&counters.by_class[class], 1);
        if let Some(time) = head {
            counters.latency.record(time);
        }
    }

    /// Counts, of the times given to [`Self::count`], one that says nothing of how soon an endpoint
    /// answers: a retry's, a long upload's, one that serin answered itself.
    pub fn count_untimed(&self, core: usize, head: Duration) {
        self.cores[core].0.untimed.record(head);
    }

    /// How soon endpoints answered, over both arms and all cores.
    pub fn timed(&self) -> HistogramSum {
        let (mut all, mut untimed) = (HistogramSum::default(), HistogramSum::default());
        for core in &self.cores {
            // What is counted last is summed first: so there are never more of these than of all.
            core.0.untimed.add_to(&mut untimed);
            Arm::BOTH.iter().for_each(|arm| core.0.arms.get(*arm).latency.add_to(&mut all));
        }
        all.since(&untimed)
    }

    /// From when on an answer to a request that begins now is slow; none while that isn't known.
    pub fn slow_threshold(&self, by: SlowThreshold) -> Option<Duration> {
        match by {
            SlowThreshold::Fixed(threshold) => Some(threshold),
            SlowThreshold::Learned => match self.learned_slow.load(Ordering::Relaxed) {
                0 => None,
                micros => Some(Duration::from_micros(micros)),
            },
        }
    }

    /// Says from when on an answer is slow, as learned.
    pub fn set_learned_slow(&self, threshold: Duration) {
        self.learned_slow.store(u64::try_from(threshold.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts a bad first attempt on this core.
    pub fn count_bad(&self, core: usize, arm: Arm, reason: BadReason) {
        counters::add(&self.cores[core].0.arms.get(arm).bad[reason as usize], 1);
    }

    /// Earns the retry budget of this core its share of one request: a fifth of a retry.
    pub fn earn_retry(&self, core: usize) {
        let debt = &self.cores[core].0.retry_debt;
        if debt.load(Ordering::Relaxed) > 0 {
            counters::sub(debt, 1);
        }
    }

    /// Takes one retry from the budget of this core and counts it, if there is one.
    pub fn take_retry(&self, core: usize) -> bool {
        let core = &self.cores[core].0;
        let granted = core.retry_debt.load(Ordering::Relaxed) + 5 <= RETRY_BUDGET_FIFTHS;
        if granted {
            counters::add(&core.retry_debt, 5);
            counters::add(&core.retries, 1);
        }
        granted
    }

    /// Takes the next turn of a group on this core: each core has its own, and they begin at even distances in a round of
    /// this length. Returns the place in the round.
    pub fn take_turn(&self, core: usize, arm: Arm, group: usize, round: usize) -> usize {
        let turn = &self.cores[core].0.turns.get(arm)[group];
        let taken = turn.load(Ordering::Relaxed);
        counters::add(turn, 1);
        let begin = core * round / self.cores.len();
        usize::try_from(taken % round as u64).unwrap_or(0).wrapping_add(begin) % round
    }

    /// Retries so far.
    pub fn retries(&self) -> u64 {
        self.cores.iter().map(|core| core.0.retries.load(Ordering::Relaxed)).sum()
    }

    /// What its gates turned away.
    pub const fn gates(&self) -> &Gates {
        &self.gates
    }

    /// The requests that a flag turns away at a gate of this service.
    pub fn turned_away_by(&self, flag: &str) -> Arc<TurnedAway> {
        self.gates.of(flag, self.cores.len())
    }

    /// An arm's counters, summed over cores.
    pub fn totals(&self, arm: Arm) -> ArmTotals {
        let mut totals = ArmTotals::default();
        for core in &self.cores {
            let counters = core.0.arms.get(arm);
            for (sum, n) in totals.by_class.iter_mut().zip(&counters.by_class) {
                *sum += n.load(Ordering::Relaxed);
            }
            for (sum, n) in totals.bad.iter_mut().zip(&counters.bad) {
                *sum += n.load(Ordering::Relaxed);
            }
            counters.latency.add_to(&mut totals.latency);
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_ten_at_once_and_then_one_in_five() {
        let service = ServiceLive::new("test", 1, Arc::default(), Arc::default());
        let granted = (0..100).filter(|_| service.take_retry(0)).count();
        assert_eq!(granted, 10);
        let mut later = 0;
        for _ in 0..100 {
            service.earn_retry(0);
            later += usize::from(service.take_retry(0));
        }
        assert_eq!((later, service.retries()), (20, 30));
    }

    #[test]
    fn what_is_only_slow_has_not_failed() {
        let service = ServiceLive::new("test", 1, Arc::default(), Arc::default());
        for reason in BadReason::ALL {
            service.count_bad(0, Arm::Canary, reason);
        }
        assert_eq!(service.totals(Arm::Canary).bad_requests(), 11);
    }
}
