//! The bell of a store in Redis: that something changed, and whether it may have been a flag.
//!
//! Flags may be many: they are read anew when somebody says that they changed, not whenever a
//! service did.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::Value;
use tokio::sync::Notify;

use super::keys::FLAGS_CHANGED;

/// Rung by the watch and by this process' own changes, heard by whoever waits for a change.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Notify,
    flags: AtomicBool,
}

impl Bell {
    /// Something changed, and no flag.
    pub(super) fn ring(&self) {
        self.rung.notify_one();
    }

    /// Anything may have changed.
    pub(super) fn ring_for_all(&self) {
        self.expect_flags();
        self.ring();
    }

    /// Flags may have changed; that is no reason to wake anybody.
    pub(super) fn expect_flags(&self) {
        self.flags.store(true, Ordering::Relaxed);
    }

    /// What this message says changed.
    pub(super) fn ring_for(&self, message: Option<&Value>) {
        match message {
            Some(Value::BulkString(name)) if name != FLAGS_CHANGED.as_bytes() => self.ring(),
            _ => self.ring_for_all(),
        }
    }

    /// Waits until it rings.
    pub(super) async fn heard(&self) {
        self.rung.notified().await;
    }

    /// Whether a flag may have changed since the last time this was asked.
    pub(super) fn take_flags(&self) -> bool {
        self.flags.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_about_flags_has_them_read_anew() {
        let message = |text: &str| Some(Value::BulkString(text.into()));
        for (message, about_flags) in [
            (message("checkbox"), false),
            (message("flags"), false),
            (message(":flags"), true),
            (Some(Value::Nil), true),
            (None, true),
        ] {
            let bell = Bell::default();
            bell.ring_for(message.as_ref());
            assert_eq!((bell.take_flags(), bell.take_flags()), (about_flags, false), "{message:?}");
        }
    }
}
