//! HTTP/2 towards endpoints: hyper's client, many requests at once on one connection.
//!
//! `links.rs` keeps the connections of a core, `promises.rs` counts what comes by one before answers, `upload.rs` is
//! the body on its way out, `received.rs` the one on its way back. Here is the exchange from the request to the head of
//! the response, and what went wrong with one.

mod links;
mod promises;
mod received;
mod upload;

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;

use self::links::Lease;
pub(super) use self::links::Links;
pub(super) use self::received::Received;
use self::upload::{Shared, Upload};
use super::client_body::{ClientBody, SendError};
use super::framing::Malformed;
use super::receive::ResponseBody;
use super::{Alarm, Answer, ExchangeError, Pool, Terms};
use crate::dataplane::clock::{deadline, earlier};
use crate::trust::Fault;

/// A request for an endpoint that speaks HTTP/2.
#[derive(Debug)]
pub(crate) struct Call {
    head: Request<()>,
    upload: Rc<Shared>,
    sent: bool,
}

impl Call {
    /// A request with this head and body.
    pub(crate) fn new(head: Request<()>, body: ClientBody) -> Self {
        Self { head, upload: Shared::new(body), sent: false }
    }

    /// Whether the endpoint may have got any of it since the last rewind.
    pub(crate) const fn has_sent(&self) -> bool {
        self.sent
    }

    /// Makes ready to send the request once more, if nothing of its body is gone.
    pub(crate) fn rewind(&mut self) -> bool {
        let replayable = self.upload.rewind();
        if replayable {
            self.sent = false;
        }
        replayable
    }

    /// Sends the request and waits for the response head.
    pub(super) async fn exchange(
        &mut self,
        pool: &Pool,
        alarm: &Rc<Alarm>,
        terms: &Terms,
    ) -> Result<Answer, ExchangeError> {
        let lease = Rc::new(pool.links.lease(pool, alarm, terms).await?);
        self.sent = true;
        let response = self.response(&lease, alarm, terms).await?;
        let (parts, incoming) = response.into_parts();
        let received = Received::new(incoming, lease, Rc::clone(&self.upload), alarm, terms);
        let body = ResponseBody::received(received);
        Ok(Answer { status: parts.status, headers: parts.headers, body, spare: Vec::new() })
    }

    async fn response(
        &mut self,
        lease: &Rc<Lease>,
        alarm: &Alarm,
        terms: &Terms,
    ) -> Result<Response<Incoming>, ExchangeError> {
        let request = self.head.clone().map(|()| Upload::of(&self.upload, lease));
        let mut sender = lease.sender();
        let mut response = pin!(sender.try_send_request(request));
        let mut patience = Patience::default();
        let answered = poll_fn(|context| match response.as_mut().poll(context) {
            Poll::Ready(answered) => Poll::Ready(answered.map_err(|error| Failed::Exchange(Box::new(error)))),
            Poll::Pending if patience.is_over(&self.upload, alarm, terms, context) => Poll::Ready(Err(Failed::Overdue)),
            Poll::Pending => Poll::Pending,
        });
        let failed = match answered.await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        // What the client did wrong is what went wrong first.
        if let Some(failure) = self.upload.take_failure() {
            return Err(ExchangeError::Request(failure));
        }
        if matches!(failed, Failed::Overdue) && self.upload.waits_for_client() {
            return Err(ExchangeError::Request(SendError::Slow));
        }
        let (error, is_its_own) = match failed {
            Failed::Overdue => (ExchangeError::Timeout, false),
            // What comes back was never sent.
            Failed::Exchange(error) if error.message().is_some() => (ExchangeError::Unprocessed, false),
            Failed::Exchange(_) if lease.is_broken() => (ExchangeError::Malformed(Malformed::Interim), false),
            Failed::Exchange(error) => {
                let error = error.into_error();
                let is_its_own = cause(&error).is_some_and(|cause| cause.is_reset() && !is_refusal(cause));
                (explain(error, lease.is_reused()), is_its_own)
            }
        };
        if !is_its_own {
            // The connection may be dead, whatever this request met: others go by another.
            lease.retire();
        }
        self.sent = !matches!(error, ExchangeError::Unprocessed);
        Err(error)
    }
}

/// Why there is no response.
enum Failed {
    Exchange(Box<hyper::client::conn::TrySendError<Request<Upload>>>),
    Overdue,
}

/// How long an endpoint, or the client, may let a request wait.
#[derive(Debug, Default)]
struct Patience {
    /// Until when, and whether all of the request was there when that was said.
    until: Option<(Option<Instant>, bool)>,
}

impl Patience {
    fn is_over(&mut self, upload: &Shared, alarm: &Alarm, terms: &Terms, context: &Context<'_>) -> bool {
        let complete = upload.is_complete();
        let until = match self.until {
            Some((until, known)) if known == complete && !upload.take_progress() => until,
            _ => {
                let limit = if complete { terms.timeouts.header } else { terms.timeouts.idle };
                deadline(alarm.clock().now(), limit)
            }
        };
        self.until = Some((until, complete));
        alarm.passed(earlier(earlier(until, terms.total), upload.until()), context)
    }
}

/// What hyper's error says of the request.
fn explain(error: hyper::Error, reused: bool) -> ExchangeError {
    let cause = cause(&error);
    if cause.is_some_and(is_refusal) {
        return ExchangeError::Unprocessed;
    }
    // Ours to reset means that the endpoint broke the rules.
    if cause.is_some_and(|cause| cause.is_library()) {
        return ExchangeError::Malformed(Malformed::Http2);
    }
    if !reused && let Some(fault) = Fault::within(&error) {
        return ExchangeError::Tls(fault);
    }
    ExchangeError::Closed { source: Some(io::Error::other(error)), reused, answered: false }
}

/// Whether the endpoint says that it did nothing about a request: by refusing it, or by leaving with an earlier one as
/// the last that it saw to (RFC 9113, 8.7 and 6.8).
fn is_refusal(cause: &h2::Error) -> bool {
    cause.is_remote() && (cause.is_go_away() || cause.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// What h2 says, inside of what hyper says.
pub(crate) fn cause(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(cause) = error.downcast_ref() {
            return Some(cause);
        }
        source = error.source();
    }
    None
}
