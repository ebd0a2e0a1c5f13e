//! What changes at run time: a service's weight, episode, circuit and members,
//! and the one rule by which a change alters them.
//!
//! Every store applies changes through [`ServiceState::apply`], so that they
//! can't differ in what a change means.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::circuit::{Circuit, Reset, Trip};
pub use super::member::{Member, MemberSpec};
use super::rollout::change::RolloutChange;
use super::rollout::{Fence, Rollout};
use super::scaling::{Scaling, ScalingChange, Week};
use super::split::{Arm, Episode, EpisodeId, PerArm};
use super::time::Timestamp;
use super::weight::Weight;

/// The state of every service, by name.
pub type State = BTreeMap<String, ServiceState>;

/// Of which services a state tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of every service that the proxy has.
    Whole,
    /// Of some of them: the others are as they were.
    Part,
}

/// The state of one service, as the store holds it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceState {
    /// Rises by one with each change; 0 = the store has nothing of this service.
    pub revision: u64,
    /// The weight asked for; absent until somebody set one: then the file's counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
    /// The running episode; none while the canary gets nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episode: Option<Episode>,
    /// The circuit.
    #[serde(default)]
    pub circuit: Circuit,
    /// The latest rollout, also after its end; none if there never was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// What is under way of its scaling; none if there never was anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// What its load was in the last seven days; none where no rule asks for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub week: Option<Week>,
    /// What is known of members beside the file's seeds, by endpoint id.
    #[serde(default)]
    pub pools: PerArm<BTreeMap<String, Member>>,
}

/// A wish to change a service. The only way in which its state changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Set the weight. Begins an episode with this draw if none runs; zero ends it.
    SetWeight {
        /// The weight asked for.
        weight: Weight,
        /// The draw to begin with, where an episode begins.
        fresh: Episode,
    },
    /// Begin an episode if none runs and the circuit is closed: for a weight that came
    /// from the file or straight from a person at the store.
    BeginEpisode {
        /// The draw to begin with.
        fresh: Episode,
    },
    /// End the episode, if this one still runs: its weight was set to zero at the store.
    EndEpisode {
        /// The episode to end.
        episode: EpisodeId,
    },
    /// Open the circuit and end the episode. An open circuit stays as it is.
    Trip {
        /// The episode that was judged.
        episode: Option<EpisodeId>,
        /// Cause, reason and proof.
        trip: Trip,
    },
    /// Bring a circuit known elsewhere (this proxy's own latch, its state file) into the store.
    MergeCircuit {
        /// The circuit to merge: see [`Circuit::merge`].
        circuit: Circuit,
    },
    /// Close the circuit: a person's act. A closed one stays as it is.
    Reset {
        /// Who and why.
        reset: Reset,
        /// The draw for what follows, where the weight asked for isn't zero.
        fresh: Episode,
    },
    /// Add a member, or replace what is known of it. With a `ttl_ms` this is a heartbeat.
    PutMember {
        /// Its pool.
        arm: Arm,
        /// Its id.
        id: String,
        /// What it is.
        spec: MemberSpec,
    },
    /// Take a member out; the file's seed of that id stays out too.
    RemoveMember {
        /// Its pool.
        arm: Arm,
        /// Its id.
        id: String,
    },
    /// Drain a member, or make it ready again.
    SetDraining {
        /// Its pool.
        arm: Arm,
        /// Its id.
        id: String,
        /// Where it is, for a seed that the store doesn't know yet.
        spec: MemberSpec,
        /// Whether it shall drain.
        draining: bool,
    },
    /// Begin, move or end a rollout.
    Rollout(RolloutChange),
    /// Ask for instances, take some away, or note what a person ordered of that.
    Scaling(ScalingChange),
}

impl ServiceState {
    /// The state after a change. Applying the same change twice is applying it once:
    /// then nothing is altered, the revision included.
    #[must_use]
    pub fn apply(&self, change: &Change) -> Self {
        let mut next = self.clone();
        next.alter(change);
        if next != *self {
            next.revision = self.revision + 1;
        }
        next
    }

    fn alter(&mut self, change: &Change) {
        match change {
            Change::SetWeight { weight, fresh } => {
                self.weight = Some(*weight);
                self.begin_or_end(*fresh);
                self.weight_was_set(*weight);
            }
            Change::BeginEpisode { fresh } => {
                if self.episode.is_none() && !self.circuit.is_open() {
                    self.episode = Some(*fresh);
                }
            }
            Change::EndEpisode { episode } => {
                if self.episode.is_some_and(|running| running.id == *episode) {
                    self.episode = None;
                }
            }
            Change::Trip { episode, trip } => {
                self.circuit.trip(*episode, trip.clone());
                self.obey_circuit();
            }
            Change::MergeCircuit { circuit } => {
                self.circuit = circuit.merge(&self.circuit);
                self.obey_circuit();
            }
            Change::Reset { reset, fresh } => {
                if self.circuit.is_open() {
                    self.circuit.reset(reset.clone());
                    if self.weight.is_some() {
                        self.begin_or_end(*fresh);
                    }
                }
            }
            Change::PutMember { arm, id, spec } => {
                let draining = matches!(self.pools.get(*arm).get(id), Some(Member::Draining(_)));
                self.put(*arm, id, spec, draining);
            }
            Change::RemoveMember { arm, id } => {
                self.pools.get_mut(*arm).insert(id.clone(), Member::Removed);
            }
            Change::SetDraining { arm, id, spec, draining } => {
                let known = self.pools.get(*arm).get(id).and_then(Member::spec).unwrap_or(spec).clone();
                self.put(*arm, id, &known, *draining);
            }
            Change::Rollout(change) => self.alter_rollout(change),
            Change::Scaling(change) => self.alter_scaling(change),
        }
    }

