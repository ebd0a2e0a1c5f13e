//! Seats for what lasts: clients that listen, and calls that wait. Each keeps a connection, of which there are few, and
//! there must always be some left for who asks how this process is, or trips a circuit.

use std::sync::Arc;

use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;

/// Clients that listen to events at once, of this API and of OFREP.
pub(super) const LISTENERS: usize = 96;
/// Calls that wait at once, for a rollout or a drain: seats of their own, since these are a pipeline's.
pub(super) const WAITS: usize = 64;

/// A seat that is taken until this is dropped.
pub(super) type Seat = OwnedSemaphorePermit;

/// So many seats, and no more.
#[derive(Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    all: usize,
    /// Who sits there and what they do, in the plural.
    who: &'static str,
}

impl Seats {
    /// So many for these, such as "clients listen".
    pub(super) fn new(all: usize, who: &'static str) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), all, who }
    }

    /// Takes a seat. `instead` is what a client may do when all are taken.
    pub(super) fn take(&self, instead: &str) -> Result<Seat, Problem> {
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            let detail = format!("{} {} already; {instead}, or try again later", self.all, self.who);
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        })
    }

    /// How many are free.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.free.available_permits()
    }
}
