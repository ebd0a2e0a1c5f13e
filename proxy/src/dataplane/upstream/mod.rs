//! Towards endpoints: serin's own HTTP/1.1 client, one exchange over one pooled connection, and HTTP/2
//! where a service asks for it ([`http2`]).
//!
//! The seam to the rest of the data plane is [`Outbound::exchange`]; below it are heads
//! ([`head`]), framing ([`framing`]), the body as it comes from the client ([`client_body`]), the
//! sending half ([`send`]), the receiving half ([`receive`]) and the per-core [`pool`]. Strict: what
//! is in doubt is refused and the connection closed.

mod client_body;
mod connect;
mod decode;
mod framing;
pub(crate) mod head;
mod http2;
mod offer;
mod pool;
mod receive;
mod secured;
mod send;
#[cfg(test)]
mod tests;
mod vigil;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

pub(crate) use client_body::{ClientBody, SendError};
pub(crate) use framing::Malformed;
use head::Parsed;
pub(crate) use http2::{Call, cause};
pub(crate) use offer::Offer;
pub(crate) use pool::Connection;
pub(crate) use pool::Pool;
pub(crate) use receive::{BodyError, ResponseBody};
pub(crate) use secured::Secured;
pub(crate) use send::Sender;

use super::clock::{Alarm, deadline, earlier};
use super::introduction::Introduction;
use crate::model::spec::Timeouts;
use crate::trust::{Fault, Words};

/// Interim responses passed over before an exchange is given up.
const MAX_INTERIM: usize = 16;

/// Why an exchange gave no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// No connection could be made.
    #[error("the endpoint can't be reached")]
    Refused(#[source] io::Error),
    /// No connection within the time allowed.
    #[error("the endpoint didn't take the connection in time")]
    ConnectTimeout,
    /// The endpoint doesn't come to TLS, or doesn't prove who it is.
    #[error("there is no TLS with the endpoint")]
    Tls(#[source] Fault),
    /// The endpoint closed or reset the connection before the response head was complete.
    #[error("the endpoint closed the connection before it answered")]
    Closed {
        /// What the system said; none for an orderly close.
        #[source]
        source: Option<io::Error>,
        /// Whether the connection had served before: then the close may have been on its way already.
        reused: bool,
        /// Whether any byte of the response was seen.
        answered: bool,
    },
    /// No response head within the time allowed, or no progress while the request was sent.
    #[error("the endpoint didn't answer in time")]
    Timeout,
    /// The response breaks the rules.
    #[error("the endpoint's response can't be understood")]
    Malformed(#[source] Malformed),
    /// The endpoint took no notice of the request, and says so: HTTP/2 alone can.
    #[error("the endpoint left the request alone")]
    Unprocessed,
    /// The request couldn't be taken in full from the client.
    #[error(transparent)]
    Request(SendError),
}

/// A request on its way, in the words that its endpoint speaks.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the usual one is the large one: a box would cost each request an allocation"
)]
pub(crate) enum Outbound {
    /// HTTP/1.1.
    Http1(Sender),
    /// HTTP/2.
    Http2(Box<Call>),
}

impl Outbound {
    /// Sends the request and waits for the response head. On an error all stays as it is, so that the caller may decide
    /// to [`Outbound::rewind`] and try again.
    pub(crate) async fn exchange(
        &mut self,
        pool: &Rc<Pool>,
        alarm: &Rc<Alarm>,
        terms: &Terms,
    ) -> Result<Answer, ExchangeError> {
        let answer = match self {
            Self::Http1(sender) => exchange(pool, alarm, terms, sender).await,
            // Beside what a request of HTTP/1.1 holds, not in it.
            Self::Http2(call) => Box::pin(call.exchange(pool, alarm, terms)).await,
        };
        if let Err(ExchangeError::Tls(fault)) = &answer {
            connect::complain(pool, terms, fault);
        }
        answer
    }

    /// Whether the endpoint may have got any of it since the last rewind.
    pub(crate) const fn has_sent(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.has_sent(),
            Self::Http2(call) => call.has_sent(),
        }
    }

    /// Makes ready to send the request once more on another connection, if that can be done.
    pub(crate) fn rewind(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.rewind(),
            Self::Http2(call) => call.rewind(),
        }
    }
}

/// What an exchange needs to know beside the request itself.
#[derive(Debug)]
pub(crate) struct Terms {
    /// The endpoint.
    pub(crate) endpoint: SocketAddr,
    /// How long things may take.
    pub(crate) timeouts: Timeouts,
    /// When the whole exchange must be over.
    pub(crate) total: Option<Instant>,
    /// Whether the request is a `HEAD`.
    pub(crate) to_head: bool,
    /// Whether an idle connection may be used.
    pub(crate) reuse: bool,
    /// The protocols to which the connection may switch.
    pub(crate) offer: Option<Offer>,
    /// Whose the connection is to be; none = it may be anybody's.
    pub(crate) introduction: Option<Introduction>,
}

/// A response as it comes from an endpoint.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its end-to-end fields.
    pub(crate) headers: HeaderMap,
    /// Its body. After 101 there is none, but the connection: see [`ResponseBody::into_switched`].
    pub(crate) body: ResponseBody,
    /// The buffer that held the request head, to be used again.
    pub(crate) spare: Vec<u8>,
}

