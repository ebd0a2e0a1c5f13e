//! A response body that is fed from a task.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

/// What a client waits for: one piece, so that whoever doesn't read is noticed.
const WAITING: usize = 1;

/// The receiving end.
#[derive(Debug)]
pub(super) struct Frames(mpsc::Receiver<Bytes>);

impl Frames {
    /// Where pieces are put in, and the body that they come out of. The body ends when the sender is gone.
    pub(super) fn channel() -> (mpsc::Sender<Bytes>, Body) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (sender, Body::new(Self(receiver)))
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
