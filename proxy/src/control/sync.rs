//! The one publisher of snapshots: keeps what requests read in step with the store, and the
//! store in step with what was latched here.
//!
//! A change by API, by command, by another proxy or by `redis-cli` arrives the same way:
//! the store rings, sync loads, compiles and swaps.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::alert::{Alert, Mailer, TripAlert};
use super::discovery::Discovery;
use crate::live::{FlagFacts, Live, Snapshot, Standings, StoreHealth, compile};
use crate::model::audit::Entry;
use crate::model::circuit::{Cause, Circuit};
use crate::model::discovery::Reading;
use crate::model::flag::{Definitions, FlagSet, Refusal};
use crate::model::rollout::change::RolloutChange;
use crate::model::spec::{ServiceSpec, Spec};
use crate::model::split::{Arm, PerArm};
use crate::model::state::{Change, ServiceState, State};
use crate::store::{self, Freshness, Loaded, Store, StoreError};
use crate::telemetry;

/// Keeps store and snapshot in step.
#[derive(Debug)]
pub struct Sync {
    live: Arc<Live>,
    store: Arc<dyn Store>,
    mailer: Mailer,
    proxy_name: String,
    spec: watch::Receiver<Arc<Spec>>,
    published: watch::Sender<u64>,
    /// What the snapshot in force was compiled from.
    in_force: Option<(Arc<Spec>, State, Standings, Arc<FlagSet>)>,
    discovery: Discovery,
    flags: Flags,
    /// The highest revision seen of each service: a lower one means that the store lost something.
    revisions: HashMap<String, u64>,
}

/// The flags as they were loaded last, and as they were compiled.
#[derive(Debug, Default)]
struct Flags {
    definitions: Arc<Definitions>,
    refused_in_store: Arc<[Refusal]>,
    set: Arc<FlagSet>,
    refusals: Arc<[Refusal]>,
}

impl Flags {
    /// Compiles what was loaded, if that is anything new: then this is true.
    fn take_in(&mut self, loaded: &Loaded) -> bool {
        if self.definitions == loaded.flags && self.refused_in_store == loaded.refused {
            return false;
        }
        let (set, found) = loaded.flags.compile(&self.set);
        let mut refusals = loaded.refused.to_vec();
        refusals.extend(found.into_iter().filter(|refusal| !loaded.refused.contains(refusal)));
        *self = Self {
            definitions: Arc::clone(&loaded.flags),
            refused_in_store: Arc::clone(&loaded.refused),
            set: Arc::new(set),
            refusals: refusals.into(),
        };
        true
    }
}

impl Sync {
    /// A sync that has done nothing yet, and a watch on the revision it published last.
    pub fn new(
        live: Arc<Live>,
        store: Arc<dyn Store>,
        mailer: Mailer,
        proxy_name: String,
        spec: watch::Receiver<Arc<Spec>>,
    ) -> (Self, watch::Receiver<u64>) {
        let (published, watching) = watch::channel(0);
        let discovery = Discovery::new(Arc::clone(&live), mailer.clone(), proxy_name.clone());
        let (in_force, flags, revisions) = (None, Flags::default(), HashMap::default());
        let sync = Self { live, store, mailer, proxy_name, spec, published, in_force, discovery, flags, revisions };
        (sync, watching)
    }

    /// Loads, mends and publishes once.
    pub async fn step(&mut self) {
        let spec = Arc::clone(&self.spec.borrow_and_update());
        let names: Vec<String> = spec.services.iter().map(|service| service.name.clone()).collect();
        let mut loaded = self.store.load(&names).await;
        let emptied = loaded.freshness == Freshness::Fresh && self.restore_what_was_lost(&loaded.state).await;
        if emptied {
            loaded = self.store.load(&names).await;
        }
        self.take_in_flags(&loaded);
        self.report_health(&loaded);
        let fresh = loaded.freshness == Freshness::Fresh;
        let mut state = loaded.state;
        for service in &spec.services {
            let entry = state.entry(service.name.clone()).or_default();
            self.settle_circuit(&service.name, entry).await;
            self.settle_abort(&service.name, entry).await;
            if fresh {
                self.settle_episode(service, entry).await;
                let seen = self.revisions.entry(service.name.clone()).or_default();
                *seen = entry.revision.max(*seen);
            }
        }
        let reading = match (fresh, emptied) {
            (false, _) => Reading::Stale,
            (true, true) => Reading::Emptied,
            (true, false) => Reading::Fresh,
        };
        let standings = self.discovery.settle(&spec, &mut state, reading);
        self.publish(spec, state, standings);
    }

