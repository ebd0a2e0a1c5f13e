//! The bell of a store in Redis: that something changed, and what.
//!
//! Who looks then needs to read no more than that. A bell that rang for nothing in particular
//! means that anything may have changed. Flags may be many: they are read anew when somebody says that they
//! changed, not whenever a service did.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::keys::FLAGS_CHANGED;
use crate::store::{Changed, LOOK};

/// Rung by subscriptions and by this process' own changes, heard by whoever waits for a change.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Notify,
    news: Mutex<News>,
}

/// What a bell was rung for.
#[derive(Debug, Default)]
struct News {
    /// Anything may have changed.
    all: bool,
    /// Services that changed.
    services: BTreeSet<String>,
    /// Services of which the primary itself said so, since it was asked for them: a mirror may not know yet.
    by_primary: BTreeSet<String>,
    /// Who said that flags changed, since they were looked at; of both the primary counts.
    flags: Option<Teller>,
    /// Whether somebody was sent to look at everything, and didn't come back yet.
    looks: bool,
    /// When somebody last came back from that. However long it takes, in between there is time for what rings.
    looked: Option<Instant>,
}

/// Who tells of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Teller {
    /// One that follows the server that takes writes, or nobody in particular.
    Mirror,
    /// The server that takes writes: a mirror may not know yet.
    Primary,
}

impl Bell {
    /// Wakes whoever waits.
    pub(super) fn ring(&self) {
        self.rung.notify_one();
    }

    /// Anything may have changed.
    pub(super) fn ring_for_all(&self) {
        self.news().all = true;
        self.expect_flags(Teller::Mirror);
        self.ring();
    }

    /// A service changed, or flags did: what a message says.
    pub(super) fn ring_for(&self, changed: String, teller: Teller) {
        if changed == FLAGS_CHANGED {
            self.expect_flags(teller);
        } else {
            self.note(changed, teller);
        }
        self.ring();
    }

    /// Flags may have changed; that is no reason to wake anybody.
    pub(super) fn expect_flags(&self, teller: Teller) {
        let mut news = self.news();
        news.flags = news.flags.max(Some(teller));
    }

    /// Whether a flag may have changed since the last time this was asked, and who said so.
    pub(super) fn take_flags(&self) -> Option<Teller> {
        self.news().flags.take()
    }

    /// Whether a flag may have changed since it was last looked at.
    pub(super) fn expects_flags(&self) -> bool {
        self.news().flags.is_some()
    }

    /// A service may have changed; that is no reason to wake anybody.
    pub(super) fn note(&self, service: String, teller: Teller) {
        let mut news = self.news();
        if teller == Teller::Primary {
            news.by_primary.insert(service.clone());
        }
        news.services.insert(service);
    }

    /// Waits until it rings, or for so long that it is time for a look at everything. Says what to look at.
    pub(super) async fn heard(&self) -> Changed {
        {
            let mut news = self.news();
            if std::mem::take(&mut news.looks) {
                news.looked = Some(Instant::now());
            }
        }
        tokio::select! {
            () = self.rung.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        let mut news = self.news();
        let services = std::mem::take(&mut news.services);
        let is_time = news.looked.is_none_or(|looked| looked.elapsed() >= LOOK);
        let is_about_nothing = services.is_empty() && news.flags.is_none();
        if std::mem::take(&mut news.all) || is_about_nothing || is_time {
            news.looks = true;
            return Changed::Anything;
        }
        Changed::Services(services)
    }

    /// Those of these services that the primary rang for; who asks for them asks it.
    pub(super) fn take_by_primary(&self, services: &[String]) -> BTreeSet<String> {
        let mut news = self.news();
        services.iter().filter_map(|service| news.by_primary.take(service)).collect()
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_was_rung_for_is_told_once_and_everything_now_and_then() {
        let bell = Bell::default();
        assert_eq!(bell.heard().await, Changed::Anything, "nobody looked yet");
        bell.note("b".to_owned(), Teller::Primary);
        bell.ring_for("a".to_owned(), Teller::Mirror);
        assert_eq!(bell.heard().await, Changed::Services(services(&["a", "b"])));
        assert_eq!(bell.take_by_primary(&["a".to_owned(), "b".to_owned()]), services(&["b"]));
        assert_eq!(bell.take_by_primary(&["b".to_owned()]), services(&[]));
        // when it rings all the time, everything is looked at all the same
        for _ in 0..3 {
            tokio::time::advance(LOOK / 2).await;
            bell.ring_for("a".to_owned(), Teller::Primary);
            if bell.heard().await == Changed::Anything {
                return;
            }
        }
        panic!("nobody looks at what nobody rings for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_at_everything_that_takes_long_leaves_time_for_what_rings() {
        let bell = Bell::default();
        for _ in 0..3 {
            assert_eq!(bell.heard().await, Changed::Anything);
            tokio::time::advance(LOOK * 3).await;
            bell.ring_for("a".to_owned(), Teller::Primary);
            assert_eq!(bell.heard().await, Changed::Services(services(&["a"])));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bell_that_rang_for_flags_sends_nobody_to_services() {
        let bell = Bell::default();
        bell.heard().await;
        bell.ring_for(FLAGS_CHANGED.to_owned(), Teller::Primary);
        assert_eq!(bell.heard().await, Changed::Services(services(&[])));
        bell.expect_flags(Teller::Mirror);
        assert_eq!(bell.take_flags(), Some(Teller::Primary), "the mirror's word was taken for the primary's");
        bell.ring();
        assert_eq!(bell.heard().await, Changed::Anything, "it said nothing of what");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bell_that_rang_for_all_means_everything() {
        let bell = Bell::default();
        bell.heard().await;
        bell.ring_for("a".to_owned(), Teller::Primary);
        bell.ring_for_all();
        assert_eq!(bell.heard().await, Changed::Anything);
    }

    #[test]
    fn only_what_may_be_about_flags_has_them_read_anew() {
        let told = Some(Teller::Primary);
        for (message, about_flags) in [("checkbox", None), ("flags", None), (FLAGS_CHANGED, told)] {
            let bell = Bell::default();
            bell.ring_for(message.to_owned(), Teller::Primary);
            assert_eq!((bell.take_flags(), bell.take_flags()), (about_flags, None), "{message}");
        }
        let bell = Bell::default();
        bell.ring_for_all();
        assert_eq!(bell.take_flags(), Some(Teller::Mirror), "anything may have changed");
    }
}
