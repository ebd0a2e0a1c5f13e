//! Interim responses (1xx) of an endpoint, which h2 takes as they come and throws away: here they are counted, and who
//! sends nothing but those is left.
//!
//! Their heads are like any other without being decoded, so that all heads are counted behind which more follows: as
//! many as a request may have for each request that is under way, and no more than for as many requests as there may
//! be.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::dataplane::frame_heads::{END_STREAM, FrameHead, FrameHeads, HEADERS};
use crate::dataplane::upstream::MAX_INTERIM;

/// Heads that a request may have behind which more follows: those of interim responses, and the answer's.
const OF_ONE: usize = MAX_INTERIM + 1;

/// Counts the heads of answers on one connection.
#[derive(Debug)]
struct Heads {
    frames: FrameHeads,
    /// The last request that was answered in any way.
    last_stream: u32,
    /// How many more there may be, and at most.
    allowed: usize,
    most: usize,
}

impl Heads {
    fn new(streams: usize) -> Self {
        Self { frames: FrameHeads::behind(0), last_stream: 0, allowed: 0, most: OF_ONE * streams }
    }

    /// Takes in what came. False if these are too many.
    fn take_in(&mut self, mut bytes: &[u8]) -> bool {
        while let Some(FrameHead { kind, flags, stream, .. }) = self.frames.next(&mut bytes) {
            if kind != HEADERS || flags & END_STREAM != 0 {
                continue;
            }
            if stream > self.last_stream {
                // The requests of one client have odd numbers that rise (RFC 9113, 5.1.1).
                let begun = (stream - self.last_stream).div_ceil(2) as usize;
                self.last_stream = stream;
                self.allowed = begun.saturating_mul(OF_ONE).saturating_add(self.allowed).min(self.most);
            }
            let Some(left) = self.allowed.checked_sub(1) else { return false };
            self.allowed = left;
        }
        true
    }
}

/// A connection to an endpoint, which ends when that sends too many interim responses.
#[derive(Debug)]
pub(super) struct Promises<S> {
    stream: S,
    heads: Heads,
    broken: Rc<Cell<bool>>,
}

impl<S> Promises<S> {
    /// Over this connection, on which so many requests may be under way. `broken` says then why it ended.
    pub(super) fn counted(stream: S, streams: usize, broken: &Rc<Cell<bool>>) -> Self {
        Self { stream, heads: Heads::new(streams), broken: Rc::clone(broken) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Promises<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let known = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if self.heads.take_in(&buffer.filled()[known..]) {
            return Poll::Ready(Ok(()));
        }
        self.broken.set(true);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "too many interim responses")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Promises<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32) -> Vec<u8> {
        [&[0, 0, 2, kind, flags][..], &stream.to_be_bytes(), b"hi"].concat()
    }

    #[test]
    fn each_request_may_have_as_many_interim_responses_and_no_more() {
        let mut heads = Heads::new(100);
        for stream in [1, 3, 5] {
            assert!(heads.take_in(&frame(HEADERS, 4, stream).repeat(OF_ONE)), "{stream}");
            // its body and what stands behind it
            assert!(heads.take_in(&frame(0, 0, stream).repeat(1_000)), "{stream}");
            assert!(heads.take_in(&frame(HEADERS, 4 | END_STREAM, stream)), "{stream}");
        }
        assert!(!heads.take_in(&frame(HEADERS, 4, 5)), "one more");
    }

    #[test]
    fn what_others_left_is_not_saved_up_for_ever() {
        let mut heads = Heads::new(2);
        for request in 0..1_000 {
            assert!(heads.take_in(&frame(HEADERS, 4, 2 * request + 1)));
        }
        let more = (0..).take_while(|_| heads.take_in(&frame(HEADERS, 4, 1_999))).count();
        assert_eq!(more, 2 * OF_ONE - 1);
    }

    #[test]
    fn answers_to_requests_at_once_may_come_in_any_order() {
        let mut heads = Heads::new(3);
        for stream in [5, 1, 3] {
            assert!(heads.take_in(&frame(HEADERS, 4, stream).repeat(OF_ONE)), "{stream}");
        }
    }
}
