//! The receiving half of an exchange: the response body as it arrives, and the
//! connection's way back into the pool at its end.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use super::client_body::SendError;
use super::decode::BodyDecoder;
use super::framing::{BodyEnd, Malformed};
use super::head::ResponseHead;
use super::http2::Received;
use super::pool::{Connection, Pool};
use super::send::Sender;
use super::vigil::Vigil;
use super::{Alarm, Terms};
use crate::dataplane::clock::earlier;
use crate::dataplane::splice::{self, Bypass};

/// The most one read of a long body asks for.
const MAX_READ: usize = 64 * 1024;

/// Why a response body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The endpoint closed too early.
    #[error("the endpoint closed before the end of its response")]
    Truncated(#[source] Option<io::Error>),
    /// Nothing came for too long, or the whole took too long.
    #[error("the endpoint's response didn't go on in time")]
    Timeout,
    /// The coding of the body is broken.
    #[error("the endpoint's response body can't be understood")]
    Malformed(#[source] Malformed),
    /// The whole took too long, by the client's doing.
    #[error("the client didn't take the response in time")]
    Untaken,
    /// The rest of the request couldn't be taken from the client.
    #[error(transparent)]
    Request(SendError),
}

/// The body of a response.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    state: State,
}

#[derive(Debug)]
enum State {
    /// All of it came with the head.
    Whole(Bytes),
    /// More is to come.
    Relay(Box<Relay>),
    /// By HTTP/2.
    Received(Box<Received>),
    /// All of it was taken, but for the fields behind it.
    Trailed(Box<HeaderMap>),
    /// None: the connection has switched to another protocol.
    Switched(Box<Connection>),
    /// Nothing is left.
    Done,
}

/// What came of looking for more.
enum More {
    /// The endpoint closed.
    Nothing,
    /// There is more in the connection's buffer.
    Read,
    /// So much went past it.
    Passed(Bytes),
}

#[derive(Debug)]
struct Relay {
    connection: Connection,
    decoder: BodyDecoder,
    /// The rest of the request: an endpoint may answer before it has all of it.
    unsent: Option<Sender>,
    home: Home,
    alarm: Rc<Alarm>,
    vigil: Vigil,
}

/// Where the connection goes when the body is complete.
#[derive(Debug)]
struct Home {
    pool: Rc<Pool>,
    endpoint: SocketAddr,
    keep: Duration,
    welcome: bool,
}

impl Home {
    /// Takes the connection back, if both sides stand at the boundary between two exchanges.
    fn receive(&self, connection: Connection, now: Instant) {
        if self.welcome && connection.input.is_empty() {
            self.pool.put(self.endpoint, connection, now + self.keep);
        }
    }
}

impl ResponseBody {
    pub(super) fn new(
        pool: &Rc<Pool>,
        alarm: &Rc<Alarm>,
        terms: &Terms,
        mut connection: Connection,
        head: &ResponseHead,
        unsent: Option<Sender>,
    ) -> Self {
        let now = alarm.clock().now();
        let home = Home {
            pool: Rc::clone(pool),
            endpoint: terms.endpoint,
            keep: terms.timeouts.keep_alive,
            welcome: head.keep_alive && !terms.timeouts.keep_alive.is_zero(),
        };
        if let (BodyEnd::Length(length), None) = (head.body, &unsent)
            && let Ok(length) = usize::try_from(length)
            && length <= connection.input.len()
        {
            let whole = connection.input.split_to(length).freeze();
            home.receive(connection, now);
            return Self { state: State::Whole(whole) };
        }
        let (decoder, alarm) = (BodyDecoder::new(head.body, &head.named_by_connection), Rc::clone(alarm));
        let relay = Relay { connection, decoder, unsent, home, alarm, vigil: Vigil::new(terms) };
        Self { state: State::Relay(Box::new(relay)) }
    }

    /// The body of a response that comes by HTTP/2.
    pub(super) fn received(received: Received) -> Self {
        Self { state: State::Received(Box::new(received)) }
    }

    /// The place of the body in an answer by which the connection switched protocols.
    pub(super) fn switched(connection: Connection) -> Self {
        Self { state: State::Switched(Box::new(connection)) }
    }

    /// The connection, if it has switched protocols.
    pub(crate) fn into_switched(self) -> Option<Connection> {
        match self.state {
            State::Switched(connection) => Some(*connection),
            _ => None,
        }
    }

