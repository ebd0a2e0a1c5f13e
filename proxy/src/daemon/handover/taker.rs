//! The new process: is given all that it needs, and says when it serves.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::trips::{Side, exchange};
use super::wire::{Message, Wire};
use crate::admin;
use crate::daemon::Inheritance;
use crate::dataplane::Given;
use crate::live::Live;

/// Why this process can't take over.
#[derive(Debug, thiserror::Error)]
pub(in crate::daemon) enum TakeoverError {
    /// Nobody is there to be replaced.
    #[error("the standard input is no way to a process that is to be replaced: {0}")]
    Nobody(#[source] io::Error),
    /// The way to it broke.
    #[error("the process to be replaced can't be reached")]
    Wire(#[from] io::Error),
    /// It said something else than was expected, or ended.
    #[error("the process to be replaced is gone, or speaks another language")]
    Strange,
}

/// The process that is replaced by this one.
#[derive(Debug)]
pub(in crate::daemon) struct Predecessor {
    wire: Wire,
}

impl Predecessor {
    /// Finds it at the other end of the standard input, and takes its sockets.
    ///
    /// # Errors
    /// When nobody is there, or it doesn't give them.
    pub(in crate::daemon) async fn meet() -> Result<(Self, Inheritance), TakeoverError> {
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        stream.peer_addr().map_err(TakeoverError::Nobody)?;
        // What this process starts shall not hold the way open.
        rustix::stdio::dup2_stdin(File::open("/dev/null")?).map_err(io::Error::from)?;
        let mut predecessor = Self { wire: Wire::new(stream)? };
        let mut inheritance = Inheritance::default();
        loop {
            let (message, sockets) = predecessor.wire.receive().await?.ok_or(TakeoverError::Strange)?;
            match message {
                Message::Listener { name, address, .. } => {
                    let given = sockets.into_iter().map(TcpListener::from);
                    inheritance.listeners.extend(given.map(|socket| Given {
                        name: Some(name.clone()),
                        address,
                        socket,
                    }));
                }
                Message::Admin { address, names } => {
                    inheritance.names = names;
                    inheritance.admin = sockets.into_iter().next().map(|socket| admin::Inherited { address, socket });
                }
                Message::Told => return Ok((predecessor, inheritance)),
                _ => return Err(TakeoverError::Strange),
            }
        }
    }

    /// Says that the configuration can be used, and waits until the files are this process'.
    ///
    /// # Errors
    /// When the other doesn't give them.
    pub(in crate::daemon) async fn ask_for_files(&mut self) -> Result<(), TakeoverError> {
        self.wire.send(&Message::Checked, &[]).await?;
        match self.wire.receive().await? {
            Some((Message::Files, _)) => Ok(()),
            _ => Err(TakeoverError::Strange),
        }
    }

    /// Says that this process serves, and waits until the supervisor knows. If the other is gone, this one is all that
    /// there is, and serves all the same. Returns what tells and hears of trips until the other is gone.
    pub(in crate::daemon) async fn replace(mut self, live: Arc<Live>) -> impl Future<Output = ()> {
        let ready = Message::Ready { version: env!("CARGO_PKG_VERSION").to_owned() };
        let heard = match self.wire.send(&ready, &[]).await {
            Ok(()) => self.wire.receive().await,
            Err(error) => Err(error),
        };
        if !matches!(heard, Ok(Some((Message::Go, _)))) {
            tracing::warn!("The old process ended before its time");
        }
        exchange(self.wire, live, Side::New)
    }
}
