//! Server-sent events to many clients, each at its own pace.
//!
//! A client costs one task and a [seat](super::seats); it is let go when it leaves, stalls, has listened for long
//! enough, or its [`Source`] ends.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, timeout};

use super::seats::Seat;

/// How often a client hears something, so that nobody in between thinks the connection dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A client that takes nothing for so long is let go.
const STALLED: Duration = Duration::from_secs(30);
/// How long a client listens before it must come again, and show its token again.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// What a client waits for: one piece, so that whoever doesn't read is noticed.
const WAITING: usize = 1;
/// The header by which a client says what it heard last.
const LAST_EVENT_ID: &str = "last-event-id";

/// Where a client's events come from.
pub(super) trait Source: Send + 'static {
    /// The next event as it is sent, when there is one; none when nothing comes any more. May be
    /// dropped while it waits.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// The response that tells a client all that comes from a source, as long as it keeps its seat.
pub(super) fn tell(source: impl Source, seat: Seat) -> Response {
    let (to, from) = mpsc::channel(WAITING);
    tokio::spawn(pump(source, to, seat));
    ([(CONTENT_TYPE, "text/event-stream")], Body::new(Frames(from))).into_response()
}

/// The id of the event that a client heard last, if it says so.
pub(super) fn heard(headers: &HeaderMap) -> Option<&str> {
    headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default())
}

/// Sends a client what happens until it leaves, stalls, has listened for long enough, or nothing comes any more.
async fn pump(mut source: impl Source, to: mpsc::Sender<Bytes>, _seat: Seat) {
    let end = Instant::now() + LIFE;
    let mut beats = interval(KEEP_ALIVE);
    // The first beat comes at once: a client knows that it is heard.
    while Instant::now() < end {
        let text = tokio::select! {
            biased;
            () = to.closed() => return,
            next = source.next() => match next {
                Some(text) => text,
                None => return,
            },
            _ = beats.tick() => Bytes::from_static(b": still here\n\n"),
        };
        if !matches!(timeout(STALLED, to.send(text)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// A response body that is fed from a task; it ends when the task does.
#[derive(Debug)]
struct Frames(mpsc::Receiver<Bytes>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::seats::Seats;
    use super::*;

    /// Nothing ever happens.
    struct Quiet;

    impl Source for Quiet {
        async fn next(&mut self) -> Option<Bytes> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_let_go_and_one_that_reads_is_kept() {
        let seats = Seats::new(2, "clients listen");
        let seat = || seats.take("").expect("a seat");
        let ((stalled, _unread), (reads, mut read)) = (mpsc::channel(1), mpsc::channel(1));
        for to in [stalled, reads] {
            tokio::spawn(pump(Quiet, to, seat()));
        }
        let reading = tokio::spawn(async move { while read.recv().await.is_some() {} });
        tokio::time::sleep(STALLED + 2 * KEEP_ALIVE).await;
        assert_eq!(seats.free(), 1);
        assert!(!reading.is_finished());
        // in the end it must come again too
        tokio::time::sleep(LIFE).await;
        assert_eq!(seats.free(), 2);
        reading.await.expect("it was told that it's over");
    }
}
