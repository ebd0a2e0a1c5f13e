//! What happened, told by comparing what is with what was.
//!
//! A snapshot tells of weights, rollouts and members; circuits, health and the store change
//! without one, so all of it is looked at a few times a second as well.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::names::names;
use super::ring::Ring;
use super::scaling::scaling;
use super::{EventJson, Events, Kind};
use crate::live::{Live, ServiceView};
use crate::model::circuit::Circuit;
use crate::model::rollout::Rollout;
use crate::model::split::Arm;
use crate::model::state::Scope;
use crate::telemetry;

/// How often what no snapshot tells of is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// What an endpoint is before it was added, and once it is gone.
const AWAY: &str = "away";
/// What a circuit is.
const CLOSED: &str = "closed";
const OPEN: &str = "open";

/// Compares, for ever.
#[derive(Debug)]
pub(in super::super) struct Watcher {
    live: Arc<Live>,
    ring: Arc<Ring>,
    services: BTreeMap<String, Facts>,
    reachable: bool,
    /// Whether so many leases ran out that their endpoints are kept.
    silent: bool,
}

/// What is compared of a service.
#[derive(Clone, Debug)]
struct Facts {
    view: Arc<ServiceView>,
    circuit: Circuit,
    endpoints: BTreeMap<(Arm, Arc<str>), &'static str>,
}

impl Facts {
    fn of(view: &Arc<ServiceView>) -> Self {
        let endpoints = Arm::BOTH.into_iter().flat_map(|arm| view.pools.get(arm).iter().map(move |one| (arm, one)));
        Self {
            circuit: view.live.circuit(),
            endpoints: endpoints.map(|(arm, one)| ((arm, Arc::clone(&one.id)), one.state())).collect(),
            view: Arc::clone(view),
        }
    }
}

impl Watcher {
    /// A watcher to whom nothing of what is now is news.
    pub(in super::super) fn new(live: Arc<Live>, events: &Events) -> Self {
        let snapshot = live.snapshot();
        let services = snapshot.services().iter().map(|view| (view.spec.name.clone(), Facts::of(view))).collect();
        let reachable = live.store_health().reachable;
        let silent = live.discovery().mass_since.is_some();
        Self { live, ring: Arc::clone(&events.ring), services, reachable, silent }
    }

    /// Looks at each published snapshot, and a few times a second.
    pub(in super::super) async fn run(mut self, mut published: watch::Receiver<u64>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Only what was compiled anew; what else becomes of endpoints the next look at everything sees.
                Ok(()) = published.changed() => self.compare(Scope::Part),
                _ = looks.tick() => self.compare(Scope::Whole),
            }
        }
    }

    fn compare(&mut self, scope: Scope) {
        let reachable = self.live.store_health().reachable;
        if reachable != self.reachable {
            let event = EventJson {
                why: self.live.store_health().detail.clone(),
                ..EventJson::of(None, reach(self.reachable), reach(reachable))
            };
            self.ring.push(Kind::Store, &event);
            self.reachable = reachable;
        }
        let silent = self.live.discovery().mass_since.is_some();
        if silent != std::mem::replace(&mut self.silent, silent) {
            self.ring.push(Kind::Discovery, &EventJson::of(None, leases(!silent), leases(silent)));
        }
        let snapshot = self.live.snapshot();
        self.services.retain(|name, _| snapshot.service(name).is_some());
        for view in snapshot.services() {
            let name = &view.spec.name;
            let before = self.services.get(name);
            if scope == Scope::Part && before.is_some_and(|before| Arc::ptr_eq(&before.view, view)) {
                continue;
            }
            let after = Facts::of(view);
            // One that just came into the configuration has no before.
            if let Some(before) = before {
                let (circuit, endpoints) = (circuit(name, before, &after), endpoints(name, before, &after));
                let all = circuit.into_iter().chain(weight(name, before, &after)).chain(rollout(name, before, &after));
                let all =
                    all.chain(scaling(name, &before.view, &after.view)).chain(names(name, &before.view, &after.view));
                for (kind, event) in all.chain(endpoints) {
                    self.ring.push(kind, &event);
                }
            }
            self.services.insert(name.clone(), after);
        }
    }
}

const fn reach(reachable: bool) -> &'static str {
    if reachable { "reachable" } else { "lost" }
}

