//! Bodies of answers: whole, streamed in parts, or cut off half-way.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Bytes to a part of a streamed body.
const PART: usize = 64 * 1024;

/// The body of an answer.
#[derive(Debug)]
pub enum AppBody {
    /// All of it at once.
    Whole(Bytes),
    /// In parts of unannounced total length.
    Parts(VecDeque<Bytes>),
    /// The first half; then, when it is on its way, the connection breaks.
    Cut {
        /// What is still to be sent.
        half: Bytes,
        /// Whether the half had its time to leave.
        flushed: bool,
    },
}

impl AppBody {
    /// A body that leaves in parts of at most 64 KiB. The bytes are shared, not copied.
    pub fn streamed(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let mut parts = VecDeque::new();
        for mut piece in pieces {
            while piece.len() > PART {
                parts.push_back(piece.split_to(PART));
            }
            if !piece.is_empty() {
                parts.push_back(piece);
            }
        }
        Self::Parts(parts)
    }

    /// The same body, but it breaks off half-way.
    #[must_use]
    pub fn cut(self) -> Self {
        match self {
            Self::Whole(bytes) => Self::Cut { half: bytes.slice(..bytes.len() / 2), flushed: false },
            Self::Parts(mut parts) => Self::Cut { half: parts.pop_front().unwrap_or_default(), flushed: false },
            cut @ Self::Cut { .. } => cut,
        }
    }
}

impl Body for AppBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Parts(parts) => Poll::Ready(parts.pop_front().map(|part| Ok(Frame::data(part)))),
            Self::Cut { half, .. } if !half.is_empty() => Poll::Ready(Some(Ok(Frame::data(std::mem::take(half))))),
            Self::Cut { flushed: flushed @ false, .. } => {
                // hyper flushes when a body lets it wait: without this the half would never leave.
                *flushed = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Cut { .. } => Poll::Ready(Some(Err(io::Error::other("cut off")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Parts(parts) => parts.is_empty(),
            Self::Cut { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Parts(_) | Self::Cut { .. } => SizeHint::default(),
        }
    }
}
