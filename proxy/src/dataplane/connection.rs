//! One downstream connection: its socket with deadlines, and hyper's server on it.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::HeaderMap;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::clock::{Alarm, deadline};
use super::core::Core;
use super::handle::handle;
use crate::model::spec::ListenerSpec;

/// The most fields in a request head: as many as hyper parses without a trip to the heap.
const MAX_FIELDS: usize = 100;
/// How long a client is heard out that may still be sending what nobody will read.
const LINGER: Duration = Duration::from_secs(2);
/// Writes of several parts up to this size are put together into one.
const JOINED: usize = 8 * 1024;

/// What a connection and its requests share.
#[derive(Debug)]
pub(crate) struct Downstream {
    pub(crate) core: Rc<Core>,
    pub(crate) alarm: Rc<Alarm>,
    /// The peer's address; IPv4 mapped into IPv6 is IPv4 here.
    pub(crate) peer: IpAddr,
    /// The same, as it goes into `X-Forwarded-For`.
    pub(crate) peer_text: String,
    /// Whether what the peer says of its own clients is believed.
    pub(crate) trusted: bool,
    listener: Arc<ListenerSpec>,
    phase: Cell<Phase>,
    /// Whether the client may be in the middle of a request body.
    sending_body: Cell<bool>,
}

/// What a connection waits for, and until when.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// For the first byte of a request.
    Idle(Option<Instant>),
    /// For the rest of a request head.
    Head(Option<Instant>),
    /// For an endpoint: the exchange has deadlines of its own.
    Busy,
}

impl Downstream {
    fn new(core: &Rc<Core>, listener: &Arc<ListenerSpec>, peer: SocketAddr) -> Rc<Self> {
        let peer = peer.ip().to_canonical();
        let idle = deadline(core.clock.refresh(), listener.idle_timeout);
        Rc::new(Self {
            core: Rc::clone(core),
            alarm: core.clock.alarm(),
            peer,
            peer_text: peer.to_string(),
            trusted: listener.trusted.iter().any(|range| range.contains(peer)),
            listener: Arc::clone(listener),
            phase: Cell::new(Phase::Idle(idle)),
            sending_body: Cell::new(false),
        })
    }

    /// Whether an address is one whose word is believed.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.listener.trusted.iter().any(|range| range.contains(address))
    }

    /// Whether the client came over TLS, as far as a trusted peer says so.
    pub(crate) fn is_secure(&self, headers: &HeaderMap) -> bool {
        self.trusted && headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https")
    }

    /// A request head was read: from here on the exchange watches the time.
    pub(crate) fn request_began(&self, with_body: bool) {
        self.core.clock.refresh();
        self.phase.set(Phase::Busy);
        self.sending_body.set(with_body);
    }

    /// Says whether all of the request was read by the time that its response begins.
    pub(crate) fn request_is_read(&self, read: bool) {
        self.sending_body.set(!read);
    }

    /// Whether the client may still be sending when serin has nothing more to say.
    fn may_be_sending(&self) -> bool {
        self.sending_body.get() || matches!(self.phase.get(), Phase::Head(_))
    }

    /// The response is handed over: the connection waits for the next request.
    pub(crate) fn request_ended(&self) {
        self.phase.set(Phase::Idle(deadline(self.core.clock.now(), self.listener.idle_timeout)));
    }

    fn bytes_read(&self) {
        if let Phase::Idle(_) = self.phase.get() {
            self.phase.set(Phase::Head(deadline(self.core.clock.now(), self.listener.header_timeout)));
        }
    }

    /// Whether the client has kept us waiting for too long. If not, the task wakes when it has.
    fn is_overdue(&self, context: &Context<'_>) -> bool {
        match self.phase.get() {
            Phase::Idle(until) | Phase::Head(until) => self.alarm.passed(until, context),
            Phase::Busy => false,
        }
    }
}

/// Serves one connection to its end. Never fails: what goes wrong is the client's or is logged.
pub(crate) async fn serve(core: Rc<Core>, listener: Arc<ListenerSpec>, stream: TcpStream, peer: SocketAddr) {
    let downstream = Downstream::new(&core, &listener, peer);
    let service = {
        let downstream = Rc::clone(&downstream);
        service_fn(move |request| {
            let downstream = Rc::clone(&downstream);
            async move { Ok::<_, std::convert::Infallible>(handle(downstream, request).await) }
        })
    };
    let stream = TokioIo::new(stream);
    let socket = Socket { stream, downstream: Rc::clone(&downstream), write_until: None, linger_until: None };
    let mut http = http1::Builder::new();
    http.max_headers(MAX_FIELDS).max_buf_size(listener.max_header_bytes).half_close(false);
    let mut connection = pin!(http.serve_connection(socket, service));
    let mut told = false;
    let ended = poll_fn(|context| {
        if core.draining.get() && !told {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(context)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(peer = %downstream.peer, error = &error as &dyn std::error::Error, "Connection ended early");
    }
}

/// The client's socket, which fails when the client keeps it waiting for too long.
struct Socket {
    stream: TokioIo<TcpStream>,
    downstream: Rc<Downstream>,
    /// Until when the client must have taken some of what is being written.
    write_until: Option<Instant>,
    /// Until when the client is heard out; none before serin has closed its half.
    linger_until: Option<Instant>,
}

impl Socket {
    fn written(&mut self, context: &Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let downstream = &self.downstream;
        if result.is_ready() {
            self.write_until = None;
            if let Phase::Idle(_) = downstream.phase.get() {
                downstream.request_ended();
            }
            return result;
        }
        let now = downstream.core.clock.now();
        let until = self.write_until.or_else(|| deadline(now, downstream.listener.idle_timeout));
        self.write_until = until;
        if downstream.alarm.passed(until, context) { Poll::Ready(Err(io::ErrorKind::TimedOut.into())) } else { result }
    }
}

impl Socket {
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
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
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
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let until = match self.linger_until {
            Some(until) => until,
            None => {
                ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
                let until = self.downstream.core.clock.now() + LINGER;
                *self.linger_until.insert(until)
            }
        };
        if self.downstream.may_be_sending() { self.poll_linger(until, context).map(Ok) } else { Poll::Ready(Ok(())) }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
