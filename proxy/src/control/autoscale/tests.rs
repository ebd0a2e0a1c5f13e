//! Two proxies, one store, and a driver that does as it likes.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Mutex;

use async_trait::async_trait;
use prometheus::Registry;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;

use super::*;
use crate::control::alert::{Mailer, Metrics};
use crate::control::sync::Sync;
use crate::live::sample;
use crate::live::service::Ending;
use crate::model::scaling::{Order, Pace, Scaling, ScalingChange, Stride};
use crate::model::spec::{ServiceSpec, Spec};
use crate::model::split::PerArm;
use crate::model::state::{Change, Member, MemberSpec};
use crate::store::redis::simulated::{Server, StateFile};
use crate::telemetry::simulated::set_clock;

const SERVICE: &str = "shop";
const DAWN: u64 = 1_775_000_000_000;
const MAX: u32 = 6;

/// How a driver takes a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Does it.
    Honest,
    /// Says no, and has done nothing.
    Fails,
    /// Says no, and has done it.
    FailsLate,
    /// Says done, and has started nothing.
    Lies,
    /// Starts what never registers.
    StillBorn,
}

/// What runs, and what it was told.
#[derive(Debug)]
struct Fake {
    mood: Mutex<Mood>,
    told: Mutex<Vec<Wish>>,
    /// What runs: by the token that started it, its port and whether it registers.
    runs: Mutex<BTreeMap<String, Vec<(u16, bool)>>>,
    /// How many each token has started.
    counts: Mutex<BTreeMap<String, u32>>,
    most: Mutex<usize>,
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            mood: Mutex::new(Mood::Honest),
            told: Mutex::default(),
            runs: Mutex::default(),
            counts: Mutex::default(),
            most: Mutex::default(),
        })
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().expect("unpoisoned") = mood;
    }

    fn told(&self) -> Vec<Wish> {
        self.told.lock().expect("unpoisoned").clone()
    }

    fn running(&self) -> Vec<u16> {
        let runs = self.runs.lock().expect("unpoisoned");
        runs.values().flatten().filter(|(_, registers)| *registers).map(|(port, _)| *port).collect()
    }

    fn add(&self, token: &str, count: u32, registers: bool) {
        let mut runs = self.runs.lock().expect("unpoisoned");
        let used: HashSet<u16> = runs.values().flatten().map(|(port, _)| *port).collect();
        // The same token twice is the same wish; with a higher count it wants the difference.
        let mut counts = self.counts.lock().expect("unpoisoned");
        let known = counts.insert(token.to_owned(), count).unwrap_or(0);
        let more = usize::try_from(count.saturating_sub(known)).expect("few");
        let fresh = (5_000..).filter(|port| !used.contains(port)).take(more).map(|port| (port, registers));
        runs.entry(token.to_owned()).or_default().extend(fresh);
        let mut most = self.most.lock().expect("unpoisoned");
        *most = (*most).max(runs.values().map(Vec::len).sum());
    }

    fn stop(&self, stops: impl Fn(&str, &str) -> bool) {
        let mut runs = self.runs.lock().expect("unpoisoned");
        for (token, instances) in runs.iter_mut() {
            instances.retain(|(port, _)| !stops(token, &address(*port).to_string()));
        }
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[async_trait]
impl Driver for Fake {
    async fn perform(&self, wish: &Wish) -> Result<(), DriverError> {
        self.told.lock().expect("unpoisoned").push(wish.clone());
        let mood = *self.mood.lock().expect("unpoisoned");
        let starts = matches!(wish.task, Task::Add { .. });
        if mood != Mood::Fails && !(mood == Mood::Lies && starts) {
            match &wish.task {
                Task::Add { count } => self.add(&wish.token, *count, mood != Mood::StillBorn),
                Task::Remove { instances } => {
                    self.stop(|_, address| instances.iter().any(|instance| instance.address == address));
                }
                Task::Undo { keep, .. } => {
                    let kept = |address: &str| keep.iter().any(|instance| instance.address == address);
                    self.stop(|token, address| token == wish.token && !kept(address));
                }
            }
        }
        match mood {
            Mood::Fails | Mood::FailsLate => Err(DriverError::Failed("no quota".into())),
            Mood::Honest | Mood::Lies | Mood::StillBorn => Ok(()),
        }
    }
}

struct Proxy {
    live: Arc<Live>,
    store: Arc<dyn Store>,
    sync: Sync,
    scaler: Autoscaler,
    _spec: watch::Sender<Arc<Spec>>,
}

struct World {
    proxies: Vec<Proxy>,
    driver: Arc<Fake>,
    server: Arc<Server>,
    registry: Arc<dyn Store>,
    seconds: u64,
    /// Requests a second that come to each proxy.
    rate: u32,
}

fn service() -> ServiceSpec {
    let pace = Pace {
        warm_up: Duration::ZERO,
        cooldown: Duration::from_secs(20),
        shrink_after: Duration::from_secs(20),
        max_shrink: Stride::Share(1.0),
        ..Pace::default()
    };
    let scaling = ScalingSpec { pace, ..sample::scaling() };
    ServiceSpec { seeds: PerArm::default(), autoscale: Some(Arc::new(scaling)), ..sample::service(SERVICE) }
}

/// Waits for what nobody wakes for: the simulated store wants to be asked again and again.
async fn drive<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            context.waker().wake_by_ref();
        }
        polled
    })
    .await
}

