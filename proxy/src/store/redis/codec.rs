//! Fields of Redis hashes ⇄ the state of a service.
//!
//! People and scripts write these fields too, so each is judged by itself: one that
//! makes no sense is named and passed over, the last good value takes its place, and
//! all others count. Values are never part of a message: one of them is a secret.
//! May know: model.

use std::collections::BTreeMap;

use super::keys::ServiceKeys;
use crate::model::MOST_COUNTED;
use crate::model::circuit::Circuit;
use crate::model::member::{MOST_MEMBERS, Member, MemberError, MemberSpec, is_id};
use crate::model::rollout::Rollout;
use crate::model::scaling::{Scaling, Week};
use crate::model::split::{Arm, Episode, PerArm};
use crate::model::state::ServiceState;
use crate::store::Poison;

/// The fields of a hash, as Redis gave them.
pub(super) type Fields = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) const REVISION: &str = "revision";
pub(super) const WEIGHT: &str = "weight";
pub(super) const EPISODE: &str = "episode";
pub(super) const SALT: &str = "salt";
pub(super) const CIRCUIT: &str = "circuit";
pub(super) const ROLLOUT: &str = "rollout";
pub(super) const SCALING: &str = "scaling";
pub(super) const WEEK: &str = "week";

pub(super) const WRONG_TYPE: &str = "the key isn't a hash: delete it, and write its fields with HSET";
pub(super) const BAD_REVISION: &str = "not a revision: give a whole number above 0";
const BAD_WEIGHT: &str = "not a weight: give a percent from 0 to 100 with at most two decimals, such as 12.5";
const BAD_EPISODE: &str = "not an episode: `episode` is 16 hex digits and `salt` 32, and one needs the other";
const BAD_CIRCUIT: &str = "not a circuit: leave it to serin; `serin trip` and `serin reset` change it";
const BAD_ROLLOUT: &str = "not a rollout: leave it to serin; `serin rollout` changes it";
const BAD_SCALING: &str = "not a scaling: leave it to serin; `serin autoscale` changes it";
const BAD_WEEK: &str = "not the load of a week: leave it to serin, which learns another one";
const BAD_ID: &str = "not an endpoint id: it is up to 128 letters, digits and `.:_-[]`, such as 10.0.0.21:3002";
const TOO_MANY: &str = "more members than the 10000 that a pool may have: the others are passed over";
const BAD_ADDRESS: &str = "not a member: its address must be one that can be connected to, such as 10.0.0.21:3002";
const BAD_MEMBER: &str = "not a member: give JSON such as {\"state\":\"ready\",\"address\":\"10.0.0.21:3002\"}";
const BAD_SHARE: &str = "not a member: its weight must be 1 to 1000";
const BAD_TTL: &str = "not a member: its ttl_ms must be above 0";
const BAD_WORD: &str = "not a member: its version and zone are lines of at most 128 characters";
const BAD_METADATA: &str = "not a member: its metadata is at most 16 keys of 64 letters, digits and `._-/`, with lines of \
                            at most 256 characters";

/// What Redis holds of a service; none for a key of another type than hash.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub(super) service: Option<Fields>,
    pub(super) pools: PerArm<Option<Fields>>,
}

/// What that means.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// The state, with the last good value in place of each that makes no sense.
    pub(super) state: ServiceState,
    /// The state with nothing in their place: what Redis itself soundly holds.
    pub(super) sound: ServiceState,
    /// Whether the service's own hash is there.
    pub(super) known: bool,
    /// Keys that aren't hashes.
    pub(super) wrong_type: Vec<String>,
    /// What makes no sense.
    pub(super) poisoned: Vec<Poison>,
}

/// Reads what Redis holds of a service.
pub(super) fn decode(keys: &ServiceKeys, raw: &Raw, last_good: Option<&ServiceState>) -> Decoded {
    let mut decoded = Decoded::default();
    let absent = ServiceState::default();
    let last_good = last_good.unwrap_or(&absent);
    match &raw.service {
        Some(fields) => decoded.read_service(&keys.service, fields, last_good),
        None => {
            decoded.known = true;
            decoded.refuse_key(&keys.service);
            decoded.state = ServiceState { pools: PerArm::default(), ..last_good.clone() };
            decoded.state.revision = last_good.revision.max(1);
        }
    }
    for arm in Arm::BOTH {
        let (key, known) = (keys.pools.get(arm), last_good.pools.get(arm));
        match raw.pools.get(arm) {
            Some(fields) => decoded.read_pool(key, arm, fields, known),
            None => {
                decoded.refuse_key(key);
                decoded.state.pools.get_mut(arm).clone_from(known);
            }
        }
    }
    decoded
}

