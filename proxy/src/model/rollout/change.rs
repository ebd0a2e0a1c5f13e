//! How a rollout changes: what each wish does to it and to its service's weight and episode.
//!
//! Every rule is checked here again, whoever asks: what no longer fits the state does nothing,
//! so that a leader that slept, or a command that comes twice, can do no harm.

use std::collections::BTreeMap;

use super::plan::{Gate, Plan};
use super::{Fence, Phase, Rollout, RolloutId};
use crate::model::circuit::Trip;
use crate::model::span;
use crate::model::split::{Arm, Episode, PerArm};
use crate::model::state::{Member, MemberSpec, ServiceState};
use crate::model::time::Timestamp;
use crate::model::weight::Weight;

/// A wish to change a rollout.
#[derive(Clone, Debug, PartialEq)]
pub enum RolloutChange {
    /// Begin one: only while none lives and the circuit is closed, and one of a flag only while no canary gets
    /// anything. The canary gets nothing until the first step.
    Start {
        /// What it is to do.
        plan: Plan,
    },
    /// A new leader makes itself known: from now on earlier ones are not listened to.
    Lead {
        /// The rollout.
        id: RolloutId,
        /// The leader.
        fence: Fence,
    },
    /// Go from this step to the next; from 0 to the first, which begins an episode.
    Advance {
        /// What the leader saw when it decided.
        lead: Lead,
        /// The draw of the episode that begins with the first step.
        fresh: Episode,
    },
    /// Stop going on; the weight stays.
    Pause {
        /// The rollout.
        id: RolloutId,
        /// Who wants it, when, and why.
        deed: Deed,
    },
    /// Go on after a pause, or pass the manual gate of the step in force.
    Resume {
        /// The rollout.
        id: RolloutId,
        /// The step that is meant: else the same wish twice would pass two gates.
        step: usize,
        /// Who wants it, when, and why.
        deed: Deed,
    },
    /// Approve the version: by a person from any step on, by the leader from the last.
    Promote {
        /// The rollout.
        id: RolloutId,
        /// What the leader saw; none where a person decides.
        lead: Option<Lead>,
        /// Who wants it, when, and why.
        deed: Deed,
        /// The members that the file adds to the pools, where the pools are to be exchanged at once.
        swap: Option<PerArm<BTreeMap<String, MemberSpec>>>,
    },
    /// All is done of a promoted rollout: stable carries the version, or the flag's definition is in force.
    Finish {
        /// What the leader saw when it decided.
        lead: Lead,
    },
    /// End it: the canary gets nothing.
    Abort {
        /// The rollout.
        id: RolloutId,
        /// Who wants it, when, and why.
        deed: Deed,
    },
    /// Whoever drives it is there.
    Renew {
        /// The rollout.
        id: RolloutId,
        /// When.
        at: Timestamp,
    },
}

/// What a leader saw when it decided: if that isn't so any more, its decision is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// The rollout.
    pub id: RolloutId,
    /// The step in force.
    pub step: usize,
    /// The leader itself.
    pub fence: Fence,
    /// When.
    pub at: Timestamp,
}

/// Who wants something, when, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// A person's name, or the proxy's.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why, if somebody said so.
    pub reason: Option<String>,
}

impl Deed {
    fn sentence(&self, what: &str) -> String {
        let why = self.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("{what} by {}{why}", self.by)
    }
}

impl ServiceState {
    /// The rollout, while anything can still come of it.
    pub fn live_rollout(&self) -> Option<&Rollout> {
        self.rollout.as_ref().filter(|rollout| rollout.is_live())
    }

    /// The rollout, if it was aborted.
    pub fn aborted_rollout(&self) -> Option<RolloutId> {
        let rollout = self.rollout.as_ref().filter(|rollout| rollout.phase == Phase::Aborted)?;
        Some(rollout.plan.id)
    }

    pub(in crate::model) fn alter_rollout(&mut self, change: &RolloutChange) {
        match change {
            RolloutChange::Start { plan } => self.start_rollout(plan),
            RolloutChange::Lead { id, fence } => self.with_rollout(*id, |rollout| {
                rollout.fence = rollout.fence.max(*fence);
            }),
            RolloutChange::Advance { lead, fresh } => self.advance_rollout(*lead, *fresh),
            RolloutChange::Pause { id, deed } => self.with_rollout(*id, |rollout| rollout.pause(deed)),
            RolloutChange::Resume { id, step, deed } => self.resume_rollout(*id, *step, deed),
            RolloutChange::Promote { id, lead, deed, swap } => self.promote_rollout(*id, *lead, deed, swap.as_ref()),
            RolloutChange::Finish { lead } => self.finish_rollout(*lead),
            RolloutChange::Abort { id, deed } => self.abort_rollout(*id, deed),
            RolloutChange::Renew { id, at } => self.with_rollout(*id, |rollout| {
                rollout.renewed = rollout.renewed.max(*at);
            }),
        }
    }