    /// The whole body, if it came with the head; then it is taken out.
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.state {
            State::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.state = State::Done;
                Some(bytes)
            }
            _ => None,
        }
    }

    /// Whether the endpoint answered before it had the whole request.
    pub(crate) fn waits_for_request(&self) -> bool {
        match &self.state {
            State::Relay(relay) => relay.unsent.is_some(),
            State::Received(received) => received.waits_for_request(),
            State::Whole(_) | State::Trailed(_) | State::Switched(_) | State::Done => false,
        }
    }

    /// The bytes still to come, where that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match &self.state {
            State::Whole(bytes) => Some(bytes.len() as u64),
            State::Relay(relay) => relay.decoder.remaining(),
            State::Received(received) => received.remaining(),
            State::Trailed(_) | State::Switched(_) | State::Done => Some(0),
        }
    }

    /// Whether nothing more will come, no trailers either.
    pub(crate) fn is_over(&self) -> bool {
        match &self.state {
            State::Received(received) => received.is_over(),
            State::Trailed(_) => false,
            _ => self.remaining() == Some(0),
        }
    }

    /// The fields behind the body, once its last piece was taken; none where there are none, or they were taken.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match &mut self.state {
            State::Received(received) => received.take_trailers(),
            State::Trailed(trailers) => {
                let trailers = std::mem::take(&mut **trailers);
                self.state = State::Done;
                Some(trailers)
            }
            State::Done | State::Relay(_) | State::Switched(_) | State::Whole(_) => None,
        }
    }

    /// The next piece; none at the end. By the `bypass`, if there is one and it is worth it: then what it
    /// gives stands for bytes that serin never sees.
    pub(crate) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
        bypass: Option<&Bypass>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        let piece = match &mut self.state {
            State::Trailed(_) | State::Switched(_) | State::Done => return Poll::Ready(None),
            State::Whole(_) => return Poll::Ready(self.take_whole().filter(|bytes| !bytes.is_empty()).map(Ok)),
            State::Relay(relay) => ready!(relay.poll_piece(context, bypass)),
            State::Received(received) => return received.poll_piece(context),
        };
        let finished = match &piece {
            Err(_) | Ok(None) => true,
            // At the last byte the connection goes home at once: the caller may never ask again.
            Ok(Some(_)) => self.remaining() == Some(0),
        };
        if finished
            && let State::Relay(mut relay) = std::mem::replace(&mut self.state, State::Done)
            && piece.is_ok()
        {
            if let Some(trailers) = relay.decoder.take_trailers() {
                self.state = State::Trailed(trailers);
            }
            if relay.unsent.is_none() {
                relay.home.receive(relay.connection, relay.alarm.clock().now());
            }
        }
        Poll::Ready(piece.transpose())
    }
}

impl Relay {
    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
        bypass: Option<&Bypass>,
    ) -> Poll<Result<Option<Bytes>, BodyError>> {
        self.poll_unsent(context)?;
        if bypass.is_some_and(Bypass::is_busy) {
            return Poll::Pending;
        }
        self.vigil.is_asked(self.alarm.clock().now());
        loop {
            if let Some(piece) = self.decoder.take(&mut self.connection.input).map_err(BodyError::Malformed)? {
                self.vigil.hands_on(self.alarm.clock().now());
                return Poll::Ready(Ok(Some(piece)));
            }
            if self.decoder.is_complete() {
                return Poll::Ready(Ok(None));
            }
            match self.poll_more(context, bypass) {
                Poll::Ready(Ok(More::Nothing)) if matches!(self.decoder, BodyDecoder::Close) => {
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Ok(More::Nothing)) => return Poll::Ready(Err(BodyError::Truncated(None))),
                Poll::Ready(Ok(More::Read)) => {}
                Poll::Ready(Ok(More::Passed(stand_in))) => {
                    self.decoder.pass(stand_in.len());
                    self.vigil.hands_on(self.alarm.clock().now());
                    return Poll::Ready(Ok(Some(stand_in)));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(BodyError::Truncated(Some(error)))),
                Poll::Pending => return self.poll_overdue(context).map(Err),
            }
        }
    }

    /// Nothing is there: pending until that has been so for too long.
    fn poll_overdue(&mut self, context: &Context<'_>) -> Poll<BodyError> {
        let now = self.alarm.clock().now();
        let client = self.unsent.as_ref().and_then(Sender::client_until);
        if !self.alarm.passed(earlier(self.vigil.until(now), client), context) {
            return Poll::Pending;
        }
        Poll::Ready(if self.unsent.as_ref().is_some_and(|sender| sender.is_kept_waiting(now)) {
            BodyError::Request(SendError::Slow)
        } else if self.vigil.is_the_endpoints(now) {
            BodyError::Timeout
        } else {
            BodyError::Untaken
        })
    }

    /// Takes more off the connection: past serin's memory where there is a way and enough to come.
    fn poll_more(&mut self, context: &mut Context<'_>, bypass: Option<&Bypass>) -> Poll<io::Result<More>> {
        let left = self.decoder.remaining().unwrap_or(0);
        if let Some(bypass) = bypass.filter(|_| left >= splice::WORTH_IT)
            && let Some(passed) = ready!(self.connection.poll_bypass(context, bypass, left))?
        {
            return Poll::Ready(Ok(if passed.is_empty() { More::Nothing } else { More::Passed(passed) }));
        }
        let want = usize::try_from(left).unwrap_or(MAX_READ).min(MAX_READ);
        let read = ready!(self.connection.poll_fill(context, want))?;
        Poll::Ready(Ok(if read == 0 { More::Nothing } else { More::Read }))
    }

    /// Goes on with the rest of the request. If the endpoint takes no more of it, the response
    /// decides what becomes of that; if the client broke off, the endpoint waits in vain.
    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Result<(), BodyError> {
        let Some(sender) = &mut self.unsent else { return Ok(()) };
        let sent = sender.poll_send(&mut self.connection, context);
        if sender.take_progress() {
            self.vigil.goes_on();
        }
        match sent {
            Poll::Ready(Ok(())) => self.unsent = None,
            Poll::Ready(Err(SendError::Endpoint(_))) => {
                self.unsent = None;
                self.home.welcome = false;
            }
            Poll::Ready(Err(error)) => return Err(BodyError::Request(error)),
            Poll::Pending if sender.may_have_more() => self.alarm.ring(),
            Poll::Pending => {}
        }
        Ok(())
    }
}
