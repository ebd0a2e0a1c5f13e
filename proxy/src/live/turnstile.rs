//! How many requests are inside, of a service and of each endpoint, and who stands first in line to come in.
//!
//! Exact over all cores: whoever enters takes a slot by one atomic step that fails when there is none. Each core keeps
//! its own line, in the order of tickets that all cores draw from one roll; here is only who stands first in each. Who
//! leaves wakes the one with the lowest ticket, on whichever core. A wake that comes to nothing costs a sweep at most:
//! then the first of each line look by themselves. `docs/decisions/0017` says why so.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use atomic_waker::AtomicWaker;

use super::counters::{self, Histogram, HistogramSum, Padded};
use crate::model::split::{Arm, PerArm};

/// A count that never passes its limit, shared by all cores.
#[derive(Debug, Default)]
pub struct Slots(AtomicU32);

impl Slots {
    /// Takes one, if fewer than so many are taken.
    pub fn take(&self, limit: NonZeroU32) -> bool {
        let more = |taken| (taken < limit.get()).then_some(taken + 1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Gives one back that was taken.
    pub fn give_back(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    /// How many are taken.
    pub fn taken(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Why a request wasn't let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many wait already as may.
    QueueFull,
    /// Its turn didn't come in time.
    QueueTimeout,
}

impl Refusal {
    /// All of them, for tables of counters.
    pub const ALL: [Self; 2] = [Self::QueueFull, Self::QueueTimeout];

    /// Its name in labels and for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
        }
    }
}

/// A line to stand in. Who is in one can go where any other of it can, so none keeps others waiting in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// For stable, but for its control.
    Stable,
    /// For the control.
    Control,
    /// For the canary.
    Canary,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stable, Self::Control, Self::Canary];

    /// The arm that it leads to.
    pub const fn arm(self) -> Arm {
        match self {
            Self::Stable | Self::Control => Arm::Stable,
            Self::Canary => Arm::Canary,
        }
    }
}

/// The turnstile of a service.
#[derive(Debug)]
pub struct Turnstile {
    inside: Padded<Slots>,
    /// Of those inside, the ones with the canary.
    canary: Padded<Slots>,
    line: Padded<Line>,
    cores: Box<[Padded<TurnstileCore>]>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: [Slots; Lane::ALL.len()],
    tickets: AtomicU64,
}

#[derive(Debug, Default)]
struct TurnstileCore {
    first: [First; Lane::ALL.len()],
    waits: Histogram,
    refused: PerArm<[AtomicU64; Refusal::ALL.len()]>,
}

/// Who stands first in a core's line.
#[derive(Debug)]
struct First {
    ticket: AtomicU64,
    waker: AtomicWaker,
}

/// The ticket of nobody.
const NOBODY: u64 = u64::MAX;

impl Default for First {
    fn default() -> Self {
        Self { ticket: AtomicU64::new(NOBODY), waker: AtomicWaker::new() }
    }
}