const fn leases(silent: bool) -> &'static str {
    if silent { "mass expiry" } else { "steady" }
}

pub(super) type Told = (Kind, EventJson);

/// A trip, a reset, or both if they came between two looks.
fn circuit(name: &str, before: &Facts, after: &Facts) -> Vec<Told> {
    let (before, after) = (&before.circuit, &after.circuit);
    let is_new = after.trip.as_ref().filter(|_| after.trip != before.trip);
    let mut told = Vec::new();
    if let Some(trip) = is_new {
        let event = EventJson {
            at: trip.at.to_string(),
            who: Some(trip.by.clone()),
            why: Some(trip.reason.clone()),
            cause: Some(trip.cause.name()),
            ..EventJson::of(Some(name), CLOSED, OPEN)
        };
        told.push((Kind::Trip, event));
    }
    if let Some(reset) = after.reset.as_ref().filter(|_| before.is_open() || is_new.is_some()) {
        let event = EventJson {
            at: reset.at.to_string(),
            who: Some(reset.by.clone()),
            why: Some(reset.reason.clone()),
            ..EventJson::of(Some(name), OPEN, CLOSED)
        };
        told.push((Kind::Reset, event));
    }
    told
}

/// A change of the weight that is asked for. What a trip takes away is told by the trip.
fn weight(name: &str, before: &Facts, after: &Facts) -> Option<Told> {
    let (from, to) = (before.view.asked, after.view.asked);
    let moved_by = after.view.rollout.as_ref().filter(|rollout| {
        let was = before.view.rollout.as_ref().map(|rollout| (rollout.step, rollout.finished));
        was != Some((rollout.step, rollout.finished)) && rollout.weight() == to
    });
    let event = EventJson {
        why: moved_by.map(|rollout| format!("rollout {}: {}", rollout.plan.id, rollout.why)),
        ..EventJson::of(Some(name), from, to)
    };
    (from != to).then_some((Kind::Weight, event))
}

/// A rollout that began, moved or ended.
fn rollout(name: &str, before: &Facts, after: &Facts) -> Option<Told> {
    let after = after.view.rollout.as_ref()?;
    let before = before.view.rollout.as_ref().filter(|before| before.plan.id == after.plan.id);
    let (from, to) = (before.map_or_else(|| "none".to_owned(), stands), stands(after));
    let who = match before {
        None => Some(after.plan.by.clone()),
        Some(before) if before.decided_by != after.decided_by => after.decided_by.clone(),
        Some(_) => None,
    };
    let event = EventJson { who, why: Some(after.why.clone()), ..EventJson::of(Some(name), &from, &to) };
    (from != to).then_some((Kind::Rollout, event))
}

/// Where a rollout stands: its phase and step, and whether all is done.
fn stands(rollout: &Rollout) -> String {
    let done = if rollout.finished { ", finished" } else { "" };
    format!("{}, step {} of {}{done}", rollout.phase, rollout.step, rollout.plan.steps.len())
}

/// Endpoints that came, went, or are in another state.
fn endpoints<'a>(name: &'a str, before: &'a Facts, after: &'a Facts) -> impl Iterator<Item = Told> + 'a {
    let (was, is) = (&before.endpoints, &after.endpoints);
    let gone = was.keys().filter(|key| !is.contains_key(*key)).map(|key| (key, AWAY));
    gone.chain(is.iter().map(|(key, state)| (key, *state))).filter_map(move |(key, to)| {
        let from = was.get(key).copied().unwrap_or(AWAY);
        let endpoint = Some(format!("{}/{}", key.0, key.1));
        (from != to).then(|| (Kind::Endpoint, EventJson { endpoint, ..EventJson::of(Some(name), from, to) }))
    })
}