/// Sends a request by HTTP/1.1 and waits for the response head.
async fn exchange(
    pool: &Rc<Pool>,
    alarm: &Rc<Alarm>,
    terms: &Terms,
    sender: &mut Sender,
) -> Result<Answer, ExchangeError> {
    let idle = if terms.reuse { pool.take(terms.endpoint, alarm.clock().now()) } else { None };
    let reused = idle.is_some();
    let connection = match idle {
        Some(connection) => connection,
        None => Connection::new(connect::connect(pool, Words::Http1, alarm, terms).await?),
    };
    let mut exchange =
        Exchange { connection, reused, sending: true, send_failure: None, quiet_until: None, interim: 0 };
    let head = poll_fn(|context| exchange.poll(sender, alarm, terms, context)).await?;
    let (unsent, spare) = match exchange.sending {
        true => (Some(sender.take()), Vec::new()),
        false => (None, sender.take_buffer()),
    };
    let body = if head.status == StatusCode::SWITCHING_PROTOCOLS {
        ResponseBody::switched(exchange.connection)
    } else {
        ResponseBody::new(pool, alarm, terms, exchange.connection, &head, unsent)
    };
    Ok(Answer { status: head.status, headers: head.headers, body, spare })
}

/// An exchange up to the response head: both halves at once, since an endpoint may answer
/// before it has the whole request.
struct Exchange {
    connection: Connection,
    reused: bool,
    /// Whether the request isn't written in full yet.
    sending: bool,
    /// Why it never will be.
    send_failure: Option<io::Error>,
    quiet_until: Option<Instant>,
    interim: usize,
}

impl Exchange {
    fn poll(
        &mut self,
        sender: &mut Sender,
        alarm: &Alarm,
        terms: &Terms,
        context: &mut Context<'_>,
    ) -> Poll<Result<head::ResponseHead, ExchangeError>> {
        match self.poll_send(sender, alarm, terms, context) {
            Ok(()) => {}
            // It may have answered before it hung up: what it said is still there to be read.
            Err(SendError::Endpoint(error)) => {
                self.send_failure = Some(error);
                self.quiet_until = deadline(alarm.clock().now(), terms.timeouts.header);
            }
            Err(error) => return Poll::Ready(Err(ExchangeError::Request(error))),
        }
        loop {
            // What came before anything was asked answers nothing: mostly it says why the connection ends, which a
            // fresh one may not (RFC 9112, 9.2).
            if !sender.has_sent() && !self.connection.input.is_empty() {
                self.connection.input.clear();
                return Poll::Ready(Err(self.closed(None)));
            }
            match self.parse(terms) {
                Ok(Parsed::Final(head)) => return Poll::Ready(Ok(head)),
                Ok(Parsed::Interim) => continue,
                Ok(Parsed::NeedMore) => {}
                Err(malformed) => return Poll::Ready(Err(ExchangeError::Malformed(malformed))),
            }
            match self.connection.poll_fill(context, 0) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.closed(None))),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.closed(Some(error)))),
                Poll::Pending if alarm.passed(self.until(sender, terms), context) => {
                    return Poll::Ready(Err(self.overdue(sender, alarm.clock().now())));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn closed(&mut self, source: Option<io::Error>) -> ExchangeError {
        let answered = !self.connection.input.is_empty() || self.interim > 0;
        // With TLS 1.3 an endpoint says only now that it doesn't believe serin.
        if !(answered || self.reused)
            && let Some(fault) = source.as_ref().and_then(Fault::of)
        {
            return ExchangeError::Tls(fault);
        }
        ExchangeError::Closed { source: self.send_failure.take().or(source), reused: self.reused, answered }
    }

    /// Until when something has to move.
    fn until(&self, sender: &Sender, terms: &Terms) -> Option<Instant> {
        let client = if self.sending { sender.client_until() } else { None };
        earlier(earlier(self.quiet_until, terms.total), client)
    }

    /// What it means that nothing moved for too long.
    fn overdue(&mut self, sender: &Sender, now: Instant) -> ExchangeError {
        if self.send_failure.is_some() {
            return self.closed(None);
        }
        if self.sending && sender.is_kept_waiting(now) {
            return ExchangeError::Request(SendError::Slow);
        }
        ExchangeError::Timeout
    }

    fn poll_send(
        &mut self,
        sender: &mut Sender,
        alarm: &Alarm,
        terms: &Terms,
        context: &mut Context<'_>,
    ) -> Result<(), SendError> {
        if !self.sending || self.send_failure.is_some() {
            return Ok(());
        }
        let done = match sender.poll_send(&mut self.connection, context) {
            Poll::Ready(result) => {
                result?;
                true
            }
            Poll::Pending => {
                if sender.may_have_more() {
                    alarm.ring();
                }
                false
            }
        };
        let limit = if done { terms.timeouts.header } else { terms.timeouts.idle };
        if sender.take_progress() || done || self.quiet_until.is_none() {
            self.quiet_until = deadline(alarm.clock().now(), limit);
        }
        self.sending = !done;
        Ok(())
    }

    fn parse(&mut self, terms: &Terms) -> Result<Parsed, Malformed> {
        if self.connection.input.is_empty() {
            return Ok(Parsed::NeedMore);
        }
        // Nobody can switch on a request that isn't there yet.
        let offer = terms.offer.as_ref().filter(|_| !self.sending);
        let parsed = head::parse_response(&mut self.connection.input, terms.to_head, offer)?;
        if matches!(parsed, Parsed::Interim) {
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(Malformed::Interim);
            }
        }
        Ok(parsed)
    }
}
