//! A response body that comes by HTTP/2, and the fields behind it.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as _;
use hyper::body::Incoming;

use super::links::Lease;
use super::upload::Shared;
use super::{SendError, cause};
use crate::dataplane::clock::{Alarm, earlier};
use crate::dataplane::upstream::framing::Malformed;
use crate::dataplane::upstream::vigil::Vigil;
use crate::dataplane::upstream::{BodyError, Terms};

/// The body of a response.
#[derive(Debug)]
pub(in crate::dataplane::upstream) struct Received {
    incoming: Incoming,
    trailers: Option<HeaderMap>,
    over: bool,
    /// The rest of the request: both may be on their way for as long as they like.
    upload: Rc<Shared>,
    alarm: Rc<Alarm>,
    vigil: Vigil,
    lease: Rc<Lease>,
}

impl Received {
    /// The body that follows a head which just came.
    pub(super) fn new(
        incoming: Incoming,
        lease: Rc<Lease>,
        upload: Rc<Shared>,
        alarm: &Rc<Alarm>,
        terms: &Terms,
    ) -> Self {
        Self {
            over: incoming.is_end_stream(),
            incoming,
            trailers: None,
            upload,
            alarm: Rc::clone(alarm),
            vigil: Vigil::new(terms),
            lease,
        }
    }

    /// Whether the endpoint answered before it had the whole request.
    pub(in crate::dataplane::upstream) fn waits_for_request(&self) -> bool {
        !self.upload.is_complete()
    }

    /// The bytes still to come, where that is known.
    pub(in crate::dataplane::upstream) fn remaining(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// Whether nothing more will come, no trailers either.
    pub(in crate::dataplane::upstream) const fn is_over(&self) -> bool {
        self.over && self.trailers.is_none()
    }

    /// The fields behind the body, if they came and weren't taken.
    pub(in crate::dataplane::upstream) const fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// The next piece; none at the end.
    pub(in crate::dataplane::upstream) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.vigil.is_asked(self.alarm.clock().now());
        while !self.over {
            match Pin::new(&mut self.incoming).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.vigil.goes_on();
                    match frame.into_data() {
                        Ok(data) if data.is_empty() => {}
                        Ok(data) => {
                            self.over = self.incoming.is_end_stream();
                            self.vigil.hands_on(self.alarm.clock().now());
                            return Poll::Ready(Some(Ok(data)));
                        }
                        Err(frame) => {
                            self.trailers = frame.into_trailers().ok();
                            self.over = true;
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => return self.end(Some(self.explain(error))),
                // As for a request: one that was broken off in a friendly way looks like one that has ended.
                Poll::Ready(None) if !self.incoming.is_end_stream() => {
                    return self.end(Some(BodyError::Truncated(None)));
                }
                Poll::Ready(None) => return self.end(None),
                Poll::Pending => return self.poll_overdue(context),
            }
        }
        Poll::Ready(None)
    }

    fn poll_overdue(&mut self, context: &Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        // Bytes of the request count as well: a call may speak for long before it is answered.
        if self.upload.take_progress() {
            self.vigil.goes_on();
        }
        let now = self.alarm.clock().now();
        if !self.alarm.passed(earlier(self.vigil.until(now), self.upload.until()), context) {
            return Poll::Pending;
        }
        self.end(Some(if self.upload.waits_for_client() {
            BodyError::Request(SendError::Slow)
        } else if self.vigil.is_the_endpoints(now) {
            BodyError::Timeout
        } else {
            BodyError::Untaken
        }))
    }

    fn end(&mut self, error: Option<BodyError>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.over = true;
        Poll::Ready(error.map(Err))
    }

    fn explain(&self, error: hyper::Error) -> BodyError {
        if let Some(failure) = self.upload.take_failure() {
            return BodyError::Request(failure);
        }
        if cause(&error).is_some_and(|cause| cause.is_library()) {
            return BodyError::Malformed(Malformed::Http2);
        }
        BodyError::Truncated(Some(io::Error::other(error)))
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if !self.upload.call_off() {
            self.lease.strand();
        }
    }
}
