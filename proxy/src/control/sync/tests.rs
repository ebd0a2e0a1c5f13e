//! A step over what changed comes to the same as a step over everything, whatever happened; and it leaves alone what
//! didn't change.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::control::alert::Metrics;
use crate::live::{Health, sample};
use crate::model::circuit::{Reset, Trip};
use crate::model::flag::FlagChange;
use crate::model::rollout::change::Deed;
use crate::model::rollout::plan::Plan;
use crate::model::state::MemberSpec;
use crate::model::time::Timestamp;
use crate::model::weight::Weight;
use crate::store::embedded::EmbeddedStore;
use crate::store::interrupted::Interrupted;

const SEEDS: u64 = 40;
const EVENTS: usize = 80;

/// One proxy: what it knows, and its sync.
pub(super) struct Proxy {
    pub(super) live: Arc<Live>,
    sync: Sync,
}

/// Two proxies on one store. One looks at what changed, the other at everything.
pub(super) struct World {
    pub(super) store: Arc<EmbeddedStore>,
    pub(super) spec: watch::Sender<Arc<Spec>>,
    pub(super) by_part: Proxy,
    by_whole: Proxy,
    draws: StdRng,
}

fn spec(services: usize) -> Spec {
    let health = |at: usize| at.is_multiple_of(2).then(sample::health);
    let service = |at| {
        Arc::new(ServiceSpec {
            health: health(at),
            told_flags: vec!["kill".to_owned(); at % 2],
            ..sample::service(&format!("s{at}"))
        })
    };
    Spec { services: (0..services).map(service).collect(), ..sample::spec() }
}

impl Proxy {
    fn new(store: &Arc<EmbeddedStore>, spec: watch::Receiver<Arc<Spec>>) -> Self {
        let (live, _reports) = Live::new(1);
        let metrics = Metrics::register(&prometheus::Registry::new()).expect("an empty registry");
        let (mailer, _) = Mailer::start(None, "outbox".into(), "p".into(), metrics).expect("no mail");
        let store: Arc<dyn Store> = Arc::clone(store) as _;
        let (sync, _) = Sync::new(Arc::clone(&live), store, mailer, "p".into(), spec);
        Self { live, sync }
    }

    /// From now on it has this store.
    pub(super) fn set_store(&mut self, store: Arc<dyn Store>) {
        self.sync.store = store;
    }

    /// One look of control.
    pub(super) async fn follow(&mut self, changed: &Changed) {
        self.sync.follow(changed).await;
    }

    /// All that the snapshot in force says, but for its number.
    fn told(&self) -> String {
        let mut told = String::new();
        for view in self.live.snapshot().services() {
            let episode = view.episode.as_ref().map(|episode| (episode.id, episode.salt.reveal()));
            let (name, flags) = (&view.spec.name, view.flags.as_ref().map(|flags| flags.told.len()));
            let facts = (view.revision, view.asked, view.effective(), episode, view.canary_withdrawn, flags);
            writeln!(told, "{name} {facts:?} {:?}", view.spec.hosts).expect("a string");
            for (arm, one) in Arm::BOTH.iter().flat_map(|arm| view.pools.get(*arm).iter().map(move |one| (arm, one))) {
                let place = (one.address, one.share_end, one.draining, one.standing, one.state());
                writeln!(told, "    {arm} {} {place:?} {:?}", one.id, one.member).expect("a string");
            }
        }
        told
    }
}

impl World {
    pub(super) async fn new(services: usize, seed: u64) -> Self {
        let store = Arc::new(EmbeddedStore::simulated());
        let (spec, watching) = watch::channel(Arc::new(spec(services)));
        let [by_part, by_whole] = [Proxy::new(&store, watching.clone()), Proxy::new(&store, watching)];
        let mut world = Self { store, spec, by_part, by_whole, draws: StdRng::seed_from_u64(seed) };
        crate::store::simulated::set_seed(Some(seed));
        world.take_in(&Changed::Anything).await;
        world
    }

