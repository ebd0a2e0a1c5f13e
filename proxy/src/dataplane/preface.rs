//! The PROXY header at the front of a connection: a proxy in front, one that is trusted, says whose it is.
//!
//! Such a peer must send one: whether there is a header is never guessed (the protocol forbids that). Not a byte
//! behind it is taken, so that what follows may be TLS.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::downstream::Downstream;
use crate::live::counters;
use crate::model::proxy_protocol::{self, Header, Malformed, Read};

/// Most headers are shorter.
const LOOK: usize = 256;

/// Why there is no connection behind a header.
#[derive(Debug, thiserror::Error)]
enum PrefaceError {
    #[error("what comes is no PROXY header")]
    Malformed(#[source] Malformed),
    #[error("the peer left in the middle of its PROXY header")]
    Left(#[source] Option<io::Error>),
    #[error("the PROXY header didn't come in time")]
    Late,
}

/// A connection whose PROXY header is awaited, for as long as a request head.
#[derive(Debug)]
pub(crate) struct Preface {
    stream: TcpStream,
    /// The peer's own: it is its time that runs.
    peer: Rc<Downstream>,
    /// The part of the header that was taken off the stream.
    header: Vec<u8>,
}

impl Preface {
    /// Begins to hear who it is.
    pub(crate) fn begin(stream: TcpStream, peer: Rc<Downstream>) -> Self {
        peer.bytes_read();
        Self { stream, peer, header: Vec::new() }
    }

    /// The stream behind the header, and the peer whose it is.
    pub(crate) fn into_parts(self) -> (TcpStream, Rc<Downstream>) {
        (self.stream, self.peer)
    }

    /// What the header says; none if there will be no connection.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Header>> {
        match std::task::ready!(self.poll_header(context)) {
            Ok(header) => Poll::Ready(Some(header)),
            Err(error) => {
                let core = &self.peer.core;
                counters::add(core.live.refused_prefaces_of(core.id), 1);
                tracing::debug!(peer = %self.peer.peer, error = &error as &dyn std::error::Error, "No PROXY header");
                Poll::Ready(None)
            }
        }
    }

    fn poll_header(&mut self, context: &mut Context<'_>) -> Poll<Result<Header, PrefaceError>> {
        loop {
            let mut room = [0; LOOK];
            let seen = match self.stream.poll_peek(context, &mut ReadBuf::new(&mut room)) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(PrefaceError::Left(None))),
                Poll::Ready(Ok(seen)) => seen,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(PrefaceError::Left(Some(error)))),
                Poll::Pending if self.peer.is_overdue(context) => return Poll::Ready(Err(PrefaceError::Late)),
                Poll::Pending => return Poll::Pending,
            };
            if let Some(header) = self.take(&mut room, seen)? {
                return Poll::Ready(Ok(header));
            }
        }
    }

    /// Takes off the stream what of the bytes that were seen there belongs to the header; all of it, if that is
    /// whole now.
    fn take(&mut self, room: &mut [u8], seen: usize) -> Result<Option<Header>, PrefaceError> {
        let known = self.header.len();
        self.header.extend_from_slice(&room[..seen]);
        let (header, length) = match proxy_protocol::read(&self.header).map_err(PrefaceError::Malformed)? {
            Read::Whole(header, length) => (Some(header), length),
            Read::Part => (None, self.header.len()),
        };
        self.header.truncate(length);
        let taken =
            self.stream.try_read(&mut room[..length - known]).map_err(|error| PrefaceError::Left(Some(error)))?;
        if known + taken == length { Ok(header) } else { Err(PrefaceError::Left(None)) }
    }
}
