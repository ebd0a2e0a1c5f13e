//! One simulated proxy: the real loops of the control plane, stepped by hand, on a clock of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::watch;

use crate::control::alert::Mailer;
use crate::control::rollout::Driver;
use crate::control::sync::Sync;
use crate::control::verdict::Court;
use crate::live::sample;
use crate::live::service::Ending;
use crate::live::{Health, Live, Report, ServiceView};
use crate::model::outcome::{BadOutcome, BadReason, BadSample};
use crate::model::spec::{ServiceSpec, Spec, VerdictSpec};
use crate::model::split::{Arm, Unit};
use crate::model::state::Scope;
use crate::model::weight::Weight;
use crate::store::redis::simulated::{Server, StateFile};
use crate::store::{Changed, Store};
use crate::telemetry;

/// The one service of the simulated world.
pub(super) const SERVICE: &str = "shop";

/// What a task hands back when it is done.
pub(super) enum Done {
    /// The sync, after a step.
    Sync(Box<Sync>),
    /// The driver, after a look.
    Driver(Box<Driver>),
    /// A person has an answer.
    Answered,
}

/// Something that waits for the store.
pub(super) struct Task {
    pub(super) what: &'static str,
    work: Pin<Box<dyn Future<Output = Done>>>,
}

/// A process.
pub(super) struct Process {
    pub(super) live: Arc<Live>,
    pub(super) store: Arc<dyn Store>,
    sync: Option<Box<Sync>>,
    driver: Option<Box<Driver>>,
    court: Court,
    pub(super) tasks: Vec<Task>,
    _spec: watch::Sender<Arc<Spec>>,
}

/// A proxy: its state file and its clock, and its process while it lives.
pub(super) struct Proxy {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) file: StateFile,
    /// How far its wall clock is ahead, in milliseconds.
    pub(super) ahead: i64,
    pub(super) process: Option<Process>,
}

impl Process {
    /// The service as a request sees it; none before the first snapshot.
    pub(super) fn view(&self) -> Option<Arc<ServiceView>> {
        self.live.snapshot().service(SERVICE).cloned()
    }

    /// Begins something that waits for the store.
    pub(super) fn begin(&mut self, what: &'static str, work: impl Future<Output = Done> + 'static) {
        self.tasks.push(Task { what, work: Box::pin(work) });
    }

    /// Begins a step of the sync over the service or over everything, unless one runs.
    pub(super) fn begin_sync(&mut self, scope: Scope) {
        if let Some(mut sync) = self.sync.take() {
            let changed = match scope {
                Scope::Whole => Changed::Anything,
                Scope::Part => Changed::Services([SERVICE.to_owned()].into()),
            };
            self.begin("sync", async move {
                sync.follow(&changed).await;
                Done::Sync(sync)
            });
        }
    }

    /// Begins a look of the driver, unless one runs.
    pub(super) fn begin_drive(&mut self) {
        if let Some(mut driver) = self.driver.take() {
            self.begin("drive", async move {
                driver.look().await;
                Done::Driver(driver)
            });
        }
    }

    /// Goes on with a task until it waits again; whether it is done.
    pub(super) fn go_on(&mut self, task: usize) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let std::task::Poll::Ready(done) = self.tasks[task].work.as_mut().poll(&mut context) else { return false };
        // The order of the others stays: the seed counts on it.
        drop(self.tasks.remove(task));
        match done {
            Done::Sync(sync) => self.sync = Some(sync),
            Done::Driver(driver) => self.driver = Some(driver),
            Done::Answered => {}
        }
        true
    }

    /// The court looks at the running episode.
    pub(super) fn judge(&mut self) {
        self.court.look();
    }

    /// Health checks: which endpoints are up.
    pub(super) fn probe(&self, up: impl Fn(Arm, &str) -> bool) {
        let Some(view) = self.view() else { return };
        for arm in Arm::BOTH {
            for endpoint in view.pools.get(arm) {
                endpoint.live.set_health(if up(arm, &endpoint.id) { Health::Up } else { Health::Down });
            }
        }
    }

    /// Users come; of those on the canary so large a part goes bad.
    pub(super) fn serve(&mut self, users: u32, bad: f64, draws: &mut StdRng) {
        let Some(view) = self.view() else { return };
        let Some(episode) = view.episode.clone().filter(|_| !view.effective().is_zero()) else { return };
        let mut reports = Vec::new();
        for _ in 0..users {
            let key: u64 = draws.random();
            let unit = Unit::of_key(episode.salt, &key.to_le_bytes());
            let arm = if view.ready(Arm::Canary) == 0 { Arm::Stable } else { unit.arm(view.effective()) };
            episode.live.note(0, arm, unit);
            episode.step.note(0, arm, unit, true);
            let is_bad = draws.random_bool(if arm == Arm::Canary { bad } else { 0.002 });
            view.live.count(0, arm, Ending::Status(if is_bad { 500 } else { 200 }), None);
            if is_bad {
                view.live.count_bad(0, arm, BadReason::Status);
                reports.push(Report { service: Arc::clone(&view), outcome: outcome(arm, unit, &view) });
            }
        }
        self.court.hear(reports.into_iter());
    }
}

fn outcome(arm: Arm, unit: Unit, view: &ServiceView) -> BadOutcome {
    let at = telemetry::now();
    let sample = BadSample {
        request_id: String::new(),
        method: "GET".into(),
        path: "/".into(),
        status: Some(500),
        reason: BadReason::Status,
        endpoint: String::new(),
        at,
    };
    BadOutcome {
        arm,
        unit,
        drawn_at: at,
        weight: view.asked,
        control: Weight::ZERO,
        address: [127, 0, 0, 1].into(),
        sample,
    }
}

impl Proxy {
    /// A proxy that never ran.
    pub(super) fn new(index: usize) -> Self {
        Self { index, name: format!("p{index}"), file: StateFile::default(), ahead: 0, process: None }
    }

    /// A process begins.
    pub(super) fn boot(&mut self, server: &Arc<Server>, mailer: &Mailer) {
        let (live, _) = Live::new(1);
        let store = server.store(self.index, &self.file);
        let (keeps, spec) = watch::channel(Arc::new(spec()));
        let (name, mailer) = (self.name.clone(), mailer.clone());
        let (sync, _) = Sync::new(Arc::clone(&live), Arc::clone(&store), mailer.clone(), name.clone(), spec);
        let driver = Driver::new(Arc::clone(&live), Arc::clone(&store), mailer.clone(), name.clone());
        let court = Court::alone(Arc::clone(&live), mailer, name);
        let (sync, driver) = (Some(Box::new(sync)), Some(Box::new(driver)));
        self.process = Some(Process { live, store, sync, driver, court, tasks: Vec::new(), _spec: keeps });
    }
}

/// A service that is quickly judged, so that a seed needs few users.
fn service() -> ServiceSpec {
    ServiceSpec {
        health: Some(sample::health()),
        verdict: VerdictSpec { false_pull_rate: 0.05, pass_error: 0.2, pass_margin: 0.3, ..VerdictSpec::default() },
        ..sample::service(SERVICE)
    }
}

fn spec() -> Spec {
    Spec { services: vec![Arc::new(service())], ..sample::spec() }
}
