//! The body of a request as its client delivers it, up to what the service takes.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http::header::{HeaderMap, HeaderName};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::head::named_by_connection;
use crate::dataplane::clock::Clock;
use crate::dataplane::core::ServiceRef;
use crate::dataplane::downstream::Downstream;
use crate::dataplane::pace::Pace;
use crate::dataplane::splice::{Intake, WORTH_IT};
use crate::dataplane::trailers::permitted;
use crate::model::policy::RoutePolicy;

/// Why a request couldn't be sent in full.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The client took its request back, or broke it by HTTP/2: nobody hears an answer.
    #[error("the client took its request back")]
    Abandoned(#[source] Option<hyper::Error>),
    /// The endpoint took no more.
    #[error("the endpoint closed while the request was sent")]
    Endpoint(#[source] std::io::Error),
    /// The client broke off.
    #[error("the client broke off its request body")]
    Client(#[source] hyper::Error),
    /// The client didn't go on.
    #[error("the client didn't go on with its request body in time")]
    Slow,
    /// The body is larger than the service allows.
    #[error("the request body is larger than allowed")]
    TooLarge,
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct ClientBody {
    /// None once all of it came.
    incoming: Option<Incoming>,
    /// Bytes that may still come.
    allowed: u64,
    /// Whether it says itself that it is complete, as one of HTTP/2 does. hyper gives one that was broken off in a
    /// friendly way (RST_STREAM with NO_ERROR) as one that has ended.
    tells_end: bool,
    /// How slowly it may come; none = as slowly as the idle limit lets it.
    pace: Option<(Pace, Rc<Clock>)>,
    /// What bars fields behind it, if anything does.
    bars: Option<Box<Bars>>,
    /// The client's connection, where it may go past serin's memory.
    long: Option<Rc<Downstream>>,
}

/// What bars fields behind a body, as it does in front.
#[derive(Debug)]
struct Bars {
    /// The service by whose route it came, where that changes fields.
    route: Option<ServiceRef>,
    /// Names of fields that are for one connection alone.
    named_by_connection: Vec<HeaderName>,
}

impl ClientBody {
    /// A body of at most so many bytes that comes by this version of HTTP.
    pub(crate) fn new(incoming: Incoming, version: Version, allowed: u64) -> Self {
        let incoming = Some(incoming).filter(|incoming| !incoming.is_end_stream());
        Self { incoming, allowed, tells_end: version == Version::HTTP_2, pace: None, bars: None, long: None }
    }

    /// No body at all.
    pub(super) const fn none() -> Self {
        Self { incoming: None, allowed: 0, tells_end: false, pace: None, bars: None, long: None }
    }

    /// The same, which has to come at this pace. One that is there needs none.
    #[must_use]
    pub(crate) fn at(mut self, pace: Pace, clock: &Rc<Clock>) -> Self {
        self.pace = self.incoming.is_some().then(|| (pace, Rc::clone(clock)));
        self
    }

    /// The same, which goes past serin's memory where it is long and its client's connection lets it. For endpoints in the
    /// clear.
    #[must_use]
    pub(crate) fn past_memory(mut self, downstream: &Rc<Downstream>) -> Self {
        let length = self.size_hint().exact().unwrap_or(0);
        if length >= WORTH_IT
            && let Some(intake) = downstream.intake(length)
        {
            intake.expects(length);
            self.long = Some(Rc::clone(downstream));
        }
        self
    }

    /// Its way past serin's memory.
    pub(super) fn intake(&self) -> Option<&Intake> {
        self.long.as_ref()?.intake(0)
    }

    /// The same, of a request with this header that came by a route of its service, if it did. Only a body of which nobody
    /// knows the length has fields behind it.
    #[must_use]
    pub(crate) fn by_route_of(mut self, service: &ServiceRef, headers: &HeaderMap) -> Self {
        if self.size_hint().exact().is_some() {
            return self;
        }
        let changes_fields = |policy: &RoutePolicy| !policy.request_headers.is_empty();
        let route = service.policy().is_some_and(changes_fields).then(|| service.clone());
        let named_by_connection = named_by_connection(headers);
        let matters = route.is_some() || !named_by_connection.is_empty();
        self.bars = matters.then(|| Box::new(Bars { route, named_by_connection }));
        self
    }

    /// When it comes too slowly, if it is waited for and nothing comes before.
    pub(super) fn until(&self) -> Option<Instant> {
        self.pace.as_ref().and_then(|(pace, _)| pace.until())
    }

    /// Whether nothing more will come, though that may not have been asked yet.
    pub(super) fn ends_here(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    /// Whether all of it came.
    pub(super) const fn is_over(&self) -> bool {
        self.incoming.is_none()
    }

    /// How much is still to come.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }

    /// The next piece, or what stands behind the last; none at the end.
    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *incoming).poll_frame(context);
        if let Some((pace, clock)) = &mut self.pace {
            match &polled {
                Poll::Pending => pace.waits(clock.now()),
                Poll::Ready(Some(Ok(frame))) => pace.moved(length(frame), clock.now()),
                Poll::Ready(_) => {}
            }
        }
        let frame = match ready!(polled) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) if self.tells_end => return Poll::Ready(Some(Err(SendError::Abandoned(Some(error))))),
            Some(Err(error)) => return Poll::Ready(Some(Err(SendError::Client(error)))),
            None if self.tells_end && !incoming.is_end_stream() => {
                return Poll::Ready(Some(Err(SendError::Abandoned(None))));
            }
            None => {
                self.incoming = None;
                return Poll::Ready(None);
            }
        };
        let left = incoming.size_hint().exact().unwrap_or(0);
        let Some(frame) = self.exchanged(frame, left) else {
            return Poll::Ready(Some(Err(SendError::Abandoned(None))));
        };
        let frame = if frame.is_trailers() { self.end_with(frame) } else { frame };
        Poll::Ready(Some(match self.allowed.checked_sub(length(&frame)) {
            Some(left) => {
                self.allowed = left;
                Ok(frame)
            }
            None => Err(SendError::TooLarge),
        }))
    }

    /// A frame that came, or what it stands for, with so much to come behind it. None where it isn't what it should be.
    fn exchanged(&self, frame: Frame<Bytes>, left: u64) -> Option<Frame<Bytes>> {
        let Some(intake) = self.intake() else { return Some(frame) };
        intake.expects(left);
        match frame.into_data() {
            Ok(piece) => intake.exchange(piece).map(Frame::data),
            Err(frame) => Some(frame),
        }
    }

    /// Of the trailers that came, those that go on. Nothing stands behind them.
    fn end_with(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        self.incoming = None;
        let trailers = frame.into_trailers().unwrap_or_default();
        let route = self.bars.as_ref().and_then(|bars| bars.route.as_ref());
        let changes = route.and_then(ServiceRef::policy).map(|policy| &policy.request_headers);
        let named = self.bars.as_ref().map_or(&[][..], |bars| &bars.named_by_connection);
        Frame::trailers(permitted(trailers, changes, named))
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if let Some(intake) = self.intake() {
            intake.ends();
        }
    }
}

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, Bytes::len) as u64
}
