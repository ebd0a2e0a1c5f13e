//! The way of a request's body: from the client's socket into the endpoint's.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::ReadBufCursor;
use tokio::net::TcpStream;

use super::{Pipe, Pipes, STAND_IN, WORTH_IT, stand_in};

/// What a stand-in for a request's bytes begins with: nobody outside knows it, so that nothing that a client sends is
/// taken for one.
static MARK: LazyLock<[u8; 16]> = LazyLock::new(rand::random);

/// The way of one connection's request bodies past serin's memory.
///
/// hyper reads the client's socket into memory of its own, and hands that on as a piece of the body. While all that
/// there is to read belongs to the body, the socket gives it a stand-in here, and whoever gets the piece exchanges it
/// for what it stands for. hyper keeps one piece until it is taken, and reads nothing into a buffer that has something
/// left: so when it reads, all that it read before was taken, and it is known how much of the body the socket has yet
/// to give. Should that ever not be so, a piece isn't the stand-in that it should be, and the body fails.
#[derive(Debug)]
pub(crate) struct Intake {
    pipes: Rc<Pipes>,
    /// How much of the body the socket has yet to give.
    left: Cell<u64>,
    /// What was taken off the socket, and hyper has yet to hand on the stand-in for.
    taken: RefCell<Option<Pipe>>,
    /// What is to be written to the endpoint.
    handed: RefCell<Option<Pipe>>,
}

impl Intake {
    /// A way that has no pipe yet.
    pub(super) fn new(pipes: &Rc<Pipes>) -> Self {
        Self { pipes: Rc::clone(pipes), left: Cell::new(0), taken: RefCell::default(), handed: RefCell::default() }
    }

    /// Says how much of a body is to come behind the pieces that were handed on.
    pub(crate) fn expects(&self, left: u64) {
        self.left.set(left);
    }

    /// Whether enough of a body is to come.
    pub(crate) fn is_worth_it(&self) -> bool {
        self.left.get() >= WORTH_IT && self.taken.borrow().is_none()
    }

    /// Takes bytes of the body off a socket, and gives hyper what stands for them: nothing once the client has closed.
    /// False where there is no pipe, so that they have to be copied.
    pub(crate) fn poll_take(
        &self,
        from: &TcpStream,
        reader: &mut ReadBufCursor<'_>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let most = self.left.get().min(reader.remaining() as u64);
        let Some(pipe) = ready!(self.pipes.poll_filled(from, most, context))? else { return Poll::Ready(Ok(false)) };
        if pipe.held == 0 {
            self.pipes.put(pipe);
            return Poll::Ready(Ok(true));
        }
        self.left.update(|left| left - pipe.held as u64);
        let marked = pipe.held.min(MARK.len());
        reader.put_slice(&MARK[..marked]);
        reader.put_slice(&STAND_IN[marked..pipe.held]);
        *self.taken.borrow_mut() = Some(pipe);
        Poll::Ready(Ok(true))
    }

    /// Exchanges a piece of the body for what is to be written: another stand-in, where it is one. None if it should be
    /// one and isn't.
    pub(crate) fn exchange(&self, piece: Bytes) -> Option<Bytes> {
        let Some(pipe) = self.taken.take() else { return Some(piece) };
        let marked = pipe.held.min(MARK.len());
        if piece.len() != pipe.held || piece[..marked] != MARK[..marked] {
            tracing::error!("A piece of a request body isn't what was taken off the client's socket");
            self.pipes.put(pipe);
            return None;
        }
        let held = pipe.held;
        *self.handed.borrow_mut() = Some(pipe);
        Some(stand_in(held))
    }

    /// Writes up to `most` bytes of what was exchanged to a socket. An error where there are none.
    pub(crate) fn poll_give(&self, to: &TcpStream, most: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.pipes.poll_drain(&self.handed, to, most, context)
    }

    /// Ends a body: what was taken of it and not given is nobody's.
    pub(crate) fn ends(&self) {
        self.left.set(0);
        for slot in [&self.taken, &self.handed] {
            if let Some(pipe) = slot.take() {
                self.pipes.put(pipe);
            }
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.ends();
    }
}