    pub(super) async fn take_in(&mut self, changed: &Changed) {
        self.by_part.sync.follow(changed).await;
        self.by_whole.sync.step().await;
    }

    async fn apply(&self, service: &str, change: Change) {
        self.store.apply(service, &change, None).await.expect("no disk, no failure");
    }

    /// Something happens, maybe to a service that nobody configured.
    async fn happen(&mut self) {
        let services = self.spec.borrow().services.len();
        let service = format!("s{}", self.draws.random_range(0..=services));
        let arm = if self.draws.random_bool(0.7) { Arm::Stable } else { Arm::Canary };
        let id = format!("m{}", self.draws.random_range(0..4));
        let ttl_ms = self.draws.random_bool(0.8).then(|| self.draws.random_range(1_000..8_000));
        let spec = MemberSpec { ttl_ms, ..MemberSpec::new(([10, 0, 0, 1], self.draws.random_range(80..83)).into()) };
        let weight = Weight::from_percent(f64::from(self.draws.random_range(0..3u8)) * 10.0).expect("a percent");
        let at = Timestamp::from_millis(1);
        let [reason, by] = ["why", "who"].map(str::to_owned);
        match self.draws.random_range(0..100) {
            0..40 => self.apply(&service, Change::PutMember { arm, id, spec }).await,
            40..46 => self.apply(&service, Change::RemoveMember { arm, id }).await,
            46..54 => {
                let draining = self.draws.random_bool(0.5);
                self.apply(&service, Change::SetDraining { arm, id, spec, draining }).await;
            }
            54..62 => self.apply(&service, Change::SetWeight { weight, fresh: store::fresh_episode() }).await,
            62..65 => {
                let trip = Trip { cause: Cause::Alert, weight_before: weight, ..Trip::sample() };
                self.apply(&service, Change::Trip { episode: None, trip }).await;
            }
            65..68 => {
                let reset = Reset { reason, by, at };
                self.apply(&service, Change::Reset { reset, fresh: store::fresh_episode() }).await;
            }
            68..73 => self.flag_changes().await,
            73..78 => self.reload(),
            78..88 => self.checks_find(&service),
            _ => tokio::time::advance(Duration::from_millis(self.draws.random_range(0..6_000))).await,
        }
    }

    async fn flag_changes(&mut self) {
        let default = if self.draws.random_bool(0.5) { "on" } else { "off" };
        let definition = format!(
            r#"{{"state": "ENABLED", "variants": {{"on": true, "off": false}}, "defaultVariant": "{default}"}}"#
        );
        let change = FlagChange::Put { key: "kill".into(), definition: definition.into() };
        self.store.change_flags(&change, None).await.expect("no disk, no failure");
    }

    /// A service comes or goes, or none does.
    fn reload(&mut self) {
        let services = self.draws.random_range(2..5);
        self.spec.send_replace(Arc::new(spec(services)));
    }

