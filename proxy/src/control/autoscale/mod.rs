//! Autoscaling: every proxy measures and tells the others; the one that leads decides and has it done.
//!
//! How many there should be is [`decide`]'s to say. Here it gets its figures, and what it says is done: instances are
//! asked for, believed only when they are in the pool and ready, and taken away only when no proxy has anything with
//! them. What is under way is kept in the store before the driver hears of it, under the leader's fence: a leader that
//! was overtaken finds that its change wasn't taken, and does nothing.

#[cfg(feature = "docker")]
mod docker;
mod driver;
mod exec;
mod lease;
mod meter;
mod pool;
mod query;
mod register;
mod removal;
mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use self::driver::{Done, Driver, DriverError, Task, Wish};
use self::exec::ExecDriver;
use self::lease::Lease;
use self::meter::{Fleet, Meter};
use self::query::Answers;
use self::task::{OVERTAKEN, Turn};
use crate::control::alert::Mailer;
use crate::live::scaling::ScalingStatus;
use crate::live::{EndpointView, Live, ServiceView};
#[cfg(feature = "docker")]
use crate::model::scaling::DockerSpec;
use crate::model::scaling::{Act, Bar, DriverKind, Measure, Memory, ScalingSpec, Seen, Sizes, decide};
use crate::model::time::Timestamp;
use crate::store::{About, Store, Word};
use crate::telemetry;
use crate::telemetry::panics::pass_on;

/// How often a pool is measured.
const MOMENT: Duration = Duration::from_secs(1);
/// At each so manieth moment it is decided.
const LOOK: u32 = 5;
/// For so long a snapshot may be behind what was noted. A store that lost the newest revisions never shows them.
const BEHIND: Duration = Duration::from_secs(10);
/// Who decided nothing for so long begins anew: what it saw is too long ago.
const FORGETS: Duration = Duration::from_secs(15);

/// Makes the driver that a configuration names.
type Make = Box<dyn Fn(&ScalingSpec) -> Option<Arc<dyn Driver>> + Send + Sync>;

/// What becomes of a call of the driver.
struct Called {
    service: String,
    wish: Wish,
    outcome: Result<Done, DriverError>,
}

/// Measures and scales the pools of all services.
pub struct Autoscaler {
    live: Arc<Live>,
    store: Arc<dyn Store>,
    mailer: Mailer,
    proxy_name: String,
    lease: Arc<Lease>,
    watched: HashMap<String, Watched>,
    calls: JoinSet<Called>,
    make: Make,
    /// Whether this process only ends what it has: it decides nothing any more.
    leaves: bool,
}

impl std::fmt::Debug for Autoscaler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Autoscaler").field("lease", &self.lease).finish_non_exhaustive()
    }
}

/// What this process knows of one pool.
#[derive(Default)]
struct Watched {
    meter: Meter,
    fleet: Fleet,
    memory: Memory,
    /// When it was decided last.
    decided: Option<Instant>,
    /// Since when each endpoint is ready, as far as was seen here.
    ready_since: BTreeMap<String, Timestamp>,
    /// Since when each one fails its checks, as far as was seen here.
    down_since: BTreeMap<String, Timestamp>,
    /// Whether the driver is at work: one thing at a time.
    calling: bool,
    /// The service's revision after the last thing that was noted, and when that was.
    noted: Mutex<Option<(u64, Instant)>>,
}

fn make_driver(spec: &ScalingSpec) -> Option<Arc<dyn Driver>> {
    let driver = spec.driver.as_ref()?;
    match &driver.kind {
        DriverKind::Exec(exec) => Some(Arc::new(ExecDriver::new(exec.clone(), driver.timeout))),
        #[cfg(feature = "docker")]
        DriverKind::Docker(docker) => {
            Some(Arc::new(docker::DockerDriver::new(DockerSpec::clone(docker), driver.timeout)))
        }
        // The configuration refuses it where it isn't built in.
        #[cfg(not(feature = "docker"))]
        DriverKind::Docker(_) => None,
    }
}

impl Autoscaler {
    /// One that has seen nothing yet. The holder names this process to the others: no two are the same, and all that
    /// leads in a process leads by it.
    pub fn new(live: Arc<Live>, store: Arc<dyn Store>, mailer: Mailer, proxy_name: String, holder: String) -> Self {
        let lease = Arc::new(Lease::new(Arc::clone(&live), Arc::clone(&store), holder));
        let (watched, calls) = (HashMap::new(), JoinSet::new());
        let make: Make = Box::new(make_driver);
        Self { live, store, mailer, proxy_name, lease, watched, calls, make, leaves: false }
    }

