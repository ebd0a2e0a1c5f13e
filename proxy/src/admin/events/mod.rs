//! `GET /v1/events`: what happened, as server-sent events.
//!
//! One task per proxy looks at what is and compares it with what was ([`watch`]); what differs goes into
//! one bounded ring ([`ring`]), from which every client reads at its own pace. A client costs no
//! store call and nothing on the request path, and holds nothing but its place in the ring.

mod body;
mod ring;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, interval, timeout};

use super::Admin;
use super::problem::Problem;
use body::Frames;
use ring::{Cursor, Ring, Taken};
pub(super) use watch::Watcher;

/// Clients that may listen at once.
const CLIENTS: usize = 64;
/// How often a client hears something, so that nobody in between thinks the connection dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A client that takes nothing for so long is let go.
const STALLED: Duration = Duration::from_secs(30);
/// How long a client listens before it must come again, and show its token again.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// The header by which a client says what it heard last.
const LAST_EVENT_ID: &str = "last-event-id";

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

/// What happened lately, and who listens.
#[derive(Debug)]
pub(super) struct Events {
    ring: Arc<Ring>,
    seats: Arc<Semaphore>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { ring: Arc::new(Ring::new()), seats: Arc::new(Semaphore::new(CLIENTS)) }
    }

    /// Lets every client go: the daemon ends.
    pub(super) fn close(&self) {
        self.ring.close();
    }
}

/// `GET /v1/events`
pub(super) async fn listen(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Problem> {
    let events = &admin.events;
    let seat = Arc::clone(&events.seats).try_acquire_owned().map_err(|_| {
        let detail = format!("{CLIENTS} clients listen already; poll /v1/services, or try again later");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    let heard = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default());
    let cursor = events.ring.cursor(heard);
    let (frames, body) = Frames::channel();
    tokio::spawn(pump(Arc::clone(&events.ring), cursor, frames, seat));
    Ok(([(CONTENT_TYPE, "text/event-stream")], body).into_response())
}

/// Sends a client what happens until it leaves, stalls, falls out of the ring, or has listened for long enough.
async fn pump(ring: Arc<Ring>, mut cursor: Cursor, to: mpsc::Sender<Bytes>, _seat: OwnedSemaphorePermit) {
    let end = Instant::now() + LIFE;
    let mut beats = interval(KEEP_ALIVE);
    // The first beat comes at once: a client knows that it is heard.
    while Instant::now() < end {
        let text = tokio::select! {
            biased;
            () = to.closed() => return,
            taken = ring.next(&mut cursor) => match taken {
                Taken::Event(text) => text,
                Taken::Lost => return,
            },
            _ = beats.tick() => Bytes::from_static(b": still here\n\n"),
        };
        if !matches!(timeout(STALLED, to.send(text)).await, Ok(Ok(()))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_let_go_and_one_that_reads_is_kept() {
        let events = Events::new();
        let seat = || Arc::clone(&events.seats).try_acquire_owned().expect("a seat");
        let ((stalled, _unread), (reads, mut read)) = (mpsc::channel(1), mpsc::channel(1));
        for to in [stalled, reads] {
            tokio::spawn(pump(Arc::clone(&events.ring), events.ring.cursor(None), to, seat()));
        }
        let reading = tokio::spawn(async move { while read.recv().await.is_some() {} });
        tokio::time::sleep(STALLED + 2 * KEEP_ALIVE).await;
        assert_eq!(events.seats.available_permits(), CLIENTS - 1);
        assert!(!reading.is_finished());
        // in the end it must come again too
        tokio::time::sleep(LIFE).await;
        assert_eq!(events.seats.available_permits(), CLIENTS);
        reading.await.expect("it was told that it's over");
    }
}
