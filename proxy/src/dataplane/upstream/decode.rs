//! A response body, taken off the buffer that it arrives in, however its end is found.

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName};

use super::framing::{BodyEnd, ChunkDecoder, Decoded, Malformed};
use crate::dataplane::trailers::may_trail;

/// Takes a body off a buffer.
#[derive(Debug)]
pub(super) enum BodyDecoder {
    /// So many bytes are to come.
    Length(u64),
    /// In chunks, and what stands behind them, or may not.
    Chunked(ChunkDecoder, Option<Box<Behind>>),
    /// All that comes until the endpoint closes.
    Close,
}

/// The fields behind a body.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Those that came and may be passed on.
    fields: HeaderMap,
    /// Names of those that are for one connection alone.
    named_by_connection: Box<[HeaderName]>,
}

impl BodyDecoder {
    /// A decoder for a body that ends in this way, of an answer whose `Connection` names these fields.
    pub(super) fn new(end: BodyEnd, named_by_connection: &[HeaderName]) -> Self {
        let behind = || Behind { named_by_connection: named_by_connection.into(), ..Behind::default() };
        match end {
            BodyEnd::Length(length) => Self::Length(length),
            BodyEnd::Chunked => {
                Self::Chunked(ChunkDecoder::Size, (!named_by_connection.is_empty()).then(|| Box::new(behind())))
            }
            BodyEnd::Close => Self::Close,
        }
    }

    /// Takes the next piece off the front of `input`; none if more bytes are needed or the body
    /// is complete.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
        match self {
            Self::Chunked(decoder, behind) => loop {
                match decoder.decode(input)? {
                    Decoded::Data(data) => return Ok(Some(data)),
                    Decoded::Trailer(name, value) => {
                        let is_named = behind.as_ref().is_some_and(|behind| behind.named_by_connection.contains(&name));
                        if may_trail(&name) && !is_named {
                            behind.get_or_insert_default().fields.append(name, value);
                        }
                    }
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
    pub(super) fn take_trailers(&mut self) -> Option<Box<HeaderMap>> {
        match self {
            Self::Chunked(_, behind) => {
                behind.take().map(|behind| behind.fields).filter(|fields| !fields.is_empty()).map(Box::new)
            }
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
