//! One member's line and lease, kept by its agent: the same two keys that anybody may write by hand.
//!
//! Only the pool's hash and the lease are touched, never the service's own hash: an agent's user needs no right to a
//! weight or a circuit. Proxies see the change by its message, or half a second later.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use redis::Pipeline;

use super::connection::{Down, Held, Line, Server};
use super::keys::Keys;
use super::rounds::{Round, execute, rounds, unwatch, watch};
use super::{codec, dial};
use crate::model::redis::RedisSpec;
use crate::model::state::{Member, MemberSpec};
use crate::store::registry::{Beat, Entry, Registry, is_leaving, leaving};
use crate::store::{StoreError, lease};

/// The entry of one member.
#[derive(Debug)]
pub(crate) struct RedisRegistry {
    entry: Entry,
    pool: String,
    lease: String,
    changes: String,
    server: Arc<Server>,
    line: Line,
}

/// What is there of the member.
#[derive(Debug)]
struct Found {
    /// None also where it makes no sense: then it is written anew.
    member: Option<Member>,
    lives: bool,
}

/// An exchange, as it is tried.
struct Exchange<'a, F> {
    registry: &'a RedisRegistry,
    decide: F,
}

impl<T: Send, F: Fn(&Found) -> (Option<Pipeline>, T) + Sync> Round for Exchange<'_, F> {
    type Outcome = T;

    async fn try_once(&self, held: &mut Held<'_>) -> Result<Option<T>, StoreError> {
        let found = self.registry.look(held).await?;
        let (writes, answer) = (self.decide)(&found);
        let went_through = match writes {
            Some(writes) => execute(held, &writes).await?,
            None => unwatch(held).await.map(|()| true)?,
        };
        Ok(went_through.then_some(answer))
    }
}

impl RedisRegistry {
    pub(crate) fn connect(spec: &RedisSpec, namespace: &str, entry: Entry) -> Result<Self, StoreError> {
        let keys = Keys::of(namespace)?;
        dial::check_all_files(spec)?;
        let pools = keys.service(&entry.service).pools;
        let pool = pools.get(entry.arm).clone();
        let lease = keys.lease(&entry.service, entry.arm, &entry.id);
        let server = Arc::new(Server::primary(spec, &keys));
        let line = Line::new(Arc::clone(&server));
        Ok(Self { pool, lease, changes: keys.changes(), server, line, entry })
    }

    /// Reads, decides and writes, until nobody else wrote in between. What is decided is what to write, and the answer.
    async fn exchange<T: Send>(
        &self,
        decide: impl Fn(&Found) -> (Option<Pipeline>, T) + Send + Sync,
    ) -> Result<T, StoreError> {
        let exchange = Exchange { registry: self, decide };
        self.server.follow(|| rounds(&self.line, "the pool", &exchange)).await
    }

    async fn look(&self, held: &mut Held<'_>) -> Result<Found, Down> {
        watch(held, &[&self.pool]).await?;
        let mut pipe = redis::pipe();
        pipe.hget(&self.pool, &self.entry.id).exists(&self.lease);
        let (text, lives): (Option<Vec<u8>>, bool) = pipe.query_async(&mut held.connection).await?;
        Ok(Found { member: text.and_then(|text| codec::read_member(&text).ok()), lives })
    }

    /// Writes the member, unless it is there as it shall be, and its lease; tells of it where that is news.
    fn writes(&self, found: &Found, wanted: &Member) -> Pipeline {
        let mut pipe = redis::pipe();
        pipe.atomic();
        let is_news = found.member.as_ref() != Some(wanted);
        if is_news {
            pipe.hset(&self.pool, &self.entry.id, codec::json(wanted)).ignore();
        }
        if let Some(ttl) = wanted.spec().and_then(lease::ttl) {
            let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            pipe.cmd("SET").arg(&self.lease).arg(1).arg("PX").arg(millis).ignore();
        }
        if is_news || !found.lives {
            self.tell(&mut pipe);
        }
        pipe
    }

    fn tell(&self, pipe: &mut Pipeline) {
        pipe.publish(&self.changes, &self.entry.service).ignore();
    }
}

#[async_trait]
impl Registry for RedisRegistry {
    async fn beat(&self, member: &MemberSpec, first: bool) -> Result<Beat, StoreError> {
        self.exchange(|found| match &found.member {
            Some(Member::Removed) if !first => (None, Beat::TakenOut),
            Some(Member::Draining(known)) if !(first && is_leaving(known)) => {
                let said = if is_leaving(known) { leaving(member) } else { member.clone() };
                (Some(self.writes(found, &Member::Draining(said))), Beat::Draining)
            }
            known => {
                let wanted = Member::Ready(member.clone());
                let is_there = found.lives && known.as_ref() == Some(&wanted);
                let beat = if is_there { Beat::Renewed } else { Beat::Registered };
                (Some(self.writes(found, &wanted)), beat)
            }
        })
        .await
    }

    async fn fall_silent(&self) -> Result<(), StoreError> {
        self.exchange(|found| {
            let mut pipe = redis::pipe();
            pipe.atomic().del(&self.lease).ignore();
            self.tell(&mut pipe);
            (found.lives.then_some(pipe), ())
        })
        .await
    }

    async fn drain(&self, member: &MemberSpec) -> Result<(), StoreError> {
        self.exchange(|found| match &found.member {
            Some(Member::Removed) => (None, ()),
            _ => (Some(self.writes(found, &Member::Draining(leaving(member)))), ()),
        })
        .await
    }

    async fn leave(&self, member: &MemberSpec) -> Result<(), StoreError> {
        self.exchange(|found| {
            let is_ours =
                found.member.as_ref().and_then(Member::spec).is_some_and(|spec| spec.address == member.address);
            let mut pipe = redis::pipe();
            pipe.atomic();
            // A seed of the configuration has its address for an id, and stays out only by a tombstone.
            if self.entry.id.parse::<SocketAddr>().is_ok() {
                pipe.hset(&self.pool, &self.entry.id, codec::json(&Member::Removed)).ignore();
            } else {
                pipe.hdel(&self.pool, &self.entry.id).ignore();
            }
            pipe.del(&self.lease).ignore();
            self.tell(&mut pipe);
            (is_ours.then_some(pipe), ())
        })
        .await
    }
}
