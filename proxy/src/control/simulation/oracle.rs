//! What must never happen, said apart from the code that sees to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::proxy::{Proxy, SERVICE};
use crate::model::circuit::{Cause, Circuit};
use crate::model::rollout::change::{Lead, RolloutChange};
use crate::model::rollout::plan::Gate;
use crate::model::rollout::{Phase, Rollout, RolloutId};
use crate::model::split::EpisodeId;
use crate::model::state::{Change, ServiceState};
use crate::model::time::Timestamp;
use crate::store::redis::simulated::{Written, Wrote};

/// What the oracle knows, and what it found broken.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// Reasons of the resets that people asked for: each is its own.
    pub(super) resets: BTreeSet<String>,
    /// The trips that were reset so in the store, by episode and the epoch of the reset.
    dealt_with: Vec<(Option<EpisodeId>, u64)>,
    /// What each proxy was last seen to hold.
    pub(super) seen: Vec<Seen>,
    /// When the server was first told of a step: by rollout, step, and when it began by its own account.
    entered: HashMap<(RolloutId, usize, Timestamp), Instant>,
    /// What is broken; the first is what counts.
    pub(super) broken: Vec<String>,
    /// What happened, by name.
    pub(super) counts: BTreeMap<&'static str, u64>,
}

/// What a proxy was last seen to hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The circuit; of a proxy that died, what it had on disk.
    circuit: Circuit,
    /// The circuit in the state file.
    file: Circuit,
    /// Rollouts that were aborted there.
    pub(super) aborted: BTreeSet<RolloutId>,
}

impl Oracle {
    /// An oracle that has seen nothing of so many proxies.
    pub(super) fn new(proxies: usize) -> Self {
        Self { seen: vec![Seen::default(); proxies], ..Self::default() }
    }

