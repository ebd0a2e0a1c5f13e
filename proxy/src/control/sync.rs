//! The one publisher of snapshots: keeps what requests read in step with the store, and the
//! store in step with what was latched here.
//!
//! A change by API, by command, by another proxy or by `redis-cli` arrives the same way:
//! the store rings, sync loads, compiles and swaps. Where the store says which services changed, only these are
//! loaded, settled and compiled; what is known of the others stays. Twice a second, and whenever there is any doubt,
//! everything is.

mod flags;
mod publish;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::watch;

use self::flags::Flags;
use self::publish::InForce;
use super::alert::{Alert, Mailer, TripAlert};
use super::discovery::Discovery;
use crate::live::{Live, StoreHealth, compile};
use crate::model::audit::Entry;
use crate::model::circuit::{Cause, Circuit};
use crate::model::discovery::Reading;
use crate::model::rollout::change::RolloutChange;
use crate::model::spec::{ServiceSpec, Spec};
use crate::model::split::{Arm, PerArm};
use crate::model::state::{Change, Scope, ServiceState, State};
use crate::store::{self, Changed, Freshness, Loaded, Store, StoreError};
use crate::telemetry;

/// What was loaded, and how.
struct Sight {
    spec: Arc<Spec>,
    /// The services that were asked for.
    services: Vec<Arc<ServiceSpec>>,
    /// Whether these are all.
    scope: Scope,
    loaded: Loaded,
    reading: Reading,
}

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
    in_force: Option<InForce>,
    discovery: Discovery,
    flags: Flags,
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
        let discovery = Discovery::new(Arc::clone(&live), mailer.clone(), proxy_name.clone());
        let (in_force, flags, revisions) = (None, Flags::default(), HashMap::default());
        let sync = Self { live, store, mailer, proxy_name, spec, published, in_force, discovery, flags, revisions };
        (sync, watching)
    }

    /// Loads everything, mends it, and publishes.
    pub async fn step(&mut self) {
        let spec = Arc::clone(&self.spec.borrow_and_update());
        let names: Vec<String> = spec.services.iter().map(|service| service.name.clone()).collect();
        let mut loaded = self.store.load(&names).await;
        let emptied = loaded.freshness == Freshness::Fresh && self.restore_what_was_lost(&loaded.state).await;
        if emptied {
            loaded = self.store.load(&names).await;
        }
        let reading = match (&loaded.freshness, emptied) {
            (Freshness::LastGood { .. }, _) => Reading::Stale,
            (Freshness::Fresh, true) => Reading::Emptied,
            (Freshness::Fresh, false) => Reading::Fresh,
        };
        let services = spec.services.clone();
        self.take_in(Sight { spec, services, scope: Scope::Whole, loaded, reading }).await;
    }

    /// Goes on for ever: at each ring of the store, each local trip, each reload.
    pub async fn run(mut self) {
        loop {
            let changed = tokio::select! {
                changed = self.store.changed() => changed,
                () = self.live.names().changed.notified() => {
                    self.renew_names();
                    continue;
                }
                () = self.live.latched.notified() => Changed::Anything,
                changed = self.spec.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    Changed::Anything
                }
            };
            self.follow(&changed).await;
            self.live.pulse().control_goes_on();
        }
    }

    /// Loads what may have changed, mends it, and publishes.
    pub(super) async fn follow(&mut self, changed: &Changed) {
        if let Changed::Services(names) = changed
            && let Some(sight) = self.look_at(names).await
        {
            return self.take_in(sight).await;
        }
        self.step().await;
    }

    /// What the store holds of these services; none where that isn't all there is to know: where anything is new, lost,
    /// or was last read from somewhere else than the store.
    async fn look_at(&self, names: &BTreeSet<String>) -> Option<Sight> {
        let in_force = self.in_force.as_ref().filter(|in_force| in_force.is_fresh)?;
        let spec = Arc::clone(&in_force.spec);
        if !Arc::ptr_eq(&spec, &self.spec.borrow()) {
            return None;
        }
        let snapshot = self.live.snapshot();
        let views = names.iter().filter_map(|name| snapshot.service(name));
        let services: Vec<_> = views.map(|view| Arc::clone(&view.spec)).collect();
        let names: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
        let loaded = self.store.load_some(&names).await;
        let is_whole = loaded.freshness == Freshness::Fresh && self.lost(&loaded.state).next().is_none();
        is_whole.then_some(Sight { spec, services, scope: Scope::Part, loaded, reading: Reading::Fresh })
    }

    /// Mends what was loaded, and publishes what came of it.
    async fn take_in(&mut self, sight: Sight) {
        let Sight { spec, services, scope, mut loaded, reading } = sight;
        let is_fresh = loaded.freshness == Freshness::Fresh;
        let mut state = std::mem::take(&mut loaded.state);
        // What stops a canary goes before all that may have to wait for the store, and that of all services before the
        // store hears of any.
        let settle = |service: &Arc<ServiceSpec>| {
            let stored = state.entry(service.name.clone()).or_default();
            self.live.service(&service.name).settle_circuit(&stored.circuit)
        };
        let settled: Vec<_> = services.iter().map(settle).collect();
        for (service, (stands, untold)) in services.iter().zip(settled) {
            let entry = state.entry(service.name.clone()).or_default();
            self.agree_on_circuit(&service.name, entry, stands, untold).await;
            self.settle_abort(&service.name, entry, is_fresh).await;
        }
        if let Some(file) = &spec.flag_file {
            self.seed_flags(file, &mut loaded).await;
        }
        self.take_in_flags(&loaded);
        self.report_health(&loaded);
        for service in services.iter().filter(|_| is_fresh) {
            let entry = state.entry(service.name.clone()).or_default();
            self.settle_episode(service, entry).await;
            let seen = self.revisions.entry(service.name.clone()).or_default();
            *seen = entry.revision.max(*seen);
        }
        let standings = self.discovery.settle(&spec, &state, scope, reading);
        self.publish(spec, state, standings, is_fresh);
    }

    /// Whether a store that forgot services was given them back.
    async fn restore_what_was_lost(&mut self, state: &State) -> bool {
        let Some(InForce { state: known, .. }) = &self.in_force else { return false };
        let kept: State = self.lost(state).filter_map(|name| Some((name.clone(), known.get(name)?.clone()))).collect();
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

    /// The services that the store knew once, and has nothing of now.
    fn lost<'a>(&self, state: &'a State) -> impl Iterator<Item = &'a String> {
        let was_known = |name: &String| self.revisions.get(name).is_some_and(|before| *before > 0);
        state.iter().filter(move |(name, service)| service.revision == 0 && was_known(name)).map(|(name, _)| name)
    }

    /// Makes the store agree with this process on a circuit, and tells people of a trip made here.
    async fn agree_on_circuit(&self, name: &str, state: &mut ServiceState, stands: Circuit, untold: bool) {
        let live = self.live.service(name);
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
        if untold {
            // Asked after it was sent: a mailer that begins to rest later sends it before.
            live.set_unmailed(!told_by_another && self.mailer.rests());
        }
    }

    /// Tells the store of a rollout that was aborted here; where it can't be told, this proxy does as if it were.
    async fn settle_abort(&self, name: &str, state: &mut ServiceState, is_fresh: bool) {
        let live = self.live.service(name);
        let mut is_told = is_fresh;
        if let Some(halt) = state.live_rollout().and_then(|rollout| live.aborted(rollout.plan.id)) {
            let abort = Change::Rollout(RolloutChange::Abort { id: halt.id, deed: halt.deed });
            let stored = self.apply(name, abort.clone()).await;
            is_told = stored.is_ok();
            *state = stored.unwrap_or_else(|_| ServiceState { revision: state.revision, ..state.apply(&abort) });
        }
        // Also where the store was told by another way: of its last good state, or by whoever answers the person.
        let halted = live.halted().filter(|_| is_told);
        let ended = state.rollout.as_ref().filter(|rollout| halted.is_some_and(|halt| halt.id == rollout.plan.id));
        if let Some(rollout) = ended
            && let Err(error) = store::trial::take_back_aborted(&*self.store, &self.proxy_name, name, rollout).await
        {
            tracing::error!(service = name, %error, "An aborted definition may be in force: the store doesn't say");
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
mod tests;
