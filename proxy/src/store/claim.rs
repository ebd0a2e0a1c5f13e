//! This process' claim on the state file and what lies beside it: only who holds the lock writes.
//!
//! A process that is replaced gives its claim up while it still runs, and takes it back if nothing comes of that.
//! May know: model, telemetry.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::StoreError;

/// The right to write the state file and its neighbours.
#[derive(Debug)]
pub(super) struct Claim {
    state_file: PathBuf,
    hold: RwLock<Hold>,
}

#[derive(Debug)]
enum Hold {
    /// The lock ends when this is closed. It isn't on the state file itself, because replacing that would leave the
    /// lock on a file that is gone.
    Locked { _file: File },
    /// Another process has it, or may take it.
    GivenUp,
    /// Where there is no file that anybody else could want.
    #[cfg(test)]
    Unlocked,
}

impl Claim {
    /// Locks the file, and makes its folder if it isn't there.
    ///
    /// # Errors
    /// When another serin has it, or the folder can't be used.
    pub(super) fn take(state_file: &Path) -> Result<Arc<Self>, StoreError> {
        let hold = RwLock::new(Hold::Locked { _file: lock_file(state_file)? });
        Ok(Arc::new(Self { state_file: state_file.to_owned(), hold }))
    }

    /// A claim that nobody disputes.
    #[cfg(test)]
    pub(super) fn undisputed() -> Arc<Self> {
        Arc::new(Self { state_file: PathBuf::new(), hold: RwLock::new(Hold::Unlocked) })
    }

    /// Whether this process may write.
    pub(super) fn is_held(&self) -> bool {
        !matches!(*self.read(), Hold::GivenUp)
    }

    /// Writes something while the claim is held, and certainly not after: none if it was given up.
    pub(super) fn write<T>(&self, write: impl FnOnce() -> T) -> Option<T> {
        let hold = self.read();
        if matches!(*hold, Hold::GivenUp) { None } else { Some(write()) }
    }

    /// Lets another process have it, once all that is being written is written.
    pub(super) fn give_up(&self) {
        *self.hold.write().unwrap_or_else(PoisonError::into_inner) = Hold::GivenUp;
    }

    /// Takes it again.
    ///
    /// # Errors
    /// When the other process has it still.
    pub(super) fn take_back(&self) -> Result<(), StoreError> {
        let mut hold = self.hold.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*hold, Hold::GivenUp) {
            *hold = Hold::Locked { _file: lock_file(&self.state_file)? };
        }
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, Hold> {
        self.hold.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder that a file lies in.
pub(super) fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn lock_file(path: &Path) -> Result<File, StoreError> {
    let unusable = |error: io::Error| {
        StoreError::StateFile(format!(
            "the state file {} can't be used ({error}): make its folder writable for serin, or set store.state_file to \
             another place",
            path.display()
        ))
    };
    DirBuilder::new().recursive(true).mode(0o750).create(folder_of(path)).map_err(unusable)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(beside).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::StateFile(format!(
            "another serin uses the state file {}: stop it, or set store.state_file to a file of its own",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_was_given_up_writes_nothing_until_it_is_taken_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.json");
        let ours = Claim::take(&path).expect("nobody has it");
        assert!(Claim::take(&path).is_err(), "two have it");
        ours.give_up();
        assert_eq!((ours.is_held(), ours.write(|| ())), (false, None));
        // while another one has it, it stays there
        let other = Claim::take(&path).expect("it was given up");
        assert!(ours.take_back().is_err() && !ours.is_held());
        drop(other);
        ours.take_back().expect("the other is gone");
        assert_eq!(ours.write(|| 7), Some(7));
        assert!(Claim::take(&path).is_err(), "two have it");
    }
}