    /// Goes on until it is stopped. From then on it tells the others what is still in flight here, so that nobody takes
    /// an instance away under it, until this process is drained; then it takes back what it told.
    pub async fn run(self, stopped: watch::Receiver<bool>, drained: watch::Receiver<bool>) {
        let mut keeper = JoinSet::new();
        keeper.spawn(Arc::clone(&self.lease).keep());
        self.run_beside(keeper, stopped, drained).await;
    }

    /// As [`Self::run`], beside who keeps its lease.
    async fn run_beside(
        mut self,
        mut keeper: JoinSet<()>,
        mut stopped: watch::Receiver<bool>,
        mut drained: watch::Receiver<bool>,
    ) {
        tokio::select! {
            () = self.go_on_for_ever() => {}
            Some(ended) = keeper.join_next() => pass_on(ended),
            _either_way_it_is_over = stopped.wait_for(|stop| *stop) => {}
        }
        // Another process leads from here on.
        drop(keeper);
        self.stand_down();
        let telling = async {
            self.look().await;
            self.go_on_for_ever().await;
        };
        tokio::select! {
            () = telling => {}
            _either_way_it_is_over = drained.wait_for(|drained| *drained) => {}
        }
        self.withdraw().await;
    }

    /// From now on it decides nothing, and hears of nothing that the driver does.
    fn stand_down(&mut self) {
        self.leaves = true;
        self.calls.abort_all();
    }

    async fn go_on_for_ever(&mut self) {
        let mut moments = tokio::time::interval(MOMENT);
        moments.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0_u32;
        loop {
            moments.tick().await;
            self.measure();
            count = count.wrapping_add(1);
            if count.is_multiple_of(LOOK) {
                self.look().await;
            }
        }
    }

    /// This process ends: what it measured last is no load any more.
    async fn withdraw(&self) {
        let own = self.lease.holder();
        for service in self.watched.keys() {
            let word = Word { about: About::Load(service), teller: own, said: "", gone: &[own.to_owned()] };
            let _it_gets_old_otherwise = self.store.share(word).await;
        }
    }

    /// Takes a moment of each pool in.
    fn measure(&mut self) {
        let snapshot = self.live.snapshot();
        let scaled: HashSet<&str> =
            snapshot.services().iter().filter(|s| s.spec.autoscale.is_some()).map(|s| name(s)).collect();
        self.watched.retain(|name, _| scaled.contains(name.as_str()));
        for service in snapshot.services().iter().filter(|service| service.spec.autoscale.is_some()) {
            self.watched.entry(service.spec.name.clone()).or_default().meter.note(service);
        }
    }

    /// Tells and hears what was measured, and decides what is to be done.
    async fn look(&mut self) {
        if self.leaves {
            let snapshot = self.live.snapshot();
            for service in snapshot.services().iter().filter(|service| service.spec.autoscale.is_some()) {
                self.exchange(service).await;
            }
            return;
        }
        // First all of them: what is to be heard again comes again at the next look.
        let ended: Vec<_> = std::iter::from_fn(|| self.calls.try_join_next()).collect();
        for called in ended {
            match called {
                Ok(called) => self.called(called).await,
                Err(error) => tracing::error!(%error, "A call of a driver broke off"),
            }
        }
        if self.calls.is_empty() {
            self.watched.values_mut().for_each(|watched| watched.calling = false);
        }
        // Before anything is looked at: Prometheus may take its time.
        let answers = self.ask().await;
        let snapshot = self.live.snapshot();
        for service in snapshot.services() {
            if let Some(spec) = &service.spec.autoscale {
                self.look_at(service, spec, &answers).await;
            }
        }
    }

    /// What Prometheus says to the queries of all rules, where this process leads.
    async fn ask(&self) -> Answers {
        if self.lease.fence().is_none() {
            return Answers::default();
        }
        let snapshot = self.live.snapshot();
        let specs = snapshot.services().iter().filter_map(|service| service.spec.autoscale.as_ref());
        let questions = specs.flat_map(|spec| {
            let queries = spec.rules.iter().filter_map(|rule| match &rule.measure {
                Measure::Own(_) => None,
                Measure::Query { query, .. } => Some(query),
            });
            queries.map(|query| (spec.prometheus.clone(), query.clone()))
        });
        query::ask_all(questions.collect()).await
    }