    /// Goes on for ever: at each ring of the store, each local trip, each reload.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                // Whatever rang: what becomes of leases and flags is said of all of them together.
                _changed = self.store.changed() => {}
                () = self.live.latched.notified() => {}
                changed = self.spec.changed() => if changed.is_err() { return },
            }
            self.step().await;
        }
    }

    /// Whether a store that forgot services was given them back.
    async fn restore_what_was_lost(&mut self, state: &State) -> bool {
        let Some((_, known, _, _)) = &self.in_force else { return false };
        let lost = |name: &String| {
            let before = self.revisions.get(name).copied().unwrap_or_default();
            before > 0 && state.get(name).is_none_or(|service| service.revision == 0)
        };
        let kept: State = known.iter().filter(|(name, _)| lost(name)).map(|(n, s)| (n.clone(), s.clone())).collect();
        if kept.is_empty() {
            return false;
        }
        tracing::warn!(services = kept.len(), "The store lost its state: writing back the last good one");
        match self.store.restore(&kept).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "The last good state couldn't be written back");
                false
            }
        }
    }

    /// Makes this process and the store agree on a circuit, and tells people of a trip made here.
    async fn settle_circuit(&self, name: &str, state: &mut ServiceState) {
        let live = self.live.service(name);
        let stands = live.merge_circuit(&state.circuit);
        let untold = live.take_untold();
        let mut told_by_another = false;
        if stands != state.circuit {
            match self.apply(name, Change::MergeCircuit { circuit: stands.clone() }).await {
                Ok(stored) => {
                    told_by_another = stored.circuit.trip != stands.trip;
                    *state = stored;
                    live.merge_circuit(&state.circuit);
                }
                Err(_) => {
                    state.circuit = stands.clone();
                    state.obey_circuit();
                }
            }
        }
        if untold && !told_by_another {
            self.tell(name, state, &stands);
        }
    }

    /// Tells the store of a rollout that was aborted here; where it can't be told, this proxy does as if it were.
    async fn settle_abort(&self, name: &str, state: &mut ServiceState) {
        let live = self.live.service(name);
        let Some(halt) = state.live_rollout().and_then(|rollout| live.aborted(rollout.plan.id)) else { return };
        let abort = Change::Rollout(RolloutChange::Abort { id: halt.id, deed: halt.deed });
        *state = match self.apply(name, abort.clone()).await {
            Ok(stored) => stored,
            Err(_) => ServiceState { revision: state.revision, ..state.apply(&abort) },
        };
    }

    /// An abort needs its latch no longer once requests are served by a snapshot that knows of it. While
    /// the store is away it stays: what comes back may not know.
    fn release_halts(&self, state: &State) {
        if !self.live.store_health().reachable {
            return;
        }
        for (name, service) in state {
            let live = self.live.service(name);
            if let Some(halt) = live.halted()
                && service.live_rollout().is_none_or(|rollout| rollout.plan.id != halt.id)
            {
                live.lift_halt(halt.id);
            }
        }
    }

    fn tell(&self, name: &str, state: &ServiceState, circuit: &Circuit) {
        let Some(trip) = circuit.trip.clone() else { return };
        tracing::warn!(service = name, cause = %trip.cause, reason = trip.reason, by = trip.by, "Circuit opened");
        // What this very trip ended.
        let ended = state.rollout.as_ref().filter(|rollout| rollout.is_pulled_by(&trip));
        let flag = ended.and_then(|rollout| rollout.plan.subject.flag()).cloned();
        // Who asked for a trip by the API is noted there.
        if !matches!(trip.cause, Cause::Person | Cause::Alert) {
            let [proxy, who] = [&self.proxy_name, &trip.by].map(String::clone);
            let [what, from, to] = ["trip", "closed", "open"].map(str::to_owned);
            let (service, why) = (Some(name.to_owned()), Some(trip.reason.clone()));
            // Two proxies that trip in the same moment may both believe to be the first: it is one trip.
            let id = format!("trip-{name}-{}", circuit.epoch);
            let flag = flag.as_ref().map(|trial| trial.key.clone());
            self.store.note(Entry { id, proxy, who, what, service, flag, from, to, why, ..Entry::default() });
        }
        let version = |arm: Arm| {
            let members = state.pools.get(arm).values();
            members.filter_map(|member| member.spec()?.version.clone()).next()
        };
        self.mailer.send(Alert::Tripped(Box::new(TripAlert {
            service: name.to_owned(),
            proxy: self.proxy_name.clone(),
            episode: circuit.episode,
            trip,
            // A flag has both arms served by one pool.
            versions: if flag.is_some() { PerArm::default() } else { PerArm::from_fn(version) },
            flag,
        })));
    }

    /// An episode runs exactly while the canary is to get something.
    async fn settle_episode(&self, spec: &ServiceSpec, state: &mut ServiceState) {
        let wanted = !compile::asked_weight(spec, state).is_zero() && !state.circuit.is_open();
        let change = match (wanted, state.episode) {
            (true, None) => Change::BeginEpisode { fresh: store::fresh_episode() },
            (false, Some(running)) => Change::EndEpisode { episode: running.id },
            _ => return,
        };
        if let Ok(stored) = self.apply(&spec.name, change).await {
            *state = stored;
        }
    }

    async fn apply(&self, service: &str, change: Change) -> Result<ServiceState, StoreError> {
        let result = self.store.apply(service, &change, None).await;
        if let Err(error) = &result {
            tracing::warn!(service, %error, "A change couldn't be stored; it is tried again");
        }
        result
    }

    fn publish(&mut self, spec: Arc<Spec>, state: State, standings: Standings) {
        let flags = Arc::clone(&self.flags.set);
        if let Some((spec_before, state_before, standings_before, flags_before)) = &self.in_force
            && Arc::ptr_eq(spec_before, &spec)
            && Arc::ptr_eq(flags_before, &flags)
            && *state_before == state
            && *standings_before == standings
        {
            self.release_halts(&state);
            return;
        }
        let compiled = |service: &Arc<ServiceSpec>| {
            compile::service(&self.live, service, &state[&service.name], &standings, &flags)
        };
        let services = spec.services.iter().map(compiled).collect();
        let revision = self.live.snapshot().revision + 1;
        self.live.snapshot_cell().store(Arc::new(Snapshot::new(revision, services, Arc::clone(&flags))));
        tracing::debug!(revision, "Snapshot published");
        self.release_halts(&state);
        self.in_force = Some((spec, state, standings, flags));
        self.published.send_replace(revision);
    }

    /// Compiles the flags where they changed, for the next snapshot.
    fn take_in_flags(&mut self, loaded: &Loaded) {
        if self.flags.take_in(loaded) {
            let Flags { definitions, set, refusals, .. } = &self.flags;
            let (definitions, refusals) = (Arc::clone(definitions), Arc::clone(refusals));
            let facts = FlagFacts { definitions, refusals, set: Arc::clone(set) };
            self.live.set_flags(facts, set);
            tracing::info!(flags = set.len(), refused = self.flags.refusals.len(), "Flags changed");
        }
    }

    fn report_health(&self, loaded: &Loaded) {
        let before = self.live.store_health();
        let mut poisoned: Vec<_> =
            loaded.poisoned.iter().map(|poison| (poison.key.clone(), poison.problem.clone())).collect();
        // The place says which flag, and where in it.
        poisoned.extend(self.flags.refusals.iter().map(|refusal| (refusal.at.clone(), refusal.why.to_string())));
        if poisoned != before.poisoned {
            for (key, problem) in &poisoned {
                tracing::warn!(key, problem, "A value in the store makes no sense and is passed over");
            }
        }
        let mirror = loaded.mirror.clone();
        let health = match &loaded.freshness {
            Freshness::Fresh => {
                StoreHealth { reachable: true, read_at: Some(telemetry::now()), detail: None, poisoned, mirror }
            }
            Freshness::LastGood { read_at, because } => {
                StoreHealth { reachable: false, read_at: *read_at, detail: Some(because.clone()), poisoned, mirror }
            }
        };
        match (before.reachable, health.reachable) {
            (true, false) => tracing::warn!(
                detail = health.detail.as_deref().unwrap_or_default(),
                "The store can't be reached: serving the last good state"
            ),
            (false, true) if before.detail.is_some() => tracing::info!("The store is back"),
            _ => {}
        }
        self.live.set_store_health(health);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::flag::Context;
    use crate::model::time::Timestamp;

    /// What a store loads that holds this one flag.
    fn holding(definition: &str) -> Loaded {
        let flags = [("kill".to_owned(), Arc::from(definition))].into();
        let definitions = Definitions { revision: 1, flags, ..Definitions::default() };
        Loaded { flags: Arc::new(definitions), ..Loaded::of(State::new(), Freshness::Fresh) }
    }

    #[test]
    fn flags_are_compiled_when_they_change_and_a_refused_one_stays_what_it_was() {
        let off = r#"{"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"}"#;
        let mut flags = Flags::default();
        let is_off = |flags: &Flags| {
            let context = Context::empty(Timestamp::from_millis(0));
            flags.set.evaluate("kill", &context).as_bool() == Some(false)
        };
        assert!(flags.take_in(&holding(off)) && is_off(&flags));
        assert!(!flags.take_in(&holding(off)), "nothing changed");
        assert!(flags.take_in(&holding("spoiled")) && is_off(&flags));
        assert_eq!(flags.refusals[0].flag.as_deref(), Some("kill"));
        // what the store itself refuses is told as well, and once
        let refused = Arc::clone(&flags.refusals);
        assert!(flags.take_in(&Loaded { refused: Arc::clone(&refused), ..holding("spoiled") }));
        assert_eq!(flags.refusals, refused);
        assert!(flags.take_in(&holding(off)) && flags.refusals.is_empty());
    }
}
