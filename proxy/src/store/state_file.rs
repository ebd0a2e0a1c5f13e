//! The state on disk and its copy in memory, changed together.
//!
//! To the embedded store this is the state; to Redis it is the last good one, from
//! which serin goes on when Redis is away. A write replaces the file as a whole: a
//! power cut leaves the old state or the new one, never half of one.
//! May know: model, telemetry.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::StoreError;
use crate::model::flag::Definitions;
use crate::model::state::State;
use crate::model::time::Timestamp;
use crate::telemetry;

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// When it was written.
    saved_at: Timestamp,
    /// When the state was last read from a store outside this process, if it ever was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) read_at: Option<Timestamp>,
    /// The services.
    pub(super) services: State,
    /// The flags, each by its last good definition.
    #[serde(default, with = "shared", skip_serializing_if = "nothing_yet")]
    pub(super) flags: Arc<Definitions>,
}

fn nothing_yet(flags: &Arc<Definitions>) -> bool {
    **flags == Definitions::default()
}

/// What is shared, for serde.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(shared: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        shared.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// What to do with a change that can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnFailure {
    /// Leave memory as it was.
    Undo,
    /// Let it hold in memory all the same; the next change writes it too.
    Hold,
}

/// The state in memory and in the file. Only one process may have a file open.
#[derive(Debug)]
pub(super) struct Kept {
    disk: Mutex<Disk>,
    memory: Mutex<Saved>,
    /// Whether somebody is on the way to write what memory holds.
    is_due: AtomicBool,
}

#[derive(Debug)]
struct Disk {
    /// In place of the file, where time is simulated.
    #[cfg(test)]
    simulated: Option<Arc<Mutex<Saved>>>,
    path: PathBuf,
    folder: PathBuf,
    /// Whether the file may lack what memory holds.
    behind: bool,
    /// Held, not read: the lock ends when this is closed. It isn't on the state file
    /// itself, because replacing that would leave the lock on a file that is gone.
    _lock: Option<File>,
}

