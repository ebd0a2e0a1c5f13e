//! The way of an answer: from the endpoint's socket into the client's.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::{Pipe, Pipes, stand_in};

/// The way of one connection's answers past serin's memory. One body at a time, and of that no more than one pipe
/// holds: the next is taken when the last is written.
///
/// hyper hands stand-ins to the client's socket where the bytes shall be written, and that writes what they stand for.
#[derive(Debug)]
pub(crate) struct Bypass {
    pipes: Rc<Pipes>,
    /// One that holds something.
    pipe: RefCell<Option<Pipe>>,
    /// Whether a body waits for the pipe to be empty.
    awaited: Cell<bool>,
}

impl Bypass {
    /// A way that has no pipe yet.
    pub(super) fn new(pipes: &Rc<Pipes>) -> Self {
        Self { pipes: Rc::clone(pipes), pipe: RefCell::default(), awaited: Cell::new(false) }
    }

    /// Whether what was taken isn't written yet. Who asks waits for that: see [`Bypass::lets_on`].
    pub(crate) fn is_busy(&self) -> bool {
        let busy = self.pipe.borrow().is_some();
        self.awaited.set(busy);
        busy
    }

    /// Whether somebody waits for what is written now.
    pub(crate) fn lets_on(&self) -> bool {
        self.pipe.borrow().is_none() && self.awaited.take()
    }

    /// Takes up to `left` bytes off a socket, and gives what stands for them: nothing once the other end has
    /// closed. None where there is no pipe, so that they have to be copied. Not to be called while it is busy.
    pub(crate) fn poll_fill(
        &self,
        from: &TcpStream,
        left: u64,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        let Some(pipe) = ready!(self.pipes.poll_filled(from, left, context))? else { return Poll::Ready(Ok(None)) };
        let filled = stand_in(pipe.held);
        if pipe.held == 0 {
            self.pipes.put(pipe);
        } else {
            *self.pipe.borrow_mut() = Some(pipe);
        }
        Poll::Ready(Ok(Some(filled)))
    }

    /// Writes up to `most` bytes of the pipe to a socket. An error where there are none: what shall be
    /// written stands for nothing.
    pub(crate) fn poll_drain(&self, to: &TcpStream, most: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.pipes.poll_drain(&self.pipe, to, most, context)
    }
}

impl Drop for Bypass {
    fn drop(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            self.pipes.put(pipe);
        }
    }
}