impl Decoded {
    /// Whether the circuit is open by what is known here, or a rollout ended, and Redis has no word of it.
    pub(super) fn forgot_a_stop(&self) -> bool {
        let forgot_circuit = self.state.circuit.is_open() && !self.sound.circuit.is_open();
        let forgot_end = self.sound.live_rollout().is_some() && self.state.live_rollout().is_none();
        forgot_circuit || forgot_end
    }

    fn read_service(&mut self, key: &str, fields: &Fields, last_good: &ServiceState) {
        let text = |name: &str| Some(std::str::from_utf8(fields.get(name.as_bytes())?).unwrap_or("\u{fffd}"));
        self.known = !fields.is_empty();

        // A hash that somebody began by hand has no revision; it isn't nothing, so it isn't 0.
        let revision = text(REVISION)
            .map(|text| text.parse::<u64>().ok().filter(|revision| *revision <= MOST_COUNTED).ok_or(BAD_REVISION));
        let (revision, _) = self.judge(key, REVISION, revision, Some(last_good.revision));
        self.state.revision = if self.known { revision.unwrap_or(1).max(1) } else { 0 };

        let weight = text(WEIGHT).map(|text| text.parse().map_err(|_| BAD_WEIGHT));
        (self.state.weight, self.sound.weight) = self.judge(key, WEIGHT, weight, last_good.weight);

        let episode = match (text(EPISODE), text(SALT)) {
            (None, None) => None,
            (id, salt) => Some(read_episode(id, salt).ok_or(BAD_EPISODE)),
        };
        (self.state.episode, self.sound.episode) = self.judge(key, EPISODE, episode, last_good.episode);

        let circuit = text(CIRCUIT).map(|text| read_circuit(text).ok_or(BAD_CIRCUIT));
        let (circuit, sound) = self.judge(key, CIRCUIT, circuit, Some(last_good.circuit.clone()));
        self.state.circuit = circuit.unwrap_or_default();
        self.sound.circuit = sound.unwrap_or_default();

        let rollout = text(ROLLOUT).map(|text| read_rollout(text).ok_or(BAD_ROLLOUT));
        (self.state.rollout, self.sound.rollout) = self.judge(key, ROLLOUT, rollout, last_good.rollout.clone());

        let scaling = text(SCALING).map(|text| read_scaling(text).ok_or(BAD_SCALING));
        (self.state.scaling, self.sound.scaling) = self.judge(key, SCALING, scaling, last_good.scaling.clone());

        let week = text(WEEK).map(|text| text.parse::<Week>().map_err(|_| BAD_WEEK));
        (self.state.week, self.sound.week) = self.judge(key, WEEK, week, last_good.week.clone());
    }

    /// A field's value as it counts, and as Redis soundly holds it.
    fn judge<T: Clone>(
        &mut self,
        key: &str,
        field: &str,
        read: Option<Result<T, &str>>,
        last_good: Option<T>,
    ) -> (Option<T>, Option<T>) {
        match read {
            None => (None, None),
            Some(Ok(value)) => (Some(value.clone()), Some(value)),
            Some(Err(problem)) => {
                self.refuse(key, field, problem);
                (last_good, None)
            }
        }
    }

    fn read_pool(&mut self, key: &str, arm: Arm, fields: &Fields, last_good: &BTreeMap<String, Member>) {
        if fields.len() > MOST_MEMBERS {
            self.poisoned.push(Poison { key: key.to_owned(), problem: TOO_MANY.to_owned() });
        }
        for (id, text) in fields.iter().take(MOST_MEMBERS) {
            let Some(id) = std::str::from_utf8(id).ok().filter(|id| is_id(id)) else {
                self.refuse(key, &String::from_utf8_lossy(id), BAD_ID);
                continue;
            };
            match read_member(text) {
                Ok(member) => {
                    self.state.pools.get_mut(arm).insert(id.to_owned(), member.clone());
                    self.sound.pools.get_mut(arm).insert(id.to_owned(), member);
                }
                Err(problem) => {
                    self.refuse(key, id, problem);
                    let known = last_good.get(id).map(|member| (id.to_owned(), member.clone()));
                    self.state.pools.get_mut(arm).extend(known);
                }
            }
        }
    }

