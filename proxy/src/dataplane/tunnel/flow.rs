//! One direction of a tunnel: from one side to the other, through a buffer that all tunnels of the core share.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

/// What one read has room for, and so the most that a direction ever holds.
const ROOM: usize = 32 * 1024;

/// One direction of a tunnel. It holds bytes only while the receiver takes none.
#[derive(Debug)]
pub(super) struct Flow {
    /// Read, and not taken by the receiver yet: nothing more is read before it is.
    rest: Bytes,
    /// Whether the receiver may hold back what was written: TLS does until it is flushed.
    unflushed: bool,
    stage: Stage,
    /// Bytes that the receiver took.
    passed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The sender has ended; the receiver is still to be told.
    Ending,
    Ended,
}

impl Flow {
    /// A direction in which these bytes came already.
    pub(super) fn new(early: Bytes) -> Self {
        Self { rest: kept(early), unflushed: false, stage: Stage::Open, passed: 0 }
    }

    /// Whether the sender has ended and the receiver knows.
    pub(super) fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Whether the sender has ended.
    pub(super) fn is_ending(&self) -> bool {
        self.stage != Stage::Open
    }

    /// The bytes that the receiver took so far.
    pub(super) const fn passed(&self) -> u64 {
        self.passed
    }

    /// Carries over what one read brings. Ready where something happened, and more may; pending where it waits
    /// for one of the sides, or has ended.
    pub(super) fn poll_carry(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        room: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.rest.is_empty() {
            let mut rest = std::mem::take(&mut self.rest);
            let written = self.poll_write(&rest, to, context);
            if let Poll::Ready(Ok(written)) = written {
                rest.advance(written);
            }
            self.rest = kept(rest);
            return written.map_ok(|_| ());
        }
        match self.stage {
            Stage::Open => self.poll_read(from, to, room, context),
            Stage::Ending => {
                std::task::ready!(Pin::new(to).poll_shutdown(context))?;
                self.stage = Stage::Ended;
                Poll::Ready(Ok(()))
            }
            Stage::Ended => Poll::Pending,
        }
    }

    fn poll_read(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        room: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        room.reserve(ROOM);
        match pin!(from.read_buf(room)).poll(context)? {
            Poll::Pending => {
                if self.unflushed {
                    self.unflushed = Pin::new(to).poll_flush(context)?.is_pending();
                }
                Poll::Pending
            }
            Poll::Ready(0) => {
                self.stage = Stage::Ending;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(_) => {
                match self.poll_write(room, to, context) {
                    Poll::Ready(Ok(written)) if written < room.len() => {
                        self.rest = room.split().freeze().slice(written..);
                    }
                    Poll::Ready(Ok(_)) => room.clear(),
                    Poll::Pending => self.rest = room.split().freeze(),
                    Poll::Ready(Err(error)) => {
                        // The next to read by this room is somebody else.
                        room.clear();
                        return Poll::Ready(Err(error));
                    }
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Writes some of these bytes, never none.
    fn poll_write(
        &mut self,
        bytes: &[u8],
        to: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(to).poll_write(context, bytes))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        self.passed += written as u64;
        Poll::Ready(Ok(written))
    }
}

/// What is left of some bytes. Nothing would still hold the buffer that it is nothing of.
fn kept(rest: Bytes) -> Bytes {
    if rest.is_empty() { Bytes::new() } else { rest }
}
