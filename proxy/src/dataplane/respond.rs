//! The one place where an error, or a closed gate, becomes a response.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};

use super::authority;
use super::body::Body;
use super::connection::Downstream;
use super::upstream::{ExchangeError, SendError};
use crate::model::gate::{GateAnswer, GateSpec};
use crate::model::outcome::BadReason;

/// Names the kind of an error, for programs.
const ERROR_CODE: HeaderName = HeaderName::from_static("x-serin-error");

/// Why serin answers a request itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// The request could be read in two ways, or isn't for a proxy.
    #[error("the request is refused: {0}")]
    BadRequest(&'static str),
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
    /// The endpoint gave no response.
    #[error("the endpoint gave no response")]
    Exchange(#[source] ExchangeError),
}

impl ProxyError {
    /// The status that says so.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NoService | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoEndpoint => StatusCode::SERVICE_UNAVAILABLE,
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
            Self::NoService => "no_service",
            Self::NoRoute => "no_route",
            Self::BodyTooLarge => "body_too_large",
            Self::NoEndpoint => "no_endpoint",
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
    let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
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
    if error.closes() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
