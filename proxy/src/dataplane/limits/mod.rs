//! Whether a request comes in now, later or not at all: rates (`rate.rs`), requests at once (`pass.rs`), and the line of
//! those for whom there is no room yet (`line.rs`).
//!
//! A request that waits holds nothing but its place. When its turn comes it goes by the snapshot that is in force then: an
//! endpoint may have begun to drain, and a canary may have been pulled. `docs/decisions/0017` says how cores share.

mod line;
mod pass;
mod rate;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::line::Lines;
use self::line::Standing;
pub(crate) use self::pass::Pass;
pub(crate) use self::rate::{TooEarly, check_rates};
use super::clock::{Alarm, deadline};
use super::core::{Core, ServiceRef};
use super::lot::serving_arm;
use super::pick::Wish;
use crate::live::{Lane, Refusal, Turnstile};
use crate::model::split::Arm;

/// Where a request is to go, as the snapshot has it that it goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound<'a> {
    pub(crate) service: &'a ServiceRef,
    /// The arm that was drawn, and the one that serves.
    pub(crate) drawn: Arm,
    pub(crate) arm: Arm,
    /// To whom of the arm's pool it would rather go.
    pub(crate) wish: &'a Wish,
}

/// Why a request isn't let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It waited, and what its snapshot says of where it is to go is no more true.
    Outdated,
    /// There is no room for it.
    Refused(Refusal),
}

/// A request's place in line, once it has one.
#[derive(Debug, Default)]
pub(crate) struct Turn(Option<Place>);

/// Counted as waiting as long as it is there.
#[derive(Debug)]
struct Place {
    turnstile: Arc<Turnstile>,
    lane: Lane,
    ticket: u64,
    since: Instant,
    until: Option<Instant>,
    /// Since when, if the service had room then, so that it is the arm that keeps the request waiting.
    for_arm: Option<Instant>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turnstile.step_out(self.lane);
    }
}

impl Bound<'_> {
    fn turnstile(&self) -> Option<&Arc<Turnstile>> {
        self.service.limits.as_ref()?.turnstile.as_ref()
    }

    fn lane(&self) -> Lane {
        match self.arm {
            Arm::Canary => Lane::Canary,
            Arm::Stable if self.wish.members().start > 0 => Lane::Control,
            Arm::Stable => Lane::Stable,
        }
    }

    fn is_outdated(&self, core: &Core) -> bool {
        !self.service.is_of(&core.snapshot()) || serving_arm(self.service, self.drawn) != self.arm
    }
}

/// Lets a request in: at once if there is room and nobody waits for it, or else when its turn comes.
///
/// After [`Denied::Outdated`] it keeps its place if it comes back with the same turn.
pub(crate) async fn enter(core: &Core, alarm: &Alarm, bound: &Bound<'_>, turn: &mut Turn) -> Result<Pass, Denied> {
    let Some(turnstile) = bound.turnstile() else { return Ok(Pass::default()) };
    if turn.0.is_none()
        && turnstile.waiting(bound.lane()) == 0
        && let Some(pass) = Pass::take(core, bound, turnstile)
    {
        turnstile.count_wait(core.id, Duration::ZERO);
        return Ok(pass);
    }
    let Some(place) = turn.line_up(core, bound, turnstile) else {
        return Err(refused(core, turnstile, bound.arm, Refusal::QueueFull));
    };
    // Few wait: what they hold for it is not held by all others.
    let entered = Box::pin(wait(core, alarm, bound, place)).await;
    match entered {
        Ok(mut pass) => {
            let now = core.clock.refresh();
            turnstile.count_wait(core.id, now.saturating_duration_since(place.since));
            if let Some(since) = place.for_arm {
                pass.waited_since(since);
            }
            turn.0 = None;
            Ok(pass)
        }
        Err(Denied::Refused(refusal)) => Err(refused(core, turnstile, bound.arm, refusal)),
        Err(Denied::Outdated) => Err(Denied::Outdated),
    }
}

fn refused(core: &Core, turnstile: &Turnstile, arm: Arm, refusal: Refusal) -> Denied {
    turnstile.count_refused(core.id, arm, refusal);
    Denied::Refused(refusal)
}

impl Turn {
    /// The place in line: the one that it has, if that is the right lane, or else a new one. None if the lane is full.
    fn line_up(&mut self, core: &Core, bound: &Bound<'_>, turnstile: &Arc<Turnstile>) -> Option<&Place> {
        let (lane, limits) = (bound.lane(), &bound.service.spec.limits);
        let (known, now) = (self.0.take(), core.clock.now());
        let (since, until) = match &known {
            Some(place) => (place.since, place.until),
            None => (now, deadline(now, limits.queue.timeout)),
        };
        let known = known.filter(|place| place.lane == lane && Arc::ptr_eq(&place.turnstile, turnstile));
        let place = match known {
            Some(place) => place,
            None => {
                let has_room = limits.max_in_flight.is_none_or(|limit| turnstile.has_room(limit));
                let for_arm = has_room.then_some(now);
                let ticket = turnstile.line_up(lane, limits.queue.length)?;
                Place { turnstile: Arc::clone(turnstile), lane, ticket, since, until, for_arm }
            }
        };
        Some(self.0.insert(place))
    }
}

/// Stands in line until the turn comes, the time is over, or the snapshot is.
async fn wait(core: &Core, alarm: &Alarm, bound: &Bound<'_>, place: &Place) -> Result<Pass, Denied> {
    let standing = Standing::join(core, &place.turnstile, place.lane, place.ticket);
    poll_fn(|context| {
        if bound.is_outdated(core) {
            return Poll::Ready(Err(Denied::Outdated));
        }
        // Told before looking: room that is made in between wakes.
        standing.is_woken_by(context.waker());
        if standing.is_its_turn()
            && let Some(pass) = Pass::take(core, bound, &place.turnstile)
        {
            return Poll::Ready(Ok(pass));
        }
        if alarm.passed(place.until, context) {
            return Poll::Ready(Err(Denied::Refused(Refusal::QueueTimeout)));
        }
        Poll::Pending
    })
    .await
}