    /// The rollout of this id, while it lives.
    fn with_rollout(&mut self, id: RolloutId, alter: impl FnOnce(&mut Rollout)) {
        if let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.plan.id == id && rollout.is_live()) {
            alter(rollout);
        }
    }

    fn start_rollout(&mut self, plan: &Plan) {
        let known = self.rollout.as_ref().is_some_and(|rollout| rollout.plan.id == plan.id);
        // A version under trial is one already.
        let is_second = plan.subject.flag().is_some() && self.episode.is_some();
        if known || is_second || self.live_rollout().is_some() || self.circuit.is_open() || plan.check().is_err() {
            return;
        }
        self.rollout = Some(Rollout::new(plan.clone()));
        self.empty_canary();
    }

    fn advance_rollout(&mut self, lead: Lead, fresh: Episode) {
        let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.listens_to(lead)) else { return };
        if !matches!(rollout.phase, Phase::Pending | Phase::Progressing) || rollout.is_at_last() {
            return;
        }
        rollout.step += 1;
        rollout.phase = Phase::Progressing;
        rollout.entered = lead.at;
        rollout.why = rollout.at_step();
        self.weight = Some(rollout.weight());
        self.begin_or_end(fresh);
    }

    fn resume_rollout(&mut self, id: RolloutId, step: usize, deed: &Deed) {
        let mut weight = self.weight;
        self.with_rollout(id, |rollout| {
            if rollout.step == step {
                rollout.resume(deed);
                weight = Some(rollout.weight());
            }
        });
        self.weight = weight;
    }

    fn promote_rollout(
        &mut self,
        id: RolloutId,
        lead: Option<Lead>,
        deed: &Deed,
        swap: Option<&PerArm<BTreeMap<String, MemberSpec>>>,
    ) {
        let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.plan.id == id && rollout.is_live()) else {
            return;
        };
        let may = match lead {
            Some(lead) => rollout.listens_to(lead) && rollout.phase == Phase::Progressing && rollout.is_at_last(),
            None => rollout.step > 0 && matches!(rollout.phase, Phase::Progressing | Phase::Paused),
        };
        // A promoted one may still be swapped, by a person who can't wait for stable.
        let swaps_later = lead.is_none() && swap.is_some() && rollout.phase == Phase::Promoted;
        if !may && !swaps_later {
            return;
        }
        if may {
            rollout.decide(Phase::Promoted, deed);
            rollout.why = deed.sentence("promoted") + "; " + &rollout.plan.subject.awaits();
        }
        if rollout.plan.subject.flag().is_some() {
            self.empty_canary();
        } else if let Some(seeds) = swap {
            rollout.finished = true;
            rollout.why = deed.sentence("promoted") + "; the pools were exchanged, and the canary gets nothing";
            self.swap_pools(seeds);
            self.empty_canary();
        }
    }

    fn finish_rollout(&mut self, lead: Lead) {
        let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.listens_to(lead)) else { return };
        if rollout.phase == Phase::Promoted {
            rollout.finished = true;
            rollout.why = format!("promoted: {}", rollout.plan.subject.arrived());
            self.empty_canary();
        }
    }

    fn abort_rollout(&mut self, id: RolloutId, deed: &Deed) {
        let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.plan.id == id && rollout.is_live()) else {
            return;
        };
        rollout.was_promoted = rollout.phase == Phase::Promoted;
        rollout.decide(Phase::Aborted, deed);
        rollout.finished = true;
        rollout.why = deed.sentence("aborted");
        self.empty_canary();
    }

    /// What an open circuit means for all else: no episode, and a rollout that lives is pulled, unless it is a flag
    /// that everybody has by now.
    pub fn obey_circuit(&mut self) {
        if !self.circuit.is_open() {
            return;
        }
        self.episode = None;
        let trip = self.circuit.trip.clone();
        if let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.is_live() && !rollout.is_settled()) {
            rollout.pull(trip.as_ref());
            self.empty_canary();
        }
    }

    /// Keeps stopped what is known to be stopped, whatever a store forgot: a circuit that is open as far as
    /// [`Circuit::merge`](crate::model::circuit::Circuit::merge) says that it stands, and a rollout that ended
    /// badly. Where both circuits are open, the own one counts: it is the one that a reset will speak of.
    pub fn keep_stopped(&mut self, known: &Self) {
        if !self.circuit.is_open() && known.circuit.is_open() {
            self.circuit = self.circuit.merge(&known.circuit);
            self.obey_circuit();
        }
        let ended = known.rollout.as_ref().filter(|rollout| matches!(rollout.phase, Phase::Aborted | Phase::Pulled));
        if let (Some(live), Some(ended)) = (self.live_rollout(), ended)
            && live.plan.id == ended.plan.id
        {
            let was_promoted = ended.was_promoted || live.phase == Phase::Promoted;
            self.rollout = Some(Rollout { was_promoted, ..ended.clone() });
            self.empty_canary();
        }
    }

    /// A person set the weight past the rollout: it doesn't fight with people.
    pub(in crate::model) fn weight_was_set(&mut self, weight: Weight) {
        let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.is_live()) else { return };
        if weight == rollout.weight() {
            return;
        }
        match rollout.phase {
            Phase::Promoted if weight.is_zero() => {
                rollout.finished = true;
                rollout.why = "promoted; a person set the weight to 0, and the canary is empty".to_owned();
            }
            Phase::Promoted | Phase::Pulled | Phase::Aborted => {}
            _ if weight.is_zero() => {
                rollout.phase = Phase::Aborted;
                rollout.finished = true;
                rollout.decided_by = Some("a person".to_owned());
                rollout.why = "aborted: a person set the weight to 0".to_owned();
            }
            _ => {
                rollout.phase = Phase::Paused;
                rollout.why = format!("paused: a person set the weight to {weight} %; resume goes back to the plan's");
            }
        }
    }

    fn empty_canary(&mut self) {
        self.weight = Some(Weight::ZERO);
        self.episode = None;
    }

    /// Exchanges the pools. Every member is written out, and a seed that isn't in the pool of the
    /// file any more gets a tombstone there.
    fn swap_pools(&mut self, seeds: &PerArm<BTreeMap<String, MemberSpec>>) {
        let full = |arm: Arm| {
            let seeds = seeds.get(arm).iter().map(|(id, spec)| (id.clone(), Member::Ready(spec.clone())));
            let mut members: BTreeMap<String, Member> = seeds.collect();
            members.extend(self.pools.get(arm).clone());
            members.retain(|_, member| *member != Member::Removed);
            members
        };
        let before = PerArm::from_fn(full);
        for arm in Arm::BOTH {
            let tombstones = seeds.get(arm).keys().map(|id| (id.clone(), Member::Removed));
            let mut members: BTreeMap<String, Member> = tombstones.collect();
            members.extend(before.get(arm.other()).clone());
            *self.pools.get_mut(arm) = members;
        }
    }
}

