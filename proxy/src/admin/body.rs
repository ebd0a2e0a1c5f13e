//! A request's body: JSON of a known shape, within limits, with errors that say where.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};

use super::Admin;
use super::problem::Problem;

/// The largest body that is read, in bytes, unless a call says otherwise.
pub(super) const LIMIT: usize = 64 * 1024;
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// A body, read, of at most so many bytes. None at all counts as `{}`.
pub(super) struct Wish<T, const MOST: usize = LIMIT>(pub(super) T);

impl<T: DeserializeOwned, const MOST: usize> FromRequest<Admin> for Wish<T, MOST> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Admin) -> Result<Self, Problem> {
        let bytes = read(request, MOST).await?;
        let text = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes.as_ref() };
        let wrong = |error: serde_json::Error| Problem::new(StatusCode::BAD_REQUEST, format!("in the body: {error}"));
        serde_json::from_slice(text).map(Self).map_err(wrong)
    }
}

/// A whole body of at most so many bytes, if it arrives in time.
pub(super) async fn read(request: Request, limit: usize) -> Result<Bytes, Problem> {
    let arriving = Limited::new(request.into_body(), limit).collect();
    let arrived = tokio::time::timeout(PATIENCE, arriving).await;
    let arrived = arrived.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long to arrive"))?;
    let whole = arrived.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes"))
        } else {
            Problem::new(StatusCode::BAD_REQUEST, "the body couldn't be read")
        }
    })?;
    Ok(whole.to_bytes())
}

/// Why somebody wants something; may be absent.
#[derive(Debug, Default)]
pub(super) struct Reason(Option<String>);

impl Reason {
    /// The reason, or this if none was given.
    pub(super) fn or(self, otherwise: &str) -> String {
        self.0.unwrap_or_else(|| otherwise.to_owned())
    }

    /// The reason, if one was given.
    pub(super) fn given(self) -> Option<String> {
        self.0
    }
}

/// One line, since it goes into logs, mails and terminals.
impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(Self(None)) };
        let text = text.trim();
        if !is_line(text, 500) {
            return Err(D::Error::custom("a reason is one line of at most 500 characters"));
        }
        Ok(Self((!text.is_empty()).then(|| text.to_owned())))
    }
}

/// Whether a text is one line without control characters, and no longer than this.
pub(super) fn is_line(text: &str, longest: usize) -> bool {
    text.chars().count() <= longest && !text.chars().any(char::is_control)
}

/// A text from outside as one line without control characters, and no longer than this.
pub(super) fn one_line(text: &str, longest: usize) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(longest).collect::<String>().trim().to_owned()
}

/// A body that holds nothing but a reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JustReason {
    #[serde(default)]
    pub(super) reason: Reason,
}
