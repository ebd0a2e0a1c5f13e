//! The client's socket: read and written with deadlines, heard out at its end, and able
//! to wait for a request without holding a buffer.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use super::clock::{deadline, earlier};
use super::downstream::Downstream;
use super::pace::Pace;
use super::splice;
use super::tls;
use super::transport::Transport;

/// How HTTP/2 begins, as far as that tells it from any request of HTTP/1.1.
const PREFACE: &[u8] = b"PRI ";
/// What the first read of a request has room for: its head, and mostly its body.
const FIRST_READ: usize = 32 * 1024;
/// How long a client is heard out that may still be sending what nobody will read.
const LINGER: Duration = Duration::from_secs(2);
/// Writes of several parts up to this size are put together into one.
const JOINED: usize = 8 * 1024;

/// A client's socket that waits for a request, and has room for nothing else.
#[derive(Debug)]
pub(crate) struct Parked {
    stream: Transport,
    downstream: Rc<Downstream>,
}

impl Parked {
    /// The socket of a connection that was accepted.
    pub(crate) const fn new(stream: Transport, downstream: Rc<Downstream>) -> Self {
        Self { stream, downstream }
    }

    /// Whether client and serin agreed on HTTP/2 in their handshake.
    pub(crate) fn agreed_on_http2(&self) -> bool {
        self.stream.alpn_protocol() == Some(tls::HTTP2)
    }

    /// Waits for the first bytes of a request; none if the client has left or waited for too long, or serin is
    /// draining.
    pub(crate) fn poll_wake(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        poll_first_bytes(&mut self.stream, &self.downstream, context)
    }

    /// The socket with a request to read, of which these bytes were read already.
    pub(crate) fn wake(self, ahead: Bytes) -> Socket {
        let pace = Pace::new(self.downstream.listener().min_rate, 1);
        let stream = TokioIo::new(self.stream);
        let (write_until, linger_until, half_closed) = (None, None, false);
        Socket { stream, downstream: self.downstream, ahead, pace, write_until, linger_until, half_closed }
    }
}

/// Reads the first bytes of a request into a buffer that all connections of the core share: as many as wait, as few
/// buffers there are.
fn poll_first_bytes(stream: &mut Transport, downstream: &Downstream, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
    let mut first = downstream.core.first_bytes.borrow_mut();
    first.reserve(FIRST_READ);
    match pin!(stream.read_buf(&mut *first)).poll(context) {
        Poll::Ready(Ok(n)) if n > 0 => {
            downstream.bytes_read();
            Poll::Ready(Some(first.split().freeze()))
        }
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending if downstream.core.draining.get() => Poll::Ready(None),
        Poll::Pending if downstream.is_overdue(context) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    }
}

/// The client's socket, which fails when the client keeps it waiting for too long.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TokioIo<Transport>,
    downstream: Rc<Downstream>,
    /// Read already: the first that the next reader gets.
    ahead: Bytes,
    /// How fast the client takes it.
    pace: Pace,
    /// Until when the client must have taken some of what is being written.
    write_until: Option<Instant>,
    /// Until when the client is heard out; none before serin begins to close its half.
    linger_until: Option<Instant>,
    /// Whether serin has closed its half.
    half_closed: bool,
}

impl Socket {
    /// What its connection shares with requests.
    pub(crate) const fn downstream(&self) -> &Rc<Downstream> {
        &self.downstream
    }

    /// Whether a connection without TLS begins as HTTP/2 does, where that is spoken. Its preface looks like a request
    /// by a method that there will never be (RFC 9113, 3.4).
    pub(crate) fn begins_http2(&self) -> bool {
        self.knows_http2() && self.ahead.starts_with(PREFACE)
    }

    /// Whether what came is too little to say so.
    pub(crate) fn may_begin_http2(&self) -> bool {
        self.ahead.len() < PREFACE.len() && PREFACE.starts_with(&self.ahead) && self.knows_http2()
    }

    /// Whether a client may begin with HTTP/2 without having agreed on it.
    fn knows_http2(&self) -> bool {
        self.downstream.listener().http2.is_some() && !self.downstream.is_tls()
    }

    /// Takes back what a reader had read and not used. It may not have had all that was read ahead.
    pub(crate) fn give_back(&mut self, unused: Bytes) {
        if self.ahead.is_empty() {
            self.ahead = unused;
        } else if !unused.is_empty() {
            self.ahead = [unused, std::mem::take(&mut self.ahead)].concat().into();
        }
        self.let_go_of_ahead();
    }

    /// Frees the buffer of what was read ahead, once nothing is left of that.
    fn let_go_of_ahead(&mut self) {
        if self.ahead.is_empty() {
            self.ahead = Bytes::new();
        }
    }

    /// What the client's bytes come by, and those that were read ahead.
    pub(crate) fn into_parts(self) -> (Transport, Bytes) {
        (self.stream.into_inner(), self.ahead)
    }

