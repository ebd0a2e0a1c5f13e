//! What steers the data plane from beside it: sync with the store, discovery, health checks, names,
//! the verdict loop, what is slow, ejections, rollouts, autoscaling, alerts.
//!
//! May know: model, live, probe, store, telemetry. Never: dataplane, admin. Only `sync`
//! publishes snapshots; everything else changes the world through the store, or
//! through a latch in `live` where the world must not be waited for.

pub mod alert;
pub mod autoscale;
mod discovery;
pub mod ejection;
pub mod fleet_rates;
pub mod health;
pub mod names;
pub mod rollout;
#[cfg(test)]
mod simulation;
pub mod slow;
pub mod sync;
pub mod verdict;

use tokio::task::JoinError;

/// Passes the panic of a task on to whoever waits for it: nobody watches over the tasks of a task.
fn pass_on(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_panic_of_a_task_is_one_of_who_waits_for_it_and_its_end_is_not() {
        let wait_for = async |inner: tokio::task::JoinHandle<()>| {
            tokio::spawn(async move { pass_on(inner.await) }).await.is_err_and(|error| error.is_panic())
        };
        let ended = tokio::spawn(std::future::pending());
        ended.abort();
        assert!(!wait_for(ended).await && !wait_for(tokio::spawn(async {})).await);
        assert!(wait_for(tokio::spawn(async { panic!("on purpose") })).await);
    }
}
