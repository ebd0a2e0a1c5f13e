//! Autoscaling: every proxy measures and tells the others; the one that leads decides and has it done.
//!
//! How many there should be is [`decide`]'s to say. Here it gets its figures, and what it says is done: instances are
//! asked for, believed only when they are in the pool and ready, and taken away only when no proxy has anything with
//! them. What is under way is kept in the store before the driver hears of it, under the leader's fence: a leader that
//! was overtaken finds that its change wasn't taken, and does nothing.

mod driver;
mod exec;
mod meter;
mod query;
mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use self::driver::{Driver, DriverError, Task, Wish};
use self::exec::ExecDriver;
use self::meter::{Fleet, Meter};
use crate::live::scaling::ScalingStatus;
use crate::live::{Live, ServiceView};
use crate::model::rollout::Fence;
use crate::model::scaling::{Bar, Measure, Memory, ScalingSpec, Seen, Sizes, decide};
use crate::model::split::Arm;
use crate::model::time::Timestamp;
use crate::store::{Store, Word};
use crate::telemetry;

/// How often a pool is measured.
const MOMENT: Duration = Duration::from_secs(1);
/// At each so manieth moment it is decided.
const LOOK: u32 = 5;
/// For so long a snapshot may be behind what was noted. A store that lost the newest revisions never shows them.
const BEHIND: Duration = Duration::from_secs(10);
/// For how long a leader leads without renewing, which it does at each moment: so long pools stay as they are when it dies.
const TERM: Duration = Duration::from_secs(3);

/// Makes the driver that a configuration names.
type Make = Box<dyn Fn(&ScalingSpec) -> Option<Arc<dyn Driver>> + Send + Sync>;

/// What becomes of a call of the driver.
struct Called {
    service: String,
    wish: Wish,
    outcome: Result<(), DriverError>,
}

/// Measures and scales the pools of all services.
pub struct Autoscaler {
    live: Arc<Live>,
    store: Arc<dyn Store>,
    proxy_name: String,
    /// What names this process to the others: no two are the same, and all that leads in a process leads by it.
    holder: String,
    /// The fence with which it led at the last moment.
    fence: Option<Fence>,
    watched: HashMap<String, Watched>,
    calls: JoinSet<Called>,
    make: Make,
}

impl std::fmt::Debug for Autoscaler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Autoscaler").field("holder", &self.holder).finish_non_exhaustive()
    }
}

/// What this process knows of one pool.
#[derive(Default)]
struct Watched {
    meter: Meter,
    fleet: Fleet,
    memory: Memory,
    /// Since when each endpoint is ready, as far as was seen here.
    ready_since: BTreeMap<String, Timestamp>,
    /// Whether the driver is at work: one thing at a time.
    calling: bool,
    /// The service's revision after the last thing that was noted, and when that was.
    noted: Mutex<Option<(u64, Instant)>>,
}

fn command(spec: &ScalingSpec) -> Option<Arc<dyn Driver>> {
    spec.driver.as_ref().map(|driver| Arc::new(ExecDriver::new(driver.clone())) as Arc<dyn Driver>)
}

impl Autoscaler {
    /// One that has seen nothing yet.
    pub fn new(live: Arc<Live>, store: Arc<dyn Store>, proxy_name: String, holder: String) -> Self {
        let (watched, calls) = (HashMap::new(), JoinSet::new());
        Self { live, store, proxy_name, holder, fence: None, watched, calls, make: Box::new(command) }
    }

