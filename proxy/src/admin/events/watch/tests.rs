//! What is an event, by which words, and what is none.

use serde_json::Value;

use super::super::ring::{Cursor, Taken};
use super::*;
use crate::live::{Health, StoreHealth, sample};
use crate::model::circuit::{Reset, Trip};
use crate::model::rollout::change::{Lead, RolloutChange};
use crate::model::rollout::plan::Plan;
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
    scene.live.service("shop").trip(None, Trip::sample());
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
    scene.change(&Change::Trip { episode: None, trip: Trip::sample() });
    scene.change(&reset());
    let kinds: Vec<String> = scene.told().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["trip", "reset"]);
}

#[tokio::test]
async fn a_rollout_is_told_at_each_step_with_the_weight_that_it_moves() {
    let mut scene = Scene::new();
    let steps = ["5:1m", "50:1m"].map(|step| step.parse().expect("a step")).to_vec();
    let plan = Plan { steps, ..Plan::sample() };
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
