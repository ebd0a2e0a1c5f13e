//! How long an endpoint lets its answer be waited for, without the time that the client takes for what it has got.

use std::time::Duration;

use tokio::time::Instant;

use super::Terms;
use crate::dataplane::clock::{deadline, earlier};

/// The wait for the pieces of a body.
#[derive(Debug)]
pub(super) struct Vigil {
    /// So long nothing may move.
    idle: Duration,
    /// When the whole must be over.
    total: Option<Instant>,
    /// Since when the next piece is awaited.
    since: Option<Instant>,
    /// When a piece was handed on, for the client to take.
    handed_at: Option<Instant>,
    /// How long clients took for pieces, in all.
    taking: Duration,
}

impl Vigil {
    /// One that begins.
    pub(super) const fn new(terms: &Terms) -> Self {
        let (idle, total) = (terms.timeouts.idle, terms.total);
        Self { idle, total, since: None, handed_at: None, taking: Duration::ZERO }
    }

    /// The client has taken what it was given, and the next piece is asked for.
    pub(super) fn is_asked(&mut self, now: Instant) {
        if let Some(handed_at) = self.handed_at.take() {
            self.taking += now.saturating_duration_since(handed_at);
        }
    }

    /// A piece came and is handed on.
    pub(super) const fn hands_on(&mut self, now: Instant) {
        self.since = None;
        self.handed_at = Some(now);
    }

    /// Something moved, if no piece.
    pub(super) const fn goes_on(&mut self) {
        self.since = None;
    }

    /// Nothing is there: until when it is waited for.
    pub(super) fn until(&mut self, now: Instant) -> Option<Instant> {
        let since = *self.since.get_or_insert(now);
        earlier(deadline(since, self.idle), self.total)
    }

    /// Whether the endpoint is to blame for a wait that is over: not where it would have been in time, had the client
    /// taken the answer at once.
    pub(super) fn is_the_endpoints(&self, now: Instant) -> bool {
        let is_idle = self.since.and_then(|since| deadline(since, self.idle)).is_some_and(|until| until <= now);
        is_idle || self.total.and_then(|total| total.checked_add(self.taking)).is_some_and(|until| until <= now)
    }
}
