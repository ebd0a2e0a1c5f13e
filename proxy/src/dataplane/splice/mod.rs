//! Long bodies past serin's memory: from one socket through a pipe of the kernel into the other.
//!
//! hyper counts and orders the bytes of both messages, and wants to have them for that. What lies in a pipe is handed
//! to it as a [`stand_in`]: as many bytes that nobody reads. [`Bypass`] is the way of an answer, [`Intake`] that of a
//! request. May know sockets and nothing of HTTP: who calls it makes sure that the bytes are for nobody else to
//! read.

mod bypass;
mod intake;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

pub(crate) use bypass::Bypass;
pub(crate) use intake::Intake;

/// What a pipe holds at the most.
const CAPACITY: usize = 256 * 1024;
/// Bodies with less to come than this are copied: a pipe costs two more system calls.
pub(crate) const WORTH_IT: u64 = 16 * 1024;
/// Pipes that one core has at the most: each may keep [`CAPACITY`] of the kernel's memory for a slow peer.
const MAX_PIPES: usize = 64;

/// Nobody ever reads these, so that they take no memory.
static STAND_IN: [u8; CAPACITY] = [0; CAPACITY];

/// So many bytes that stand for what a pipe holds.
fn stand_in(length: usize) -> Bytes {
    Bytes::from_static(&STAND_IN[..length])
}

/// Whether bytes that shall be written stand for what a pipe holds.
pub(crate) fn stands_in(bytes: &[u8]) -> bool {
    STAND_IN.as_ptr_range().contains(&bytes.as_ptr())
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// A pipe, and how much is in it.
#[derive(Debug)]
struct Pipe {
    into: OwnedFd,
    out_of: OwnedFd,
    held: usize,
}

impl Pipe {
    fn make() -> io::Result<Self> {
        let (out_of, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused where the user has too many of this size already: smaller ones aren't worth it.
        fcntl_setpipe_size(&into, CAPACITY)?;
        Ok(Self { into, out_of, held: 0 })
    }

    /// Takes up to `most` bytes off a socket: none once the other end has closed. For an empty pipe: a full one looks
    /// like a socket with nothing to read.
    fn poll_fill(&mut self, from: &TcpStream, most: u64, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let most = usize::try_from(most).unwrap_or(CAPACITY).min(CAPACITY);
        loop {
            match from.try_io(Interest::READABLE, || Ok(splice(from, None, &self.into, None, most, FLAGS)?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                filled => {
                    self.held += filled.as_ref().unwrap_or(&0);
                    return Poll::Ready(filled);
                }
            }
            ready!(from.poll_read_ready(context))?;
        }
    }

    /// Writes up to `most` of the bytes in it to a socket.
    fn poll_drain(&mut self, to: &TcpStream, most: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let most = most.min(self.held);
        let drained = loop {
            ready!(to.poll_write_ready(context))?;
            match to.try_io(Interest::WRITABLE, || Ok(splice(&self.out_of, None, to, None, most, FLAGS)?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => break done?,
            }
        };
        self.held -= drained;
        Poll::Ready(Ok(drained))
    }
}

/// The ways of one connection past serin's memory: it may have a request and an answer at once.
#[derive(Debug)]
pub(crate) struct Ways {
    /// That of answers.
    pub(crate) bypass: Bypass,
    /// That of requests.
    pub(crate) intake: Intake,
}

impl Ways {
    /// Ways that have no pipes yet.
    pub(crate) fn new(pipes: &Rc<Pipes>) -> Self {
        Self { bypass: Bypass::new(pipes), intake: Intake::new(pipes) }
    }
}

/// One core's pipes that nobody uses at the moment.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    spare: RefCell<Vec<Pipe>>,
    /// How many there are, in use or not.
    made: Cell<usize>,
}

impl Pipes {
    fn take(&self) -> Option<Pipe> {
        if let Some(pipe) = self.spare.borrow_mut().pop() {
            return Some(pipe);
        }
        if self.made.get() == MAX_PIPES {
            return None;
        }
        let pipe = Pipe::make().inspect_err(|error| tracing::debug!(%error, "No pipe: bodies are copied")).ok()?;
        self.made.set(self.made.get() + 1);
        Some(pipe)
    }

    /// Takes a pipe back; one with something left in it is closed.
    fn put(&self, pipe: Pipe) {
        if pipe.held == 0 {
            self.spare.borrow_mut().push(pipe);
        } else {
            self.made.set(self.made.get() - 1);
        }
    }

    /// A pipe with up to `most` bytes off a socket, which holds none once the other end has closed. None where
    /// there is no pipe, so that they have to be copied.
    fn poll_filled(&self, from: &TcpStream, most: u64, context: &mut Context<'_>) -> Poll<io::Result<Option<Pipe>>> {
        // Nothing waits in a pipe for a socket that has nothing.
        ready!(from.poll_read_ready(context))?;
        let Some(mut pipe) = self.take() else { return Poll::Ready(Ok(None)) };
        match pipe.poll_fill(from, most, context) {
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(Some(pipe))),
            unfilled => {
                self.put(pipe);
                unfilled.map_ok(|_| None)
            }
        }
    }

    /// Writes up to `most` bytes of the pipe in this slot to a socket, and takes it back when it is empty. An error where
    /// there is none: what shall be written stands for nothing.
    fn poll_drain(
        &self,
        slot: &RefCell<Option<Pipe>>,
        to: &TcpStream,
        most: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slot = slot.borrow_mut();
        let Some(pipe) = slot.as_mut() else {
            return Poll::Ready(Err(io::Error::other("a stand-in without a pipe")));
        };
        let drained = ready!(pipe.poll_drain(to, most, context))?;
        if let Some(empty) = slot.take_if(|pipe| pipe.held == 0) {
            self.put(empty);
        }
        Poll::Ready(Ok(drained))
    }
}
