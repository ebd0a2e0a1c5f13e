//! Which meaning the keys have, as a number in a key of its own: data that a later serin understands
//! differently is left alone.
//!
//! A version that changes the meaning of a key raises [`CURRENT`], and brings older data up to date in
//! [`check`], where that meets it: in one transaction that watches the number and raises it.

use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use super::connection::Down;

/// The meaning that this version knows.
pub(super) const CURRENT: u32 = 1;

/// Whether this server may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hands {
    /// It may: a number that is missing or makes no sense is written.
    On,
    /// It follows another one.
    Off,
}

/// Makes sure that the data is of a meaning that this version knows.
pub(super) async fn check(connection: &mut MultiplexedConnection, key: &str, hands: Hands) -> Result<(), Down> {
    let read: RedisResult<Option<String>> = redis::cmd("GET").arg(key).query_async(connection).await;
    let found = match read {
        Ok(found) => found.and_then(|text| text.parse::<u32>().ok()),
        // A key of another type was spoiled, and makes room.
        Err(error) if error.code() == Some("WRONGTYPE") => None,
        // Who may not read it was given one task among the keys, and minds nothing else.
        Err(error) if error.code() == Some("NOPERM") => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match found {
        Some(number) if number > CURRENT => Err(Down(format!(
            "the data in Redis is of schema {number}, and this serin knows up to {CURRENT}: upgrade it"
        ))),
        Some(CURRENT) => Ok(()),
        _ if hands == Hands::On => Ok(redis::cmd("SET").arg(key).arg(CURRENT).exec_async(connection).await?),
        _ => Ok(()),
    }
}
