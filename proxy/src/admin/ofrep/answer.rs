//! What an application is answered, in the shapes of OFREP 0.3.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::model::flag::{ErrorCode, Evaluation, Fault};

/// What went wrong, in the words of the protocol.
#[derive(Clone, Debug)]
pub(in super::super) struct Wrong {
    pub(super) code: ErrorCode,
    pub(super) details: String,
}

impl Wrong {
    pub(super) const fn new(code: ErrorCode, details: String) -> Self {
        Self { code, details }
    }
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Self {
        Self::new(fault.code(), fault.to_string())
    }
}

/// What a flag is for somebody, or why that can't be said.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Answer<'a> {
    Said(Said<'a>),
    Failed(Failed<'a>),
}

/// An evaluation. Without a value the application's own default counts.
#[derive(Debug, Serialize)]
pub(super) struct Said<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a Value>,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Map<String, Value>>,
}

/// An evaluation that failed; without a key, all of them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    error_code: &'static str,
    error_details: String,
}

impl<'a> Answer<'a> {
    /// The answer that an evaluation of this flag is.
    pub(super) fn of(key: &'a str, evaluation: &Evaluation<'a>) -> Self {
        if let Some(fault) = evaluation.fault {
            return Self::Failed(Failed::of(Some(key), &fault.into()));
        }
        Self::Said(Said {
            key,
            value: evaluation.value,
            reason: evaluation.reason.ofrep_name(),
            variant: evaluation.variant,
            metadata: evaluation.metadata.filter(|metadata| !metadata.is_empty()),
        })
    }
}

impl IntoResponse for Answer<'_> {
    fn into_response(self) -> Response {
        match self {
            Self::Said(said) => Json(said).into_response(),
            Self::Failed(failed) => failed.into_response(),
        }
    }
}

impl<'a> Failed<'a> {
    pub(super) fn of(key: Option<&'a str>, wrong: &Wrong) -> Self {
        Self { key, error_code: wrong.code.name(), error_details: wrong.details.clone() }
    }
}

impl IntoResponse for Failed<'_> {
    fn into_response(self) -> Response {
        let not_found = self.error_code == ErrorCode::FlagNotFound.name();
        let status = if not_found { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST };
        (status, Json(self)).into_response()
    }
}

/// What all flags are for somebody.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct All<'a> {
    pub(super) flags: Vec<Answer<'a>>,
    /// Where a client hears that something changed.
    pub(super) event_streams: [EventStream; 1],
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(super) metadata: &'a Map<String, Value>,
}

/// A stream that tells of changes; its place is below the address that the client asks anyway.
#[derive(Debug, Serialize)]
pub(super) struct EventStream {
    #[serde(rename = "type")]
    kind: &'static str,
    endpoint: Endpoint,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    request_uri: &'static str,
}

impl EventStream {
    pub(super) const fn sse(request_uri: &'static str) -> Self {
        Self { kind: "sse", endpoint: Endpoint { request_uri } }
    }
}
