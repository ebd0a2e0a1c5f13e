//! Reads services from Redis: their hashes in one round trip, their leases in a second.

use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use super::codec::{Decoded, Fields, Raw, decode};
use super::keys::{Keys, ServiceKeys};
use crate::model::split::PerArm;
use crate::model::state::State;
use crate::store::lease;

/// What Redis holds of these services, in their order.
///
/// Fails only as a whole: an answer such as LOADING says nothing about any service,
/// and must not be taken for an empty store.
pub(super) async fn services(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    names: &[String],
    last_good: &State,
) -> RedisResult<Vec<Decoded>> {
    if names.is_empty() {
        redis::cmd("PING").exec_async(connection).await?;
        return Ok(Vec::new());
    }
    let all_keys: Vec<ServiceKeys> = names.iter().map(|name| keys.service(name)).collect();
    let mut pipe = redis::pipe();
    pipe.ignore_errors();
    for keys in &all_keys {
        pipe.hgetall(&keys.service).hgetall(&keys.pools.stable).hgetall(&keys.pools.canary);
    }
    let answers: Vec<RedisResult<Fields>> = pipe.query_async(connection).await?;
    let mut answers = answers.into_iter().map(only_wrong_types_pass);
    let mut next = || answers.next().unwrap_or_else(|| Ok(Some(Fields::new())));
    let mut all = Vec::with_capacity(names.len());
    for (name, keys) in names.iter().zip(&all_keys) {
        let raw = Raw { service: next()?, pools: PerArm { stable: next()?, canary: next()? } };
        all.push(decode(keys, &raw, last_good.get(name)));
    }
    take_out_the_dead(connection, keys, names, &mut all).await?;
    Ok(all)
}

/// None for a key of another type: that is one poisoned key, not a failure.
pub(super) fn only_wrong_types_pass<T>(answer: RedisResult<T>) -> RedisResult<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == Some("WRONGTYPE") => Ok(None),
        Err(error) => Err(error),
    }
}

async fn take_out_the_dead(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    names: &[String],
    all: &mut [Decoded],
) -> RedisResult<()> {
    let mut pipe = redis::pipe();
    for (name, decoded) in names.iter().zip(all.iter()) {
        for (arm, id, _) in lease::leased(&decoded.state) {
            pipe.exists(keys.lease(name, arm, id));
        }
    }
    if pipe.is_empty() {
        return Ok(());
    }
    let answers: Vec<bool> = pipe.query_async(connection).await?;
    // `retain` asks in the order in which `leased` lists.
    let mut answers = answers.into_iter();
    for decoded in all {
        lease::retain(&mut decoded.state, |_, _| answers.next().unwrap_or(false));
    }
    Ok(())
}
