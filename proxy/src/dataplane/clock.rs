//! Deadlines without timers: each core sweeps its connections' alarms a few times a second.
//!
//! A request has several deadlines and almost none is ever reached. So no timer is
//! made or cancelled on the request path: whoever waits notes its deadline in the
//! connection's [`Alarm`], and the core's sweep wakes the connection's task when the
//! earliest has passed. Deadlines are kept to within [`SWEEP`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How often alarms are looked at: a deadline may be missed by this much.
pub(crate) const SWEEP: Duration = Duration::from_millis(50);
/// Slots that are made at once.
const BLOCK: usize = 64;

/// The alarms of one core, and its coarse idea of now.
#[derive(Debug)]
pub(crate) struct Clock {
    now: Cell<Instant>,
    began: Instant,
    slots: RefCell<Slots>,
    armed: Notify,
}

/// Slots that are in use or were once. They never move: growing copies nothing, and costs no more than what is used.
#[derive(Debug, Default)]
struct Slots {
    blocks: Vec<Box<[Slot]>>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Slot {
    at: Option<Instant>,
    /// A deadline that is taken back when what it waits for comes: see [`Alarm::expects_by`].
    expected: Option<Instant>,
    waker: Option<Waker>,
}

impl Slot {
    /// Has the task of this context woken.
    fn wakes(&mut self, context: &Context<'_>) {
        match &self.waker {
            Some(waker) if waker.will_wake(context.waker()) => {}
            _ => self.waker = Some(context.waker().clone()),
        }
    }
}

impl Slots {
    #[expect(clippy::cast_possible_truncation, reason = "there are never 2^32 connections")]
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let first = self.blocks.len() * BLOCK;
            self.blocks.push((0..BLOCK).map(|_| Slot::default()).collect());
            // The lowest last, which is taken first.
            self.free.extend((first + 1..first + BLOCK).rev().map(|index| index as u32));
            first as u32
        })
    }

    fn slot(&mut self, index: u32) -> &mut Slot {
        let index = index as usize;
        &mut self.blocks[index / BLOCK][index % BLOCK]
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.blocks.iter_mut().flat_map(|block| block.iter_mut())
    }

    fn are_all_free(&self) -> bool {
        self.free.len() == self.blocks.len() * BLOCK
    }
}

impl Clock {
    /// A clock without alarms.
    pub(crate) fn new() -> Rc<Self> {
        let began = Instant::now();
        Rc::new(Self { now: Cell::new(began), began, slots: RefCell::default(), armed: Notify::new() })
    }

    /// Now, asked anew: once when a request begins and once at its response head.
    pub(crate) fn refresh(&self) -> Instant {
        let now = Instant::now();
        self.now.set(now);
        now
    }

    /// Now, at most a sweep ago.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// [`Self::now`] in microseconds since this clock began.
    pub(crate) fn micros(&self) -> u64 {
        let since = self.now.get().saturating_duration_since(self.began);
        since.as_secs() * 1_000_000 + u64::from(since.subsec_micros())
    }

    /// An alarm for one connection's task.
    pub(crate) fn alarm(self: &Rc<Self>) -> Rc<Alarm> {
        let index = self.slots.borrow_mut().take();
        self.armed.notify_one();
        Rc::new(Alarm { clock: Rc::clone(self), index, rung: Cell::new(false) })
    }

    /// Wakes whoever's earliest deadline has passed.
    fn sweep(&self) {
        let now = self.refresh();
        for slot in self.slots.borrow_mut().all() {
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            let (at_due, expected_due) = (due(slot.at), due(slot.expected));
            if at_due {
                slot.at = None;
            }
            if expected_due {
                slot.expected = None;
            }
            if let (true, Some(waker)) = (at_due || expected_due, &slot.waker) {
                waker.wake_by_ref();
            }
        }
    }