    async fn look_at(&mut self, service: &ServiceView, spec: &ScalingSpec, answers: &Answers) {
        self.exchange(service).await;
        let now = telemetry::now();
        let Some(sizes) = self.watched.get_mut(name(service)).map(|watched| watched.sizes(service, spec, now)) else {
            return;
        };
        let nothing = |note: &str| ScalingStatus { sizes, decision: None, note: note.to_owned() };
        let Some(fence) = self.lease.fence() else {
            service.live.set_scaling(nothing("another proxy leads, or the store can't be reached"));
            return;
        };
        let scaling = service.scaling.clone().unwrap_or_default();
        if scaling.fence != fence {
            // Before anything is decided: from here on those who led before are not listened to, and what they did
            // until then is seen.
            let begins = self.note(service, fence, Act::Hold).await.is_some();
            service.live.set_scaling(nothing(if begins { "it begins to lead" } else { OVERTAKEN }));
            return;
        }
        let Some(watched) = self.watched.get_mut(name(service)) else { return };
        watched.begin_anew_after_a_while();
        let values = watched.values(spec, sizes, answers);
        let bars = pool::bars(service, spec, self.live.store_health().reachable, watched.fleet.is_heard(), now);
        let set = scaling.order_at(now).and_then(|order| order.size);
        let seen = Seen { now, sizes, values: &values, bars: &bars, set, week: service.week.as_ref() };
        let decision = decide(spec, &scaling.ledger, &mut watched.memory, &seen);
        let lesson = watched.memory.lesson();
        let stays = |bar: &Bar| matches!(bar, Bar::Rollout | Bar::Freeze(_) | Bar::Paused(_));
        let is_barred = set.is_none() && bars.iter().any(stays);
        let note = self.act(&Turn { service, spec, fence, decision: &decision, is_barred }).await;
        if let Some(lesson) = lesson {
            self.note(service, fence, Act::Learn(lesson)).await;
        }
        service.live.set_scaling(ScalingStatus { sizes, decision: Some(decision), note });
    }

    /// Tells the others what was measured here, and hears what they did.
    async fn exchange(&mut self, service: &ServiceView) {
        let Some(watched) = self.watched.get_mut(name(service)) else { return };
        let load = if self.leaves { watched.meter.rest(service) } else { watched.meter.load(service) };
        let said = serde_json::to_string(&load).unwrap_or_default();
        let own = self.lease.holder();
        let word = Word { about: About::Load(name(service)), teller: own, said: &said, gone: &[] };
        let told = self.store.share(word).await;
        // What isn't heard gets old, and then there is no value.
        let gone = told.map(|told| watched.fleet.hear(&told, own)).unwrap_or_default();
        if !gone.is_empty() {
            let _tried_again_later = self.store.share(Word { gone: &gone, ..word }).await;
        }
    }
}

impl Watched {
    /// How many there are, by what is in the pool and what was asked for.
    fn sizes(&mut self, service: &ServiceView, spec: &ScalingSpec, now: Timestamp) -> Sizes {
        let endpoints = || service.pools.stable.iter();
        keep_since(&mut self.ready_since, endpoints().filter(|endpoint| endpoint.is_ready()), now);
        keep_since(&mut self.down_since, endpoints().filter(|endpoint| pool::is_down(endpoint)), now);
        let young = |since: &&Timestamp| now.since(**since) < spec.pace.warm_up;
        // Those that were there when this process began have long warmed up.
        let first = self.ready_since.values().min().copied();
        let warming = self.ready_since.values().filter(|since| Some(**since) != first).filter(young).count();
        Sizes { warming: pool::count(warming), ..pool::sizes(service) }
    }

    /// Whoever begins to lead has seen nothing: what it saw when it led before is long ago.
    fn begin_anew_after_a_while(&mut self) {
        if self.decided.replace(Instant::now()).is_none_or(|before| before.elapsed() > FORGETS) {
            self.memory = Memory::default();
        }
    }

    /// Whether a snapshot doesn't show yet what was noted.
    fn is_ahead_of(&self, revision: u64) -> bool {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.is_some_and(|(noted, at)| revision < noted && at.elapsed() < BEHIND)
    }

    fn values(&self, spec: &ScalingSpec, sizes: Sizes, answers: &Answers) -> Vec<Option<f64>> {
        let value = |measure: &Measure| match measure {
            Measure::Own(metric) => self.fleet.value(*metric, sizes.ready),
            Measure::Query { query, .. } => answers.value(&spec.prometheus, query),
        };
        spec.rules.iter().map(|rule| value(&rule.measure)).collect()
    }
}

/// Keeps since when endpoints are as they are now.
fn keep_since<'a>(
    since: &mut BTreeMap<String, Timestamp>,
    endpoints: impl Iterator<Item = &'a EndpointView>,
    now: Timestamp,
) {
    let mut before = std::mem::take(since);
    since.extend(endpoints.map(|endpoint| {
        let id = endpoint.id.to_string();
        let known = before.remove(&id);
        (id, known.unwrap_or(now))
    }));
}

fn name(service: &ServiceView) -> &str {
    &service.spec.name
}
