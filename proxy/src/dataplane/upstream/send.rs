//! The sending half of an exchange: the head, and the body as the client delivers it.

use std::io::{self, IoSlice, Write as _};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use tokio::time::Instant;

use super::client_body::{ClientBody, SendError};
use super::head::RequestFraming;
use super::pool::Connection;
use crate::dataplane::{splice, trailers};

/// Pieces up to this size are copied behind the head, so that both leave in one packet.
const COPIED: usize = 2 * 1024;
/// The same for pieces of a chunked body: what frames a piece costs more than to copy it.
const COPIED_CHUNK: usize = 8 * 1024;
/// No more is taken from the client while this much waits to be written.
const ENOUGH: usize = 24 * 1024;

/// A request on its way to an endpoint: its head, then its body.
#[derive(Debug)]
pub(crate) struct Sender {
    /// The head, and small pieces of the body behind it.
    output: Vec<u8>,
    /// How much of the output is written.
    written: usize,
    piece: Bytes,
    /// What ends a piece of a chunked body, or the whole of it.
    tail: Bytes,
    body: ClientBody,
    framing: RequestFraming,
    progress: bool,
    sent: bool,
    /// Whether a piece of the body came since this was last asked.
    took: bool,
}

impl Sender {
    /// A sender for a head that is written out already, and its body.
    pub(crate) const fn new(head: Vec<u8>, body: ClientBody, framing: RequestFraming) -> Self {
        Self {
            output: head,
            written: 0,
            piece: Bytes::new(),
            tail: Bytes::new(),
            body,
            framing,
            progress: false,
            sent: false,
            took: false,
        }
    }

    /// Takes it out, and leaves one that has nothing to send.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(Vec::new(), ClientBody::none(), RequestFraming::None))
    }

    /// Whether any byte was written since the last rewind.
    pub(crate) const fn has_sent(&self) -> bool {
        self.sent
    }

    /// Makes ready to send the request once more on another connection, if that can be done:
    /// nothing was written yet, or there is no body.
    pub(crate) fn rewind(&mut self) -> bool {
        let replayable = !self.sent || self.has_no_body();
        if replayable {
            (self.written, self.sent) = (0, false);
        }
        replayable
    }

    fn has_no_body(&self) -> bool {
        matches!(self.framing, RequestFraming::None | RequestFraming::Length(0))
    }

    /// When the client is too slow with its body, if it is its turn and nothing comes before.
    pub(super) fn client_until(&self) -> Option<Instant> {
        self.body.until()
    }

    /// Whether it is the client that lets a wait go on for too long: all that it delivered is written and more is to
    /// come, or it delivers too slowly.
    pub(super) fn is_kept_waiting(&self, now: Instant) -> bool {
        let waits = !self.body.is_over() && self.pending() == 0;
        waits || self.client_until().is_some_and(|until| until <= now)
    }

    /// Takes out the buffer that held the head, to be used again, once all was sent.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Whether bytes moved since this was last asked.
    pub(crate) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    /// Whether a piece of the body came since this was last asked, so that the next may be there already:
    /// hyper hands over one each time the connection is polled, however much it has read. To be asked whenever
    /// [`Sender::poll_send`] waits, and to be followed by another poll.
    pub(crate) fn may_have_more(&mut self) -> bool {
        std::mem::take(&mut self.took)
    }

    /// Writes what there is, until everything is written.
    pub(crate) fn poll_send(
        &mut self,
        connection: &mut Connection,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            // Looked at before the head is written: a body that is there already travels with it.
            let waiting_for_body = match self.poll_piece(context) {
                Poll::Ready(result) => {
                    result?;
                    false
                }
                Poll::Pending => true,
            };
            if self.pending() == 0 {
                let flushed = connection.poll_flush(context).map_err(SendError::Endpoint)?;
                let waits = waiting_for_body || flushed.is_pending();
                return if waits { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            // Chunks that are there already leave together.
            if waiting_for_body && self.took && self.framing == RequestFraming::Chunked {
                return Poll::Pending;
            }
            ready!(self.poll_write(connection, context)).map_err(SendError::Endpoint)?;
        }
    }

    fn pending(&self) -> usize {
        self.output.len() - self.written + self.piece.len() + self.tail.len()
    }

    fn poll_write(&mut self, connection: &mut Connection, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let output = &self.output[self.written..];
        let written = match self.body.intake().filter(|_| splice::stands_in(&self.piece)) {
            Some(intake) if output.is_empty() => ready!(connection.poll_give(context, intake, self.piece.len()))?,
            stand_in => {
                let parts = [output, &self.piece[..], &self.tail[..]].map(IoSlice::new);
                let alone = stand_in.is_some() || (self.piece.is_empty() && self.tail.is_empty());
                ready!(connection.poll_write(context, if alone { &parts[..1] } else { &parts }))?
            }
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        (self.sent, self.progress) = (true, true);
        self.advance(written);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let from_output = written.min(self.output.len() - self.written);
        self.written += from_output;
        // Without a body the head stays, so that it can be sent once more.
        if self.written == self.output.len() && !self.has_no_body() {
            self.output.clear();
            self.written = 0;
        }
        let from_piece = (written - from_output).min(self.piece.len());
        self.piece.advance(from_piece);
        self.tail.advance(written - from_output - from_piece);
    }

    /// Takes the next piece of the body, if there is room for it. Ready once no more will come
    /// before the next write, pending while the client has to deliver.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        while self.piece.is_empty() && self.tail.is_empty() && self.output.len() < ENOUGH {
            if self.body.is_over() {
                break;
            }
            match ready!(self.body.poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => self.take_piece(data),
                    Ok(_) => {}
                    Err(frame) => self.take_trailers(frame.into_trailers().unwrap_or_default())?,
                },
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None if self.framing == RequestFraming::Chunked => self.tail = Bytes::from_static(b"0\r\n\r\n"),
                None => {}
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends a body in chunks with what stands behind it; one that says its length has no place for that.
    fn take_trailers(&mut self, trailers: HeaderMap) -> Result<(), SendError> {
        self.progress = true;
        if self.framing == RequestFraming::Chunked {
            self.tail = trailers::last_chunk(&trailers).ok_or(SendError::TooLarge)?.into();
        }
        Ok(())
    }

    fn take_piece(&mut self, data: Bytes) {
        let length = data.len();
        (self.progress, self.took) = (true, true);
        let mut copied = COPIED;
        if self.framing == RequestFraming::Chunked {
            let _a_vec_takes_anything = write!(self.output, "{length:x}\r\n");
            self.tail = Bytes::from_static(b"\r\n");
            copied = COPIED_CHUNK;
        }
        if data.len() <= copied && !splice::stands_in(&data) {
            self.output.extend_from_slice(&data);
            self.output.extend_from_slice(&self.tail);
            self.tail = Bytes::new();
        } else {
            self.piece = data;
        }
    }
}
