//! A response body, taken off the buffer that it arrives in, however its end is found.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::framing::{BodyEnd, ChunkDecoder, Decoded, Malformed};
use crate::dataplane::trailers::may_trail;

/// Takes a body off a buffer.
#[derive(Debug)]
pub(super) enum BodyDecoder {
    /// So many bytes are to come.
    Length(u64),
    /// In chunks, and what of the fields behind them may be passed on.
    Chunked(ChunkDecoder, Option<Box<HeaderMap>>),
    /// All that comes until the endpoint closes.
    Close,
}

impl BodyDecoder {
    /// A decoder for a body that ends in this way.
    pub(super) const fn new(end: BodyEnd) -> Self {
        match end {
            BodyEnd::Length(length) => Self::Length(length),
            BodyEnd::Chunked => Self::Chunked(ChunkDecoder::Size, None),
            BodyEnd::Close => Self::Close,
        }
    }

    /// Takes the next piece off the front of `input`; none if more bytes are needed or the body
    /// is complete.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
        match self {
            Self::Chunked(decoder, trailers) => loop {
                match decoder.decode(input)? {
                    Decoded::Data(data) => return Ok(Some(data)),
                    Decoded::Trailer(name, value) if may_trail(&name) => {
                        trailers.get_or_insert_default().append(name, value);
                    }
                    Decoded::Trailer(..) => {}
                    Decoded::End | Decoded::NeedMore => return Ok(None),
                }
            },
            _ if input.is_empty() => Ok(None),
            Self::Close => Ok(Some(input.split().freeze())),
            Self::Length(left) => {
                let n = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= n as u64;
                Ok((n > 0).then(|| input.split_to(n).freeze()))
            }
        }
    }

    /// So many bytes of the body went another way.
    pub(super) fn pass(&mut self, passed: usize) {
        if let Self::Length(left) = self {
            *left = left.saturating_sub(passed as u64);
        }
    }

    /// The fields behind the body, once its end was found; none where there are none, or they were taken.
    pub(super) const fn take_trailers(&mut self) -> Option<Box<HeaderMap>> {
        match self {
            Self::Chunked(_, trailers) => trailers.take(),
            Self::Length(_) | Self::Close => None,
        }
    }

    /// Whether the end was found. Never true of a body that ends with its connection.
    pub(super) const fn is_complete(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(ChunkDecoder::Done, _))
    }

    /// The bytes still to come, where that is known.
    pub(super) const fn remaining(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(..) | Self::Close => None,
        }
    }
}
