//! HTTP/2 towards clients: hyper's server on a connection, each of whose requests walks the same path as any other.
//!
//! `frames.rs` is the socket, with an eye on every frame that comes; `guard.rs` says which are too many. `stream.rs` is
//! the task of one request, `request.rs` what is asked of a request beyond what hyper checks. `websocket.rs` knows how a
//! WebSocket is asked for, `tunnelled.rs` is the task of one.

mod frames;
mod guard;
mod request;
mod stream;
#[cfg(test)]
mod tests;
mod tunnelled;
pub(crate) mod websocket;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::time::Instant;

use self::frames::Frames;
use self::guard::Guard;
pub(crate) use self::request::check;
use self::stream::{Stream, Task};
use super::clock::{deadline, earlier};
use super::downstream::Downstream;
use super::socket::Socket;
use super::upstream::cause;
use crate::live::counters;
use crate::model::spec::Http2Spec;

/// What a client may send of one request body before serin has passed any of it on, and of all together.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What serin holds of one response that its client has yet to take.
const SEND_BUFFER: usize = 64 * 1024;
/// Faults in single requests for which serin takes them back itself, in the life of a connection (CVE-2025-8671).
const MAX_FAULTS: usize = 500;
/// How long the answer to a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a client has to take leave that was told to go and has no request under way.
const FAREWELL: Duration = Duration::from_secs(2);
/// By which h2 ends a connection that floods.
const CALM: h2::Reason = h2::Reason::ENHANCE_YOUR_CALM;
/// How often a connection with requests under way is looked at when nothing else wakes it.
const LOOK: Duration = Duration::from_secs(60);

/// What the requests of a connection share.
#[derive(Debug)]
struct Connection {
    downstream: Rc<Downstream>,
    guard: RefCell<Guard>,
    /// Requests under way.
    streams: Cell<usize>,
    /// Since when there is none.
    quiet_since: Cell<Instant>,
    /// When the client last took something: of answers whose requests are over as well.
    wrote_at: Cell<Instant>,
    /// When the client was told to go.
    told_at: Cell<Option<Instant>>,
    /// Whether the guard ended it.
    flooded: Cell<bool>,
    /// What the task is for that hyper is about to start.
    next: RefCell<Option<Task>>,
}

/// What is to be done about a connection on which nothing moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overdue {
    /// The client is told to go.
    Dismiss,
    /// The connection ends here.
    Cut,
}

/// Serves a connection to its end. There is no way back to where idle ones are parked: a client of HTTP/2 has a state
/// with the server that it keeps between requests.
pub(crate) async fn serve(socket: Socket) {
    let downstream = Rc::clone(socket.downstream());
    let Some(spec) = downstream.listener().http2 else { return };
    downstream.is_multiplexed();
    let connection = Rc::new(Connection::new(&downstream, spec));
    let service = {
        let connection = Rc::clone(&connection);
        service_fn(move |request| Stream::begin(&connection).answer(request))
    };
    let frames = Frames::new(socket, Rc::clone(&connection));
    let mut serving = configure(&connection, spec).serve_connection(frames, service);
    let ended = poll_fn(|context| {
        if downstream.core.leaving.get() && connection.dismiss() {
            Pin::new(&mut serving).graceful_shutdown();
        }
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut serving).poll(context) {
                return Poll::Ready(Some(ended));
            }
            match connection.overdue(context) {
                None => return Poll::Pending,
                Some(Overdue::Cut) => return Poll::Ready(None),
                Some(Overdue::Dismiss) => {
                    connection.dismiss();
                    Pin::new(&mut serving).graceful_shutdown();
                }
            }
        }
    });
    let ended = ended.await;
    let mut flooded = connection.flooded.get();
    if let Some(Err(error)) = &ended {
        tracing::debug!(peer = %downstream.peer, error = error as &dyn std::error::Error, "Connection ended early");
        flooded |= cause(error).is_some_and(|cause| cause.is_library() && cause.reason() == Some(CALM));
    }
    if flooded {
        counters::add(downstream.core.live.floods_of(downstream.core.id), 1);
    }
}

/// hyper's server with the limits of the listener.
fn configure(connection: &Rc<Connection>, spec: Http2Spec) -> http2::Builder<stream::Executor> {
    let listener = connection.downstream.listener();
    let mut http = http2::Builder::new(stream::Executor::new(connection));
    http.max_concurrent_streams(spec.max_streams)
        .max_pending_accept_reset_streams(usize::try_from(spec.max_resets).unwrap_or(usize::MAX))
        .max_local_error_reset_streams(MAX_FAULTS)
        .max_header_list_size(u32::try_from(listener.max_header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    if spec.websocket {
        http.enable_connect_protocol();
    }
    if !spec.ping_interval.is_zero() {
        http.timer(TokioTimer::new()).keep_alive_interval(spec.ping_interval).keep_alive_timeout(PING_TIMEOUT);
    }
    http
}

impl Connection {
    fn new(downstream: &Rc<Downstream>, spec: Http2Spec) -> Self {
        let now = downstream.core.clock.now();
        Self {
            downstream: Rc::clone(downstream),
            guard: RefCell::new(Guard::new(spec.max_resets, now)),
            streams: Cell::new(0),
            quiet_since: Cell::new(now),
            wrote_at: Cell::new(now),
            told_at: Cell::new(None),
            flooded: Cell::new(false),
            next: RefCell::new(None),
        }
    }

    /// Notes that the client is told to go. False if it was before.
    fn dismiss(&self) -> bool {
        let known = self.told_at.get().is_some();
        self.told_at.set(self.told_at.get().or_else(|| Some(self.downstream.core.clock.now())));
        !known
    }

    /// What is to be done now; if nothing, the task wakes when that may have changed.
    fn overdue(&self, context: &Context<'_>) -> Option<Overdue> {
        let (listener, alarm) = (self.downstream.listener(), &self.downstream.alarm);
        let now = self.downstream.core.clock.now();
        let head_until = self.guard.borrow().head_since().and_then(|since| deadline(since, listener.header_timeout));
        if alarm.passed(head_until, context) {
            return Some(Overdue::Cut);
        }
        let quiet_since = self.quiet_since.get();
        let (until, then) = match (self.streams.get(), self.told_at.get()) {
            (0, Some(told_at)) => {
                let since = told_at.max(quiet_since);
                // Who still takes the rest of its answers has longer, but not for ever.
                let taking = since.max(self.wrote_at.get()) + FAREWELL;
                (earlier(Some(taking), deadline(since, listener.idle_timeout.max(FAREWELL))), Overdue::Cut)
            }
            (0, None) => (deadline(quiet_since, listener.idle_timeout), Overdue::Dismiss),
            // Also lets a drain wake the task.
            (_, _) => (Some(now + LOOK), Overdue::Cut),
        };
        alarm.passed(until, context).then_some(then)
    }
}
