//! Writes to Redis: read, change, and write back in a transaction that only goes through
//! if nobody wrote in between; else all of it again.
//!
//! One connection makes all writes, one after the other: what is watched belongs to a
//! connection, so two writers on one would spoil each other's transactions.

use std::time::Duration;

use redis::Pipeline;

use super::codec::{self, Decoded, Write};
use super::connection::{Down, Held, Line};
use super::evidence::AFTERLIFE;
use super::keys::{Keys, ServiceKeys};
use super::read;
use super::rounds::{Round, conclude, execute, in_time, rounds, unwatch, watch};
use crate::model::rollout::Fence;
use crate::model::split::Arm;
use crate::model::state::{Change, Member, ServiceState, State};
use crate::store::lease::{self, LeaseChange};
use crate::store::{StoreError, check_revision};
use crate::telemetry;

/// The one connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    keys: Keys,
    line: Line,
}

/// What is asked of a write.
pub(super) struct Wish<'a> {
    pub(super) service: &'a str,
    pub(super) change: &'a Change,
    pub(super) expected: Option<u64>,
    /// The last good state: in place of what makes no sense, and for a canary that must stay stopped.
    pub(super) last_good: &'a ServiceState,
}

impl Writer {
    /// A writer to this line.
    pub(super) const fn new(keys: Keys, line: Line) -> Self {
        Self { keys, line }
    }

    /// Makes a change, and returns the state after it.
    pub(super) async fn change(&self, wish: &Wish<'_>) -> Result<ServiceState, StoreError> {
        rounds(&self.line, "the service", &Attempt { writer: self, wish }).await
    }

    /// Takes or renews the lease of the leader; none while another one holds it.
    pub(super) async fn lead(&self, holder: &str, ttl: Duration, known: Fence) -> Result<Option<Fence>, StoreError> {
        in_time(async {
            let mut held = self.line.take().await?;
            let (leader, fence) = (self.keys.leader(), self.keys.fence());
            watch(&mut held, &[&leader, &fence]).await?;
            let mut ask = redis::cmd("MGET");
            ask.arg(&leader).arg(&fence);
            let found: (Option<String>, Option<String>) =
                ask.query_async(&mut held.connection).await.map_err(Down::from)?;
            let before = found.1.and_then(|text| text.parse::<u64>().ok()).filter(|fence| Fence(*fence).is_sound());
            let Some(next) = next_fence(holder, found.0.as_deref(), before, known) else {
                unwatch(&mut held).await?;
                held.keep();
                return Ok(None);
            };
            let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            let mut pipe = redis::pipe();
            pipe.atomic().cmd("SET").arg(&leader).arg(holder).arg("PX").arg(millis).ignore();
            if before != Some(next) {
                pipe.set(&fence, next).ignore();
            }
            let won = execute(&mut held, &pipe).await?;
            held.keep();
            Ok(won.then_some(Fence(next)))
        })
        .await
    }

    /// What turns what was found into what shall be.
    fn transaction(&self, wish: &Wish<'_>, keys: &ServiceKeys, found: &Decoded, after: &ServiceState) -> Pipeline {
        let before = &found.state;
        let mut pipe = redis::pipe();
        pipe.atomic();
        if after.revision != before.revision {
            let revision = Write::Set(codec::REVISION.to_owned(), after.revision.to_string());
            let writes = std::iter::once(revision).chain(codec::service_writes(&found.sound, after)).collect();
            write_hash(&mut pipe, &found.wrong_type, &keys.service, writes);
            for arm in Arm::BOTH {
                let writes = codec::pool_writes(found.sound.pools.get(arm), after.pools.get(arm));
                write_hash(&mut pipe, &found.wrong_type, keys.pools.get(arm), writes);
            }
            if let Some(over) = before.episode.filter(|episode| after.episode != Some(*episode)) {
                pipe.cmd("EXPIRE").arg(self.keys.evidence(wish.service, over.id)).arg(AFTERLIFE).ignore();
            }
            pipe.publish(self.keys.changes(), wish.service).ignore();
        }
        if let Some(LeaseChange { arm, id, ttl }) = LeaseChange::of(wish.change, before) {
            let key = self.keys.lease(wish.service, arm, id);
            let had_one = before.pools.get(arm).get(id).and_then(Member::spec).and_then(lease::ttl).is_some();
            match ttl {
                Some(ttl) => {
                    let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                    pipe.cmd("SET").arg(key).arg(1).arg("PX").arg(millis).ignore();
                }
                None if had_one => drop(pipe.del(key).ignore()),
                None => {}
            }
        }
        pipe
    }

    /// Writes a service back into a store that has nothing of it, but for leased members:
    /// whoever beats for them tells of them again. Does nothing where the store has something.
    pub(super) async fn restore(&self, service: &str, state: &ServiceState) -> Result<(), StoreError> {
        in_time(async {
            let mut held = self.line.take().await?;
            let keys = self.keys.service(service);
            watch(&mut held, &[&keys.service]).await?;
            let there: bool =
                redis::cmd("EXISTS").arg(&keys.service).query_async(&mut held.connection).await.map_err(Down::from)?;
            if there {
                unwatch(&mut held).await?;
            } else {
                // Whether this round is won or lost, the store has the service now.
                execute(&mut held, &self.restoration(service, &keys, state)).await?;
            }
            held.keep();
            Ok(())
        })
        .await
    }

