//! The audit log of a store without a server: a file beside the state file, an entry in JSON on each line.
//!
//! It is added to, and cut to its newest entries when it has twice as many as are kept.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::NamedTempFile;

use super::{KEPT, Shelf};
use crate::model::audit::Entry;
use crate::store::StoreError;
use crate::store::claim::Claim;

/// The file. The claim on the state file is one on this file too.
#[derive(Debug)]
pub(in crate::store) struct File {
    lines: Arc<Mutex<Lines>>,
    claim: Arc<Claim>,
}

#[derive(Debug)]
struct Lines {
    path: PathBuf,
    /// How many there are; none until somebody looked.
    count: Option<usize>,
}

impl File {
    /// The file beside this state file.
    pub(in crate::store) fn beside(state_file: &Path, claim: &Arc<Claim>) -> Self {
        let mut path = state_file.as_os_str().to_owned();
        path.push(".audit");
        let lines = Arc::new(Mutex::new(Lines { path: path.into(), count: None }));
        Self { lines, claim: Arc::clone(claim) }
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Lines) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let lines = Arc::clone(&self.lines);
        let done = tokio::task::spawn_blocking(move || {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            let path = lines.path.display().to_string();
            work(&mut lines).map_err(|error| StoreError::Unavailable(format!("{path} can't be used: {error}")))
        });
        done.await.unwrap_or_else(|_| Err(StoreError::Unavailable("serin ends".to_owned())))
    }
}

impl Shelf for File {
    async fn put(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let lines: Vec<String> = entries.iter().filter_map(|entry| serde_json::to_string(entry).ok()).collect();
        let claim = Arc::clone(&self.claim);
        self.work(move |file| {
            let added = claim.write(|| file.add(&lines));
            added.unwrap_or_else(|| {
                // How many lines it has is to be looked at again, should it be this process' once more.
                file.count = None;
                Err(io::Error::other("a new process writes it"))
            })
        })
        .await
    }

    async fn newest(&self, most: usize) -> Result<Vec<Entry>, StoreError> {
        self.work(move |file| {
            let text = file.read()?;
            // A line that a power cut tore is passed over.
            Ok(text.lines().rev().filter_map(|line| serde_json::from_str(line).ok()).take(most).collect())
        })
        .await
    }
}

impl Lines {
    fn read(&self) -> io::Result<String> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    fn add(&mut self, lines: &[String]) -> io::Result<()> {
        let count = match self.count {
            Some(count) => count,
            None => self.read()?.lines().count(),
        };
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        // Before what a power cut may have torn, a new line begins.
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let torn = self.count.is_none() && count > 0 && !self.read()?.ends_with('\n');
        file.write_all(format!("{}{text}", if torn { "\n" } else { "" }).as_bytes())?;
        self.count = Some(count + lines.len());
        if count + lines.len() > 2 * KEPT { self.cut() } else { Ok(()) }
    }

    /// Leaves the newest.
    fn cut(&mut self) -> io::Result<()> {
        let text = self.read()?;
        let lines: Vec<&str> = text.lines().collect();
        let newest = &lines[lines.len().saturating_sub(KEPT)..];
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // A temporary file is made with mode 0600, and keeps it when it takes the other's name.
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all((newest.join("\n") + "\n").as_bytes())?;
        file.persist(&self.path).map_err(|error| error.error)?;
        self.count = Some(newest.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(range: std::ops::Range<usize>) -> Vec<Entry> {
        range.map(|nth| Entry { id: nth.to_string(), ..Entry::default() }).collect()
    }

    fn ids(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.id.as_str()).collect()
    }

    #[tokio::test]
    async fn entries_outlive_the_process_also_behind_a_torn_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let state_file = directory.path().join("state.json");
        assert_eq!(File::beside(&state_file, &Claim::undisputed()).newest(5).await.expect("no file is no entry"), []);
        File::beside(&state_file, &Claim::undisputed()).put(&entries(0..3)).await.expect("written");
        let path = directory.path().join("state.json.audit");
        let text = fs::read_to_string(&path).expect("a file");
        fs::write(&path, format!("{text}{{\"at\":")).expect("torn");
        let file = File::beside(&state_file, &Claim::undisputed());
        file.put(&entries(3..5)).await.expect("written");
        assert_eq!(ids(&file.newest(4).await.expect("read")), ["4", "3", "2", "1"]);
    }

    #[tokio::test]
    async fn the_file_is_cut_to_its_newest_entries() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = File::beside(&directory.path().join("state.json"), &Claim::undisputed());
        file.put(&entries(0..2 * KEPT)).await.expect("written");
        file.put(&entries(2 * KEPT..2 * KEPT + 1)).await.expect("written");
        let newest = file.newest(usize::MAX).await.expect("read");
        assert_eq!((newest.len(), newest[0].id.clone()), (KEPT, (2 * KEPT).to_string()));
    }
}