    /// An episode runs exactly while a weight above zero is asked for and the circuit is closed.
    pub(super) fn begin_or_end(&mut self, fresh: Episode) {
        let runs = self.weight.is_some_and(|weight| !weight.is_zero()) && !self.circuit.is_open();
        self.episode = runs.then(|| self.episode.unwrap_or(fresh));
    }

    fn put(&mut self, arm: Arm, id: &str, spec: &MemberSpec, draining: bool) {
        let member = if draining { Member::Draining(spec.clone()) } else { Member::Ready(spec.clone()) };
        self.pools.get_mut(arm).insert(id.to_owned(), member);
    }

    /// The highest fence of a leader that it knows; of those that a leader can have had.
    pub fn fence(&self) -> Fence {
        let rollout = self.rollout.as_ref().map(|rollout| rollout.fence);
        let scaling = self.scaling.as_ref().map(|scaling| scaling.fence);
        rollout.into_iter().chain(scaling).filter(|fence| fence.is_sound()).max().unwrap_or_default()
    }

    /// When the circuit opened, if it is open.
    pub fn open_since(&self) -> Option<Timestamp> {
        let trip = self.circuit.trip.as_ref()?;
        self.circuit.is_open().then_some(trip.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::split::Salt;

    fn episode(id: u64) -> Episode {
        Episode { id: EpisodeId(id), salt: Salt(id.into()) }
    }

    fn set(percent: f64, id: u64) -> Change {
        Change::SetWeight { weight: Weight::from_percent(percent).expect("a weight"), fresh: episode(id) }
    }

    fn trip(id: u64) -> Change {
        Change::Trip { episode: Some(EpisodeId(id)), trip: Trip::sample() }
    }

    fn reset(id: u64) -> Change {
        let reset = Reset { reason: "fixed".into(), by: "ann".into(), at: Timestamp::from_millis(2) };
        Change::Reset { reset, fresh: episode(id) }
    }

    fn running(state: &ServiceState) -> Option<u64> {
        state.episode.map(|e| e.id.0)
    }

    #[test]
    fn an_episode_runs_from_the_first_weight_to_zero() {
        let state = ServiceState::default().apply(&set(1.0, 1));
        assert_eq!(running(&state), Some(1));
        let state = state.apply(&set(50.0, 2));
        assert_eq!(running(&state), Some(1), "raising the weight began a new episode");
        let state = state.apply(&set(0.0, 3));
        assert_eq!(running(&state), None);
        assert_eq!(running(&state.apply(&set(1.0, 4))), Some(4));
    }

    #[test]
    fn a_trip_ends_the_episode_and_a_reset_draws_anew() {
        let state = ServiceState::default().apply(&set(10.0, 1)).apply(&trip(1));
        assert_eq!(running(&state), None);
        assert!(state.circuit.is_open());
        let raised = state.apply(&set(20.0, 2));
        assert_eq!(running(&raised), None, "a weight set while open began an episode");
        let state = raised.apply(&reset(3));
        assert_eq!(running(&state), Some(3));
        assert!(!state.circuit.is_open());
    }

    #[test]
    fn a_change_made_twice_is_made_once() {
        let state = ServiceState::default().apply(&set(10.0, 1));
        assert_eq!(state.revision, 1);
        assert_eq!(state.apply(&set(10.0, 2)), state);
        let tripped = state.apply(&trip(1));
        assert_eq!(tripped.apply(&trip(1)), tripped);
        let closed = tripped.apply(&reset(2));
        assert_eq!(closed.apply(&reset(3)), closed);
    }

    #[test]
    fn a_removed_seed_leaves_a_tombstone_and_a_heartbeat_keeps_a_drain() {
        let spec = MemberSpec::new(([127, 0, 0, 1], 3002).into());
        let id = "a".to_owned();
        let drain = Change::SetDraining { arm: Arm::Stable, id: id.clone(), spec: spec.clone(), draining: true };
        let state = ServiceState::default().apply(&drain);
        let state = state.apply(&Change::PutMember { arm: Arm::Stable, id: id.clone(), spec: spec.clone() });
        assert_eq!(state.pools.stable["a"], Member::Draining(spec));
        let state = state.apply(&Change::RemoveMember { arm: Arm::Stable, id });
        assert_eq!(state.pools.stable["a"], Member::Removed);
    }
}
