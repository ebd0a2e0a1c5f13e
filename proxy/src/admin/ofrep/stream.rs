//! `GET /ofrep/v1/events`: tells clients that keep all answers when to ask again.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::watch;

use super::super::Admin;
use super::super::feed::{self, Source, heard};
use super::super::problem::Problem;
use super::group::digest;
use crate::live::Live;

/// Where the stream is.
pub(in super::super) const STREAM: &str = "/ofrep/v1/events";

/// `GET /ofrep/v1/events`
pub(in super::super) async fn listen(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Problem> {
    let seat = admin.listeners.take("poll with If-None-Match")?;
    let live = Arc::clone(&admin.state.live);
    let now = digest(&live.snapshot());
    let changes = Changes {
        // Who names no event may have asked before the last change: asking once more costs it a 304.
        told: heard(&headers).is_some_and(|id| id == now).then_some(now),
        published: admin.state.published.clone(),
        closed: admin.ofrep.closed.subscribe(),
        live,
    };
    Ok(feed::tell(changes, seat))
}

/// An event whenever definitions are others than the client knows of, or others get them. What changes back before
/// the client listens again is no change.
struct Changes {
    live: Arc<Live>,
    published: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
    told: Option<String>,
}

impl Source for Changes {
    async fn next(&mut self) -> Option<Bytes> {
        while !*self.closed.borrow() {
            // Before the look: what is published after it wakes the wait.
            self.published.mark_unchanged();
            let digest = digest(&self.live.snapshot());
            if self.told.as_ref() != Some(&digest) {
                let event = event(&digest);
                self.told = Some(digest);
                return Some(event);
            }
            tokio::select! {
                published = self.published.changed() => published.ok()?,
                closed = self.closed.changed() => closed.ok()?,
            }
        }
        None
    }
}

fn event(digest: &str) -> Bytes {
    let data = serde_json::json!({ "type": "refetchEvaluation", "etag": format!("\"{digest}\"") });
    Bytes::from(format!("id: {digest}\nevent: message\ndata: {data}\n\n"))
}