impl World {
    fn new(count: usize) -> Self {
        set_clock(Some(Timestamp::from_millis(DAWN)));
        // Instances register by themselves, as one more that the store knows.
        let (server, driver) = (Server::new(7, count + 1), Fake::new());
        let registry = server.store(count, &StateFile::default());
        let metrics = Metrics::register(&Registry::new()).expect("a registry of its own");
        let mailer = Mailer::start(None, PathBuf::new(), String::new(), metrics).expect("nothing to open").0;
        let proxies = (0..count).map(|index| {
            let (live, _) = Live::new(1);
            let store = server.store(index, &StateFile::default());
            let spec = Spec { services: vec![Arc::new(service())], ..sample::spec() };
            let (keeps, spec) = watch::channel(Arc::new(spec));
            let name = format!("p{index}");
            let (sync, _) = Sync::new(Arc::clone(&live), Arc::clone(&store), mailer.clone(), name.clone(), spec);
            let mut scaler = Autoscaler::new(Arc::clone(&live), Arc::clone(&store), name.clone(), name);
            let driver = Arc::clone(&driver);
            scaler.make = Box::new(move |_| Some(Arc::clone(&driver) as Arc<dyn Driver>));
            Proxy { live, store, sync, scaler, _spec: keeps }
        });
        Self { proxies: proxies.collect(), driver, server, registry, seconds: 0, rate: 0 }
    }

    /// Instances that run register themselves.
    async fn register(&self) {
        let known = self.server.service().pools.stable;
        for port in self.driver.running() {
            let id = address(port).to_string();
            if !matches!(known.get(&id), Some(Member::Ready(_) | Member::Draining(_))) {
                let put = Change::PutMember { arm: Arm::Stable, id, spec: MemberSpec::new(address(port)) };
                drive(self.registry.apply(SERVICE, &put, None)).await.expect("the store is there");
            }
        }
    }

    /// One second passes for these proxies.
    async fn second(&mut self, awake: &[usize]) {
        self.seconds += 1;
        tokio::time::advance(Duration::from_secs(1)).await;
        set_clock(Some(Timestamp::from_millis(DAWN + self.seconds * 1_000)));
        self.register().await;
        for index in awake {
            let (rate, look) = (self.rate, self.seconds.is_multiple_of(5));
            let proxy = &mut self.proxies[*index];
            drive(proxy.sync.step()).await;
            for _ in 0..rate {
                proxy.live.service(SERVICE).count(0, Arm::Stable, Ending::Status(200), Some(Duration::from_millis(9)));
            }
            proxy.scaler.measure();
            drive(proxy.scaler.lead()).await;
            if look {
                drive(proxy.scaler.look()).await;
            }
        }
        // What was given to the driver is done.
        tokio::task::yield_now().await;
    }

    async fn pass(&mut self, seconds: u64, awake: &[usize]) {
        for _ in 0..seconds {
            self.second(awake).await;
        }
    }

    fn scaling(&self) -> Scaling {
        self.server.service().scaling.unwrap_or_default()
    }

