//! A tunnel through one stream of a connection that carries others: its client's side is what hyper makes of the
//! stream's DATA frames, in one task with hyper's own part of the sending.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::stream::Stream;
use crate::dataplane::tunnel::{Far, Tunnel};

/// A tunnel whose client is about to be told that it is there. Its stream is under way as long as it lasts.
#[derive(Debug)]
pub(super) struct Tunnelled {
    stream: Rc<Stream>,
    near: OnUpgrade,
    far: Box<Far>,
}

impl Tunnelled {
    /// Between the client of a stream and an endpoint.
    pub(super) const fn new(stream: Rc<Stream>, near: OnUpgrade, far: Box<Far>) -> Self {
        Self { stream, near, far }
    }

    /// Carries bytes until the tunnel ends. `sending` is hyper's part: it takes what the client is to get, and ends
    /// when the client has all of it or breaks off. A tunnel that is cut drops both halves, so that the client is
    /// told by RST_STREAM, with CANCEL (RFC 8441, 5).
    pub(super) async fn run(self, sending: impl Future<Output = ()>) {
        let Self { stream, near, far } = self;
        let Ok(near) = near.await else { return };
        let mut tunnel = Tunnel::new(*far, TokioIo::new(near), Bytes::new(), &stream.downstream().alarm);
        let mut sending = pin!(Some(sending));
        poll_fn(|context| {
            // First: what a client breaks off looks to the reading half as if it had said all.
            if is_over(sending.as_mut(), context) && !tunnel.ends_back() {
                tracing::debug!(request_id = tunnel.request_id(), "The client of a tunnel broke off");
                return Poll::Ready(());
            }
            Pin::new(&mut tunnel).poll(context)
        })
        .await;
    }
}

/// Whether this has come to its end. Then it is dropped, for which the other half may wait.
fn is_over(mut task: Pin<&mut Option<impl Future<Output = ()>>>, context: &mut Context<'_>) -> bool {
    let over = task.as_mut().as_pin_mut().is_none_or(|task| task.poll(context).is_ready());
    if over {
        task.set(None);
    }
    over
}
