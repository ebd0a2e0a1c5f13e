//! `GET /ofrep/v1/events`: tells clients that keep all answers when to ask again.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::watch;

use super::super::Admin;
use super::super::feed::{Source, heard};
use super::super::problem::Problem;
use crate::live::Live;
use crate::model::flag::Digest;

/// Where the stream is.
pub(in super::super) const STREAM: &str = "/ofrep/v1/events";

/// `GET /ofrep/v1/events`
pub(in super::super) async fn listen(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Problem> {
    let live = Arc::clone(&admin.state.live);
    let now = live.snapshot().flags().digest();
    let changes = Changes {
        // Who names no event may have asked before the last change: asking once more costs it a 304.
        told: heard(&headers).is_some_and(|id| id == now.to_string()).then_some(now),
        published: admin.state.published.clone(),
        closed: admin.ofrep.closed.subscribe(),
        live,
    };
    admin.ofrep.seats.tell(changes, "poll with If-None-Match")
}

/// An event whenever the definitions are others than the client knows of. What changes back before
/// the client listens again is no change.
struct Changes {
    live: Arc<Live>,
    published: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
    told: Option<Digest>,
}

impl Source for Changes {
    async fn next(&mut self) -> Option<Bytes> {
        while !*self.closed.borrow() {
            // Before the look: what is published after it wakes the wait.
            self.published.mark_unchanged();
            let digest = self.live.snapshot().flags().digest();
            if self.told != Some(digest) {
                self.told = Some(digest);
                return Some(event(digest));
            }
            tokio::select! {
                published = self.published.changed() => published.ok()?,
                closed = self.closed.changed() => closed.ok()?,
            }
        }
        None
    }
}

fn event(digest: Digest) -> Bytes {
    let data = serde_json::json!({ "type": "refetchEvaluation", "etag": format!("\"{digest}\"") });
    Bytes::from(format!("id: {digest}\nevent: message\ndata: {data}\n\n"))
}
