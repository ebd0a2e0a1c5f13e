//! The one publisher of snapshots: keeps what requests read in step with the store, and the
//! store in step with what was latched here.
//!
//! A change by API, by command, by another proxy or by `redis-cli` arrives the same way:
//! the store rings, sync loads, compiles and swaps.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::alert::{Alert, Mailer, TripAlert};
use crate::live::{Live, Snapshot, StoreHealth, compile};
use crate::model::circuit::Circuit;
use crate::model::rollout::change::RolloutChange;
use crate::model::spec::{ServiceSpec, Spec};
use crate::model::split::{Arm, PerArm};
use crate::model::state::{Change, ServiceState, State};
use crate::store::{self, Changed, Freshness, Loaded, Store, StoreError};
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
    in_force: Option<(Arc<Spec>, State)>,
    /// The highest revision seen of each service: a lower one means that the store lost something.
    revisions: HashMap<String, u64>,
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
        let sync =
            Self { live, store, mailer, proxy_name, spec, published, in_force: None, revisions: HashMap::default() };
        (sync, watching)
    }

    /// Loads, mends and publishes everything once.
    pub async fn step(&mut self) {
        self.step_for(&Changed::Anything).await;
    }

    /// Loads, mends and publishes what changed.
    async fn step_for(&mut self, changed: &Changed) {
        let spec = Arc::clone(&self.spec.borrow_and_update());
        let is_new = self.in_force.as_ref().is_none_or(|(before, _)| !Arc::ptr_eq(before, &spec));
        let changed = if is_new { &Changed::Anything } else { changed };
        let services: Vec<_> =
            spec.services.iter().filter(|service| changed.is_about(&service.name)).cloned().collect();
        let names: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
        if names.is_empty() && *changed != Changed::Anything {
            return;
        }
        let mut loaded = self.store.load(&names).await;
        if loaded.freshness == Freshness::Fresh && self.restore_what_was_lost(&loaded.state).await {
            loaded = self.store.load(&names).await;
        }
        self.report_health(&loaded, changed);
        let fresh = loaded.freshness == Freshness::Fresh;
        let mut state = loaded.state;
        for service in &services {
            let entry = state.entry(service.name.clone()).or_default();
            self.settle_circuit(&service.name, entry).await;
            self.settle_abort(&service.name, entry).await;
            if fresh {
                self.settle_episode(service, entry).await;
                let seen = self.revisions.entry(service.name.clone()).or_default();
                *seen = entry.revision.max(*seen);
            }
        }
        self.publish(spec, state);
    }

    /// Goes on for ever: at each ring of the store, each local trip, each reload.
    pub async fn run(mut self) {
        loop {
            let changed = tokio::select! {
                changed = self.store.changed() => changed,
                () = self.live.latched.notified() => Changed::Anything,
                changed = self.spec.changed() => if changed.is_err() { return } else { Changed::Anything },
            };
            self.step_for(&changed).await;
        }
    }

    /// Whether a store that forgot services was given them back.
    async fn restore_what_was_lost(&mut self, state: &State) -> bool {
        let Some((_, known)) = &self.in_force else { return false };
        let lost = |name: &String| {
            let before = self.revisions.get(name).copied().unwrap_or_default();
            before > 0 && state.get(name).is_some_and(|service| service.revision == 0)
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
        let version = |arm: Arm| {
            let members = state.pools.get(arm).values();
            members.filter_map(|member| member.spec()?.version.clone()).next()
        };
        self.mailer.send(Alert::Tripped(Box::new(TripAlert {
            service: name.to_owned(),
            proxy: self.proxy_name.clone(),
            episode: circuit.episode,
            trip,
            versions: PerArm::from_fn(version),
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

    /// Puts in force what these services are now. All others stay as they are, unless the configuration is new.
    fn publish(&mut self, spec: Arc<Spec>, news: State) {
        let in_force = self.in_force.take().filter(|(before, _)| Arc::ptr_eq(before, &spec));
        let is_new = in_force.is_none();
        let mut state = in_force.map(|(_, state)| state).unwrap_or_default();
        let differs = |name: &str| is_new || news.get(name).is_some_and(|news| state.get(name) != Some(news));
        if spec.services.iter().any(|service| differs(&service.name)) || is_new {
            let before = self.live.snapshot();
            let of_before = |index: usize| before.services().get(index).map(Arc::clone);
            let compiled = |(index, service): (usize, &Arc<ServiceSpec>)| {
                let kept = if differs(&service.name) { None } else { of_before(index) };
                kept.unwrap_or_else(|| compile::service(&self.live, service, &news[&service.name]))
            };
            let services = spec.services.iter().enumerate().map(compiled).collect();
            let revision = before.revision + 1;
            self.live.snapshot_cell().store(Arc::new(Snapshot::new(revision, services)));
            tracing::debug!(revision, "Snapshot published");
            self.published.send_replace(revision);
        }
        self.release_halts(&news);
        state.extend(news);
        self.in_force = Some((spec, state));
    }

    fn report_health(&self, loaded: &Loaded, changed: &Changed) {
        let before = self.live.store_health();
        let mut poisoned: Vec<_> =
            loaded.poisoned.iter().map(|poison| (poison.key.clone(), poison.problem.clone())).collect();
        if *changed != Changed::Anything {
            // Nobody looked at the others: what was wrong with them is so until the next look at everything.
            poisoned
                .extend(before.poisoned.iter().filter(|known| !poisoned.contains(known)).cloned().collect::<Vec<_>>());
        }
        if poisoned != before.poisoned {
            for (key, problem) in &poisoned {
                tracing::warn!(key, problem, "A value in the store makes no sense and is passed over");
            }
        }
        let (reachable, read_at, detail) = match &loaded.freshness {
            Freshness::Fresh => (true, Some(telemetry::now()), None),
            Freshness::LastGood { read_at, because } => (false, *read_at, Some(because.clone())),
        };
        let health = StoreHealth { reachable, read_at, detail, poisoned, mirror: loaded.mirror.clone() };
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
