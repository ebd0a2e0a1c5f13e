//! Two proxies, one store, and a driver that does as it likes.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Mutex;

use async_trait::async_trait;
use tokio::sync::mpsc::UnboundedReceiver;

use super::super::driver::Started;
use super::super::*;
use crate::control::alert::{Alert, Mailer};
use crate::control::sync::Sync;
use crate::live::service::Ending;
use crate::live::{Health, sample};
use crate::model::rollout::Fence;
use crate::model::scaling::{Act, Pace, Scaling, ScalingChange, Stride};
use crate::model::spec::{ServiceSpec, Spec};
use crate::model::split::{Arm, PerArm};
use crate::model::state::{Change, Member, MemberSpec};
use crate::store::redis::simulated::{Server, StateFile};
use crate::telemetry::simulated::set_clock;

pub(super) const SERVICE: &str = "shop";
pub(super) const DAWN: u64 = 1_775_000_000_000;
pub(super) const MAX: u32 = 6;

/// How long a driver may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a driver takes a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Does it.
    Honest,
    /// Says no, and has done nothing.
    Fails,
    /// Says no, and has done it.
    FailsLate,
    /// Does it, and says nothing until it is given up.
    Hangs,
    /// Says done, and has started nothing.
    Lies,
    /// Starts what never registers.
    StillBorn,
    /// Starts what doesn't register, and says where it is and what it stopped.
    Tells,
}

/// What runs, and what it was told.
#[derive(Debug)]
pub(super) struct Fake {
    mood: Mutex<Mood>,
    told: Mutex<Vec<Wish>>,
    /// What runs: by the token that started it, its port and whether it registers.
    runs: Mutex<BTreeMap<String, Vec<(u16, bool)>>>,
    /// How many each token has started.
    counts: Mutex<BTreeMap<String, u32>>,
    pub(super) most: Mutex<usize>,
}

impl Fake {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            mood: Mutex::new(Mood::Honest),
            told: Mutex::default(),
            runs: Mutex::default(),
            counts: Mutex::default(),
            most: Mutex::default(),
        })
    }

    pub(super) fn set(&self, mood: Mood) {
        *self.mood.lock().expect("unpoisoned") = mood;
    }

    pub(super) fn told(&self) -> Vec<Wish> {
        self.told.lock().expect("unpoisoned").clone()
    }

    pub(super) fn running(&self) -> Vec<u16> {
        let runs = self.runs.lock().expect("unpoisoned");
        runs.values().flatten().filter(|(_, registers)| *registers).map(|(port, _)| *port).collect()
    }

    /// Where the instances of a token are, registered or not.
    fn of(&self, token: &str) -> Vec<SocketAddr> {
        let runs = self.runs.lock().expect("unpoisoned");
        runs.get(token).into_iter().flatten().map(|(port, _)| address(*port)).collect()
    }

    pub(super) fn add(&self, token: &str, count: u32, registers: bool) {
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

    pub(super) fn stop(&self, stops: impl Fn(&str, &str) -> bool) {
        let mut runs = self.runs.lock().expect("unpoisoned");
        for (token, instances) in runs.iter_mut() {
            instances.retain(|(port, _)| !stops(token, &address(*port).to_string()));
        }
    }
}