    /// Goes on for ever.
    pub async fn run(mut self) {
        let mut moments = tokio::time::interval(MOMENT);
        moments.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0_u32;
        loop {
            moments.tick().await;
            self.measure();
            self.lead().await;
            count = count.wrapping_add(1);
            if count.is_multiple_of(LOOK) {
                self.look().await;
            }
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
        while let Some(called) = self.calls.try_join_next() {
            match called {
                Ok(called) => self.called(called).await,
                Err(error) => tracing::error!(%error, "A call of a driver broke off"),
            }
        }
        if self.calls.is_empty() {
            self.watched.values_mut().for_each(|watched| watched.calling = false);
        }
        let snapshot = self.live.snapshot();
        for service in snapshot.services() {
            if let Some(spec) = &service.spec.autoscale {
                self.look_at(service, spec).await;
            }
        }
    }

    /// Goes on leading, or tries to begin. Whoever begins anew has seen nothing: what it saw when it led before is long ago.
    async fn lead(&mut self) {
        let may = !self.watched.is_empty() && self.live.store_health().reachable;
        let asked = if may { self.store.lead(&self.holder, TERM).await } else { Ok(None) };
        let fence = asked.unwrap_or_else(|error| {
            tracing::warn!(%error, "Pools stay as they are: nobody can be sure to lead");
            None
        });
        if fence != self.fence {
            self.fence = fence;
            self.watched.values_mut().for_each(|watched| watched.memory = Memory::default());
        }
    }

    async fn look_at(&mut self, service: &ServiceView, spec: &ScalingSpec) {
        self.exchange(service).await;
        let now = telemetry::now();
        let fence = self.fence;
        let Some(watched) = self.watched.get_mut(name(service)) else { return };
        let sizes = watched.sizes(service, spec, now);
        let Some(fence) = fence else {
            let note = "another proxy leads, or the store can't be reached".to_owned();
            service.live.set_scaling(ScalingStatus { sizes, decision: None, note });
            return;
        };
        let values = watched.values(spec, sizes).await;
        let bars = bars(service, spec, self.live.store_health().reachable, now);
        let scaling = service.scaling.clone().unwrap_or_default();
        let set = scaling.order_at(now).and_then(|order| order.size);
        let seen = Seen { now, sizes, values: &values, bars: &bars, set };
        let decision = decide(spec, &scaling.ledger, &mut watched.memory, &seen);
        let note = self.act(service, spec, fence, &decision).await;
        service.live.set_scaling(ScalingStatus { sizes, decision: Some(decision), note });
    }

    /// Tells the others what was measured here, and hears what they did.
    async fn exchange(&mut self, service: &ServiceView) {
        let Some(watched) = self.watched.get_mut(name(service)) else { return };
        let said = serde_json::to_string(&watched.meter.load(service)).unwrap_or_default();
        let word = Word { service: name(service), teller: &self.holder, said: &said, gone: &[] };
        let told = self.store.share(word).await;
        // What isn't heard gets old, and then there is no value.
        let gone = told.map(|told| watched.fleet.hear(&told)).unwrap_or_default();
        if !gone.is_empty() {
            let _tried_again_later = self.store.share(Word { gone: &gone, ..word }).await;
        }
    }
}

impl Watched {
    /// How many there are, by what is in the pool and what was asked for.
    fn sizes(&mut self, service: &ServiceView, spec: &ScalingSpec, now: Timestamp) -> Sizes {
        let ready: Vec<&str> = serving(service).collect();
        self.ready_since.retain(|id, _| ready.contains(&id.as_str()));
        for id in &ready {
            self.ready_since.entry((*id).to_owned()).or_insert(now);
        }
        let young = |since: &&Timestamp| now.since(**since) < spec.pace.warm_up;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let arrivals = task::arrivals(service);
        let missing = arrivals.values().fold(0, |sum: u32, arrivals| sum.saturating_add(arrivals.missing));
        // Those that were there when this process began have long warmed up.
        let first = self.ready_since.values().min().copied();
        let warming = self.ready_since.values().filter(|since| Some(**since) != first).filter(young).count();
        Sizes { ready: count(ready.len()), warming: count(warming), pending: missing }
    }

    /// Whether a snapshot doesn't show yet what was noted.
    fn is_ahead_of(&self, revision: u64) -> bool {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.is_some_and(|(noted, at)| revision < noted && at.elapsed() < BEHIND)
    }

    async fn values(&self, spec: &ScalingSpec, sizes: Sizes) -> Vec<Option<f64>> {
        let mut values = Vec::with_capacity(spec.rules.len());
        for rule in &spec.rules {
            values.push(match &rule.measure {
                Measure::Own(metric) => self.fleet.value(*metric, sizes.ready),
                Measure::Query { name, query } => {
                    let asked = query::ask(&spec.prometheus, query).await;
                    asked.unwrap_or_else(|error| {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(rule = name, error, "A rule has no value");
                        None
                    })
                }
            });
        }
        values
    }
}

fn name(service: &ServiceView) -> &str {
    &service.spec.name
}

/// The stable endpoints that count: registered, checked, and not on their way out.
fn serving(service: &ServiceView) -> impl Iterator<Item = &str> {
    service.pools.get(Arm::Stable).iter().filter(|endpoint| endpoint.is_ready()).map(|endpoint| &*endpoint.id)
}

/// Why the pool is to be left as it is.
fn bars(service: &ServiceView, spec: &ScalingSpec, store: bool, now: Timestamp) -> Vec<Bar> {
    let order = service.scaling.as_ref().and_then(|scaling| scaling.order_at(now));
    let compared = service.live_rollout().is_some() || !service.effective().is_zero();
    // A person who drains an endpoint rolls the pool.
    let ours = service.scaling.as_ref().and_then(|scaling| scaling.removal.as_ref());
    let is_ours = |id: &str| ours.is_some_and(|removal| removal.ids.iter().any(|own| own == id));
    let rolled = service.pools.stable.iter().any(|endpoint| endpoint.draining && !is_ours(&endpoint.id));
    let mut bars = Vec::new();
    bars.extend((!store).then_some(Bar::StoreGone));
    bars.extend(order.filter(|order| order.size.is_none()).map(|order| Bar::Paused(order.until)));
    bars.extend((compared || rolled).then_some(Bar::Rollout));
    let freezes = service.spec.rollout.freeze.iter().filter_map(|window| window.until(now));
    bars.extend(freezes.chain(spec.frozen_until(now)).max().map(Bar::Freeze));
    bars
}
