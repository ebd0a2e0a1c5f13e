//! The response body on its way to the client: an endpoint's, or serin's own words.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::downstream::Downstream;
use super::matcher::{self, BodyMatcher, Look};
use super::record::Record;
use super::trailers::permitted;
use super::upstream::{BodyError, ResponseBody};
use crate::model::outcome::BadReason;

/// A response body. When it is dropped, the connection waits for the next request.
#[derive(Debug)]
pub(crate) struct Body {
    content: Content,
    downstream: Rc<Downstream>,
}

#[derive(Debug)]
enum Content {
    Whole(Option<Bytes>),
    Relay(Box<Relay>),
}

/// A body that comes from an endpoint piece by piece.
#[derive(Debug)]
struct Relay {
    upstream: ResponseBody,
    matcher: Option<BodyMatcher>,
    record: Record,
}

impl Body {
    /// A body that is there already.
    pub(crate) fn whole(downstream: &Rc<Downstream>, bytes: Bytes) -> Self {
        let content = Content::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()));
        Self { content, downstream: Rc::clone(downstream) }
    }

    /// A body that comes from an endpoint; the request's record ends with it.
    pub(crate) fn relay(
        downstream: &Rc<Downstream>,
        upstream: ResponseBody,
        matcher: Option<BodyMatcher>,
        record: Record,
    ) -> Self {
        let content = Content::Relay(Box::new(Relay { upstream, matcher, record }));
        Self { content, downstream: Rc::clone(downstream) }
    }
}

impl Relay {
    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
        downstream: &Downstream,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        // What a matcher has to see comes through serin's memory.
        let left = || self.upstream.remaining().unwrap_or(0);
        let bypass = if self.matcher.is_none() { downstream.bypass(left()) } else { None };
        let piece = std::task::ready!(self.upstream.poll_piece(context, bypass));
        match &piece {
            Some(Ok(bytes)) => self.look(bytes),
            Some(Err(error)) => {
                tracing::debug!(error = error as &dyn std::error::Error, "Response broke off");
                if let Some(reason) = reason_of(error) {
                    self.record.bad(reason);
                }
            }
            None => {}
        }
        Poll::Ready(piece)
    }

    /// The fields behind the body, where a service may say that it failed after all.
    fn take_trailers(&mut self) -> Option<HeaderMap> {
        let trailers = self.upstream.take_trailers()?;
        if matcher::is_failed_call(&self.record.service().spec.verdict.errors, &trailers) {
            self.record.bad(BadReason::Status);
        }
        let changes = self.record.service().policy().map(|policy| &policy.response_headers);
        // What `Connection` names was left out with it.
        Some(permitted(trailers, changes, &[]))
    }

    /// Looks at a piece on its way, until enough was seen: then the matcher's memory is let go.
    fn look(&mut self, piece: &[u8]) {
        let Some(matcher) = &mut self.matcher else { return };
        let patterns = &self.record.service().spec.verdict.errors.body_contains;
        let look = matcher.look(patterns, piece);
        if look != Look::GoesOn {
            self.matcher = None;
        }
        if look == Look::Bad {
            self.record.bad(BadReason::Body);
        }
    }
}

/// What a broken body counts as against its endpoint; none where the client is to blame.
const fn reason_of(error: &BodyError) -> Option<BadReason> {
    match error {
        BodyError::Truncated(_) => Some(BadReason::Truncated),
        BodyError::Timeout => Some(BadReason::Timeout),
        BodyError::Malformed(_) => Some(BadReason::Malformed),
        BodyError::Untaken | BodyError::Request(_) => None,
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { content, downstream } = &mut *self;
        let piece = match content {
            Content::Whole(bytes) => bytes.take().map(Ok),
            Content::Relay(relay) => match std::task::ready!(relay.poll_piece(context, downstream)) {
                None => return Poll::Ready(relay.take_trailers().map(|trailers| Ok(Frame::trailers(trailers)))),
                piece => piece,
            },
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Relay(relay) => relay.upstream.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Relay(relay) => relay.upstream.remaining().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.downstream.request_ended();
    }
}
