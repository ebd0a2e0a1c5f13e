//! Those on one core who wait for room, by service and lane, in the order in which they came.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::Waker;

use crate::dataplane::core::Core;
use crate::live::{Lane, Turnstile};

/// A core's lines. A line is there as long as somebody stands in it.
#[derive(Debug, Default)]
pub(crate) struct Lines(RefCell<HashMap<Key, Line>>);

/// A turnstile, by its address, and a lane of it.
type Key = (usize, Lane);
/// By ticket.
type Line = BTreeMap<u64, Option<Waker>>;

impl Lines {
    /// Has the first of each line look by itself whether there is room.
    pub(crate) fn sweep(&self) {
        for line in self.0.borrow().values() {
            if let Some((_, Some(waker))) = line.first_key_value() {
                waker.wake_by_ref();
            }
        }
    }

    /// How many stand in line.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.borrow().values().map(Line::len).sum()
    }
}

/// One who stands in line, until this is dropped.
#[derive(Debug)]
pub(super) struct Standing<'a> {
    core: &'a Core,
    turnstile: &'a Arc<Turnstile>,
    lane: Lane,
    ticket: u64,
}

impl<'a> Standing<'a> {
    /// Takes the place in line that the ticket says.
    pub(super) fn join(core: &'a Core, turnstile: &'a Arc<Turnstile>, lane: Lane, ticket: u64) -> Self {
        let standing = Self { core, turnstile, lane, ticket };
        let mut lines = core.lines.0.borrow_mut();
        let line = lines.entry(standing.key()).or_default();
        line.insert(ticket, None);
        standing.tell_first(line);
        drop(lines);
        standing
    }

    /// Says how it is woken.
    pub(super) fn is_woken_by(&self, waker: &Waker) {
        let mut lines = self.core.lines.0.borrow_mut();
        let Some(line) = lines.get_mut(&self.key()) else { return };
        let before = match line.get_mut(&self.ticket) {
            Some(Some(known)) if known.will_wake(waker) => None,
            Some(known) => known.replace(waker.clone()),
            None => None,
        };
        if line.first_key_value().is_some_and(|(first, _)| *first == self.ticket) {
            self.tell_first(line);
        }
        drop(lines);
        // It may hold the last of a task: dropped with nothing borrowed.
        drop(before);
    }

    /// Whether nobody who came earlier stands in this lane, on this core or another.
    pub(super) fn is_its_turn(&self) -> bool {
        self.turnstile.is_first_of_all(self.lane, self.ticket)
    }

    fn key(&self) -> Key {
        (Arc::as_ptr(self.turnstile).addr(), self.lane)
    }

    fn tell_first(&self, line: &Line) {
        let first = line.first_key_value().map(|(ticket, waker)| (*ticket, waker.as_ref()));
        self.turnstile.set_first(self.core.id, self.lane, first);
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        let mut lines = self.core.lines.0.borrow_mut();
        let Some(line) = lines.get_mut(&self.key()) else { return };
        let own = line.remove(&self.ticket);
        self.tell_first(line);
        if line.is_empty() {
            lines.remove(&self.key());
        }
        drop(lines);
        drop(own);
        // Whether it goes in or away, there may be room for the next.
        self.turnstile.call();
    }
}