impl Kept {
    /// Locks the file and reads it. A file that isn't there yet is an empty state.
    ///
    /// # Errors
    /// When another serin uses it, when it can't be read, or when it holds something else.
    /// It is never overwritten then.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, StoreError> {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let lock = lock_file(path, &folder)?;
        let saved = read(path)?;
        let disk = Disk {
            #[cfg(test)]
            simulated: None,
            path: path.to_owned(),
            folder,
            behind: false,
            _lock: Some(lock),
        };
        Ok(Arc::new(Self { disk: Mutex::new(disk), memory: Mutex::new(saved), is_due: AtomicBool::new(false) }))
    }

    /// A file that is none, for simulated time: it outlives whoever writes it, and takes no time.
    #[cfg(test)]
    pub(super) fn simulated(file: Arc<Mutex<Saved>>) -> Arc<Self> {
        let memory = Mutex::new(lock(&file).clone());
        let (path, folder) = (PathBuf::new(), PathBuf::new());
        let disk = Disk { simulated: Some(file), path, folder, behind: false, _lock: None };
        Arc::new(Self { disk: Mutex::new(disk), memory, is_due: AtomicBool::new(false) })
    }

    /// Looks at the state in memory.
    pub(super) fn peek<T>(&self, look: impl FnOnce(&Saved) -> T) -> T {
        look(&lock(&self.memory))
    }

    /// Notes that the state was read from the store just now and is still the same.
    pub(super) fn touch(&self, read_at: Timestamp) {
        lock(&self.memory).read_at = Some(read_at);
    }

    /// Changes the state. What was altered is on disk before this returns. It goes through
    /// also when the caller stops waiting.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(super) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        on_failure: OnFailure,
        alter: impl FnOnce(&mut Saved) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        #[cfg(test)]
        if lock(&self.disk).simulated.is_some() {
            return self.change_now(on_failure, alter);
        }
        let this = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || this.change_now(on_failure, alter));
        work.await.map_err(|_| StoreError::StateFile("the state file isn't written any more: serin ends".into()))?
    }

    /// As [`Kept::change`] with [`OnFailure::Hold`], for what may be lost with this process: memory has it when this
    /// returns, and the file soon after.
    pub(super) fn change_soon(self: &Arc<Self>, alter: impl FnOnce(&mut Saved)) {
        alter(&mut lock(&self.memory));
        #[cfg(test)]
        if lock(&self.disk).simulated.is_some() {
            return self.catch_up();
        }
        // One writer at a time is enough: it writes what there is when it comes to it.
        if !self.is_due.swap(true, Ordering::Relaxed) {
            let this = Arc::clone(self);
            tokio::task::spawn_blocking(move || this.catch_up());
        }
    }

    /// Writes what memory holds.
    fn catch_up(&self) {
        let mut disk = lock(&self.disk);
        self.is_due.store(false, Ordering::Relaxed);
        let saved = {
            let mut memory = lock(&self.memory);
            memory.saved_at = telemetry::now();
            memory.clone()
        };
        if let Err(error) = disk.write(&saved) {
            tracing::warn!(%error, "The last good state is not on disk");
        }
    }

    fn change_now<T>(&self, on_failure: OnFailure, alter: impl FnOnce(&mut Saved) -> T) -> Result<T, StoreError> {
        let mut disk = lock(&self.disk);
        let mut memory = lock(&self.memory);
        let mut after = memory.clone();
        let answer = alter(&mut after);
        let is_same = after.services == memory.services && after.flags == memory.flags && !disk.behind;
        if !is_same {
            after.saved_at = telemetry::now();
        }
        // What is held is held at once; who can undo alone changes this memory.
        if on_failure == OnFailure::Hold {
            memory.clone_from(&after);
        }
        drop(memory);
        let written = if is_same { Ok(()) } else { disk.write(&after) };
        if written.is_ok() && on_failure == OnFailure::Undo {
            *lock(&self.memory) = after;
        }
        written.map(|()| answer)
    }
}

impl Disk {
    fn write(&mut self, saved: &Saved) -> Result<(), StoreError> {
        self.behind = true;
        self.replace(saved).map_err(|error| {
            let path = self.path.display();
            StoreError::StateFile(format!(
                "the state file {path} can't be written ({error}): make room on its disk and its folder writable for \
                 serin, or set store.state_file to another place"
            ))
        })?;
        self.behind = false;
        Ok(())
    }

    fn replace(&self, saved: &Saved) -> io::Result<()> {
        #[cfg(test)]
        if let Some(file) = &self.simulated {
            lock(file).clone_from(saved);
            return Ok(());
        }
        let mut text = serde_json::to_vec_pretty(saved)?;
        text.push(b'\n');
        // A temporary file is made with mode 0600, and keeps it when it takes the other's name.
        let mut file = NamedTempFile::new_in(&self.folder)?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn lock_file(path: &Path, folder: &Path) -> Result<File, StoreError> {
    let unusable = |error: io::Error| {
        StoreError::StateFile(format!(
            "the state file {} can't be used ({error}): make its folder writable for serin, or set store.state_file to \
             another place",
            path.display()
        ))
    };
    DirBuilder::new().recursive(true).mode(0o750).create(folder).map_err(unusable)?;
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

fn read(path: &Path) -> Result<Saved, StoreError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
        Err(error) => {
            let path = path.display();
            return Err(StoreError::StateFile(format!(
                "the state file {path} can't be read ({error}): make it readable for serin, or set store.state_file to \
                 another place"
            )));
        }
    };
    serde_json::from_slice(&text).map_err(|error| {
        // The error's own text may quote the file, which holds secrets: only the place is told.
        let (path, line, column) = (path.display(), error.line(), error.column());
        StoreError::StateFile(format!(
            "the state file {path} makes no sense at line {line}, column {column}, and was left as it is: restore it \
             from a backup, or move it away to start without it (circuits that it holds open would be closed)"
        ))
    })
}

/// A lock that a panic elsewhere doesn't make unusable: what it guards is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::model::state::ServiceState;

