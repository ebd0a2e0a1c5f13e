//! The swap: from what was settled to the snapshot that requests read. What says the same as before is not compiled
//! again.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Sync;
use crate::live::names::{self, Names};
use crate::live::{ServiceView, Snapshot, Standings, compile};
use crate::model::flag::FlagSet;
use crate::model::spec::{ServiceSpec, Spec};
use crate::model::state::{ServiceState, State};

/// What the snapshot in force was compiled from.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) spec: Arc<Spec>,
    flags: Arc<FlagSet>,
    /// Of every service, as it was settled: without members that serve on without a lease.
    pub(super) state: State,
    standings: Standings,
    names: Arc<Names>,
    /// Whether all of it was read from the store itself.
    pub(super) is_fresh: bool,
}

impl InForce {
    /// Takes in what was seen of services. Returns those of which anything is new.
    fn take_in(&mut self, seen: State, standings: Standings, names: Arc<Names>) -> BTreeSet<String> {
        let mut news: BTreeSet<String> = self.standings.differing(&standings).map(str::to_owned).collect();
        for (name, state) in seen {
            if self.state.get(&name) != Some(&state) {
                news.insert(name.clone());
                self.state.insert(name, state);
            }
        }
        self.standings = standings;
        news.extend(self.take_in_names(names));
        news
    }
}

impl InForce {
    /// The services that have members of names of which anything is new.
    fn take_in_names(&mut self, names: Arc<Names>) -> Vec<String> {
        let before = std::mem::replace(&mut self.names, names);
        if Arc::ptr_eq(&before, &self.names) {
            return Vec::new();
        }
        let hosts = names::differing(&before, &self.names);
        let concerned = |spec: &&Arc<ServiceSpec>| {
            self.state.get(&spec.name).is_some_and(|state| names::concern(&hosts, spec, state))
        };
        self.spec.services.iter().filter(concerned).map(|spec| spec.name.clone()).collect()
    }
}

impl Sync {
    /// Publishes what follows from this configuration and what was seen of its services, if that is anything new.
    pub(super) fn publish(&mut self, spec: Arc<Spec>, seen: State, standings: Standings, is_fresh: bool) {
        let flags = Arc::clone(&self.flags.set);
        let names = self.live.names().known();
        let aborted = self.newly_aborted(&seen);
        let looked_at: Vec<String> = seen.keys().cloned().collect();
        let before = self.in_force.take().filter(|before| Arc::ptr_eq(&before.spec, &spec));
        let (next, snapshot) = match before {
            Some(mut next) if Arc::ptr_eq(&next.flags, &flags) => {
                next.is_fresh = is_fresh;
                let news = next.take_in(seen, standings, names);
                let snapshot = (!news.is_empty()).then(|| self.compile_some(&next, &news));
                (next, snapshot)
            }
            before => {
                let mut state = before.map(|before| before.state).unwrap_or_default();
                state.extend(seen);
                let next = InForce { spec, flags, state, standings, names, is_fresh };
                let snapshot = self.compile_all(&next);
                (next, Some(snapshot))
            }
        };
        self.in_force = Some(next);
        if let Some(snapshot) = snapshot {
            let revision = snapshot.revision;
            self.live.snapshot_cell().store(Arc::new(snapshot));
            tracing::debug!(revision, "Snapshot published");
            self.published.send_replace(revision);
        }
        // Only now: a request that still goes by the snapshot before came before this.
        aborted.iter().for_each(|name| self.live.service(name).recall());
        self.release_halts(&looked_at);
    }

    /// Publishes what follows from names alone: nothing else is looked at.
    pub(super) fn renew_names(&mut self) {
        let Some(InForce { spec, standings, is_fresh, .. }) = &self.in_force else { return };
        let (spec, standings, is_fresh) = (Arc::clone(spec), standings.clone(), *is_fresh);
        self.publish(spec, State::new(), standings, is_fresh);
    }

    /// The services whose rollouts were aborted, here or by another proxy, since they were last seen: what their
    /// canaries still serve is to end.
    fn newly_aborted(&self, seen: &State) -> Vec<String> {
        let Some(InForce { state: known, .. }) = &self.in_force else { return Vec::new() };
        let is_news = |(name, state): &(&String, &ServiceState)| {
            let aborted = state.aborted_rollout();
            aborted.is_some() && known.get(*name).is_some_and(|known| known.aborted_rollout() != aborted)
        };
        seen.iter().filter(is_news).map(|(name, _)| name.clone()).collect()
    }

    fn compile_all(&self, next: &InForce) -> Snapshot {
        let services = next.spec.services.iter().map(|service| self.compile(service, next)).collect();
        Snapshot::new(self.live.snapshot().revision + 1, services, Arc::clone(&next.flags), self.live.cores())
    }

    fn compile_some(&self, next: &InForce, names: &BTreeSet<String>) -> Snapshot {
        let before = self.live.snapshot();
        let places = names.iter().filter_map(|name| before.place(name));
        before.with(places.map(|place| (place, self.compile(&before.services()[place].spec, next))))
    }

    fn compile(&self, service: &Arc<ServiceSpec>, next: &InForce) -> Arc<ServiceView> {
        let state = self.discovery.fill(&service.name, &next.state[&service.name]);
        compile::service(&self.live, service, &state, &next.standings, &next.flags)
    }

    /// An abort needs its latch no longer once requests are served by a snapshot that knows of it. While
    /// the store is away it stays: what comes back may not know.
    fn release_halts(&self, looked_at: &[String]) {
        if !self.live.store_health().reachable {
            return;
        }
        let Some(InForce { state, .. }) = &self.in_force else { return };
        for (name, service) in looked_at.iter().filter_map(|name| state.get_key_value(name)) {
            let live = self.live.service(name);
            if let Some(halt) = live.halted()
                && service.live_rollout().is_none_or(|rollout| rollout.plan.id != halt.id)
            {
                live.lift_halt(halt.id);
            }
        }
    }
}
