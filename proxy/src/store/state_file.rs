//! The state on disk and its copy in memory, changed together.
//!
//! To the embedded store this is the state; to Redis it is the last good one, from
//! which serin goes on when Redis is away. A write replaces the file as a whole: a
//! power cut leaves the old state or the new one, never half of one; and what a disk did to it `seal` tells.
//! May know: model, telemetry.

mod seal;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tokio::time::Instant;

use super::StoreError;
use super::claim::{Claim, folder_of};
use crate::model::flag::Definitions;
use crate::model::state::State;
use crate::model::time::Timestamp;
use crate::telemetry;

/// What may be lost with this process waits after a write for as long as that took, but at most so long: a stream of
/// changes doesn't keep a disk busy.
const LONGEST_REST: Duration = Duration::from_millis(500);

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
    claim: Arc<Claim>,
    disk: Mutex<Disk>,
    memory: Mutex<Saved>,
    pace: Mutex<Pace>,
}

/// When memory is written that may be lost with this process.
#[derive(Debug, Default)]
struct Pace {
    /// Whether somebody is on the way to write it.
    is_due: bool,
    /// Before this nobody sets out again.
    rests_until: Option<Instant>,
}

#[derive(Debug)]
struct Disk {
    /// In place of the file, where time is simulated.
    #[cfg(test)]
    simulated: Option<Arc<Mutex<Saved>>>,
    path: PathBuf,
    claim: Arc<Claim>,
    /// Whether the file may lack what memory holds.
    behind: bool,
}