impl EventJson {
    /// Something that happened just now.
    pub(super) fn of(service: Option<&str>, from: impl Display, to: impl Display) -> Self {
        Self {
            at: telemetry::now().to_string(),
            service: service.map(str::to_owned),
            endpoint: None,
            from: from.to_string(),
            to: to.to_string(),
            cause: None,
            who: None,
            why: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::ring::{Cursor, Taken};
    use super::*;
    use crate::live::{Health, StoreHealth, sample};
    use crate::model::circuit::{Cause, Reset, Trip};
    use crate::model::rollout::change::{Lead, RolloutChange};
    use crate::model::rollout::plan::Plan;
    use crate::model::rollout::subject::Subject;
    use crate::model::rollout::{Fence, RolloutId};
    use crate::model::scaling::{Act, Grant, ScalingChange, Stage};
    use crate::model::split::{Episode, EpisodeId, Salt};
    use crate::model::state::{Change, MemberSpec, ServiceState, State};
    use crate::model::time::Timestamp;
    use crate::model::weight::Weight;

    /// A service whose state changes, and somebody who listens.
    struct Scene {
        live: Arc<Live>,
        state: ServiceState,
        events: Events,
        watcher: Watcher,
        cursor: Cursor,
    }

    impl Scene {
        fn new() -> Self {
            let (live, _reports) = Live::new(1);
            sample::publish(&live, &[Arc::new(sample::service("shop"))], &State::default());
            let events = Events::new();
            let watcher = Watcher::new(Arc::clone(&live), &events);
            let cursor = events.ring.cursor(None);
            Self { live, state: ServiceState::default(), events, watcher, cursor }
        }

        fn change(&mut self, change: &Change) {
            self.state = self.state.apply(change);
            let state = State::from([("shop".to_owned(), self.state.clone())]);
            sample::publish(&self.live, &[Arc::new(sample::service("shop"))], &state);
        }

        /// What is told now: kind and data of each event.
        async fn told(&mut self) -> Vec<(String, Value)> {
            self.watcher.compare(Scope::Whole);
            let mut told = Vec::new();
            while let Ok(Taken::Event(text)) =
                tokio::time::timeout(Duration::ZERO, self.events.ring.next(&mut self.cursor)).await
            {
                let text = String::from_utf8(text.to_vec()).expect("text");
                let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
                told.push((field("event: ").to_owned(), serde_json::from_str(field("data: ")).expect("JSON")));
            }
            told
        }

        /// The one event that is told now, as `kind from → to`, and its data.
        async fn one(&mut self) -> (String, Value) {
            let mut told = self.told().await;
            assert_eq!(told.len(), 1, "{told:?}");
            let (kind, data) = told.remove(0);
            (format!("{kind} {} → {}", data["from"].as_str().unwrap(), data["to"].as_str().unwrap()), data)
        }
    }

    fn set(percent: f64) -> Change {
        let fresh = Episode { id: EpisodeId(1), salt: Salt(1) };
        Change::SetWeight { weight: Weight::from_percent(percent).expect("a weight"), fresh }
    }

    fn trip() -> Trip {
        let (reason, by) = ("smells".to_owned(), "ann".to_owned());
        let at = Timestamp::from_millis(1);
        Trip { cause: Cause::Person, reason, by, at, weight_before: Weight::FULL, evidence: None }
    }

    fn reset() -> Change {
        let (reason, by) = ("mended".to_owned(), "bob".to_owned());
        let fresh = Episode { id: EpisodeId(2), salt: Salt(2) };
        Change::Reset { reset: Reset { reason, by, at: Timestamp::from_millis(2) }, fresh }
    }

    #[tokio::test]
    async fn what_stays_as_it_is_is_no_event() {
        let mut scene = Scene::new();
        assert!(scene.told().await.is_empty());
        scene.change(&set(10.0));
        assert_eq!(scene.one().await.0, "weight 0 → 10");
        scene.change(&set(10.0));
        assert!(scene.told().await.is_empty());
    }

    #[tokio::test]
    async fn a_trip_and_a_reset_tell_who_and_why() {
        let mut scene = Scene::new();
        // Latched here; no snapshot knows of it yet.
        scene.live.service("shop").trip(None, trip());
        let (what, data) = scene.one().await;
        assert_eq!((&*what, &data["who"], &data["why"]), ("trip closed → open", &"ann".into(), &"smells".into()));
        assert_eq!((&data["cause"], &data["service"]), (&"person".into(), &"shop".into()));
        assert_eq!(data["at"], "1970-01-01T00:00:00.001Z");
        scene.change(&Change::MergeCircuit { circuit: scene.live.service("shop").circuit() });
        assert!(scene.told().await.is_empty(), "the store heard of it");
        scene.change(&reset());
        let (what, data) = scene.one().await;
        assert_eq!((&*what, &data["who"], &data["why"]), ("reset open → closed", &"bob".into(), &"mended".into()));
    }

    #[tokio::test]
    async fn a_trip_that_was_reset_between_two_looks_is_told_with_its_reset() {
        let mut scene = Scene::new();
        scene.change(&Change::Trip { episode: None, trip: trip() });
        scene.change(&reset());
        let kinds: Vec<String> = scene.told().await.into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, ["trip", "reset"]);
    }

    #[tokio::test]
    async fn a_rollout_is_told_at_each_step_with_the_weight_that_it_moves() {
        let mut scene = Scene::new();
        let plan = Plan {
            id: RolloutId(1),
            subject: Subject::Version("1.5".into()),
            steps: ["5:1m", "50:1m"].map(|step| step.parse().expect("a step")).to_vec(),
            by: "jenkins".into(),
            at: Timestamp::from_millis(0),
            reason: None,
            deadline_ms: 86_400_000,
            lease_ms: None,
            max_weight: Weight::FULL,
        };
        scene.change(&Change::Rollout(RolloutChange::Start { plan }));
        let (what, data) = scene.one().await;
        assert_eq!((&*what, &data["who"]), ("rollout none → pending, step 0 of 2", &"jenkins".into()));
        let lead = Lead { id: RolloutId(1), step: 0, fence: Fence(1), at: Timestamp::from_millis(1_000) };
        let fresh = Episode { id: EpisodeId(7), salt: Salt(7) };
        scene.change(&Change::Rollout(RolloutChange::Advance { lead, fresh }));
        let told = scene.told().await;
        let kinds: Vec<&str> = told.iter().map(|(kind, _)| &**kind).collect();
        assert_eq!(kinds, ["weight", "rollout"]);
        assert_eq!((&told[0].1["from"], &told[0].1["to"]), (&"0".into(), &"5".into()));
        assert!(told[0].1["why"].as_str().expect("a reason").starts_with("rollout 0000000000000001: "), "{told:?}");
        assert_eq!(told[1].1["to"], "progressing, step 1 of 2");
    }

    #[tokio::test]
    async fn instances_that_are_asked_for_and_a_driver_that_fails_are_told() {
        let mut scene = Scene::new();
        let at = Timestamp::from_millis(1);
        let lead = |act| Change::Scaling(ScalingChange::Lead { fence: Fence(1), act });
        let token = "t".to_owned();
        let (before, down) = (vec![], vec![]);
        let grant = Grant { token: token.clone(), count: 3, at, stage: Stage::Asked, before, down };
        scene.change(&lead(Act::Grant(grant)));
        assert_eq!(scene.one().await.0, "autoscale steady → starting 3");
        scene.change(&lead(Act::Fail { at }));
        assert_eq!(scene.one().await.0, "autoscale starting 3 → starting 3, driver failed 1 times in a row");
        scene.change(&lead(Act::Succeed));
        scene.change(&lead(Act::Settle { token }));
        assert!(scene.one().await.0.ends_with("→ steady"));
    }

    #[tokio::test]
    async fn endpoints_come_change_and_go() {
        let mut scene = Scene::new();
        let spec = MemberSpec::new(([127, 0, 0, 1], 9).into());
        let (arm, id) = (Arm::Canary, "new".to_owned());
        scene.change(&Change::PutMember { arm, id: id.clone(), spec: spec.clone() });
        let (what, data) = scene.one().await;
        assert_eq!((&*what, &data["endpoint"]), ("endpoint away → ready", &"canary/new".into()));
        scene.live.service("shop").endpoint(arm, "new", Health::Up).set_health(Health::Down);
        assert_eq!(scene.one().await.0, "endpoint ready → down");
        scene.change(&Change::SetDraining { arm, id: id.clone(), spec, draining: true });
        assert_eq!(scene.one().await.0, "endpoint down → draining");
        scene.change(&Change::RemoveMember { arm, id });
        assert_eq!(scene.one().await.0, "endpoint draining → away");
    }

    #[tokio::test]
    async fn a_store_that_goes_and_comes_is_told() {
        let mut scene = Scene::new();
        scene.live.set_store_health(StoreHealth { reachable: true, ..StoreHealth::default() });
        assert_eq!(scene.one().await.0, "store lost → reachable");
        let detail = Some("connection refused".to_owned());
        scene.live.set_store_health(StoreHealth { detail, ..StoreHealth::default() });
        let (what, data) = scene.one().await;
        assert_eq!((&*what, &data["why"]), ("store reachable → lost", &"connection refused".into()));
    }
}
