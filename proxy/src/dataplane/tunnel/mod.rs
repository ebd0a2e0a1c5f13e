//! Tunnels: connections that switched to another protocol, such as a WebSocket, by a request that offered it and
//! an endpoint's 101. Nothing else makes one. By HTTP/2 it is one stream of the client's connection.
//!
//! From then on serin passes bytes both ways and looks at none. An idle tunnel holds two sockets and no buffer.
//! It is in flight on its endpoint until it ends; for the verdict the request was over with the 101.

mod flow;
mod open;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::body::Body;
use super::clock::{Alarm, deadline, earlier};
use super::downstream::Downstream;
use super::forward;
use super::http2::websocket;
use super::record::Record;
use super::transport::Transport;
use super::upstream::head::named_by_connection;
use super::upstream::{Answer, Connection, Offer};
use crate::model::spec::Timeouts;
use flow::Flow;
pub(crate) use open::OpenTunnel;

/// How often one tunnel carries something each time before other connections have their turn.
const TURN: usize = 16;
/// What stands for "never": an alarm wakes its task for other reasons only where a deadline is set.
const NEVER: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// An endpoint's side of a tunnel. The client's is there as soon as the answer is written.
#[derive(Debug)]
pub(crate) struct Far {
    stream: Transport,
    /// What came behind the head of the answer.
    early: Bytes,
    open: OpenTunnel,
    limits: Limits,
}

/// How long a tunnel may be quiet; zero = for ever.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// While both sides may speak.
    idle: Duration,
    /// Once one of them has ended.
    half_closed: Duration,
}

impl Limits {
    fn of(timeouts: &Timeouts) -> Self {
        Self { idle: timeouts.tunnel_idle, half_closed: timeouts.idle }
    }
}

/// The protocols that a request offers to switch to, and that an endpoint may hear of. A request with a body
/// offers none: it could switch only once all of that was sent, and no protocol in use has one.
pub(crate) fn offered(parts: &Parts, has_body: bool) -> Option<Offer> {
    // Set by hyper where there is an `Upgrade`: where there is none, nothing is looked for.
    parts.extensions.get::<OnUpgrade>()?;
    if has_body || !named_by_connection(&parts.headers).contains(&header::UPGRADE) {
        return None;
    }
    let lines: Vec<&str> =
        parts.headers.get_all(header::UPGRADE).iter().filter_map(|line| line.to_str().ok()).collect();
    Offer::of(&lines.join(","))
}

