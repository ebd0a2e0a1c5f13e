//! The attempt loop: from the draw to a response head, with at most one more try.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;

use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;

use super::body::Body;
use super::clock::deadline;
use super::downstream::Downstream;
use super::host;
use super::introduction::introduce;
use super::lookup;
use super::matcher::{self, BodyMatcher};
use super::pick::Wish;
use super::record::Record;
use super::respond::{ProxyError, bad_reason};
use super::session;
use super::upstream::head::RequestFraming;
use super::upstream::{Answer, ExchangeError, Offer, Outbound, Terms};
use crate::model::outcome::BadReason;
use crate::model::policy::Retries;
use crate::model::spec::ErrorMatchers;
use crate::model::split::Arm;

/// What an attempt needs of a request.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Its head and body, in the words of the endpoint.
    pub(crate) sender: Outbound,
    /// To whom it would rather go.
    pub(crate) wish: Wish,
    /// What may be tried once more.
    pub(crate) repeats: Repeats,
    /// Whether it is a `HEAD`.
    pub(crate) to_head: bool,
    /// The protocols to which its connection may switch.
    pub(crate) offer: Option<Offer>,
}

/// What may be tried once more of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeats {
    retries: Retries,
    /// Whether it may be sent again though an endpoint may have acted on it.
    acted_on: bool,
}

impl Repeats {
    /// Of a request with this method, by what its route says.
    pub(crate) fn of(method: &Method, retries: Retries) -> Self {
        Self { retries, acted_on: retries == Retries::Any || (retries != Retries::None && method.is_idempotent()) }
    }
}

/// How a failed attempt is followed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// On the same endpoint, over a fresh connection.
    Fresh,
    /// On another endpoint of the same arm.
    Elsewhere,
    /// Not at all.
    GiveUp,
}

/// Sends a request to an endpoint of `arm` and waits for the response head.
///
/// A reused connection that turns out stale is replaced once, on the same endpoint. An
/// endpoint that can't be reached is replaced once, for idempotent requests, within the
/// budget. What an endpoint says it left alone is sent once more. Nothing else is tried again, unless the route
/// says so: a request that killed one endpoint must not walk on.
pub(crate) async fn forward(
    downstream: &Rc<Downstream>,
    record: &mut Record,
    arm: Arm,
    outgoing: &mut Outgoing,
) -> Result<Answer, ProxyError> {
    let core = &downstream.core;
    let service = record.service().clone();
    let pool = service.serving(arm);
    let Outgoing { sender, wish, repeats, to_head, offer } = outgoing;
    let (repeats, to_head, offer) = (*repeats, *to_head, offer.take());
    let mut index = record.pick(wish, None).ok_or(ProxyError::NoEndpoint)?;
    let timeouts = *service.timeouts();
    let total = deadline(core.clock.now(), timeouts.total);
    let mut terms =
        Terms { endpoint: pool[index].address, timeouts, total, to_head, reuse: true, offer, introduction: None };
    let own = service
        .spec
        .proxy_protocol
        .map(|version| introduce(downstream, record.address(), version, service.tls.as_ref()));
    let secured = service.tls.as_ref().filter(|_| own.is_none()).map(|client| core.secured.pool(client));
    let connections = match &own {
        Some((introduction, own)) => {
            terms.introduction = Some(*introduction);
            own
        }
        None => secured.as_ref().unwrap_or(&core.pool),
    };
    let mut tries = 0;
    record.attempt(index);
    loop {
        let answer = {
            let mut exchange = pin!(sender.exchange(connections, &downstream.alarm, &terms));
            // An answer that doesn't come is slow when the time has passed, not when it comes.
            let unless_slow = poll_fn(|context| {
                let answer = exchange.as_mut().poll(context);
                if answer.is_pending()
                    && let Some(slow_at) = record.slow_at()
                    && downstream.alarm.expects_by(slow_at, context)
                {
                    record.bad(BadReason::Slow);
                }
                answer
            });
            unless_slow.await
        };
        downstream.alarm.came();
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        tries += 1;
        let untouched = !sender.has_sent();
        let next = if tries > 1 { Next::GiveUp } else { follow_up(&error, sender, repeats) };
        if !(next == Next::Fresh && untouched)
            && let Some(reason) = bad_reason(&error)
        {
            record.bad(reason);
        }
        match next {
            Next::Fresh => {
                terms.reuse = false;
                // A connection that was found dead before anything was sent was no attempt.
                if !untouched {
                    record.attempt(index);
                }
            }
            Next::Elsewhere => {
                let other = record.pick(wish, Some(index));
                let Some(other) = other.filter(|_| service.live.take_retry(core.id)) else {
                    return Err(ProxyError::Exchange(error));
                };
                index = other;
                terms.endpoint = pool[index].address;
                // The last try shall not end on a stale connection.
                terms.reuse = false;
                record.attempt(index);
            }
            Next::GiveUp => return Err(ProxyError::Exchange(error)),
        }
    }
}

