//! The body of a request on its way to an endpoint. hyper sends it in a task of its own; who waits for the answer looks
//! at it from outside, and may call it off.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::links::Lease;
use crate::dataplane::upstream::client_body::{ClientBody, SendError};

/// A body, as who waits for the answer sees it.
#[derive(Debug)]
pub(super) struct Shared(RefCell<State>);

#[derive(Debug)]
struct State {
    body: ClientBody,
    /// Whether any of it was given to hyper.
    begun: bool,
    /// Whether it was called off.
    off: bool,
    /// Whether something came since this was last asked.
    progress: bool,
    /// Whether the client was asked for more and has none.
    waits: bool,
    failure: Option<SendError>,
    waker: Option<Waker>,
}

impl Shared {
    /// A body of which nothing was sent.
    pub(super) fn new(body: ClientBody) -> Rc<Self> {
        let state = State { body, begun: false, off: false, progress: false, waits: false, failure: None, waker: None };
        Rc::new(Self(RefCell::new(state)))
    }

    /// Makes ready to send it again, if none of it is gone.
    pub(super) fn rewind(&self) -> bool {
        let mut state = self.0.borrow_mut();
        if !state.begun {
            (state.off, state.waits) = (false, false);
        }
        !state.begun
    }

    /// Whether all of it came.
    pub(super) fn is_complete(&self) -> bool {
        self.0.borrow().body.ends_here()
    }

    /// Whether something came since this was last asked.
    pub(super) fn take_progress(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().progress)
    }

    /// Whether the client has to deliver before it goes on.
    pub(super) fn waits_for_client(&self) -> bool {
        self.0.borrow().waits
    }

    /// When the client is too slow with it, if it is waited for and nothing comes before.
    pub(super) fn until(&self) -> Option<Instant> {
        self.0.borrow().body.until()
    }

    /// Why it can't be sent, if the client is to blame.
    pub(super) fn take_failure(&self) -> Option<SendError> {
        self.0.borrow_mut().failure.take()
    }

    /// Calls it off: nobody waits for the answer any more. Returns whether hyper hears of it; it doesn't while it waits
    /// for the endpoint to take what it was given.
    pub(super) fn call_off(&self) -> bool {
        let mut state = self.0.borrow_mut();
        state.off = true;
        let is_heard = state.waits || !state.begun || state.body.ends_here();
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        is_heard
    }
}

/// A body, as hyper sees it.
#[derive(Debug)]
pub(super) struct Upload {
    shared: Rc<Shared>,
    /// The request has its place until all of it is sent as well.
    _lease: Rc<Lease>,
}

impl Upload {
    /// The one that is looked at by this, on its way over this connection.
    pub(super) fn of(shared: &Rc<Shared>, lease: &Rc<Lease>) -> Self {
        Self { shared: Rc::clone(shared), _lease: Rc::clone(lease) }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    /// hyper takes the reason for its RST_STREAM from this.
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let state = &mut *self.shared.0.borrow_mut();
        let cancelled = || Poll::Ready(Some(Err(h2::Reason::CANCEL.into())));
        if state.off {
            return cancelled();
        }
        let frame = state.body.poll_frame(context);
        state.waits = frame.is_pending();
        if state.waits {
            state.waker = Some(context.waker().clone());
        }
        match ready!(frame) {
            Some(Ok(frame)) => {
                (state.begun, state.progress) = (true, true);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(failure)) => {
                (state.begun, state.failure) = (true, Some(failure));
                cancelled()
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.shared.is_complete()
    }

    fn size_hint(&self) -> SizeHint {
        self.shared.0.borrow().body.size_hint()
    }
}
