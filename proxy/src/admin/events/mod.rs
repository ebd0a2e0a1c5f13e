//! `GET /v1/events`: what happened, as server-sent events.
//!
//! One task per proxy looks at what is and compares it with what was ([`watch`]); what differs goes into
//! one bounded ring ([`ring`]), from which every client reads at its own pace. A client costs no
//! store call and nothing on the request path, and holds nothing but its place in the ring.

mod names;
mod ring;
mod scaling;
mod watch;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use serde::Serialize;

use super::Admin;
use super::feed::{self, Source, heard};
use super::problem::Problem;
use ring::{Cursor, Ring, Taken};
pub(super) use watch::Watcher;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Trip,
    Reset,
    Weight,
    Rollout,
    Endpoint,
    Store,
    Discovery,
    Autoscale,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Trip => "trip",
            Self::Reset => "reset",
            Self::Weight => "weight",
            Self::Rollout => "rollout",
            Self::Endpoint => "endpoint",
            Self::Store => "store",
            Self::Discovery => "discovery",
            Self::Autoscale => "autoscale",
        }
    }
}

/// What happened, as it is sent: fields may be added, never renamed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct EventJson {
    /// When, RFC 3339.
    at: String,
    /// To which service; none if to the proxy as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// To which endpoint, as `pool/id`, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// What was before.
    from: String,
    /// What is now.
    to: String,
    /// What opened a circuit.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// Who did it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<String>,
    /// Why, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// What happened lately.
#[derive(Debug)]
pub(super) struct Events {
    ring: Arc<Ring>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { ring: Arc::new(Ring::new()) }
    }

    /// Lets every client go: the daemon ends.
    pub(super) fn close(&self) {
        self.ring.close();
    }
}

/// `GET /v1/events`
pub(super) async fn listen(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Problem> {
    let seat = admin.listeners.take("poll /v1/services")?;
    let ring = Arc::clone(&admin.events.ring);
    let cursor = ring.cursor(heard(&headers));
    Ok(feed::tell(Reader { ring, cursor }, seat))
}

/// Reads on in the ring until it is overtaken, or the ring is closed.
struct Reader {
    ring: Arc<Ring>,
    cursor: Cursor,
}

impl Source for Reader {
    async fn next(&mut self) -> Option<Bytes> {
        match self.ring.next(&mut self.cursor).await {
            Taken::Event(text) => Some(text),
            Taken::Lost => None,
        }
    }
}