fn follow_up(error: &ExchangeError, sender: &mut Outbound, repeats: Repeats) -> Next {
    let Repeats { retries, acted_on } = repeats;
    match error {
        ExchangeError::Closed { reused: true, answered: false, .. }
            if (acted_on || !sender.has_sent()) && sender.rewind() =>
        {
            Next::Fresh
        }
        ExchangeError::Unprocessed if retries != Retries::None && sender.rewind() => Next::Fresh,
        ExchangeError::Refused(_) | ExchangeError::ConnectTimeout | ExchangeError::Tls(_)
            if acted_on && sender.rewind() =>
        {
            Next::Elsewhere
        }
        ExchangeError::Closed { reused: false, answered: false, .. } if retries == Retries::Any && sender.rewind() => {
            Next::Elsewhere
        }
        _ => Next::GiveUp,
    }
}

/// How the body of a request goes upstream.
pub(crate) fn framing(parts: &Parts, body: &Incoming) -> RequestFraming {
    match body.size_hint().exact() {
        Some(0) => {
            let expected = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
            if expected || lookup::has(&parts.headers, &header::CONTENT_LENGTH) {
                RequestFraming::Length(0)
            } else {
                RequestFraming::None
            }
        }
        Some(length) => RequestFraming::Length(length),
        None => RequestFraming::Chunked,
    }
}

/// Judges the head of an answer by what the service calls bad.
pub(crate) fn judge(
    record: &mut Record,
    errors: &ErrorMatchers,
    request: &Parts,
    status: StatusCode,
    headers: &HeaderMap,
) {
    if let Some(reason) = matcher::judge_head(errors, status.as_u16(), headers) {
        record.bad(reason);
    } else if session::is_lost(errors, request, headers) {
        record.bad(BadReason::Session);
    }
}

/// Judges an answer by what the service calls bad, and makes the client's response of it.
pub(crate) fn relay(
    downstream: &Rc<Downstream>,
    mut record: Record,
    request: &Parts,
    mut answer: Answer,
) -> Response<Body> {
    let core = &downstream.core;
    downstream.request_is_read(!answer.body.waits_for_request());
    core.return_head_buffer(std::mem::take(&mut answer.spare));
    let status = answer.status.as_u16();
    record.answered(status, core.clock.refresh());
    let mut headers = answer.headers;
    let service = record.service().clone();
    let errors = &service.spec.verdict.errors;
    judge(&mut record, errors, request, answer.status, &headers);
    if let (Some(stickiness), Some(endpoint)) = (&service.spec.balance.stickiness, record.endpoint()) {
        host::remember(stickiness, endpoint.host, &mut headers);
    }
    let body = match answer.body.take_whole() {
        Some(bytes) => {
            if matcher::is_bad(errors, &headers, &bytes) {
                record.bad(BadReason::Body);
            }
            Body::whole(downstream, bytes)
        }
        None => {
            let matcher = BodyMatcher::for_response(errors, &headers);
            Body::relay(downstream, answer.body, matcher, record)
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = headers;
    if let Some(policy) = service.policy() {
        policy.response_headers.apply(response.headers_mut());
    }
    if matches!(status, 204 | 304) {
        // Neither has a body, so the length speaks of another response.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
}