    fn refuse(&mut self, key: &str, field: &str, problem: &str) {
        self.poisoned.push(poison(key, field, problem));
    }

    fn refuse_key(&mut self, key: &str) {
        self.poisoned.push(Poison { key: key.to_owned(), problem: WRONG_TYPE.to_owned() });
        self.wrong_type.push(key.to_owned());
    }
}

/// A field that makes no sense. Its name comes from anybody, so it is escaped and cut short.
pub(super) fn poison(key: &str, field: &str, problem: &str) -> Poison {
    let field = field.chars().take(100).flat_map(char::escape_debug).collect::<String>();
    Poison { key: format!("{key} {field}"), problem: problem.to_owned() }
}

fn read_episode(id: Option<&str>, salt: Option<&str>) -> Option<Episode> {
    Some(Episode { id: id?.parse().ok()?, salt: salt?.parse().ok()? })
}

fn read_circuit(text: &str) -> Option<Circuit> {
    serde_json::from_str(text).ok().filter(Circuit::is_sound)
}

fn read_rollout(text: &str) -> Option<Rollout> {
    let rollout: Rollout = serde_json::from_str(text).ok()?;
    rollout.check().is_ok().then_some(rollout)
}

fn read_scaling(text: &str) -> Option<Scaling> {
    let scaling: Scaling = serde_json::from_str(text).ok()?;
    scaling.check().is_ok().then_some(scaling)
}

/// A member of a pool.
pub(super) fn read_member(text: &[u8]) -> Result<Member, &'static str> {
    let member: Member = serde_json::from_slice(text).map_err(|_| BAD_MEMBER)?;
    match member.spec().map_or(Ok(()), MemberSpec::check) {
        Ok(()) => Ok(member),
        Err(MemberError::Address) => Err(BAD_ADDRESS),
        Err(MemberError::Weight) => Err(BAD_SHARE),
        Err(MemberError::Ttl) => Err(BAD_TTL),
        Err(MemberError::Version | MemberError::Zone) => Err(BAD_WORD),
        Err(MemberError::Metadata | MemberError::Key | MemberError::Value) => Err(BAD_METADATA),
    }
}

/// One write to a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// `HSET` of a field.
    Set(String, String),
    /// `HDEL` of a field.
    Delete(String),
}

/// What must be written to a service's own hash so that it says `target`, the revision aside.
pub(super) fn service_writes(sound: &ServiceState, target: &ServiceState) -> Vec<Write> {
    let mut writes = Vec::new();
    if target.weight != sound.weight {
        writes.push(write(WEIGHT, target.weight.map(|weight| weight.to_string())));
    }
    if target.episode != sound.episode {
        writes.push(write(EPISODE, target.episode.map(|episode| episode.id.to_string())));
        writes.push(write(SALT, target.episode.map(|episode| episode.salt.reveal())));
    }
    if target.circuit != sound.circuit {
        writes.push(write(CIRCUIT, Some(json(&target.circuit))));
    }
    if target.rollout != sound.rollout {
        writes.push(write(ROLLOUT, target.rollout.as_ref().map(json)));
    }
    if target.scaling != sound.scaling {
        writes.push(write(SCALING, target.scaling.as_ref().map(json)));
    }
    if target.week != sound.week {
        writes.push(write(WEEK, target.week.as_ref().map(Week::to_string)));
    }
    writes
}

/// What must be written to a pool's hash so that it says `target`.
pub(super) fn pool_writes(sound: &BTreeMap<String, Member>, target: &BTreeMap<String, Member>) -> Vec<Write> {
    let set = target.iter().filter(|(id, member)| sound.get(*id) != Some(member));
    let gone = sound.keys().filter(|id| !target.contains_key(*id));
    let set = set.map(|(id, member)| Write::Set(id.clone(), json(member)));
    set.chain(gone.map(|id| Write::Delete(id.clone()))).collect()
}

fn write(field: &str, value: Option<String>) -> Write {
    match value {
        Some(value) => Write::Set(field.to_owned(), value),
        None => Write::Delete(field.to_owned()),
    }
}

/// A value as it is written.
#[expect(clippy::expect_used, reason = "these types have only text keys and no failing serializer")]
pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("serializes")
}

#[cfg(test)]
mod tests;
