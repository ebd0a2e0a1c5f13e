//! The socket of an HTTP/2 connection: shows every frame that comes to the guard, and ends the connection when that
//! says so.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::Connection;
use crate::dataplane::socket::Socket;

/// The most that is read at once: as much as h2 has room for.
const MOST_READ: usize = 16 * 1024;

/// A client's frames.
#[derive(Debug)]
pub(super) struct Frames {
    socket: Socket,
    connection: Rc<Connection>,
    /// Whether a write was taken in part: then no other may come between.
    midway: bool,
    /// Whether nothing more is read.
    over: bool,
}

impl Frames {
    /// The frames on this socket.
    pub(super) const fn new(socket: Socket, connection: Rc<Connection>) -> Self {
        Self { socket, connection, midway: false, over: false }
    }

    /// Notes how much of a write was taken.
    fn written(&mut self, offered: usize, taken: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = &taken {
            self.midway = *n < offered;
            if *n > 0 {
                self.connection.wrote_at.set(self.connection.downstream.core.clock.now());
            }
            self.connection.guard.borrow_mut().wrote(*n);
        }
        taken
    }

    /// Tells the client why nothing more is read, if it takes that at once.
    fn take_leave(&mut self, context: &mut Context<'_>) {
        self.over = true;
        self.connection.flooded.set(true);
        if !self.midway {
            let farewell = self.connection.guard.borrow().farewell();
            let _who_floods_may_miss_it = Pin::new(&mut self.socket).poll_write(context, &farewell);
        }
    }
}

impl Read for Frames {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.over {
            return Poll::Ready(Ok(()));
        }
        let connection = Rc::clone(&self.connection);
        let core = &connection.downstream.core;
        let mut room = core.frames.borrow_mut();
        if room.is_empty() {
            room.resize(MOST_READ, 0);
        }
        let most = buffer.remaining().min(MOST_READ);
        let mut read = ReadBuf::new(&mut room[..most]);
        ready!(Pin::new(&mut self.socket).poll_read(context, read.unfilled()))?;
        let taken = connection.guard.borrow_mut().take_in(read.filled(), core.clock.now());
        if let Err(flood) = taken {
            tracing::debug!(peer = %connection.downstream.peer, reason = %flood, "Connection ended");
            self.take_leave(context);
            return Poll::Ready(Ok(()));
        }
        buffer.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Frames {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.written(bytes.len(), taken)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.socket).poll_write_vectored(context, parts);
        self.written(parts.iter().map(|part| part.len()).sum(), taken)
    }
}