    /// Reads on until it is known what the connection begins with: false if that never comes.
    pub(crate) fn poll_beginning(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        while self.may_begin_http2() {
            let Some(more) = ready!(poll_first_bytes(self.stream.inner_mut(), &self.downstream, context)) else {
                return Poll::Ready(false);
            };
            self.ahead = [std::mem::take(&mut self.ahead), more].concat().into();
        }
        Poll::Ready(true)
    }

    /// Waits for the next request. Who has some of it already doesn't wait.
    pub(crate) fn park(self) -> Result<Parked, Box<Self>> {
        if self.ahead.is_empty() {
            return Ok(Parked::new(self.stream.into_inner(), self.downstream));
        }
        self.downstream.bytes_read();
        Err(Box::new(self))
    }

    fn written(&mut self, context: &Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let downstream = &self.downstream;
        downstream.is_writing(result.is_pending());
        if let Poll::Ready(written) = &result {
            let bytes = written.as_ref().map_or(0, |bytes| *bytes as u64);
            self.pace.moved(bytes, downstream.core.clock.now());
            self.write_until = None;
            downstream.bytes_written();
            return result;
        }
        self.poll_stalled(context).map(Err)
    }

    /// The client takes nothing of what is being written: pending until it has done so for too long.
    fn poll_stalled(&mut self, context: &Context<'_>) -> Poll<io::Error> {
        let downstream = &self.downstream;
        let now = downstream.core.clock.now();
        let until = self.write_until.or_else(|| deadline(now, downstream.idle_timeout()));
        self.write_until = until;
        self.pace.waits(now);
        if downstream.alarm.passed(earlier(until, self.pace.until()), context) {
            Poll::Ready(io::ErrorKind::TimedOut.into())
        } else {
            Poll::Pending
        }
    }

    /// Writes what such bytes stand for, up to so many.
    fn poll_splice(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        let downstream = &self.downstream;
        let result = match (self.stream.inner(), downstream.bypass(0)) {
            (Transport::Plain(stream), Some(bypass)) => {
                let result = bypass.poll_drain(stream, most, context);
                if bypass.lets_on() {
                    downstream.alarm.ring();
                }
                result
            }
            _ => Poll::Ready(Err(io::Error::other("a stand-in where nothing can be spliced"))),
        };
        self.written(context, result)
    }

    /// Reads what has arrived, or what stands for it where it belongs to a body that goes past serin's memory.
    fn poll_bytes(&mut self, context: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if let (Transport::Plain(stream), Some(intake)) = (self.stream.inner(), self.downstream.intake(0))
            && intake.is_worth_it()
            && ready!(intake.poll_take(stream, &mut buffer, context))?
        {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }

    /// Takes and drops what the client still sends. A socket that is closed with bytes unread
    /// resets the connection, and the reset may overtake the answer that says why.
    fn poll_linger(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        let mut room = [0; 4 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut room);
            match Pin::new(&mut self.stream).poll_read(context, buffer.unfilled()) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Pending if !self.downstream.alarm.passed(Some(until), context) => return Poll::Pending,
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let n = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..n]);
            self.ahead.advance(n);
            self.let_go_of_ahead();
            return Poll::Ready(Ok(()));
        }
        let read = self.poll_bytes(context, buffer);
        match &read {
            Poll::Ready(_) => self.downstream.bytes_read(),
            Poll::Pending if self.downstream.is_overdue(context) => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Poll::Pending => {}
        }
        read
    }
}

impl Write for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() && self.write_until.is_none() {
            return flushed;
        }
        // TLS takes what the socket doesn't, so that only here is seen that the client takes nothing.
        self.written(context, flushed.map_ok(|()| 0)).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let downstream = &self.downstream;
        let until = match self.linger_until {
            Some(until) => until,
            None if !downstream.may_be_sending() && !downstream.is_tls() => {
                // Who gets the answer in full sees its end when the socket is closed, in a moment.
                return Poll::Ready(Ok(()));
            }
            None => {
                // Its last answer is given: it waits for no request any more, and is never parked.
                downstream.request_came();
                let until = downstream.core.clock.now() + LINGER;
                *self.linger_until.insert(until)
            }
        };
        if !self.half_closed {
            match Pin::new(&mut self.stream).poll_shutdown(context) {
                Poll::Ready(closed) => closed?,
                // The client takes nothing: it may not even see the end.
                Poll::Pending if self.downstream.alarm.passed(Some(until), context) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
            self.half_closed = true;
        }
        self.poll_linger(until, context).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stand_in = parts.iter().position(|part| splice::stands_in(part));
        if stand_in == Some(0) {
            return self.poll_splice(context, parts[0].len());
        }
        // What stands for something else is written by itself.
        let parts = &parts[..stand_in.unwrap_or(parts.len())];
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let result = if parts.len() > 1 && length <= JOINED {
            // One plain send of a copy costs less than a vectored one of the parts.
            let core = Rc::clone(&self.downstream.core);
            let mut joined = core.scratch.borrow_mut();
            joined.clear();
            for part in parts {
                joined.extend_from_slice(part);
            }
            Pin::new(&mut self.stream).poll_write(context, &joined)
        } else {
            Pin::new(&mut self.stream).poll_write_vectored(context, parts)
        };
        self.written(context, result)
    }
}