    /// Wakes every connection's task, to look at what has changed.
    pub(crate) fn wake_all(&self) {
        for slot in self.slots.borrow_mut().all() {
            if let Some(waker) = &slot.waker {
                waker.wake_by_ref();
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.slots.borrow().are_all_free()
    }

    /// Sweeps for ever; rests while there is no connection and `also`, which each sweep calls,
    /// has nothing left to look after.
    pub(crate) async fn run(self: Rc<Self>, mut also: impl FnMut(Instant) -> bool) {
        let mut more = false;
        loop {
            if self.is_idle() && !more {
                self.armed.notified().await;
            }
            tokio::time::sleep(SWEEP).await;
            self.sweep();
            more = also(self.now());
        }
    }
}

/// The alarm of one connection's task: wakes it when its earliest deadline has passed.
#[derive(Debug)]
pub(crate) struct Alarm {
    clock: Rc<Clock>,
    index: u32,
    rung: Cell<bool>,
}

impl Alarm {
    /// The clock it belongs to.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Has the task polled again at once: what it waits for is likely there already.
    pub(crate) fn ring(&self) {
        self.rung.set(true);
    }

    /// Whether it rang since this was last asked.
    pub(crate) fn has_rung(&self) -> bool {
        self.rung.take()
    }

    /// Whether the deadline has passed; if not, the task will be woken when it has. To be
    /// asked in each poll that ends up waiting; no deadline never passes.
    pub(crate) fn passed(&self, deadline: Option<Instant>, context: &Context<'_>) -> bool {
        let Some(deadline) = deadline else { return false };
        if deadline <= self.clock.now() {
            return true;
        }
        let mut slots = self.clock.slots.borrow_mut();
        let slot = slots.slot(self.index);
        if slot.at.is_none_or(|at| deadline < at) {
            slot.at = Some(deadline);
        }
        slot.wakes(context);
        false
    }

    /// As [`Alarm::passed`], for the one thing whose coming takes the deadline back, by
    /// [`Alarm::came`]: a deadline that is short and mostly kept would else wake the task, for
    /// nothing, in the middle of a later request.
    pub(crate) fn expects_by(&self, deadline: Instant, context: &Context<'_>) -> bool {
        if deadline <= self.clock.now() {
            return true;
        }
        let mut slots = self.clock.slots.borrow_mut();
        let slot = slots.slot(self.index);
        slot.expected = Some(deadline);
        slot.wakes(context);
        false
    }

    /// What was expected is there, or won't come any more.
    pub(crate) fn came(&self) {
        self.clock.slots.borrow_mut().slot(self.index).expected = None;
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut slots = self.clock.slots.borrow_mut();
        let slot = std::mem::take(slots.slot(self.index));
        slots.free.push(self.index);
        drop(slots);
        // Its waker may hold the last of a task: dropped only here, with nothing borrowed.
        drop(slot);
    }
}

/// A deadline this long after `start`; zero means none.
pub(crate) fn deadline(start: Instant, after: Duration) -> Option<Instant> {
    if after.is_zero() { None } else { start.checked_add(after) }
}

/// The earlier of two deadlines.
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    /// Waits for a deadline by the alarm alone.
    async fn wait(alarm: Rc<Alarm>, after: Duration) -> Duration {
        let start = alarm.clock().refresh();
        poll_fn(|cx| if alarm.passed(deadline(start, after), cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_wakes_its_task_within_a_sweep() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let clock = Clock::new();
                tokio::task::spawn_local(Rc::clone(&clock).run(|_| false));
                for seconds in [1, 30] {
                    let after = Duration::from_secs(seconds);
                    let waited = wait(clock.alarm(), after).await;
                    assert!(waited >= after && waited <= after + 2 * SWEEP, "{waited:?}");
                }
            })
            .await;
    }

    /// Counts how often a task is polled that waits for a deadline and expects something before.
    async fn polls_while_expecting(comes: bool) -> usize {
        let clock = Clock::new();
        tokio::task::spawn_local(Rc::clone(&clock).run(|_| false));
        let (alarm, start, mut polls) = (clock.alarm(), clock.refresh(), 0);
        poll_fn(|context| {
            polls += 1;
            // The longer deadline must not wait for the shorter one, nor be taken back with it.
            if alarm.passed(deadline(start, Duration::from_secs(5)), context) {
                return Poll::Ready(polls);
            }
            if polls == 1 {
                assert!(!alarm.expects_by(start + Duration::from_secs(1), context));
            }
            if polls == 1 && comes {
                alarm.came();
            }
            Poll::Pending
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn an_expectation_wakes_its_task_once_unless_it_came() {
        let local = tokio::task::LocalSet::new();
        for (comes, polls) in [(true, 2), (false, 3)] {
            let counted = local.run_until(async { tokio::task::spawn_local(polls_while_expecting(comes)).await });
            assert_eq!(counted.await.expect("it ends"), polls);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_connection_means_no_sweep_unless_something_else_needs_it() {
        for needed in [0, 10] {
            let clock = Clock::new();
            drop(clock.alarm());
            let mut sweeps = 0;
            let count = |_| {
                sweeps += 1;
                sweeps < needed
            };
            let swept = tokio::time::timeout(Duration::from_secs(60), Rc::clone(&clock).run(count)).await;
            assert!(swept.is_err());
            assert_eq!(sweeps, needed.max(1), "a rest begins after the sweep that finds nothing to watch");
        }
    }

    #[test]
    fn a_zero_timeout_is_none() {
        let now = Instant::now();
        assert_eq!(deadline(now, Duration::ZERO), None);
        assert_eq!(earlier(None, Some(now)), Some(now));
        assert_eq!(earlier(Some(now + SWEEP), Some(now)), Some(now));
    }
}
