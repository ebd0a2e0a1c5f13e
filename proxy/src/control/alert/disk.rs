//! Files as the outbox wants them: readable by serin alone, and whole or not there at all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// What a file is called while it is being written.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// Makes a folder for serin alone, or takes the one that is there if nobody else can write to it.
pub(super) fn make_folder(path: &Path) -> Result<(), String> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| error.to_string())?;
    let mode = std::fs::metadata(path).map_err(|error| error.to_string())?.mode();
    // Whoever can put files here can send mail in serin's name.
    if mode & 0o022 != 0 {
        return Err(format!("others than its owner may write to {}: give it mode 0700", path.display()));
    }
    Ok(())
}

/// Writes a file that is there whole, and stays after a power cut, or isn't there.
pub(super) fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = folder.join(format!("{UNFINISHED}{name}"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename(&unfinished, folder, name)
}

/// Moves a file into a folder of the same file system, for good.
pub(super) fn rename(from: &Path, folder: &Path, name: &str) -> io::Result<()> {
    std::fs::rename(from, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// Does file work on a thread that may wait for a disk.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