    fn restoration(&self, service: &str, keys: &ServiceKeys, state: &ServiceState) -> Pipeline {
        let mut pipe = redis::pipe();
        pipe.atomic().hset(&keys.service, codec::REVISION, state.revision + 1).ignore();
        let nothing = Decoded::default();
        write_hash(&mut pipe, &nothing.wrong_type, &keys.service, codec::service_writes(&nothing.sound, state));
        let mut lasting = state.clone();
        lease::retain(&mut lasting, |_, _| false);
        for arm in Arm::BOTH {
            for write in codec::pool_writes(nothing.sound.pools.get(arm), lasting.pools.get(arm)) {
                // A member that somebody told the emptied store of is newer than what is remembered.
                if let Write::Set(id, member) = write {
                    pipe.hset_nx(keys.pools.get(arm), id, member).ignore();
                }
            }
        }
        pipe.publish(self.keys.changes(), service).ignore();
        pipe
    }
}

/// A wish, as it is tried.
struct Attempt<'a> {
    writer: &'a Writer,
    wish: &'a Wish<'a>,
}

impl Round for Attempt<'_> {
    type Outcome = ServiceState;

    async fn try_once(&self, held: &mut Held<'_>) -> Result<Option<ServiceState>, StoreError> {
        let Self { writer, wish } = *self;
        let keys = writer.keys.service(wish.service);
        watch(held, &[&keys.service, &keys.pools.stable, &keys.pools.canary]).await?;
        let last_good = State::from([(wish.service.to_owned(), wish.last_good.clone())]);
        let names = [wish.service.to_owned()];
        let found = read::services(&mut held.connection, &writer.keys, &names, &last_good).await.map_err(Down::from)?;
        let mut found = found.into_iter().next().unwrap_or_default();

        let after = wish.outcome(&mut found);
        conclude(held, after, |after| writer.transaction(wish, &keys, &found, after)).await
    }
}

impl Wish<'_> {
    /// The service after the change, by what was found of it.
    ///
    /// # Errors
    /// When it is at another revision than was expected.
    pub(super) fn outcome(&self, found: &mut Decoded) -> Result<ServiceState, StoreError> {
        let in_redis = found.state.clone();
        check_revision(in_redis.revision, self.expected)?;
        found.state.keep_stopped(self.last_good);
        let mut after = found.state.apply(self.change);
        after.revision = in_redis.revision;
        if after != in_redis || found.forgot_a_stop() {
            after.revision += 1;
        }
        Ok(after)
    }
}

/// The fence of whoever asks to lead, by who leads, the last fence, and the highest one that is known of a rollout:
/// where Redis lost the last one and this clock is behind, rollouts that still know it would not listen. None
/// while another one leads.
pub(super) fn next_fence(holder: &str, leads: Option<&str>, last: Option<u64>, known: Fence) -> Option<u64> {
    match (leads, last) {
        (Some(other), _) if other != holder => None,
        (Some(_), Some(own)) if own >= known.0 => Some(own),
        // By the clock, so that it is higher also where Redis lost the last one.
        (_, last) => Some(telemetry::now().as_millis().max(last.unwrap_or(0).max(known.0).saturating_add(1))),
    }
}

/// Writes to a hash; a key of another type makes room for it.
pub(super) fn write_hash(pipe: &mut Pipeline, wrong_type: &[String], key: &String, writes: Vec<Write>) {
    if !writes.is_empty() && wrong_type.contains(key) {
        pipe.del(key).ignore();
    }
    for write in writes {
        match write {
            Write::Set(field, value) => pipe.hset(key, field, value).ignore(),
            Write::Delete(field) => pipe.hdel(key, field).ignore(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rollout::Rollout;
    use crate::model::rollout::plan::Plan;
    use crate::model::scaling::Scaling;

    #[test]
    fn a_leader_whose_clock_is_behind_is_listened_to_all_the_same() {
        let ahead = telemetry::now().as_millis() + 3_600_000;
        // given a server that lost the fence, and a rollout that knows it
        let fence = next_fence("b", None, None, Fence(ahead));
        assert_eq!(fence, Some(ahead + 1));
        // then also who leads already gets a higher one, and keeps that
        assert_eq!(next_fence("b", Some("b"), Some(5), Fence(ahead)), fence);
        assert_eq!(next_fence("b", Some("b"), fence, Fence(ahead + 1)), fence);
        assert_eq!(next_fence("a", Some("b"), fence, Fence(ahead)), None);
    }
    #[test]
    fn a_fence_that_no_leader_can_have_had_is_not_believed() {
        // given a rollout and a scaling that somebody wrote, whose fence nothing could follow
        let mut rollout = Rollout::new(Plan::sample());
        assert_eq!(rollout.check(), Ok(()));
        rollout.fence = Fence(u64::MAX);
        assert!(rollout.check().is_err());
        let scaling = Scaling { fence: Fence(u64::MAX), ..Scaling::default() };
        let state = ServiceState { rollout: Some(rollout), scaling: Some(scaling), ..ServiceState::default() };
        // then the next leader is one after those who led
        let fence = next_fence("b", None, None, state.fence()).expect("nobody leads");
        assert!(Fence(fence + 1_000).is_sound(), "{fence}");
    }
}
