//! The end of a child process. Not tokio's way: with that in the program, every thread of the data plane would look for
//! orphans, in a list that all share, whenever it has nothing to do.

use std::io;
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// How often is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until a child has ended.
///
/// # Errors
/// When the system doesn't know the child.
pub async fn ended(child: &mut Child) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        tokio::time::sleep(LOOK).await;
    }
}
