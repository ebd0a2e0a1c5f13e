//! One member's own entry in the store, for whoever stands beside it: a second, small way in.
//!
//! A proxy holds the state of services ([`super::Store`]); an agent holds one member's line and lease, and needs
//! neither state file nor evidence. What it writes is what `docs/redis.md` tells people to write by hand, so a
//! user of Redis that may do no more than that is enough.
//! May know: model.

use async_trait::async_trait;

use super::StoreError;
use super::redis::RedisRegistry;
use crate::model::spec::StoreKind;
use crate::model::split::Arm;
use crate::model::state::MemberSpec;

/// Says in a member's metadata that its own agent drained it: a person's drain is kept, its own is not.
const LEAVING: (&str, &str) = ("serin.agent", "leaving");

/// Which member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its service.
    pub service: String,
    /// Its pool.
    pub arm: Arm,
    /// Its id.
    pub id: String,
}

/// What a heartbeat found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// It was there, and is.
    Renewed,
    /// It wasn't there as it should be, or its lease had run out: it is now.
    Registered,
    /// It is there, and somebody drains it: that stays.
    Draining,
    /// Somebody took it out: that stays, and nothing was written.
    TakenOut,
}

/// One member's entry in the store.
#[async_trait]
pub trait Registry: Send + Sync + std::fmt::Debug {
    /// Says that the member lives, for the time of its lease. The first beat of an agent brings back also what was
    /// taken out.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn beat(&self, member: &MemberSpec, first: bool) -> Result<Beat, StoreError>;

    /// Ends the lease at once: the member doesn't do its work.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn fall_silent(&self) -> Result<(), StoreError>;

    /// Gives the member no new work, and renews its lease.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn drain(&self, member: &MemberSpec) -> Result<(), StoreError>;

    /// Takes the member out, if the entry is still the one of this address.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn leave(&self, member: &MemberSpec) -> Result<(), StoreError>;
}

/// The entry of a member in this store. Succeeds also while Redis can't be reached. To be called inside a tokio runtime.
///
/// # Errors
/// When the store's URL or namespace makes no sense, or nobody shares it.
pub fn registry(kind: &StoreKind, namespace: &str, entry: Entry) -> Result<Box<dyn Registry>, StoreError> {
    match kind {
        StoreKind::Redis(spec) => Ok(Box::new(RedisRegistry::connect(spec, namespace, entry)?)),
        StoreKind::Embedded => Err(StoreError::Settings("an agent and the proxies share a store in Redis".to_owned())),
    }
}

/// The member as its own agent drains it. Where there is no room for the mark, its drain looks like a person's.
pub(super) fn leaving(member: &MemberSpec) -> MemberSpec {
    let mut marked = member.clone();
    marked.metadata.insert(LEAVING.0.to_owned(), LEAVING.1.to_owned());
    if marked.check().is_ok() { marked } else { member.clone() }
}

/// Whether its own agent drained it.
pub(super) fn is_leaving(member: &MemberSpec) -> bool {
    member.metadata.get(LEAVING.0).is_some_and(|value| value == LEAVING.1)
}
