//! The bell of a store in Redis: that something changed, and what.
//!
//! Who looks then needs to read no more than that. A bell that rang for nothing in particular
//! means that anything may have changed.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Rung by subscriptions and by this process' own changes, heard by whoever waits for a change.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Notify,
    news: Mutex<News>,
}

/// What a bell was rung for.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Anything may have changed.
    pub(super) all: bool,
    /// Services that changed.
    pub(super) services: BTreeSet<String>,
    /// Those of them of which the primary itself said so: a mirror may not know yet.
    pub(super) by_primary: BTreeSet<String>,
}

/// Who tells of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Teller {
    /// The server that takes writes.
    Primary,
    /// One that follows it.
    Mirror,
}

impl Bell {
    /// Wakes whoever waits.
    pub(super) fn ring(&self) {
        self.rung.notify_one();
    }

    /// Anything may have changed.
    pub(super) fn ring_for_all(&self) {
        self.news().all = true;
        self.ring();
    }

    /// A service changed.
    pub(super) fn ring_for(&self, service: String, teller: Teller) {
        self.note(service, teller);
        self.ring();
    }

    /// A service may have changed; that is no reason to wake anybody.
    pub(super) fn note(&self, service: String, teller: Teller) {
        let mut news = self.news();
        if teller == Teller::Primary {
            news.by_primary.insert(service.clone());
        }
        news.services.insert(service);
    }

    /// Waits until it rings.
    pub(super) async fn heard(&self) {
        self.rung.notified().await;
    }

    /// What it was rung for since this was asked the last time.
    pub(super) fn take(&self) -> News {
        std::mem::take(&mut *self.news())
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_was_rung_for_is_told_once() {
        let bell = Bell::default();
        bell.ring_for("a".to_owned(), Teller::Mirror);
        bell.note("b".to_owned(), Teller::Primary);
        let news = bell.take();
        assert_eq!(news.services.into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(news.by_primary.into_iter().collect::<Vec<_>>(), ["b"]);
        assert!(!news.all && bell.take().services.is_empty());
        bell.ring_for_all();
        assert!(bell.take().all && !bell.take().all);
    }
}
