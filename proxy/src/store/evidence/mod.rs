//! Evidence that proxies tell each other: the codec of a post, one line each, alike in Redis and in the
//! journal on disk.
//!
//! May know: model, telemetry.

mod codec;
mod journal;

pub(super) use codec::{decode, encode};
pub(super) use journal::Journal;