    fn doing(&self, proxy: usize) -> String {
        self.proxies[proxy].live.service(SERVICE).scaling().note.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_follows_its_load_and_instances_go_only_once_they_are_drained() {
    let mut world = World::new(1);
    // given an empty pool, then it gets its fewest
    world.pass(20, &[0]).await;
    assert_eq!(world.driver.running().len(), 1);
    // when load comes, then instances come, each seen before more are asked for than the load takes
    world.rate = 40;
    world.pass(60, &[0]).await;
    assert_eq!(world.driver.running().len(), 4);
    assert!(world.scaling().grants.is_empty(), "{:?}", world.scaling());
    // when it goes while requests are with one that goes, then that one stays as long as they do
    let view = world.proxies[0].live.snapshot().service(SERVICE).cloned().expect("the service");
    view.pools.stable.iter().for_each(|endpoint| endpoint.live.begin(0));
    world.rate = 0;
    world.pass(120, &[0]).await;
    let going = world.scaling().removal.expect("some go");
    assert_eq!((world.driver.running().len(), going.given), (4, false), "{}", world.doing(0));
    view.pools.stable.iter().for_each(|endpoint| endpoint.live.end(0));
    world.pass(120, &[0]).await;
    assert_eq!(world.driver.running().len(), 1, "{}", world.doing(0));
    assert_eq!(world.server.service().pools.stable.values().filter(|member| member.spec().is_some()).count(), 1);
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_paused_while_another_took_over_does_nothing() {
    let mut world = World::new(2);
    // given a proxy that leads
    world.pass(30, &[0, 1]).await;
    let (first, told) = (world.proxies[0].scaler.fence.expect("it leads"), world.driver.told().len());
    assert_eq!(world.proxies[1].scaler.fence, None);
    // when it is paused with load that it has seen, and the other one takes over and acts
    world.rate = 100;
    world.pass(4, &[0, 1]).await;
    world.pass(40, &[1]).await;
    let (second, after) = (world.proxies[1].scaler.fence.expect("it leads"), world.server.service());
    assert!(second > first && world.driver.told().len() > told);
    assert!(world.driver.told()[told..].iter().all(|wish| wish.fence == second.0));
    let told = world.driver.told().len();
    // and wakes up believing that it leads
    drive(world.proxies[0].scaler.look()).await;
    tokio::task::yield_now().await;
    // then the store takes nothing from it, and the driver hears nothing
    assert_eq!(world.server.service(), after);
    assert_eq!(world.driver.told().len(), told);
    assert_eq!(world.doing(0), "another proxy leads by now, or the store doesn't answer: nothing is done");
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_leader_began_is_ended_by_the_next_one() {
    let mut world = World::new(2);
    world.pass(20, &[0]).await;
    world.driver.set(Mood::Lies);
    world.rate = 40;
    world.pass(20, &[0]).await;
    let token = world.scaling().grants.first().expect("it asked").token.clone();
    // when the leader dies, and the driver is honest from now on
    world.driver.set(Mood::Honest);
    world.pass(150, &[1]).await;
    // then the next one sees that nothing came of it, has it undone, and asks anew
    let about: Vec<&'static str> =
        world.driver.told().iter().filter(|wish| wish.token == token).map(|wish| wish.task.name()).collect();
    assert_eq!((about.first(), about.last()), (Some(&"add"), Some(&"undo")), "{about:?}");
    assert_eq!(world.driver.running().len(), 4);
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_fails_or_lies_is_asked_less_and_less_and_never_for_more() {
    for mood in [Mood::Fails, Mood::FailsLate, Mood::Lies, Mood::StillBorn] {
        let mut world = World::new(1);
        world.pass(20, &[0]).await;
        world.driver.set(mood);
        world.rate = 100;
        world.pass(600, &[0]).await;
        let (told, failures) = (world.driver.told().len(), world.scaling().failures);
        // What came although the driver says no is no failure.
        let fails = failures >= 3 || mood == Mood::FailsLate;
        assert!(told < 30 && fails, "{mood:?}: {told} calls, {failures} failures");
        assert!(*world.driver.most.lock().expect("unpoisoned") <= 6, "{mood:?}");
        // when it is honest again, then the pool gets what it needs
        world.driver.set(Mood::Honest);
        world.pass(1_300, &[0]).await;
        assert_eq!((world.driver.running().len(), world.scaling().failures), (6, 0), "{mood:?}: {}", world.doing(0));
    }
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn without_the_store_and_while_paused_a_pool_stays_as_it_is() {
    let mut world = World::new(1);
    world.pass(20, &[0]).await;
    world.rate = 40;
    world.server.cut(0, true);
    world.pass(30, &[0]).await;
    assert_eq!(world.driver.told().len(), 1);
    world.server.cut(0, false);
    let until = telemetry::now() + Duration::from_secs(60);
    let order =
        |size| Change::Scaling(ScalingChange::Order(Some(Order { size, until, by: "ann".into(), reason: None })));
    drive(world.proxies[0].store.apply(SERVICE, &order(None), None)).await.expect("stored");
    world.pass(50, &[0]).await;
    assert_eq!(world.driver.told().len(), 1, "{}", world.doing(0));
    // when the pause ends by itself, then the rules decide again
    world.pass(60, &[0]).await;
    assert_eq!(world.driver.running().len(), 4);
    set_clock(None);
}

/// Drivers, loads, leaders and the store change at random.
async fn live_through(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(2);
    let moods = [Mood::Honest, Mood::Honest, Mood::Fails, Mood::FailsLate, Mood::Lies, Mood::StillBorn];
    for _ in 0..25 {
        world.driver.set(moods[rng.random_range(0..moods.len())]);
        world.rate = [0, 5, 20, 60, 500][rng.random_range(0..5)];
        world.server.cut(0, rng.random_bool(0.15));
        let awake = [&[0][..], &[1], &[0, 1]][rng.random_range(0..3)];
        let seconds = rng.random_range(1..60);
        world.pass(seconds, awake).await;
        for wish in world.driver.told() {
            assert!(!matches!(wish.task, Task::Add { count } if count > MAX), "seed {seed}: {wish:?}");
        }
        let most = *world.driver.most.lock().expect("unpoisoned");
        assert!(most <= usize::try_from(MAX).expect("few"), "seed {seed}: {most} instances ran at once");
    }
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn however_a_driver_behaves_no_more_than_max_ever_run() {
    for seed in 0..40 {
        live_through(seed).await;
    }
}
