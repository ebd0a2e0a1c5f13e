//! Optimistic transactions: what is watched, read and written goes through only if nobody else wrote in between; else
//! it is tried again, after a step back that grows, so that of many writers each gets its turn.

use std::time::Duration;

use redis::{Pipeline, RedisError, Value};

use super::connection::{Down, Held, Line};
use crate::store::StoreError;

/// How often a transaction is tried when other writers keep winning.
const ROUNDS: u32 = 20;
/// After a lost round a writer waits for up to this long times the number of the round.
const STEP_BACK: Duration = Duration::from_millis(4);
/// How long a write may take in all, the wait for earlier ones included.
const DEADLINE: Duration = Duration::from_secs(5);

/// What is tried.
pub(super) trait Round: Sync {
    /// What comes of it.
    type Outcome: Send;

    /// Watches, reads and writes once; none if another writer was faster.
    fn try_once(&self, held: &mut Held<'_>) -> impl Future<Output = Result<Option<Self::Outcome>, StoreError>> + Send;
}

/// Tries until no other writer is faster. What is changed is named for people.
pub(super) async fn rounds<R: Round>(line: &Line, what: &str, tried: &R) -> Result<R::Outcome, StoreError> {
    in_time(async {
        let mut held = line.take().await?;
        for round in 1..=ROUNDS {
            match tried.try_once(&mut held).await {
                Ok(None) => tokio::time::sleep((STEP_BACK * round).mul_f64(rand::random())).await,
                Ok(Some(outcome)) => {
                    held.keep();
                    return Ok(outcome);
                }
                // That is an answer as good as any: the connection is sound.
                Err(conflict @ StoreError::Conflict { .. }) => {
                    held.keep();
                    return Err(conflict);
                }
                Err(error) => return Err(error),
            }
        }
        held.keep();
        Err(StoreError::Unavailable(format!("others keep changing {what}: try again")))
    })
    .await
}

/// Gives up what takes too long.
pub(super) async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| Err(StoreError::Unavailable("Redis did not answer in time".to_owned()));
    tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(late)
}

/// Watches the keys. The first command of a write, and so the one that finds an old connection closed.
pub(super) async fn watch(held: &mut Held<'_>, keys: &[&String]) -> Result<(), Down> {
    let mut watch = redis::cmd("WATCH");
    watch.arg(keys);
    if let Err(error) = watch.exec_async(&mut held.connection).await {
        held.renew_after(error).await?;
        watch.exec_async(&mut held.connection).await?;
    }
    Ok(())
}

/// Writes what makes of what was found what shall be; where that is nothing, leaves what was watched as it is. None if
/// another writer was faster.
pub(super) async fn conclude<T>(
    held: &mut Held<'_>,
    after: Result<T, StoreError>,
    transaction: impl FnOnce(&T) -> Pipeline,
) -> Result<Option<T>, StoreError> {
    let transaction = after.as_ref().map(transaction).unwrap_or_default();
    if transaction.is_empty() {
        unwatch(held).await?;
        return after.map(Some);
    }
    let after = after?;
    Ok(execute(held, &transaction).await?.then_some(after))
}

/// Leaves what was watched as it is: there is nothing to write.
pub(super) async fn unwatch(held: &mut Held<'_>) -> Result<(), Down> {
    Ok(redis::cmd("UNWATCH").exec_async(&mut held.connection).await?)
}

/// Whether the transaction went through: it doesn't if something watched was written meanwhile.
pub(super) async fn execute(held: &mut Held<'_>, transaction: &Pipeline) -> Result<bool, Down> {
    let answer: Result<Value, RedisError> = transaction.query_async(&mut held.connection).await;
    let answer = answer.map_err(|error| held.explain(error))?;
    Ok(!matches!(answer, Value::Nil))
}