    /// Notes that something happened.
    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn hold(&mut self, holds: bool, broken: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(broken());
        }
    }

    /// Whether a reset that a person made closed this open circuit, or one before the latest that is known.
    fn closed_by_right(&self, open: &Circuit, closed: &Circuit) -> bool {
        let by_a_person = closed.reset.as_ref().is_some_and(|reset| self.resets.contains(&reset.reason));
        let is_of = |episode: Option<EpisodeId>, epoch: u64| episode == open.episode && epoch > open.epoch;
        let before = self.dealt_with.iter().any(|(episode, epoch)| is_of(*episode, *epoch));
        by_a_person && (is_of(closed.episode, closed.epoch) || before)
    }

    fn check_closing(&mut self, place: &str, open: &Circuit, now: &Circuit) {
        let right = !open.is_open() || now.is_open() || self.closed_by_right(open, now);
        self.hold(right, || format!("a trip is lost {place}: {open:?} became {now:?}"));
    }

    // === proxies ===

    /// Looks at a proxy after it did something.
    pub(super) fn check_proxy(&mut self, proxy: &Proxy) {
        let name = &proxy.name;
        let file = proxy.file.service(SERVICE);
        let mut seen = std::mem::take(&mut self.seen[proxy.index]);
        self.check_closing(&format!("in the state file of {name}"), &seen.file, &file.circuit);
        seen.file = file.circuit;
        let process = proxy.process.as_ref();
        if let Some((process, view)) = process.and_then(|process| Some((process, process.view()?))) {
            let circuit = process.live.service(SERVICE).circuit();
            self.check_closing(&format!("at {name}"), &seen.circuit, &circuit);
            let effective = view.effective();
            self.hold(!circuit.is_open() || effective.is_zero(), || {
                format!("{name} gives the canary {effective} % with its circuit open")
            });
            if let Some(rollout) = view.live_rollout().filter(|live| seen.aborted.contains(&live.plan.id)) {
                let id = rollout.plan.id;
                self.hold(effective.is_zero(), || {
                    format!("{name} gives the canary {effective} % though {id} was aborted there")
                });
            }
            if circuit.is_open() && !seen.circuit.is_open() {
                let evidence = circuit.trip.as_ref().is_some_and(|trip| trip.cause == Cause::Evidence);
                self.count(if evidence { "circuit opened by evidence" } else { "circuit opened" });
            }
            seen.circuit = circuit;
        }
        self.seen[proxy.index] = seen;
    }

    /// A proxy died: it owes what it had on disk.
    pub(super) fn died(&mut self, proxy: &Proxy) {
        let file = proxy.file.service(SERVICE);
        let seen = &mut self.seen[proxy.index];
        seen.circuit = file.circuit.clone();
        let ended = |id: &RolloutId| {
            file.rollout.as_ref().is_some_and(|rollout| rollout.plan.id == *id && rollout.phase == Phase::Aborted)
        };
        seen.aborted.retain(ended);
    }

    // === the server ===

    /// Looks at a write.
    pub(super) fn check_write(&mut self, written: &Written) {
        let Written { by, wrote, own, before, after } = written;
        // Of two that are open one alone can be reset; whoever holds the other opens the store's again.
        let open = if before.circuit.is_open() { &before.circuit } else { &own.circuit };
        self.check_closing(&format!("in the store, by p{by}"), open, &after.circuit);
        if before.circuit.is_open() && !after.circuit.is_open() {
            self.dealt_with.push((after.circuit.episode, after.circuit.epoch));
        }
        self.hold(after.revision > before.revision, || format!("the revision fell: {before:?} became {after:?}"));
        if after.circuit.is_open() {
            let stopped = after.episode.is_none() && after.live_rollout().is_none();
            self.hold(stopped, || format!("something runs with the circuit open: {after:?}"));
        }
        if let Wrote::Change(change) = wrote {
            self.check_rollout(change, own, before, after);
        }
        self.note_step(after);
    }

    /// Keeps in mind since when a step has been in force.
    fn note_step(&mut self, state: &ServiceState) {
        if let Some(rollout) = &state.rollout {
            self.entered.entry((rollout.plan.id, rollout.step, rollout.entered)).or_insert_with(Instant::now);
        }
    }

    fn check_rollout(&mut self, change: &Change, own: &ServiceState, before: &ServiceState, after: &ServiceState) {
        let (Some(was), Some(is)) = (&before.rollout, &after.rollout) else { return };
        if is.fence > was.fence {
            self.count("new leader");
        }
        let ended = |phase| matches!(phase, Phase::Pulled | Phase::Aborted);
        let ended_here = own.rollout.as_ref().filter(|known| known.plan.id == was.plan.id && ended(known.phase));
        if was.plan.id != is.plan.id {
            self.hold(was.finished || ended_here.is_some(), || {
                format!("{} took the place of {}, which lives", is.plan.id, was.plan.id)
            });
            return;
        }
        let id = is.plan.id;
        self.hold(!ended(was.phase) || was.phase == is.phase, || {
            format!("{id} was {}, and is {}", was.phase, is.phase)
        });
        let stays = was.phase != Phase::Promoted || is.phase == Phase::Promoted || ended(is.phase);
        self.hold(stays, || format!("{id} was promoted, and is {}", is.phase));
        self.hold(!was.finished || is.finished, || format!("{id} was over, and is {}", is.phase));
        if is.phase == Phase::Promoted && was.phase != Phase::Promoted {
            self.count("promoted");
            self.hold(ended_here.is_none(), || format!("{id} is promoted by a proxy that knows it over"));
            let lead = match change {
                Change::Rollout(RolloutChange::Promote { lead, .. }) => *lead,
                other => return self.hold(false, || format!("{id} is promoted by {other:?}")),
            };
            if let Some(lead) = lead {
                self.hold(was.is_at_last(), || format!("{id} is promoted at step {}", was.step));
                self.check_gate(was, lead);
            }
        }
        // A proxy that knows it over puts its own record of the end in place of all else.
        if is.step != was.step && !ended(is.phase) {
            self.count("step begun");
            self.hold(ended_here.is_none(), || format!("{id} goes on by a proxy that knows it over"));
            self.hold(is.step == was.step + 1, || format!("{id} goes from step {} to {}", was.step, is.step));
            match change {
                Change::Rollout(RolloutChange::Advance { lead, .. }) => self.check_gate(was, *lead),
                other => self.hold(false, || format!("{id} goes on by {other:?}")),
            }
        }
        let by_person = matches!(change, Change::SetWeight { .. });
        let rises = after.weight > before.weight && !by_person;
        self.hold(!rises || is.is_live(), || format!("{id} is over, and the weight rises by {change:?}"));
    }

    /// A leader ended a step: nobody led after it, and the step held for its time.
    fn check_gate(&mut self, was: &Rollout, lead: Lead) {
        let id = was.plan.id;
        self.hold(lead.fence >= was.fence, || format!("{id} is moved by {lead:?}, after {:?} led", was.fence));
        self.hold(lead.step == was.step, || format!("{id} is moved at step {} by {lead:?}", was.step));
        let Some(step) = was.current() else { return };
        let entered = self.entered.get(&(id, was.step, was.entered));
        let held = entered.map_or(Duration::MAX, Instant::elapsed);
        self.hold(held >= step.hold(), || format!("{id} left step {} after {held:?} of {:?}", was.step, step.hold()));
        let approved = step.gate != Gate::Manual || was.approved >= was.step;
        self.hold(approved, || format!("{id} left step {} which nobody approved", was.step));
    }

    // === the end ===

    /// All is well again, and has been for a while: everybody knows the same.
    pub(super) fn check_agreement(&mut self, server: &ServiceState, proxies: &[Proxy]) {
        for proxy in proxies {
            let name = &proxy.name;
            let view = proxy.process.as_ref().and_then(super::proxy::Process::view);
            let Some(view) = view else {
                self.broken.push(format!("{name} serves nothing"));
                continue;
            };
            let live = view.live.circuit();
            self.hold(live == server.circuit, || {
                format!("{name} and the store differ in the circuit: {live:?} and {:?}", server.circuit)
            });
            let runs = server.episode.is_some() && !server.circuit.is_open();
            let wanted = server.weight.filter(|_| runs).unwrap_or_default();
            let effective = view.effective();
            self.hold(effective == wanted, || format!("{name} gives the canary {effective} %, the store {wanted} %"));
        }
    }

    /// Nobody has anything to tell any more.
    pub(super) fn check_quiet(&mut self, before: &ServiceState, after: &ServiceState) {
        self.hold(before.revision == after.revision, || {
            format!("nobody wants anything, yet {before:?} became {after:?}")
        });
    }

    /// Nobody has renewed a lease for longer than any lasts.
    pub(super) fn check_lease(&mut self, server: &ServiceState) {
        let Some(rollout) = server.live_rollout() else { return };
        let waits = rollout.phase.is_decided() || rollout.lease().is_none();
        self.hold(waits, || format!("{} outlived its lease: {rollout:?}", rollout.plan.id));
    }

    /// The deadline is over, and stable carries what was promoted.
    pub(super) fn check_end(&mut self, server: &ServiceState) {
        let Some(rollout) = &server.rollout else { return };
        self.hold(rollout.finished, || format!("{} is stuck: {rollout:?}", rollout.plan.id));
        self.count(match rollout.phase {
            Phase::Promoted => "ended promoted",
            Phase::Pulled => "ended pulled",
            Phase::Aborted => "ended aborted",
            _ => "ended otherwise",
        });
    }
}