    fn remember(kept: &Kept, name: &str, on_failure: OnFailure) -> Result<(), StoreError> {
        let state = ServiceState { revision: 1, ..ServiceState::default() };
        kept.change_now(on_failure, |saved| drop(saved.services.insert(name.into(), state)))
    }

    fn names(kept: &Kept) -> Vec<String> {
        kept.peek(|saved| saved.services.keys().cloned().collect())
    }

    #[test]
    fn what_was_changed_is_there_after_a_restart() {
        // given a file in a folder that isn't there yet
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("made/for/it/state.json");
        let kept = Kept::open(&path).expect("opens");
        // when something is changed, and the process ends
        remember(&kept, "checkbox", OnFailure::Undo).expect("writes");
        drop(kept);
        // then it is there, and nobody else may read it
        assert_eq!(names(&Kept::open(&path).expect("opens again")), ["checkbox"]);
        let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_second_serin_is_refused_also_after_the_file_was_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.json");
        let kept = Kept::open(&path).expect("opens");
        for name in ["a", "b"] {
            let refused = Kept::open(&path).expect_err("the file is in use").to_string();
            assert!(refused.contains("another serin uses") && refused.contains("store.state_file"), "{refused}");
            remember(&kept, name, OnFailure::Undo).expect("writes");
        }
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.json");
        for text in ["", "{\"saved_at\": 1, \"services\": {\"a\": \"s3cret\"}}", "[]"] {
            std::fs::write(&path, text).expect("a file");
            let refused = Kept::open(&path).expect_err("no state").to_string();
            assert!(refused.contains("state.json") && refused.contains("move it away"), "{refused}");
            assert!(!refused.contains("s3cret"), "{refused}");
            assert_eq!(std::fs::read_to_string(&path).expect("still there"), text);
        }
    }

    #[test]
    fn a_change_that_cannot_be_written_is_undone_or_held_as_asked() {
        // given a file that can't be replaced, because its folder is gone
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sub/state.json");
        let kept = Kept::open(&path).expect("opens");
        std::fs::remove_dir_all(folder.path().join("sub")).expect("removes it");
        // when changes are made, then they fail, and only the one to hold is there
        remember(&kept, "undone", OnFailure::Undo).expect_err("no folder");
        assert_eq!(names(&kept), Vec::<String>::new());
        remember(&kept, "held", OnFailure::Hold).expect_err("no folder");
        assert_eq!(names(&kept), ["held"]);
        // and once the folder is back, the same change again puts it on disk
        std::fs::create_dir(folder.path().join("sub")).expect("a folder");
        remember(&kept, "held", OnFailure::Hold).expect("writes");
        assert!(std::fs::read_to_string(&path).expect("the file").contains("held"));
    }

    #[test]
    fn a_file_from_before_there_were_flags_is_read_and_flags_are_kept_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.json");
        std::fs::write(&path, "{\"saved_at\": 1, \"services\": {}}").expect("a file");
        let kept = Kept::open(&path).expect("opens");
        let flags = Arc::new(Definitions { revision: 1, metadata: Some("{}".into()), ..Definitions::default() });
        kept.change_now(OnFailure::Undo, |saved| saved.flags = Arc::clone(&flags)).expect("writes");
        drop(kept);
        assert_eq!(Kept::open(&path).expect("opens again").peek(|saved| Arc::clone(&saved.flags)), flags);
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.json");
        let kept = Kept::open(&path).expect("opens");
        kept.touch(Timestamp::from_millis(1));
        kept.change_now(OnFailure::Undo, |_| ()).expect("nothing to do");
        assert!(!path.exists());
    }
}