    /// Active checks come to another conclusion, on both proxies.
    fn checks_find(&mut self, service: &str) {
        let seed = self.draws.random();
        for proxy in [&self.by_part, &self.by_whole] {
            let (snapshot, mut draws) = (proxy.live.snapshot(), StdRng::seed_from_u64(seed));
            let Some(view) = snapshot.service(service).filter(|view| view.spec.health.is_some()) else { continue };
            for endpoint in view.pools.stable.iter().chain(&view.pools.canary) {
                endpoint.live.set_health(if draws.random_bool(0.7) { Health::Up } else { Health::Down });
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_over_what_changed_comes_to_the_same_as_one_over_everything() {
    let (mut parts, mut unsteady) = (0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(3, seed).await;
        for event in 0..EVENTS {
            world.happen().await;
            let changed = world.store.changed().await;
            parts += usize::from(changed != Changed::Anything);
            world.take_in(&changed).await;
            let told = world.by_part.told();
            assert_eq!(told, world.by_whole.told(), "seed {seed}, event {event}, after {changed:?}");
            unsteady += usize::from(["Late", "Kept", "Returning"].iter().any(|standing| told.contains(standing)));
        }
    }
    crate::store::simulated::set_seed(None);
    let events = EVENTS * usize::try_from(SEEDS).expect("it is small");
    assert!(parts > events / 2 && unsteady > events / 20, "{parts} parts and {unsteady} unsteady of {events}");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_one_service_loads_and_compiles_that_one() {
    let mut world = World::new(50, 1).await;
    let before = world.by_part.live.snapshot();
    // when an endpoint comes to one of many services
    let spec = MemberSpec::new(([10, 0, 0, 1], 80).into());
    world.apply("s7", Change::PutMember { arm: Arm::Stable, id: "new".into(), spec }).await;
    let changed = world.store.changed().await;
    assert_eq!(changed, Changed::Services(["s7".to_owned()].into()));
    world.by_part.sync.follow(&changed).await;
    // then the snapshot has it, and the views of all others are the same ones
    let after = world.by_part.live.snapshot();
    let pairs = before.services().iter().zip(after.services());
    let compiled = pairs.filter(|(before, after)| !Arc::ptr_eq(before, after)).map(|(_, after)| &after.spec.name);
    assert_eq!(compiled.collect::<Vec<_>>(), ["s7"]);
    assert_eq!(
        (after.revision, after.service("s7").expect("it is there").pools.stable.len()),
        (before.revision + 1, 3)
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_hold_while_the_store_hangs_for_another_service() {
    let mut world = World::new(2, 1).await;
    // given a circuit that opened here, of which the store never hears
    let store = Arc::new(Interrupted::before(Arc::clone(&world.store)));
    store.hang_for("s0");
    world.by_part.set_store(store);
    world.by_part.live.service("s0").trip(None, Trip::sample());
    // and one of another service that somebody else opened
    world.apply("s1", Change::Trip { episode: None, trip: Trip::sample() }).await;
    // when this proxy looks, and waits
    let looked = tokio::time::timeout(Duration::from_secs(1), world.by_part.sync.step()).await;
    // then the other one is open here as well
    assert!(looked.is_err(), "the store answers");
    assert!(world.by_part.live.service("s1").is_open());
}

#[tokio::test(start_paused = true)]
async fn a_trip_is_unmailed_until_people_are_told() {
    let mut world = World::new(1, 1).await;
    let service = world.by_part.live.service("s0");
    service.trip(None, Trip::sample());
    assert!(service.is_unmailed());
    world.by_part.sync.step().await;
    assert!(!service.is_unmailed() && service.is_open());
}

#[tokio::test]
async fn who_comes_after_a_recall_sees_the_abort_that_it_is_for() {
    for round in 0..20 {
        let mut world = World::new(1, 1).await;
        world.apply("s0", Change::Rollout(RolloutChange::Start { plan: Plan::sample() })).await;
        world.by_part.sync.step().await;
        let [by, reason] = ["ann", "smells"].map(str::to_owned);
        let deed = Deed { by, reason: Some(reason), at: Timestamp::from_millis(1) };
        world.apply("s0", Change::Rollout(RolloutChange::Abort { id: Plan::sample().id, deed })).await;
        // given requests that come all the time, each of which notes the recalls before it loads the snapshot
        let (live, begun) = (Arc::clone(&world.by_part.live), Arc::new(AtomicBool::new(false)));
        let came = Arc::clone(&begun);
        let requests = std::thread::spawn(move || {
            let mut last = live.recalls();
            loop {
                let recalls = live.recalls();
                if live.snapshot().service("s0").expect("it is there").rollout.as_ref().is_none_or(|one| !one.is_live())
                {
                    return last;
                }
                last = recalls;
                came.store(true, Ordering::SeqCst);
            }
        });
        while !begun.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        // when the abort is taken in
        world.by_part.sync.step().await;
        // then the last one that went by the snapshot before is known by what it noted
        let last = requests.join().expect("it doesn't panic");
        assert!(world.by_part.live.service("s0").is_recalled_since(last), "round {round}");
    }
}