/// Makes the client's response of an answer by which the endpoint's connection has switched protocols. The
/// client's follows as soon as that is written.
pub(crate) fn open(
    downstream: &Rc<Downstream>,
    mut record: Record,
    request: &Parts,
    mut answer: Answer,
) -> Response<Body> {
    let core = &downstream.core;
    core.return_head_buffer(std::mem::take(&mut answer.spare));
    record.answered(answer.status.as_u16(), core.clock.refresh());
    let service = record.service().clone();
    forward::judge(&mut record, &service.spec.verdict.errors, request, answer.status, &answer.headers);
    let limits = Limits::of(service.timeouts());
    if let (Some(open), Some(connection)) = (record.into_tunnel(), answer.body.into_switched()) {
        downstream.far.replace(Some(Box::new(Far::new(connection, open, limits))));
    }
    let mut response = Response::new(Body::whole(downstream, Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer.headers;
    if let Some(policy) = service.policy() {
        policy.response_headers.apply_to(response.headers_mut(), |name| !is_agreement(name));
    }
    if request.version == Version::HTTP_2 {
        websocket::agree(&mut response);
    } else {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    response
}

/// Whether a field of a 101 is what the two sides agreed on (RFC 6455, 4.1), which is nobody else's to change.
fn is_agreement(name: &HeaderName) -> bool {
    name.as_str().starts_with("sec-websocket-")
}

impl Far {
    fn new(connection: Connection, open: OpenTunnel, limits: Limits) -> Self {
        let (stream, early) = connection.into_parts();
        Self { stream, early, open, limits }
    }
}

/// Bytes both ways, until both sides have ended, one fails, or nothing moves for too long.
#[derive(Debug)]
pub(crate) struct Tunnel<N, F = Transport> {
    near: N,
    far: F,
    /// From the client to the endpoint, and back.
    there: Flow,
    back: Flow,
    open: OpenTunnel,
    alarm: Rc<Alarm>,
    limits: Limits,
    began_at: Instant,
    moved_at: Instant,
    /// When it must end, if it must: said once.
    end_at: Option<Instant>,
}

impl<N> Tunnel<N> {
    /// Between the endpoint's side and the client's, from which `early` came already.
    pub(crate) fn new(far: Far, near: N, early: Bytes, alarm: &Rc<Alarm>) -> Self {
        let Far { stream, early: answered, open, limits } = far;
        Self::between((near, early), (stream, answered), open, alarm, limits)
    }
}

impl<N, F> Tunnel<N, F> {
    /// The request by which it was opened.
    pub(crate) fn request_id(&self) -> &str {
        self.open.request_id()
    }

    /// Whether the endpoint has ended: what the client's side still does is to say so.
    pub(crate) fn ends_back(&self) -> bool {
        self.back.is_ending()
    }

    fn between(near: (N, Bytes), far: (F, Bytes), open: OpenTunnel, alarm: &Rc<Alarm>, limits: Limits) -> Self {
        let now = alarm.clock().now();
        let (there, back) = (Flow::new(near.1), Flow::new(far.1));
        let (alarm, end_at) = (Rc::clone(alarm), None);
        Self { near: near.0, far: far.0, there, back, open, alarm, limits, began_at: now, moved_at: now, end_at }
    }

    /// Whether its time is over. If not, the task wakes when it is, and when it may be.
    fn is_overdue(&mut self, context: &Context<'_>) -> bool {
        let now = self.alarm.clock().now();
        if self.end_at.is_none()
            && let Some(soon) = self.open.must_end_in()
        {
            self.end_at = Some(now + soon);
        }
        let is_half_closed = self.there.has_ended() || self.back.has_ended();
        let quiet = deadline(self.moved_at, self.limits.idle);
        let closing = if is_half_closed { deadline(self.moved_at, self.limits.half_closed) } else { None };
        let until = earlier(earlier(quiet, closing), self.end_at);
        self.alarm.passed(until.or_else(|| now.checked_add(NEVER)), context)
    }
}

impl<N, F> Tunnel<N, F>
where
    N: AsyncRead + AsyncWrite + Unpin,
    F: AsyncRead + AsyncWrite + Unpin,
{
    /// Carries over what there is, once each way. Pending where both wait.
    fn poll_carry(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let core = self.open.core();
        let mut room = core.first_bytes.borrow_mut();
        let there = self.there.poll_carry(&mut self.near, &mut self.far, &mut room, context)?;
        let back = self.back.poll_carry(&mut self.far, &mut self.near, &mut room, context)?;
        if there.is_pending() && back.is_pending() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_through(&mut self, context: &mut Context<'_>) -> Poll<&'static str> {
        for _ in 0..TURN {
            match self.poll_carry(context) {
                Poll::Ready(Ok(())) => self.moved_at = self.alarm.clock().now(),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(request_id = self.open.request_id(), %error, "A side of a tunnel failed");
                    return Poll::Ready("one side failed");
                }
                Poll::Pending if self.there.has_ended() && self.back.has_ended() => return Poll::Ready("both ended"),
                Poll::Pending if self.is_overdue(context) => return Poll::Ready("its time was over"),
                Poll::Pending => return Poll::Pending,
            }
        }
        // Also where there is always something to carry.
        if self.is_overdue(context) {
            return Poll::Ready("its time was over");
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<N, F> Future for Tunnel<N, F>
where
    N: AsyncRead + AsyncWrite + Unpin,
    F: AsyncRead + AsyncWrite + Unpin,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let why = std::task::ready!(self.poll_through(context));
        tracing::debug!(
            request_id = self.open.request_id(),
            seconds = self.began_at.elapsed().as_secs_f64(),
            bytes_there = self.there.passed(),
            bytes_back = self.back.passed(),
            why,
            "A tunnel ended"
        );
        Poll::Ready(())
    }
}
