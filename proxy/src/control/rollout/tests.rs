//! A flag on trial, from its start to its end, through the store, sync and the driver.

use serde_json::{Value, json};

use super::*;
use crate::control::alert::Metrics;
use crate::control::sync::Sync;
use crate::live::sample;
use crate::model::circuit::{Cause, Trip};
use crate::model::flag::{Context, FlagChange};
use crate::model::rollout::plan::Plan;
use crate::model::rollout::subject::Trial;
use crate::model::spec::Spec;
use crate::model::weight::Weight;
use crate::store::embedded::EmbeddedStore;
use crate::store::interrupted::Interrupted;

const FLAG: &str = "search";
const SHOP: &str = "shop";

fn search(variant: &str) -> Value {
    json!({"state": "ENABLED", "variants": {"old": "v1", "new": "v2"}, "defaultVariant": variant})
}

/// A daemon without data plane, whose service tells of a flag.
struct World {
    live: Arc<Live>,
    store: Arc<EmbeddedStore>,
    /// The store as the driver has it.
    between: Arc<Interrupted>,
    sync: Sync,
    driver: Driver,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(EmbeddedStore::open(&folder.path().join("state.json")).expect("opens"));
        let (live, _reports) = Live::new(1);
        let mut service = sample::service(SHOP);
        service.told_flags = vec![FLAG.into()];
        let (_, spec) = watch::channel(Arc::new(Spec { services: vec![Arc::new(service)], ..sample::spec() }));
        let metrics = Metrics::register(&prometheus::Registry::new()).expect("a registry of its own");
        let mailer = Mailer::start(None, "".into(), String::new(), metrics).expect("nothing to open").0;
        let shared: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
        let (sync, _) = Sync::new(Arc::clone(&live), shared, mailer.clone(), "p1".into(), spec);
        let between = Arc::new(Interrupted::before(Arc::clone(&store)));
        let driver = Driver::new(Arc::clone(&live), Arc::clone(&between) as Arc<dyn Store>, mailer, "p1".into());
        let mut world = Self { live, store, between, sync, driver, _folder: folder };
        world.put(&search("old")).await;
        world
    }

    /// Sets the flag in the store, past any trial.
    async fn put(&mut self, definition: &Value) {
        let put = FlagChange::Put { key: FLAG.into(), definition: definition.to_string().into() };
        self.store.change_flags(&put, None).await.expect("changes");
        self.sync.step().await;
    }

    async fn apply(&self, change: RolloutChange) -> ServiceState {
        self.store.apply(SHOP, &Change::Rollout(change), None).await.expect("applies")
    }

    async fn start(&mut self, step: &str) {
        self.apply(Self::start_of(1, step)).await;
        self.sync.step().await;
    }

    fn start_of(id: u64, step: &str) -> RolloutChange {
        let plan = Plan {
            id: RolloutId(id),
            subject: Subject::Flag(Trial { key: FLAG.into(), from: search("old"), to: search("new") }),
            steps: vec![step.parse().expect("a step")],
            at: telemetry::now(),
            ..Plan::sample()
        };
        RolloutChange::Start { plan }
    }

    fn abort() -> RolloutChange {
        RolloutChange::Abort { id: RolloutId(1), deed: Self::deed() }
    }

    /// A world with a definition that is promoted, and not in force yet; and the revision of flags.
    async fn promoted() -> (Self, u64) {
        let mut world = Self::new().await;
        world.start("50%:0s:time").await;
        world.until("promoted", |rollout| rollout.phase == Phase::Promoted).await;
        let revision = world.live.flag_facts().definitions.revision;
        (world, revision)
    }

    /// Which variant the store has for the default, at which revision.
    async fn stored(&self) -> (String, u64) {
        let flags = self.store.load(&[]).await.flags;
        let definition: Value = serde_json::from_str(&flags.flags[FLAG]).expect("JSON");
        (definition["defaultVariant"].as_str().expect("a default").to_owned(), flags.revision)
    }

    /// The driver looks, and what it did is taken in, until this is so.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Rollout) -> bool) {
        for _ in 0..10 {
            let view = self.view();
            if view.rollout.as_ref().is_some_and(&is_so) {
                return;
            }
            self.driver.look().await;
            self.sync.step().await;
        }
        panic!("never {what}: {:?}", self.view().rollout);
    }

    fn view(&self) -> Arc<ServiceView> {
        Arc::clone(self.live.snapshot().service(SHOP).expect("it is configured"))
    }

    /// What an arm's application is told.
    fn told(&self, arm: Arm) -> Option<String> {
        let (view, now) = (self.view(), telemetry::now());
        let told = &view.flags_of(arm).expect("it tells of a flag").told;
        told[0].ask(0, &Context::empty(now), now).map(str::to_owned)
    }

    fn deed() -> Deed {
        Deed { by: "ann".into(), at: telemetry::now(), reason: None }
    }
}