impl Rollout {
    /// Whether what a leader saw still is so, and no later leader has spoken.
    fn listens_to(&self, lead: Lead) -> bool {
        self.is_live() && self.plan.id == lead.id && self.step == lead.step && lead.fence >= self.fence
    }

    fn at_step(&self) -> String {
        let Some(step) = self.current() else { return String::new() };
        let (of, hold) = (self.plan.steps.len(), span::show(step.hold()));
        format!("step {} of {of}: {} % for at least {hold}", self.step, step.weight)
    }

    fn pause(&mut self, deed: &Deed) {
        if matches!(self.phase, Phase::Pending | Phase::Progressing) {
            self.phase = Phase::Paused;
            self.why = deed.sentence("paused");
        }
    }

    fn resume(&mut self, deed: &Deed) {
        match self.phase {
            Phase::Paused => {
                self.phase = if self.step == 0 { Phase::Pending } else { Phase::Progressing };
                // The careful way: what was held before the pause doesn't count.
                self.entered = deed.at;
                self.why = deed.sentence("resumed");
            }
            Phase::Progressing if self.waits_for_a_person() => {
                self.approved = self.step;
                self.why = deed.sentence(&format!("step {} approved", self.step));
            }
            _ => {}
        }
    }

    /// Whether the step in force has a manual gate that nobody passed yet.
    pub fn waits_for_a_person(&self) -> bool {
        self.approved < self.step && self.current().is_some_and(|step| step.gate == Gate::Manual)
    }

    fn decide(&mut self, phase: Phase, deed: &Deed) {
        self.phase = phase;
        self.decided_by = Some(deed.by.clone());
        self.decided_at = Some(deed.at);
    }

    fn pull(&mut self, trip: Option<&Trip>) {
        self.phase = Phase::Pulled;
        self.finished = true;
        self.decided_by = trip.map(|trip| trip.by.clone());
        self.decided_at = trip.map(|trip| trip.at);
        self.why = match trip {
            Some(trip) => format!("pulled at {} %: {} ({})", trip.weight_before, trip.cause.sentence(), trip.reason),
            None => "pulled: the circuit is open".to_owned(),
        };
    }
}
