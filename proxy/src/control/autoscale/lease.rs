//! The lease of the leader, kept in a task of its own: nothing that a look waits for can lose it.
//!
//! Whoever holds it believes so for no longer than its term from the moment at which it asked, by its own clock: a process
//! that was paused for longer finds that it leads no more before it asks anybody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::live::Live;
use crate::model::rollout::Fence;
use crate::store::Store;

/// For how long a leader leads without renewing: so long pools stay as they are when it dies.
const TERM: Duration = Duration::from_secs(3);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(1);

/// The lease, as this process holds it or tries to.
#[derive(Debug)]
pub(super) struct Lease {
    live: Arc<Live>,
    store: Arc<dyn Store>,
    holder: String,
    /// The fence, and until when it counts.
    held: Mutex<Option<(Fence, Instant)>>,
}

impl Lease {
    /// One that isn't held.
    pub(super) fn new(live: Arc<Live>, store: Arc<dyn Store>, holder: String) -> Self {
        Self { live, store, holder, held: Mutex::new(None) }
    }

    /// What names this process to the others: no two are the same.
    pub(super) fn holder(&self) -> &str {
        &self.holder
    }

    /// The fence of this process, while it leads.
    pub(super) fn fence(&self) -> Option<Fence> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.filter(|(_, until)| Instant::now() < *until).map(|(fence, _)| fence)
    }

    /// Renews it for ever.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(RENEWAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.renew().await;
        }
    }

    /// Goes on leading, or tries to begin.
    pub(super) async fn renew(&self) {
        let is_wanted = self.live.snapshot().services().iter().any(|service| service.spec.autoscale.is_some());
        let (asked, may) = (Instant::now(), is_wanted && self.live.store_health().reachable);
        let answer = if may { self.store.lead(&self.holder, TERM).await } else { Ok(None) };
        let fence = answer.unwrap_or_else(|error| {
            tracing::warn!(%error, "Pools stay as they are: nobody can be sure to lead");
            None
        });
        self.hold(fence.map(|fence| (fence, asked + TERM)));
    }

    fn hold(&self, held: Option<(Fence, Instant)>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }

    /// Makes this process believe that it leads.
    #[cfg(test)]
    pub(super) fn believe(&self, fence: Fence) {
        self.hold(Some((fence, Instant::now() + TERM)));
    }
}
