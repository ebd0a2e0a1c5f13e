//! What became of one attempt, and whether it counts against its arm.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::split::{Arm, Unit};
use super::time::Timestamp;
use super::weight::Weight;

/// Why an attempt was bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadReason {
    /// The status is one that the service calls bad.
    Status,
    /// The body holds a pattern that the service calls bad.
    Body,
    /// No connection within the time allowed.
    ConnectTimeout,
    /// The endpoint refused the connection, or couldn't be reached.
    Refused,
    /// The endpoint closed or reset the connection before it answered.
    Reset,
    /// No response head, or no further byte, within the time allowed.
    Timeout,
    /// The response ended before its end.
    Truncated,
    /// The response broke HTTP's rules.
    Malformed,
}

impl BadReason {
    /// All of them, for tables of counters.
    pub const ALL: [Self; 8] = [
        Self::Status,
        Self::Body,
        Self::ConnectTimeout,
        Self::Refused,
        Self::Reset,
        Self::Timeout,
        Self::Truncated,
        Self::Malformed,
    ];

    /// Its name in labels, logs and mails.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Body => "body",
            Self::ConnectTimeout => "connect_timeout",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
        }
    }
}

/// One bad outcome, as the data plane reports it to the verdict.
///
/// Good outcomes are only counted: they change nothing in the test.
#[derive(Clone, Debug)]
pub struct BadOutcome {
    /// The arm whose endpoint made the first attempt.
    pub arm: Arm,
    /// The sticky key's unit.
    pub unit: Unit,
    /// When the request came and its arm was drawn.
    pub drawn_at: Timestamp,
    /// The weight in the snapshot that routed the request.
    pub weight: Weight,
    /// The client's address: the forwarded one where the peer is trusted.
    pub address: IpAddr,
    /// The request, for people.
    pub sample: BadSample,
}

/// A bad outcome as it is shown to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadSample {
    /// The request's `X-Request-Id`.
    pub request_id: String,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// The status sent by the endpoint, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it was bad.
    pub reason: BadReason,
    /// The endpoint that was tried first.
    pub endpoint: String,
    /// When it was found bad.
    pub at: Timestamp,
}