pub(super) fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[async_trait]
impl Driver for Fake {
    async fn perform(&self, wish: &Wish) -> Result<Done, DriverError> {
        self.told.lock().expect("unpoisoned").push(wish.clone());
        let mood = *self.mood.lock().expect("unpoisoned");
        let starts = matches!(wish.task, Task::Add { .. });
        let before = self.of(&wish.token);
        if mood != Mood::Fails && !(mood == Mood::Lies && starts) {
            match &wish.task {
                Task::Add { count } => self.add(&wish.token, *count, !matches!(mood, Mood::StillBorn | Mood::Tells)),
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
            Mood::Hangs => {
                tokio::time::sleep(PATIENCE).await;
                Err(DriverError::Timeout(PATIENCE))
            }
            Mood::Fails | Mood::FailsLate => Err(DriverError::Failed("no quota".into())),
            Mood::Honest | Mood::Lies | Mood::StillBorn => Ok(Done::default()),
            Mood::Tells => {
                let there = self.of(&wish.token);
                let stopped = before.into_iter().filter(|address| !there.contains(address)).collect();
                let started = there.into_iter().map(|address| Started { address, version: Some("7".into()) });
                Ok(Done { started: started.collect(), stopped })
            }
        }
    }
}

pub(super) struct Proxy {
    pub(super) live: Arc<Live>,
    pub(super) store: Arc<dyn Store>,
    pub(super) sync: Sync,
    pub(super) scaler: Autoscaler,
    pub(super) spec: watch::Sender<Arc<Spec>>,
    /// What its checks find, by endpoint.
    found: BTreeMap<String, Health>,
}

impl Proxy {
    /// Endpoints are as they were found: without a health check each new snapshot takes them for well.
    fn check(&self) {
        for (id, health) in &self.found {
            self.live.service(SERVICE).endpoint(Arm::Stable, id, Health::Up).set_health(*health);
        }
    }
}

pub(super) struct World {
    pub(super) proxies: Vec<Proxy>,
    pub(super) driver: Arc<Fake>,
    pub(super) server: Arc<Server>,
    pub(super) registry: Arc<dyn Store>,
    /// What was mailed.
    pub(super) mails: UnboundedReceiver<Alert>,
    mailer: Mailer,
    /// Processes that were started.
    started: usize,
    seconds: u64,
    /// Requests a second that come to each proxy.
    pub(super) rate: u32,
}

pub(super) fn service() -> ServiceSpec {
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
pub(super) async fn drive<T>(work: impl Future<Output = T>) -> T {
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
    pub(super) fn new(count: usize) -> Self {
        set_clock(Some(Timestamp::from_millis(DAWN)));
        // Instances register by themselves, as one more that the store knows.
        let (server, driver) = (Server::new(7, count + 1), Fake::new());
        let registry = server.store(count, &StateFile::default());
        let (mailer, mails) = Mailer::read_by_a_test();
        let (proxies, seconds) = (Vec::new(), 0);
        let mut world = Self { proxies, driver, server, registry, mails, mailer, started: 0, seconds, rate: 0 };
        for index in 0..count {
            let proxy = world.start(index);
            world.proxies.push(proxy);
        }
        world
    }

    /// A process of a proxy.
    fn start(&mut self, index: usize) -> Proxy {
        self.started += 1;
        let (live, _) = Live::new(1);
        let store = self.server.store(index, &StateFile::default());
        let (keeps, spec) = watch::channel(Arc::new(Spec { services: vec![Arc::new(service())], ..sample::spec() }));
        let (name, holder) = (format!("p{index}"), format!("p{index} {}", self.started));
        let mailer = self.mailer.clone();
        let (sync, _) = Sync::new(Arc::clone(&live), Arc::clone(&store), mailer.clone(), name.clone(), spec);
        let mut scaler = Autoscaler::new(Arc::clone(&live), Arc::clone(&store), mailer, name, holder);
        let driver = Arc::clone(&self.driver);
        scaler.make = Box::new(move |_| Some(Arc::clone(&driver) as Arc<dyn Driver>));
        Proxy { live, store, sync, scaler, spec: keeps, found: BTreeMap::new() }
    }

    /// A process dies, and another one takes its place.
    pub(super) fn restart(&mut self, index: usize) {
        self.proxies[index] = self.start(index);
    }

    /// From now on a proxy has another configuration.
    pub(super) fn configure(&self, proxy: usize, change: impl FnOnce(&mut ScalingSpec)) {
        let mut service = service();
        let mut scaling = ScalingSpec::clone(service.autoscale.as_ref().expect("it is scaled"));
        change(&mut scaling);
        service.autoscale = Some(Arc::new(scaling));
        let spec = Spec { services: vec![Arc::new(service)], ..sample::spec() };
        self.proxies[proxy].spec.send_replace(Arc::new(spec));
    }

    /// A change that somebody else makes.
    pub(super) async fn change(&self, change: Change) {
        drive(self.registry.apply(SERVICE, &change, None)).await.expect("the store is there");
    }

    /// What a leader is believed to have done.
    pub(super) async fn lead(&self, act: Act) {
        let fence = self.scaling().fence;
        self.change(Change::Scaling(ScalingChange::Lead { fence, act })).await;
    }

    /// What a proxy finds of an endpoint's health.
    pub(super) fn find(&mut self, proxy: usize, id: &str, health: Health) {
        self.proxies[proxy].found.insert(id.to_owned(), health);
        self.proxies[proxy].check();
    }

    /// The members of the pool, and whether each drains.
    pub(super) fn members(&self) -> Vec<(String, bool)> {
        let pool = self.server.service().pools.stable;
        let members = pool.into_iter().filter(|(_, member)| member.spec().is_some());
        members.map(|(id, member)| (id, matches!(member, Member::Draining(_)))).collect()
    }

    /// Instances that run register themselves.
    pub(super) async fn register(&self) {
        let known = self.server.service().pools.stable;
        for port in self.driver.running() {
            let id = address(port).to_string();
            if !matches!(known.get(&id), Some(Member::Ready(_) | Member::Draining(_))) {
                let put = Change::PutMember { arm: Arm::Stable, id, spec: MemberSpec::new(address(port).into()) };
                let _tries_again = drive(self.registry.apply(SERVICE, &put, None)).await;
            }
        }
    }

    /// One second passes for these proxies.
    pub(super) async fn second(&mut self, awake: &[usize]) {
        self.seconds += 1;
        tokio::time::advance(Duration::from_secs(1)).await;
        set_clock(Some(Timestamp::from_millis(DAWN + self.seconds * 1_000)));
        self.register().await;
        for index in awake {
            let (rate, look) = (self.rate, self.seconds.is_multiple_of(5));
            let proxy = &mut self.proxies[*index];
            drive(proxy.sync.step()).await;
            proxy.check();
            for _ in 0..rate {
                proxy.live.service(SERVICE).count(0, Arm::Stable, Ending::Status(200), Some(Duration::from_millis(9)));
            }
            proxy.scaler.measure();
            drive(proxy.scaler.lease.renew()).await;
            if look {
                drive(proxy.scaler.look()).await;
            }
        }
        // What was given to the driver is done.
        tokio::task::yield_now().await;
    }

    pub(super) async fn pass(&mut self, seconds: u64, awake: &[usize]) {
        for _ in 0..seconds {
            self.second(awake).await;
        }
    }

    pub(super) fn scaling(&self) -> Scaling {
        self.server.service().scaling.unwrap_or_default()
    }

    pub(super) fn fence(&self, proxy: usize) -> Option<Fence> {
        self.proxies[proxy].scaler.lease.fence()
    }

    pub(super) fn doing(&self, proxy: usize) -> String {
        self.proxies[proxy].live.service(SERVICE).scaling().note.clone()
    }
}
