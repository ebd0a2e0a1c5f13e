//! The last good flags beside those in Redis: what a store in Redis answers when asked for flags.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::codec::decode;
use super::{FlagWish, Flags, Sight};
use crate::model::flag::{Definitions, FlagChange, Refusal};
use crate::store::redis::bell::Teller;
use crate::store::redis::connection::Down;
use crate::store::redis::keys::FLAGS_CHANGED;
use crate::store::redis::{RedisStore, Remote};
use crate::store::state_file::OnFailure;
use crate::store::{Loaded, Poison, StoreError, is_news};

/// What this process knows of the flags in Redis.
#[derive(Debug, Default)]
pub(in crate::store::redis) struct Known {
    /// None before the first look, and after one that failed. Locked by whoever looks or changes, so that what was
    /// seen earlier never takes the place of what was seen later.
    sight: tokio::sync::Mutex<Option<Sight>>,
    faults: Mutex<Faults>,
}

/// What is wrong with what was seen.
#[derive(Debug, Default)]
struct Faults {
    poisoned: Vec<Poison>,
    refused: Arc<[Refusal]>,
}

#[expect(private_bounds, reason = "only this room can name a remote")]
impl<R: Remote> RedisStore<R> {
    /// Reads the flags anew where they may have changed. Where they can't be read, the last good ones go on
    /// counting and so does all else that was loaded: whoever spoils flags shall not stop a rollout.
    pub(in crate::store::redis) async fn look_at_flags(&self) -> Option<Poison> {
        let flags = self.remote.flags()?;
        // Somebody changes flags just now, and rings when that came to anything: a trip doesn't wait for it.
        let mut seen = self.flags.sight.try_lock().ok()?;
        let rung = self.bell.take_flags();
        let down = self.try_to_look(flags, &mut seen, rung).await.err()?;
        // What couldn't be looked at now is looked at as soon as it can.
        self.bell.expect_flags(rung.unwrap_or(Teller::Mirror));
        Some(Poison { key: flags.keys.flags.clone(), problem: format!("the flags can't be read: {down}") })
    }

    /// The last good flags, and what is refused of those in Redis.
    pub(in crate::store::redis) fn add_flags(&self, loaded: &mut Loaded) {
        let faults = self.flag_faults();
        loaded.flags = self.last_good_flags();
        loaded.refused = Arc::clone(&faults.refused);
        loaded.poisoned.extend(faults.poisoned.iter().cloned());
    }

    async fn try_to_look(&self, flags: &Flags, seen: &mut Option<Sight>, rung: Option<Teller>) -> Result<(), Down> {
        let last = seen.take();
        let Some(mut sight) = flags.look(last.as_ref(), rung, self.last_good_flags().revision).await? else {
            *seen = last;
            return Ok(());
        };
        if !sight.raw.has_revision() && self.settle(flags, &sight).await {
            sight = flags.ask(None, true).await?.unwrap_or(sight);
        }
        if last.is_none_or(|last| last.raw != sight.raw) {
            self.take_in_flags(flags, &sight).await;
        }
        *seen = Some(sight);
        Ok(())
    }

    /// Whether flags without a revision were given one: see [`Flags::settle`].
    async fn settle(&self, flags: &Flags, sight: &Sight) -> bool {
        let last_good = self.last_good_flags();
        let was_lost = last_good.revision > 0;
        if !was_lost && sight.raw.bytes() == 0 {
            return false;
        }
        match flags.settle(&last_good).await {
            Ok(()) if was_lost => tracing::warn!("Redis lost the flags, the last good ones were written back"),
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "Flags in Redis have no revision, and couldn't be given one yet"),
        }
        true
    }

    /// Makes what was found the last good flags, but for what is refused of it.
    async fn take_in_flags(&self, flags: &Flags, sight: &Sight) {
        let last_good = self.last_good_flags();
        let found = decode(&flags.keys, &sight.raw, &last_good);
        let mut seen = found.with_what_was_lost(&last_good);
        if sight.raw.bytes() > 0 {
            // Also of one that couldn't be given: what is there isn't nothing, so it isn't 0.
            seen.revision = seen.revision.max(1);
        }
        let (mended, refused) = seen.mended(&last_good);
        self.remember_flags(Arc::new(mended)).await;
        *self.flag_faults() = Faults { poisoned: found.poisoned, refused: refused.into() };
    }

    /// Changes the flags in Redis, and takes over what they are then.
    pub(in crate::store::redis) async fn change_flags_there(
        &self,
        change: &FlagChange,
        expected: Option<u64>,
    ) -> Result<Arc<Definitions>, StoreError> {
        let Some(flags) = self.remote.flags() else {
            return Err(StoreError::Unavailable("this store holds no flags".to_owned()));
        };
        let outcome = {
            let _one_after_the_other = self.flags.sight.lock().await;
            let last_good = self.last_good_flags();
            let wish = FlagWish { change, expected, last_good: &last_good };
            let changed = flags.change(&wish).await;
            match changed.map(|flags| Arc::new(flags.mended(&last_good).0)) {
                Ok(mended) => {
                    self.remember_flags(Arc::clone(&mended)).await;
                    Ok(mended)
                }
                Err(error) => Err(error),
            }
        };
        // A look that passed flags over meanwhile left it to the next one.
        if is_news(&outcome) {
            self.bell.ring_for(FLAGS_CHANGED.to_owned(), Teller::Primary);
        }
        outcome
    }

    /// Redis has them: a file that can't be written is worth a word, and no reason to go without them.
    async fn remember_flags(&self, flags: Arc<Definitions>) {
        if self.last_good_flags() == flags {
            return;
        }
        if let Err(error) = self.kept.change(OnFailure::Hold, move |saved| saved.flags = flags).await {
            tracing::warn!(%error, "The last good flags are not on disk");
        }
    }

    fn last_good_flags(&self) -> Arc<Definitions> {
        self.kept.peek(|saved| Arc::clone(&saved.flags))
    }

    fn flag_faults(&self) -> MutexGuard<'_, Faults> {
        self.flags.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
