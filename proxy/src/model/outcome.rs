//! What became of one attempt, and whether it counts against its arm.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::split::{Arm, Unit};
use super::text::read_short;
use super::time::Timestamp;
use super::weight::Weight;

/// What a bad outcome tells of. Each signal has evidence of its own; a unit goes bad for each at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// The answer was wrong, or there was none.
    Errors,
    /// The answer began later than almost all answers do.
    Slow,
    /// The client was told that it had erred: 4xx.
    ClientErrors,
    /// The client left before the answer, later than almost all answers begin.
    Missing,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Errors, Self::Slow, Self::ClientErrors, Self::Missing];

    /// Its name in JSON, labels, the store and mails.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Slow => "slow",
            Self::ClientErrors => "client_errors",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value for each signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerSignal<T> {
    /// Of [`Signal::Errors`].
    pub errors: T,
    /// Of [`Signal::Slow`].
    pub slow: T,
    /// Of [`Signal::ClientErrors`].
    pub client_errors: T,
    /// Of [`Signal::Missing`].
    pub missing: T,
}

impl<T> PerSignal<T> {
    /// The signal's value.
    pub const fn get(&self, signal: Signal) -> &T {
        match signal {
            Signal::Errors => &self.errors,
            Signal::Slow => &self.slow,
            Signal::ClientErrors => &self.client_errors,
            Signal::Missing => &self.missing,
        }
    }

    /// The signal's value, to change.
    pub const fn get_mut(&mut self, signal: Signal) -> &mut T {
        match signal {
            Signal::Errors => &mut self.errors,
            Signal::Slow => &mut self.slow,
            Signal::ClientErrors => &mut self.client_errors,
            Signal::Missing => &mut self.missing,
        }
    }

    /// A value made for each signal.
    pub fn from_fn(mut make: impl FnMut(Signal) -> T) -> Self {
        Self {
            errors: make(Signal::Errors),
            slow: make(Signal::Slow),
            client_errors: make(Signal::ClientErrors),
            missing: make(Signal::Missing),
        }
    }

    /// The signals and their values.
    pub fn iter(&self) -> impl Iterator<Item = (Signal, &T)> {
        Signal::ALL.into_iter().map(|signal| (signal, self.get(signal)))
    }
}

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
    /// The endpoint doesn't come to TLS with serin, or doesn't prove who it is.
    Tls,
    /// The endpoint closed or reset the connection before it answered.
    Reset,
    /// No response head, or no further byte, within the time allowed.
    Timeout,
    /// The response ended before its end.
    Truncated,
    /// The response broke HTTP's rules.
    Malformed,
    /// A response header is one that the service calls bad.
    Header,
    /// The request carried a session, and the answer began another: the session was lost.
    Session,
    /// The response head came later than the threshold of the service, or not yet.
    Slow,
    /// The status is a 4xx that no other rule calls bad.
    ClientError,
    /// The client left before the response head, later than the threshold of the service.
    Missing,
}

impl BadReason {
    /// All of them, for tables of counters.
    pub const ALL: [Self; 14] = [
        Self::Status,
        Self::Body,
        Self::ConnectTimeout,
        Self::Refused,
        Self::Tls,
        Self::Reset,
        Self::Timeout,
        Self::Truncated,
        Self::Malformed,
        Self::Header,
        Self::Session,
        Self::Slow,
        Self::ClientError,
        Self::Missing,
    ];

    /// Its name in labels, logs and mails.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Body => "body",
            Self::ConnectTimeout => "connect_timeout",
            Self::Refused => "refused",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Header => "header",
            Self::Session => "session",
            Self::Slow => "slow",
            Self::ClientError => "client_error",
            Self::Missing => "missing",
        }
    }

    /// Whether it means that the exchange broke: there was no answer to the end.
    pub const fn is_broken(self) -> bool {
        use BadReason::{ConnectTimeout, Malformed, Refused, Reset, Timeout, Tls, Truncated};
        matches!(self, ConnectTimeout | Refused | Tls | Reset | Timeout | Truncated | Malformed)
    }

    /// The signal that it belongs to.
    pub const fn signal(self) -> Signal {
        match self {
            Self::Slow => Signal::Slow,
            Self::ClientError => Signal::ClientErrors,
            Self::Missing => Signal::Missing,
            _ => Signal::Errors,
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
    /// The control's share of the keys at that moment: zero where there was none.
    pub control: Weight,
    /// The client's address: the forwarded one where the peer is trusted.
    pub address: IpAddr,
    /// The request, for people.
    pub sample: BadSample,
}

/// The longest path that a sample shows, in bytes. Clients choose it, and a canary that fails has many: what is kept of
/// each is on disk, in the store and with every other proxy too.
pub const LONGEST_PATH: usize = 256;
/// The longest method of a sample, in bytes.
pub const LONGEST_METHOD: usize = 32;
/// The longest id of a request or an endpoint in a sample, in bytes.
pub const LONGEST_ID: usize = 128;

/// A bad outcome as it is shown to people: whoever makes one cuts its texts by [`short`](super::text::short).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadSample {
    /// The request's `X-Request-Id`.
    #[serde(deserialize_with = "read_short::<LONGEST_ID, _>")]
    pub request_id: String,
    /// Its method.
    #[serde(deserialize_with = "read_short::<LONGEST_METHOD, _>")]
    pub method: String,
    /// Its path, without the query.
    #[serde(deserialize_with = "read_short::<LONGEST_PATH, _>")]
    pub path: String,
    /// The status sent by the endpoint, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it was bad.
    pub reason: BadReason,
    /// The endpoint that was tried first.
    #[serde(deserialize_with = "read_short::<LONGEST_ID, _>")]
    pub endpoint: String,
    /// When it was found bad.
    pub at: Timestamp,
}
