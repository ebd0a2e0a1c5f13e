//! Redis as the store asks it: what is read, and what is written where.
//!
//! Apart from the rules of the store, so that something else may stand in its place where time is simulated.

use std::sync::Arc;
use std::time::Duration;

use super::audit::Audit;
use super::bell::{Bell, Teller};
use super::codec::Decoded;
use super::connection::{Down, Line, Server};
use super::evidence::Evidence;
use super::flags::Flags;
use super::keys::Keys;
use super::loads::Loads;
use super::look::Looker;
use super::mirror::Mirror;
use super::watch::Watch;
use super::write::{Wish, Writer};
use crate::model::redis::{Mirrored, RedisSpec};
use crate::model::rollout::Fence;
use crate::model::state::{ServiceState, State};
use crate::store::StoreError;
use crate::store::audit::AuditLog;
use crate::store::evidence::Journal;

/// The server itself, as it is asked.
#[derive(Debug)]
pub struct Redis {
    looker: Looker,
    writer: Writer,
    evidence: Evidence,
    audit: Arc<AuditLog<Audit>>,
    flags: Flags,
    loads: Loads,
    primary: Arc<Server>,
    bell: Arc<Bell>,
    _watch: Watch,
    _sentinels: Option<Watch>,
}

/// What the last good state stands beside: Redis, or where time is simulated something that fails as Redis may.
pub(super) trait Remote: Send + Sync + std::fmt::Debug {
    /// What it holds of these services, in their order.
    fn read(&self, services: &[String], last_good: &State) -> impl Future<Output = Result<Vec<Decoded>, Down>> + Send;

    /// Makes a change, atomically, and returns the state after it.
    fn change(&self, wish: &Wish<'_>) -> impl Future<Output = Result<ServiceState, StoreError>> + Send;

    /// As [`crate::store::Store::lead`]; the fence is no lower than the highest that is known of a rollout.
    fn lead(
        &self,
        holder: &str,
        ttl: Duration,
        known: Fence,
    ) -> impl Future<Output = Result<Option<Fence>, StoreError>> + Send;

    /// Writes a service back if nothing is known of it there.
    fn restore(&self, service: &str, state: &ServiceState) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How its mirror is doing; none where it has none.
    fn mirror(&self) -> Option<Mirrored> {
        None
    }

    /// The evidence that proxies share there; none where they share none.
    fn evidence(&self) -> Option<&Evidence>;

    /// The audit log that proxies share there; none where they share none.
    fn audit(&self) -> Option<&Arc<AuditLog<Audit>>>;

    /// The flags that it holds; none where it holds none.
    fn flags(&self) -> Option<&Flags>;

    /// What proxies tell each other of the moment; none where they don't.
    fn loads(&self) -> Option<&Loads> {
        None
    }
}

impl Redis {
    /// Begins to watch the server; it needn't be there yet.
    pub(super) fn connect(spec: &RedisSpec, keys: &Keys, journal: Arc<Journal>, bell: Arc<Bell>) -> Self {
        let primary = Arc::new(Server::primary(spec, keys));
        let mirror = spec.mirror.as_ref().map(|mirror| Mirror::start(mirror, &primary, keys, &bell));
        let flags = Flags::new(keys, Line::new(Arc::clone(&primary)), mirror.as_ref().map(Mirror::beside));
        Self {
            looker: Looker::new(keys.clone(), Line::new(Arc::clone(&primary)), mirror, Arc::clone(&bell)),
            writer: Writer::new(keys.clone(), Line::new(Arc::clone(&primary))),
            evidence: Evidence::new(keys.clone(), Line::new(Arc::clone(&primary)), journal),
            audit: AuditLog::new(Audit::new(keys.audit(), Line::new(Arc::clone(&primary)))),
            flags,
            loads: Loads::new(keys.clone(), Line::new(Arc::clone(&primary))),
            _watch: Watch::primary(Arc::clone(&primary), keys.changes(), Arc::clone(&bell)),
            _sentinels: Watch::sentinels(&primary),
            primary,
            bell,
        }
    }
}

impl Remote for Redis {
    async fn read(&self, services: &[String], last_good: &State) -> Result<Vec<Decoded>, Down> {
        self.looker.look(services, last_good).await
    }

    async fn change(&self, wish: &Wish<'_>) -> Result<ServiceState, StoreError> {
        let outcome = self.primary.follow(|| self.writer.change(wish)).await;
        self.bell.note(wish.service.to_owned(), Teller::Primary);
        outcome
    }

    async fn lead(&self, holder: &str, ttl: Duration, known: Fence) -> Result<Option<Fence>, StoreError> {
        self.primary.follow(|| self.writer.lead(holder, ttl, known)).await
    }

    async fn restore(&self, service: &str, state: &ServiceState) -> Result<(), StoreError> {
        let outcome = self.primary.follow(|| self.writer.restore(service, state)).await;
        self.bell.note(service.to_owned(), Teller::Primary);
        outcome
    }

    fn mirror(&self) -> Option<Mirrored> {
        self.looker.mirror()
    }

    fn evidence(&self) -> Option<&Evidence> {
        Some(&self.evidence)
    }

    fn audit(&self) -> Option<&Arc<AuditLog<Audit>>> {
        Some(&self.audit)
    }

    fn flags(&self) -> Option<&Flags> {
        Some(&self.flags)
    }

    fn loads(&self) -> Option<&Loads> {
        Some(&self.loads)
    }
}
