//! The one place where an error, or a closed gate, becomes a response.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};

use super::authority;
use super::body::Body;
use super::downstream::Downstream;
use super::limits::TooEarly;
use super::route;
use super::upstream::{ExchangeError, SendError};
use crate::live::Refusal;
use crate::model::gate::{GateAnswer, GateSpec};
use crate::model::outcome::BadReason;

/// Names the kind of an error, for programs.
const ERROR_CODE: HeaderName = HeaderName::from_static("x-serin-error");

const RATE_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE: HeaderName = HeaderName::from_static("ratelimit");

/// Why serin answers a request itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// The request could be read in two ways, or isn't for a proxy.
    #[error("the request is refused: {0}")]
    BadRequest(&'static str),
    /// The request asks for what serin doesn't do.
    #[error("the request can't be served: {0}")]
    NotImplemented(&'static str),
    /// No service answers for the host.
    #[error("no service answers for this host")]
    NoService,
    /// A service answers for the host, but no route takes the request.
    #[error("no route of this host takes the request")]
    NoRoute,
    /// The body is larger than the service takes.
    #[error("the request body is larger than this service takes")]
    BodyTooLarge,
    /// Neither arm has a ready endpoint.
    #[error("no endpoint is ready to serve this request")]
    NoEndpoint,
    /// So many requests are inside and in line that there is no room for this one.
    #[error("this service has more to do than it can")]
    NoRoom(Refusal),
    /// The client asks more often than it may.
    #[error("too many requests: the limit `{}` allows {} in {} s", .0.limit, .0.requests, .0.per.as_secs_f64())]
    TooEarly(Box<TooEarly>),
    /// The endpoint answered as if nobody had asked for a WebSocket: a client of HTTP/2 would take that for one.
    #[error("the endpoint answered, but not by a WebSocket")]
    NoWebSocket,
    /// The endpoint gave no response.
    #[error("the endpoint gave no response")]
    Exchange(#[source] ExchangeError),
}

impl ProxyError {
    /// The status that says so.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::NoWebSocket => StatusCode::BAD_GATEWAY,
            Self::NoService | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoEndpoint | Self::NoRoom(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooEarly(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Exchange(error) => match error {
                ExchangeError::Timeout | ExchangeError::ConnectTimeout => StatusCode::GATEWAY_TIMEOUT,
                ExchangeError::Request(SendError::Client(_) | SendError::Abandoned(_)) => StatusCode::BAD_REQUEST,
                ExchangeError::Request(SendError::Slow) => StatusCode::REQUEST_TIMEOUT,
                ExchangeError::Request(SendError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::BAD_GATEWAY,
            },
        }
    }

    /// Whether there is still somebody to hear it.
    pub(crate) const fn is_heard(&self) -> bool {
        !matches!(self, Self::Exchange(ExchangeError::Request(SendError::Abandoned(_))))
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::NotImplemented(_) => "not_implemented",
            Self::NoWebSocket => "no_websocket",
            Self::NoService => "no_service",
            Self::NoRoute => "no_route",
            Self::BodyTooLarge => "body_too_large",
            Self::NoEndpoint => "no_endpoint",
            Self::NoRoom(refusal) => refusal.name(),
            Self::TooEarly(_) => "rate_limited",
            Self::Exchange(error) => match bad_reason(error) {
                Some(reason) => reason.name(),
                None => "request_broken",
            },
        }
    }

    /// Whether nothing more may be read from the client: where its request ends is in doubt, or
    /// the rest of it isn't wanted.
    const fn closes(&self) -> bool {
        matches!(self, Self::BadRequest(_) | Self::BodyTooLarge | Self::Exchange(ExchangeError::Request(_)))
    }
}

/// What a failed exchange counts as against its endpoint; none where the client is to blame.
pub(crate) const fn bad_reason(error: &ExchangeError) -> Option<BadReason> {
    Some(match error {
        ExchangeError::Refused(_) | ExchangeError::Unprocessed => BadReason::Refused,
        ExchangeError::ConnectTimeout => BadReason::ConnectTimeout,
        ExchangeError::Tls(_) => BadReason::Tls,
        ExchangeError::Closed { answered: true, .. } => BadReason::Truncated,
        ExchangeError::Closed { .. } | ExchangeError::Request(SendError::Endpoint(_)) => BadReason::Reset,
        ExchangeError::Timeout => BadReason::Timeout,
        ExchangeError::Malformed(_) => BadReason::Malformed,
        ExchangeError::Request(
            SendError::Abandoned(_) | SendError::Client(_) | SendError::Slow | SendError::TooLarge,
        ) => {
            return None;
        }
    })
}

/// The response to a request that stands before a closed gate.
pub(crate) fn closed(downstream: &Rc<Downstream>, request_id: &str, gate: &GateSpec) -> Response<Body> {
    let GateAnswer { status, content_type, body, location } = &gate.answer;
    tracing::debug!(request_id, status = status.as_u16(), flag = gate.flag, "Switched off by a flag");
    let bytes = body.as_ref().map_or_else(
        || Bytes::from(format!("{status}: this is switched off for now.\nrequest {request_id}\n")),
        |body| Bytes::copy_from_slice(body.as_bytes()),
    );
    let mut response = Response::new(Body::whole(downstream, bytes));
    *response.status_mut() = *status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ERROR_CODE, HeaderValue::from_static("switched_off"));
    if let Some(location) = location {
        headers.insert(header::LOCATION, location.clone());
    }
    response
}

/// Sends a client on to the same place by `https`.
pub(crate) fn to_https(downstream: &Rc<Downstream>, request: &Parts, port: u16, has_body: bool) -> Response<Body> {
    let host = authority::host(&request.uri, &request.headers, request.version).unwrap_or_default();
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let target = route::target(request);
    // It keeps the method, unlike 301.
    redirect(downstream, StatusCode::PERMANENT_REDIRECT, format!("https://{host}{port}{target}"), has_body)
}

/// Sends a client on to another place.
pub(crate) fn redirect(
    downstream: &Rc<Downstream>,
    status: StatusCode,
    location: String,
    has_body: bool,
) -> Response<Body> {
    let mut response = Response::new(Body::whole(downstream, Bytes::new()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(header::LOCATION, location);
    }
    if has_body {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Says by which rate a request came too early, and when it doesn't: `Retry-After` (RFC 9110, 10.2.3), and the fields of
/// draft-ietf-httpapi-ratelimit-headers-10.
fn tell_rate(headers: &mut HeaderMap, early: &TooEarly) {
    let seconds = |span: Duration| span.as_secs() + u64::from(span.subsec_nanos() > 0);
    let TooEarly { limit, requests, per, early } = early;
    let wait = seconds(*early).max(1);
    headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
    let policy = format!("\"{limit}\";q={requests};w={}", seconds(*per));
    for (name, text) in [(RATE_POLICY, policy), (RATE, format!("\"{limit}\";r=0;t={wait}"))] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
}

/// The response to a request that serin answers itself. Internal causes go to the log, not to
/// the client.
pub(crate) fn error(downstream: &Rc<Downstream>, request_id: &str, error: &ProxyError) -> Response<Body> {
    let status = error.status();
    tracing::debug!(request_id, status = status.as_u16(), error = error as &dyn std::error::Error, "Answered by serin");
    let text = format!("{status}: {error}.\nrequest {request_id}\n");
    let mut response = Response::new(Body::whole(downstream, Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ERROR_CODE, HeaderValue::from_static(error.code()));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if let ProxyError::TooEarly(early) = error {
        tell_rate(headers, early);
    }
    if error.closes() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
