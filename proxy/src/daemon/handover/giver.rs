//! The old process: starts the new one, gives it what it needs, and goes on if nothing comes of it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Notify;

use super::trips::{Side, exchange};
use super::wire::{MOST_SOCKETS, Message, Wire};
use crate::config;
use crate::daemon::Daemon;
use crate::live::Live;
use crate::store::StoreError;
use crate::telemetry::child;

/// How long the new process may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a process that closed its end may take to be gone.
const TO_BE_GONE: Duration = Duration::from_secs(2);

/// Why this process wasn't replaced.
#[derive(Debug, thiserror::Error)]
pub(in crate::daemon) enum HandoverError {
    /// The program isn't there, or can't be run.
    #[error("{} can't be started: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended before it served.
    #[error("the new process ended before it was ready ({0}): its own log says why")]
    Ended(ExitStatus),
    /// It took too long.
    #[error("the new process wasn't ready after {} s", PATIENCE.as_secs())]
    TooLate,
    /// Somebody wants this process to end.
    #[error("this process was told to end meanwhile")]
    Cancelled,
    /// It said something else than was expected.
    #[error("the new process speaks another language: is it another version, of long before or after this one?")]
    Strange,
    /// The way to it broke.
    #[error("the new process can't be reached: {0}")]
    Wire(#[from] io::Error),
    /// The files couldn't be given up.
    #[error("the files can't be given to the new process: {0}")]
    Files(#[from] StoreError),
}

/// How this process was started: what starts the one that replaces it.
#[derive(Debug)]
pub(in crate::daemon) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// To be asked at the start: later the file may be another, and the system wouldn't say where it was.
    ///
    /// # Errors
    /// When the system doesn't know.
    pub(in crate::daemon) fn of_this_process() -> io::Result<Self> {
        let mut words = std::env::args_os();
        // A path may lead over a link to what is current, and shall again.
        let called = words.next().map(PathBuf::from).filter(|path| path.components().count() > 1);
        let path = called.map_or_else(std::env::current_exe, std::path::absolute)?;
        Ok(Self { path, arguments: words.collect() })
    }

    /// Starts it with the other end of a way to it.
    fn start(&self) -> Result<(Child, Wire), HandoverError> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(Stdio::from(OwnedFd::from(theirs))).env(config::HANDOVER, "1");
        for name in config::OF_THIS_PROCESS {
            command.env_remove(name);
        }
        let started = command.spawn().map_err(|source| HandoverError::Start { program: self.path.clone(), source });
        // The command holds their end: with it gone, the end of the process is the end of the way.
        drop(command);
        Ok((started?, Wire::new(ours)?))
    }
}

/// The process that serves in the place of this one.
#[derive(Debug)]
pub(in crate::daemon) struct Successor {
    /// Its id.
    pub(in crate::daemon) process: u32,
    /// Its version.
    pub(in crate::daemon) version: String,
    wire: Wire,
}

impl Successor {
    /// Tells it that it is known, and from then on of trips, until it or this process is gone.
    pub(in crate::daemon) async fn go(self, live: Arc<Live>) {
        if let Err(error) = self.wire.send(&Message::Go, &[]).await {
            tracing::error!(%error, "The new process is gone as soon as it was ready");
        }
        exchange(self.wire, live, Side::Old).await;
    }

    /// Has it end: somebody wanted this process to.
    pub(in crate::daemon) fn end(&self) {
        if let Some(pid) = Pid::from_raw(self.process.cast_signed()) {
            let _gone_already = kill_process(pid, Signal::TERM);
        }
    }
}

/// Has a new process take over. Where that fails it is gone, and this one has all that it had.
///
/// # Errors
/// With why it failed.
pub(in crate::daemon) async fn give(
    daemon: &Daemon,
    program: &Program,
    cancelled: &Notify,
) -> Result<Successor, HandoverError> {
    let (mut child, mut wire) = program.start()?;
    let process = child.id();
    tracing::info!(process, program = %program.path.display(), "A new process was started to take over");
    let outcome = tokio::select! {
        outcome = hand(daemon, &mut wire) => outcome,
        () = tokio::time::sleep(PATIENCE) => Err(HandoverError::TooLate),
        () = cancelled.notified() => Err(HandoverError::Cancelled),
    };
    match outcome {
        Ok(version) => Ok(Successor { process, version, wire }),
        Err(error) => {
            drop(wire);
            let error = bury(&mut child, error).await;
            daemon.take_back().await;
            Err(error)
        }
    }
}

/// Sees to it that the new process is gone. If it ended by itself, that is why.
async fn bury(child: &mut Child, error: HandoverError) -> HandoverError {
    let may_have_ended = matches!(error, HandoverError::Wire(_));
    if may_have_ended && let Ok(Ok(status)) = tokio::time::timeout(TO_BE_GONE, child::ended(child)).await {
        return HandoverError::Ended(status);
    }
    let killed = match child.kill() {
        Ok(()) => child::ended(child).await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = killed {
        tracing::warn!(%error, "The new process can't be ended");
    }
    error
}

/// Gives it all that it needs, in the order that it needs it. Returns its version once it serves.
async fn hand(daemon: &Daemon, wire: &mut Wire) -> Result<String, HandoverError> {
    for (name, address, sockets) in daemon.data_plane.sockets() {
        for some in sockets.chunks(MOST_SOCKETS) {
            let along: Vec<_> = some.iter().map(|socket| socket.as_fd()).collect();
            let message = Message::Listener { name: name.to_owned(), address, sockets: some.len() };
            wire.send(&message, &along).await?;
        }
    }
    let (address, socket) = &daemon.admin_socket;
    let names = daemon.live.names().remembered();
    wire.send(&Message::Admin { address: address.clone(), names }, &[socket.as_fd()]).await?;
    wire.send(&Message::Told, &[]).await?;
    match next(wire).await? {
        Message::Checked => {}
        _ => return Err(HandoverError::Strange),
    }
    daemon.give_up().await?;
    wire.send(&Message::Files, &[]).await?;
    match next(wire).await? {
        Message::Ready { version } => Ok(version),
        _ => Err(HandoverError::Strange),
    }
}

async fn next(wire: &mut Wire) -> Result<Message, HandoverError> {
    match wire.receive().await {
        Ok(Some((message, _))) => Ok(message),
        Ok(None) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(HandoverError::Strange),
        Err(error) => Err(error.into()),
    }
}
