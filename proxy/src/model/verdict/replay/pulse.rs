//! How stable itself did of late.

use std::collections::VecDeque;

use crate::model::time::Timestamp;
use crate::model::verdict::decision;
use crate::model::verdict::pace::WINDOW;

/// Stable's requests and the errors among them: in all, and at each look.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    counts: [u64; 2],
    looks: VecDeque<(Timestamp, [u64; 2])>,
}

impl Pulse {
    /// A request of stable is over.
    pub(super) fn count(&mut self, is_error: bool) {
        self.counts[0] += 1;
        self.counts[1] += u64::from(is_error);
    }

    /// Remembers how things stand.
    pub(super) fn look(&mut self, now: Timestamp) {
        remember(&mut self.looks, now, self.counts);
    }

    /// Whether stable was failing at the last look.
    pub(super) fn is_failing(&self) -> bool {
        match (self.looks.front(), self.looks.back()) {
            (Some((_, from)), Some((_, to))) => decision::is_failing(to[0] - from[0], to[1] - from[1]),
            _ => false,
        }
    }
}

/// Adds a value to a window; the oldest that stays is the newest that is at least a window old.
pub(super) fn remember<T>(values: &mut VecDeque<(Timestamp, T)>, now: Timestamp, value: T) {
    values.push_back((now, value));
    while values.get(1).is_some_and(|(at, _)| now.since(*at) >= WINDOW) {
        values.pop_front();
    }
}