fn says(version: &str) -> Option<String> {
    Some(format!(r#""search":"{version}""#))
}

#[tokio::test]
async fn a_flag_that_passes_comes_into_force_in_one_change_that_the_audit_log_knows() {
    let mut world = World::new().await;
    world.start("50%:0s:time").await;
    world.until("begun", |rollout| rollout.step == 1).await;
    assert_eq!((world.told(Arm::Stable), world.told(Arm::Canary)), (says("v1"), says("v2")));
    let before = world.live.flag_facts().definitions.revision;
    world.until("promoted", |rollout| rollout.phase == Phase::Promoted).await;
    // everybody has it at once, and no canary runs
    assert_eq!((world.told(Arm::Stable), world.view().episode.is_none()), (says("v2"), true));
    world.until("finished", |rollout| rollout.finished).await;
    let facts = world.live.flag_facts();
    assert_eq!(facts.definitions.revision, before + 1);
    assert_eq!(serde_json::from_str::<Value>(&facts.definitions.flags[FLAG]).expect("JSON"), search("new"));
    assert!(world.told(Arm::Stable) == says("v2") && world.view().trial.is_none());
    let noted = world.store.noted(100).await.entries;
    let put = noted.iter().find(|entry| entry.what == "flag.put").expect("the change is noted");
    assert_eq!((put.flag.as_deref(), put.service.as_deref(), &*put.who), (Some(FLAG), Some(SHOP), "p1"));
    assert!(put.from.contains("default old") && put.to.contains("default new"), "{put:?}");
}

#[tokio::test]
async fn a_trip_gives_everybody_the_former_definition_and_leaves_it_in_force() {
    let mut world = World::new().await;
    world.start("50%:1h").await;
    world.until("begun", |rollout| rollout.step == 1).await;
    let (view, trip) = (
        world.view(),
        Trip {
            cause: Cause::Evidence,
            reason: "5xx".into(),
            by: "p1".into(),
            at: telemetry::now(),
            weight_before: Weight::FULL,
            evidence: None,
        },
    );
    view.live.trip(view.episode.as_ref().map(|episode| episode.id), trip);
    assert!(view.live.canary_is_stopped() && view.effective().is_zero());
    world.sync.step().await;
    let rollout = world.view().rollout.clone().expect("a rollout");
    assert_eq!((rollout.phase, world.told(Arm::Stable)), (Phase::Pulled, says("v1")));
    assert!(world.view().trial.is_none() && world.view().live.is_open());
    // and it stays so, also after a restart of all that isn't stored
    world.driver.look().await;
    world.sync.step().await;
    assert_eq!(world.told(Arm::Stable), says("v1"));
}

#[tokio::test]
async fn whoever_changes_the_flag_past_its_trial_wins_at_once_and_ends_it() {
    let mut world = World::new().await;
    world.start("50%:1h").await;
    world.until("begun", |rollout| rollout.step == 1).await;
    let mut other = search("old");
    other["variants"]["old"] = "v3".into();
    world.put(&other).await;
    assert_eq!((world.told(Arm::Stable), world.told(Arm::Canary)), (says("v3"), says("v3")));
    let recalls = world.live.recalls();
    world.until("aborted", |rollout| rollout.phase == Phase::Aborted).await;
    let why = world.view().rollout.clone().expect("a rollout").why;
    assert!(why.contains("changed meanwhile"), "{why}");
    assert_eq!(world.told(Arm::Stable), says("v3"));
    // what the canary still serves is ended once, also by a proxy that only hears of the abort
    assert_eq!(world.live.recalls(), recalls + 1);
    world.sync.step().await;
    assert_eq!(world.live.recalls(), recalls + 1);
}

#[tokio::test]
async fn what_ended_unheard_is_not_put_in_force() {
    for more in [None, Some(World::start_of(2, "50%:1h"))] {
        // given an abort that this process hasn't heard of yet, maybe with another trial after it
        let (mut world, before) = World::promoted().await;
        for change in [World::abort()].into_iter().chain(more) {
            world.apply(change).await;
        }
        world.driver.look().await;
        assert_eq!(world.stored().await, ("old".to_owned(), before), "it was put in force");
        world.sync.step().await;
        assert_eq!(world.told(Arm::Stable), says("v1"));
    }
}

#[tokio::test]
async fn a_leader_that_another_one_followed_puts_nothing_in_force() {
    let (mut world, before) = World::promoted().await;
    world.apply(RolloutChange::Lead { id: RolloutId(1), fence: Fence(u64::MAX) }).await;
    world.driver.look().await;
    assert_eq!(world.stored().await, ("old".to_owned(), before));
}

#[tokio::test]
async fn what_ends_as_it_is_put_in_force_is_taken_back() {
    for more in [None, Some(World::start_of(2, "50%:1h"))] {
        let (mut world, before) = World::promoted().await;
        let changes = [World::abort()].into_iter().chain(more).map(Change::Rollout);
        world.between.meanwhile(SHOP, changes);
        world.driver.look().await;
        assert_eq!(world.stored().await, ("old".to_owned(), before + 2));
        world.sync.step().await;
        assert_eq!(world.told(Arm::Stable), says("v1"));
        assert!(world.store.noted(100).await.entries.iter().all(|entry| entry.what != "flag.put"));
    }
}

#[tokio::test]
async fn an_abort_that_is_stored_late_takes_back_what_is_in_force_by_then() {
    let (mut world, before) = World::promoted().await;
    // given an abort in this process, and a leader that was quicker
    world.driver.look().await;
    assert_eq!(world.stored().await, ("new".to_owned(), before + 1));
    world.view().live.halt(crate::live::Halt { id: RolloutId(1), deed: World::deed() });
    // when the store is told
    world.sync.step().await;
    // then what is aborted isn't in force
    assert_eq!(world.stored().await, ("old".to_owned(), before + 2));
    world.sync.step().await;
    assert_eq!(world.view().rollout.as_ref().map(|rollout| rollout.phase), Some(Phase::Aborted));
    assert_eq!(world.told(Arm::Stable), says("v1"));
}