impl Kept {
    /// Locks the file and reads it. A file that isn't there yet is an empty state.
    ///
    /// # Errors
    /// When another serin uses it, when it can't be read, or when it holds something else.
    /// It is never overwritten then.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, StoreError> {
        let claim = Claim::take(path)?;
        let saved = read(path)?;
        let disk = Disk {
            #[cfg(test)]
            simulated: None,
            path: path.to_owned(),
            claim: Arc::clone(&claim),
            behind: false,
        };
        Ok(Arc::new(Self { claim, disk: Mutex::new(disk), memory: Mutex::new(saved), pace: Mutex::default() }))
    }

    /// A file that is none, for simulated time: it outlives whoever writes it, and takes no time.
    #[cfg(test)]
    pub(super) fn simulated(file: Arc<Mutex<Saved>>) -> Arc<Self> {
        let memory = Mutex::new(lock(&file).clone());
        let claim = Claim::undisputed();
        let disk = Disk { simulated: Some(file), path: PathBuf::new(), claim: Arc::clone(&claim), behind: false };
        Arc::new(Self { claim, disk: Mutex::new(disk), memory, pace: Mutex::default() })
    }

    /// The right to write this file and its neighbours.
    pub(super) const fn claim(&self) -> &Arc<Claim> {
        &self.claim
    }

    /// Writes what isn't written yet, and lets another process have the file. From then on nothing is written, a
    /// change that can be undone is refused, and one that must hold holds in memory.
    ///
    /// # Errors
    /// When the file can't be written: then it is still this process'.
    pub(super) async fn give_up(self: &Arc<Self>) -> Result<(), StoreError> {
        self.off_thread(|kept| {
            let mut disk = lock(&kept.disk);
            if disk.behind || std::mem::take(&mut lock(&kept.pace).is_due) {
                let saved = lock(&kept.memory).clone();
                disk.write(&saved)?;
            }
            kept.claim.give_up();
            Ok(())
        })
        .await
    }

    /// Takes the file back, with what another process may have written meanwhile. If it was never given up, memory is
    /// what counts, and may be ahead of the file.
    ///
    /// # Errors
    /// When the other has it still, or what it wrote makes no sense.
    pub(super) async fn take_back(self: &Arc<Self>) -> Result<(), StoreError> {
        self.off_thread(|kept| {
            let mut disk = lock(&kept.disk);
            if kept.claim.is_held() {
                return Ok(());
            }
            kept.claim.take_back()?;
            let saved = kept.read_along(&disk.path)?;
            lock(&kept.memory).clone_from(&saved);
            if let Err(error) = disk.write(&saved) {
                tracing::warn!(%error, "What was stopped while another process had the state file is in memory only");
            }
            Ok(())
        })
        .await
    }

    /// What another process wrote, which may not know of all that was stopped here meanwhile.
    fn read_along(&self, path: &Path) -> Result<Saved, StoreError> {
        let mut saved = read(path)?;
        for (name, known) in &lock(&self.memory).services {
            if known.circuit.is_open() || saved.services.contains_key(name) {
                saved.services.entry(name.clone()).or_default().keep_stopped(known);
            }
        }
        Ok(saved)
    }

    /// While another process has the file: takes in what that wrote.
    pub(super) async fn follow(self: &Arc<Self>) {
        if self.claim.is_held() {
            return;
        }
        let followed = self.off_thread(|kept| {
            let disk = lock(&kept.disk);
            if !kept.claim.is_held() {
                let saved = kept.read_along(&disk.path)?;
                *lock(&kept.memory) = saved;
            }
            Ok(())
        });
        if let Err(error) = followed.await {
            tracing::debug!(%error, "What the new process wrote can't be read");
        }
    }

    async fn off_thread<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let this = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || work(&this));
        work.await.map_err(|_| StoreError::StateFile("the state file isn't written any more: serin ends".into()))?
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
        self.off_thread(move |kept| kept.change_now(on_failure, alter)).await
    }

    /// As [`Kept::change`] with [`OnFailure::Hold`], for what may be lost with this process: memory has it when this
    /// returns, and the file soon after, at the latest when this is dropped.
    pub(super) fn change_soon(self: &Arc<Self>, alter: impl FnOnce(&mut Saved)) {
        alter(&mut lock(&self.memory));
        #[cfg(test)]
        if lock(&self.disk).simulated.is_some() {
            return self.catch_up();
        }
        // One writer at a time is enough: it writes what there is when it comes to it.
        let rest = {
            let mut pace = lock(&self.pace);
            if std::mem::replace(&mut pace.is_due, true) {
                return;
            }
            pace.rests_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
        };
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(rest).await;
            let written = tokio::task::spawn_blocking(move || this.upgrade().map(|kept| kept.catch_up()));
            if written.await.is_err() {
                tracing::debug!("The state file isn't written any more: serin ends");
            }
        });
    }

    /// Writes what memory holds.
    fn catch_up(&self) {
        let mut disk = lock(&self.disk);
        lock(&self.pace).is_due = false;
        let began = Instant::now();
        let saved = {
            let mut memory = lock(&self.memory);
            memory.saved_at = telemetry::now();
            memory.clone()
        };
        if let Err(error) = disk.write(&saved) {
            tracing::warn!(%error, "The last good state is not on disk");
        }
        let now = Instant::now();
        lock(&self.pace).rests_until = Some(now + (now - began).min(LONGEST_REST));
    }

    fn change_now<T>(&self, on_failure: OnFailure, alter: impl FnOnce(&mut Saved) -> T) -> Result<T, StoreError> {
        let mut disk = lock(&self.disk);
        if on_failure == OnFailure::Undo && !self.claim.is_held() {
            return Err(StoreError::Unavailable("a new process of serin is taking over: ask again in a moment".into()));
        }
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

impl Drop for Kept {
    fn drop(&mut self) {
        if lock(&self.pace).is_due {
            self.catch_up();
        }
    }
}

impl Disk {
    /// Writes the file, if it is this process' to write.
    fn write(&mut self, saved: &Saved) -> Result<(), StoreError> {
        self.behind = true;
        let claim = Arc::clone(&self.claim);
        let Some(written) = claim.write(|| self.replace(saved)) else { return Ok(()) };
        written.map_err(|error| {
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
        let folder = folder_of(&self.path);
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(&seal::seal(&text))?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
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
    understand(path, &text)
}

/// What the text of the file says.
fn understand(path: &Path, text: &[u8]) -> Result<Saved, StoreError> {
    let parsed = serde_json::from_slice(text);
    if parsed.is_ok() && !seal::is_whole(text) {
        let path = path.display();
        return Err(StoreError::StateFile(format!(
            "the state file {path} is damaged: its checksum is of something else. It was left as it is: restore it from \
             a backup, or move it away to start without it (circuits that it holds open would be closed); if somebody \
             edited it, take its line with `checksum` out"
        )));
    }
    parsed.map_err(|error| {
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
mod tests;
