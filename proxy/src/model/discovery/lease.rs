//! One leased member, from its first beat to the day it is forgotten.

use std::time::Duration;

use super::{Checks, Standing};
use crate::model::state::MemberSpec;
use crate::model::time::Timestamp;

/// The longest that a late member is waited for, however long its lease is.
const LONGEST_GRACE: Duration = Duration::from_secs(60);
/// Members that fall silent within the time of their lease, but at least and at most so long, fall silent together.
const TOGETHER: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// A time that a member went is remembered for so long: many times the longest trial, or a member that flaps for ever
/// would outlive its own past.
const MEMORY: Duration = Duration::from_secs(3_600);
/// The longest that a member must be steady before it gets work again.
const LONGEST_TRIAL: Duration = Duration::from_secs(300);

/// What is known of one leased member.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    member: MemberSpec,
    draining: bool,
    phase: Phase,
    /// When it went lately, the oldest first.
    went: Vec<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Beating,
    /// Silent since, and waited for until.
    Late(Timestamp, Timestamp),
    /// Silent, with too many others.
    Kept,
    /// Out, and silent since; none if it got no work before that either.
    Out(Option<Timestamp>),
    /// Beats again since, and must for so long.
    Returning(Timestamp, Duration),
}

impl Lease {
    /// A member that was never seen before.
    pub(super) const fn new(member: MemberSpec, draining: bool) -> Self {
        Self { member, draining, phase: Phase::Beating, went: Vec::new() }
    }

    /// What it said of itself last.
    pub(super) const fn member(&self) -> &MemberSpec {
        &self.member
    }

    pub(super) const fn is_draining(&self) -> bool {
        self.draining
    }

    /// How it stands; none if it is out.
    pub(super) const fn standing(&self) -> Option<Standing> {
        match self.phase {
            Phase::Beating => Some(Standing::Steady),
            Phase::Late(..) => Some(Standing::Late),
            Phase::Kept => Some(Standing::Kept),
            Phase::Out(_) => None,
            Phase::Returning(..) => Some(Standing::Returning),
        }
    }

    pub(super) const fn is_beating(&self) -> bool {
        matches!(self.phase, Phase::Beating | Phase::Returning(..))
    }

    /// Whether it fell silent so lately that it may be for the same reason as others.
    pub(super) fn is_silent(&self, now: Timestamp) -> bool {
        let (least, most) = TOGETHER;
        match self.phase {
            Phase::Late(since, _) | Phase::Out(Some(since)) => now.since(since) < self.ttl().clamp(least, most),
            Phase::Kept => true,
            Phase::Beating | Phase::Returning(..) | Phase::Out(None) => false,
        }
    }

    /// The store has its lease. Returns for how long it must be steady, if it was out until now.
    pub(super) fn beat(&mut self, now: Timestamp, member: &MemberSpec, draining: bool) -> Option<Duration> {
        if self.member != *member {
            self.member.clone_from(member);
        }
        self.draining = draining;
        match self.phase {
            Phase::Beating | Phase::Returning(..) => None,
            // It was late, or the store was: nothing is held against it.
            Phase::Late(..) | Phase::Kept => {
                self.phase = Phase::Beating;
                None
            }
            Phase::Out(_) => {
                let trial = self.trial(now);
                self.phase = Phase::Returning(now, trial);
                Some(trial)
            }
        }
    }

    /// Its lease is gone. The store is read without a break since `read_since`.
    pub(super) fn lapse(&mut self, now: Timestamp, read_since: Timestamp, checks: Checks) {
        if self.phase != Phase::Beating {
            return self.go(now, None);
        }
        let grace = self.ttl().min(LONGEST_GRACE);
        // A beat may have been lost with the store: give time for the next one.
        let doubt = read_since + grace;
        let until = if checks == Checks::Passing { doubt.max(now + grace) } else { doubt };
        if now < until {
            self.phase = Phase::Late(now, until);
        } else {
            self.go(now, Some(now));
        }
    }

    /// What time alone does. Returns whether it is out now, and wasn't before.
    pub(super) fn pass_time(&mut self, now: Timestamp, checks: impl FnOnce() -> Checks) -> bool {
        match self.phase {
            Phase::Late(since, until) if now >= until || checks() == Checks::Failing => {
                self.go(now, Some(since));
                true
            }
            Phase::Returning(since, trial) if now.since(since) >= trial => {
                self.phase = Phase::Beating;
                false
            }
            _ => false,
        }
    }

    /// Holds it, and what came of its silence against it no more.
    pub(super) fn keep(&mut self) {
        if let Phase::Out(_) = self.phase {
            self.went.pop();
        }
        self.phase = Phase::Kept;
    }

    /// Holds it no longer than one that is late.
    pub(super) fn release(&mut self, now: Timestamp) {
        if self.phase == Phase::Kept {
            self.phase = Phase::Late(now, now + self.ttl().min(LONGEST_GRACE));
        }
    }

    /// Whether nothing is left to remember.
    pub(super) fn is_forgotten(&self, now: Timestamp) -> bool {
        matches!(self.phase, Phase::Out(_)) && self.went.last().is_none_or(|last| now.since(*last) >= MEMORY)
    }

    fn go(&mut self, now: Timestamp, silent_since: Option<Timestamp>) {
        self.went.retain(|before| now.since(*before) < MEMORY);
        self.went.push(now);
        self.phase = Phase::Out(silent_since);
    }

    /// For how long it must beat before it gets work: the time of its lease, twice that after a second time, and so on.
    fn trial(&self, now: Timestamp) -> Duration {
        let times = self.went.iter().filter(|before| now.since(**before) < MEMORY).count();
        let doubled = u32::try_from(times.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        self.ttl().saturating_mul(1 << doubled).min(LONGEST_TRIAL)
    }

    fn ttl(&self) -> Duration {
        self.member.ttl().unwrap_or_default()
    }
}
