//! The last events, numbered, for any number of readers.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::{EventJson, Kind};
use crate::telemetry;

/// Events that are kept; the oldest goes first.
const CAPACITY: usize = 1_000;

/// The last events.
#[derive(Debug)]
pub(super) struct Ring {
    /// Begins each id: another process counts anew, and its numbers mean something else.
    boot: String,
    kept: Mutex<VecDeque<Bytes>>,
    /// How many there ever were; none when nobody shall listen any more.
    count: watch::Sender<Option<u64>>,
}

/// How far a reader has read.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The number of the next event to read; the first is 0.
    next: u64,
    counted: watch::Receiver<Option<u64>>,
    /// Whether it must first be told that events are missing.
    gap: bool,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The next event, as it is sent.
    Event(Bytes),
    /// Nothing comes any more: the reader was too slow, or the ring is closed.
    Lost,
}

impl Ring {
    pub(super) fn new() -> Self {
        let boot = format!("{:x}", telemetry::now().as_millis());
        Self { boot, kept: Mutex::default(), count: watch::channel(Some(0)).0 }
    }

    /// Adds an event and wakes all readers.
    pub(super) fn push(&self, kind: Kind, event: &EventJson) {
        // Texts and options of texts are always JSON.
        let Ok(data) = serde_json::to_string(event) else { return };
        // Held until it is counted, so that a place in the ring is the same place for every reader.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(number) = *self.count.borrow() else { return };
        let text = format!("id: {}-{number}\nevent: {}\ndata: {data}\n\n", self.boot, kind.name());
        if kept.len() == CAPACITY {
            kept.pop_front();
        }
        kept.push_back(Bytes::from(text));
        self.count.send_replace(Some(number + 1));
    }

    /// Ends all readers.
    pub(super) fn close(&self) {
        self.count.send_replace(None);
    }

    /// A place to read from: after the event of this id, or what comes from now on where there is none.
    /// Who names an event that isn't known here any more gets all that is, and is told of the gap.
    pub(super) fn cursor(&self, heard: Option<&str>) -> Cursor {
        let counted = self.count.subscribe();
        let newest = counted.borrow().unwrap_or_default();
        let oldest = newest.saturating_sub(CAPACITY as u64);
        let next = match heard {
            None => Some(newest),
            Some(id) => self.number(id).map(|heard| heard + 1).filter(|next| (oldest..=newest).contains(next)),
        };
        Cursor { next: next.unwrap_or(oldest), counted, gap: next.is_none() }
    }

    fn number(&self, id: &str) -> Option<u64> {
        let (boot, number) = id.split_once('-')?;
        number.parse().ok().filter(|number| boot == self.boot && *number < u64::MAX)
    }

    /// The next event for a reader, when there is one. May be dropped while it waits.
    pub(super) async fn next(&self, cursor: &mut Cursor) -> Taken {
        if std::mem::take(&mut cursor.gap) {
            return Taken::Event(Bytes::from_static(b"event: gap\ndata: {}\n\n"));
        }
        let next = cursor.next;
        let there_is = |count: &Option<u64>| count.is_none_or(|count| count > next);
        if cursor.counted.wait_for(there_is).await.is_err() {
            return Taken::Lost;
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = *self.count.borrow() else { return Taken::Lost };
        let back = usize::try_from(count - next).unwrap_or(usize::MAX);
        match kept.len().checked_sub(back).and_then(|place| kept.get(place)) {
            Some(text) => {
                cursor.next += 1;
                Taken::Event(text.clone())
            }
            None => Taken::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(to: &str) -> EventJson {
        let [at, from, to] = ["now", "a", to].map(str::to_owned);
        EventJson { at, service: None, endpoint: None, from, to, cause: None, who: None, why: None }
    }

    fn ring_of(count: u64) -> Ring {
        let ring = Ring::new();
        (0..count).for_each(|n| ring.push(Kind::Weight, &event(&n.to_string())));
        ring
    }

    /// What a reader finds that is there already: its numbers, or what else it was told.
    async fn rest(ring: &Ring, mut cursor: Cursor) -> Vec<String> {
        let mut read = Vec::new();
        let count = ring.count.borrow().unwrap_or_default();
        while cursor.gap || cursor.next < count {
            let Taken::Event(text) = ring.next(&mut cursor).await else { panic!("lost after {read:?}") };
            let text = String::from_utf8(text.to_vec()).expect("text");
            let first = text.lines().next().expect("a line");
            read.push(first.rsplit_once('-').map_or(first, |(_, number)| number).to_owned());
        }
        read
    }

    #[tokio::test]
    async fn who_names_the_last_event_gets_what_came_after_it() {
        let ring = ring_of(5);
        let id = |number: u64| format!("{}-{number}", ring.boot);
        assert!(rest(&ring, ring.cursor(None)).await.is_empty());
        assert_eq!(rest(&ring, ring.cursor(Some(&id(2)))).await, ["3", "4"]);
        assert!(rest(&ring, ring.cursor(Some(&id(4)))).await.is_empty());
    }

    #[tokio::test]
    async fn who_missed_something_is_told_of_the_gap_and_gets_all_that_is_left() {
        let ring = ring_of(3);
        let later = format!("{}-7", ring.boot);
        for id in ["", "0-1", "nonsense", later.as_str()] {
            assert_eq!(rest(&ring, ring.cursor(Some(id))).await, ["event: gap", "0", "1", "2"], "{id}");
        }
        let ring = ring_of(CAPACITY as u64 + 10);
        let read = rest(&ring, ring.cursor(Some(&format!("{}-3", ring.boot)))).await;
        assert_eq!((&*read[0], &*read[1], read.len()), ("event: gap", "10", CAPACITY + 1));
        let read = rest(&ring, ring.cursor(Some(&format!("{}-9", ring.boot)))).await;
        assert_eq!((&*read[0], read.len()), ("10", CAPACITY), "nothing was missed");
    }

    #[tokio::test]
    async fn a_reader_that_the_ring_overtakes_is_lost_and_a_closed_ring_has_none() {
        let ring = ring_of(1);
        let mut slow = ring.cursor(None);
        (0..=CAPACITY).for_each(|_| ring.push(Kind::Trip, &event("x")));
        assert_eq!(ring.next(&mut slow).await, Taken::Lost);
        let mut waiting = ring.cursor(None);
        ring.close();
        assert_eq!(ring.next(&mut waiting).await, Taken::Lost);
    }
}