impl Turnstile {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            inside: Padded::default(),
            canary: Padded::default(),
            line: Padded::default(),
            cores: (0..cores).map(|_| Padded::default()).collect(),
        }
    }

    // === inside ===

    /// Lets a request in, if fewer than so many are inside, and fewer than so many with the canary if it is one of
    /// those.
    pub fn enter(&self, limit: NonZeroU32, canary: Option<NonZeroU32>) -> bool {
        if canary.is_some_and(|part| !self.canary.0.take(part)) {
            return false;
        }
        let is_in = self.inside.0.take(limit);
        if !is_in && canary.is_some() {
            self.canary.0.give_back();
        }
        is_in
    }

    /// Whether one of so many slots is free, at this moment.
    pub fn has_room(&self, limit: NonZeroU32) -> bool {
        self.inside.0.taken() < limit.get()
    }

    /// A request leaves that came in, as one of the canary's or not. To be followed by [`Self::call`].
    pub fn leave(&self, as_canary: bool) {
        if as_canary {
            self.canary.0.give_back();
        }
        self.inside.0.give_back();
    }

    /// Requests inside, as far as they are counted: where a service says how many there may be.
    pub fn inside(&self) -> u32 {
        self.inside.0.taken()
    }

    // === in line ===

    /// A ticket for a lane, if fewer than so many have one.
    pub fn line_up(&self, lane: Lane, length: u32) -> Option<u64> {
        let line = &self.line.0;
        let may = NonZeroU32::new(length).is_some_and(|length| line.waiting[lane as usize].take(length));
        may.then(|| line.tickets.fetch_add(1, Ordering::SeqCst))
    }

    /// Whoever had a ticket for a lane needs it no more.
    pub fn step_out(&self, lane: Lane) {
        self.line.0.waiting[lane as usize].give_back();
    }

    /// How many wait in a lane.
    pub fn waiting(&self, lane: Lane) -> u32 {
        self.line.0.waiting[lane as usize].taken()
    }

    /// How many wait for an arm.
    pub fn waiting_for(&self, arm: Arm) -> u32 {
        Lane::ALL.into_iter().filter(|lane| lane.arm() == arm).map(|lane| self.waiting(lane)).sum()
    }

    /// Says who stands first in a core's line, and how that one is woken, where it told.
    pub fn set_first(&self, core: usize, lane: Lane, first: Option<(u64, Option<&Waker>)>) {
        let own = self.first(core, lane);
        if let Some((_, Some(waker))) = first {
            own.waker.register(waker);
        }
        own.ticket.store(first.map_or(NOBODY, |(ticket, _)| ticket), Ordering::SeqCst);
    }

    /// Whether nobody with a lower ticket stands first in a line of this lane, on any core.
    pub fn is_first_of_all(&self, lane: Lane, ticket: u64) -> bool {
        self.firsts(lane).all(|(other, _)| other >= ticket)
    }

    /// Calls the one who has waited longest in each lane: there may be room.
    pub fn call(&self) {
        for lane in Lane::ALL {
            if self.waiting(lane) > 0
                && let Some((ticket, first)) = self.firsts(lane).min_by_key(|(ticket, _)| *ticket)
                && ticket != NOBODY
            {
                first.waker.wake();
            }
        }
    }

    fn first(&self, core: usize, lane: Lane) -> &First {
        &self.cores[core].0.first[lane as usize]
    }

    fn firsts(&self, lane: Lane) -> impl Iterator<Item = (u64, &First)> {
        let firsts = self.cores.iter().map(move |core| &core.0.first[lane as usize]);
        firsts.map(|first| (first.ticket.load(Ordering::SeqCst), first))
    }

    // === counters ===

    /// Counts on a core how long a request waited that came in.
    pub fn count_wait(&self, core: usize, wait: Duration) {
        self.cores[core].0.waits.record(wait);
    }

    /// Counts on a core a request for an arm that wasn't let in.
    pub fn count_refused(&self, core: usize, arm: Arm, refusal: Refusal) {
        counters::add(&self.cores[core].0.refused.get(arm)[refusal as usize], 1);
    }

    /// How long requests waited that came in.
    pub fn waits(&self) -> HistogramSum {
        let mut sum = HistogramSum::default();
        self.cores.iter().for_each(|core| core.0.waits.add_to(&mut sum));
        sum
    }

    /// Requests for an arm that weren't let in.
    pub fn refused(&self, arm: Arm, refusal: Refusal) -> u64 {
        let of = |core: &Padded<TurnstileCore>| core.0.refused.get(arm)[refusal as usize].load(Ordering::Relaxed);
        self.cores.iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::task::Wake;

    fn some(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).expect("some")
    }

    #[test]
    fn never_are_more_inside_than_may_be_however_many_cores_try() {
        for (limit, canary) in [(1, 1), (3, 1), (7, 3)] {
            let turnstile = Turnstile::new(4);
            let (with_canary, most, entered) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for core in 0..4 {
                    let (turnstile, with_canary, most, entered) = (&turnstile, &with_canary, &most, &entered);
                    scope.spawn(move || {
                        for turn in 0..5_000 {
                            let as_canary = (core + turn) % 3 == 0;
                            if !turnstile.enter(some(limit), as_canary.then(|| some(canary))) {
                                continue;
                            }
                            entered.fetch_add(1, Ordering::SeqCst);
                            most.fetch_max(turnstile.inside() as usize, Ordering::SeqCst);
                            if as_canary {
                                let n = with_canary.fetch_add(1, Ordering::SeqCst) + 1;
                                assert!(n <= canary as usize, "{n} with the canary");
                                with_canary.fetch_sub(1, Ordering::SeqCst);
                            }
                            turnstile.leave(as_canary);
                        }
                    });
                }
            });
            assert!(most.into_inner() <= limit as usize && entered.into_inner() > 0);
            assert_eq!((turnstile.inside(), turnstile.canary.0.taken()), (0, 0));
        }
    }

    struct Bell(AtomicBool);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_waited_longest_is_called_whatever_the_core() {
        let turnstile = Turnstile::new(2);
        let bells: Vec<Arc<Bell>> = (0..2).map(|_| Arc::new(Bell(AtomicBool::new(false)))).collect();
        for core in [1, 0] {
            let ticket = turnstile.line_up(Lane::Stable, 2).expect("there is room in line");
            let waker = Waker::from(Arc::clone(&bells[core]));
            turnstile.set_first(core, Lane::Stable, Some((ticket, Some(&waker))));
        }
        let called = || bells.iter().map(|bell| bell.0.swap(false, Ordering::SeqCst)).collect::<Vec<_>>();
        assert_eq!(turnstile.line_up(Lane::Stable, 2), None, "two may wait");
        assert!(turnstile.line_up(Lane::Canary, 2).is_some(), "the canary's line is another");
        assert_eq!((turnstile.waiting_for(Arm::Stable), turnstile.waiting_for(Arm::Canary)), (2, 1));
        turnstile.call();
        assert_eq!(called(), [false, true]);
        turnstile.set_first(1, Lane::Stable, None);
        turnstile.step_out(Lane::Stable);
        turnstile.call();
        assert_eq!(called(), [true, false]);
        assert!(!turnstile.is_first_of_all(Lane::Stable, 9) && turnstile.is_first_of_all(Lane::Stable, 1));
    }

    #[test]
    fn a_canary_request_that_finds_the_service_full_takes_nothing_from_the_next() {
        let turnstile = Turnstile::new(1);
        assert!(turnstile.enter(some(1), None));
        assert!(!turnstile.enter(some(1), Some(some(1))));
        turnstile.leave(false);
        assert!(turnstile.enter(some(1), Some(some(1))));
    }
}
