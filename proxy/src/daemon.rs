//! Wiring: which rooms run on which threads, and how they start, reload, drain and end.
//!
//! The data plane has threads of its own; everything else shares one small runtime.
//! May know all rooms.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::admin::{self, Access, AdminState};
use crate::config;
use crate::control::alert::rules::watch_rules;
use crate::control::alert::{Mailer, Metrics as MailMetrics};
use crate::control::autoscale::Autoscaler;
use crate::control::health;
use crate::control::rollout::Driver;
use crate::control::slow;
use crate::control::sync::Sync;
use crate::control::verdict::Court;
use crate::dataplane::DataPlane;
use crate::live::metrics::LiveMetrics;
use crate::live::{Health, Live};
use crate::model::spec::{ListenerSpec, Spec};
use crate::model::split::Arm;
use crate::store;
use crate::telemetry::metrics::Registry;

/// How long the start waits for the first health checks, so that the first requests find
/// endpoints that are known to be healthy.
const FIRST_CHECKS: Duration = Duration::from_secs(2);
/// How long a process that ends waits for the store to hear of it.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How often the files of certificates are read, to see whether they changed.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(5);

/// A running serin.
#[derive(Debug)]
pub struct Daemon {
    live: Arc<Live>,
    spec: watch::Sender<Arc<Spec>>,
    access: Arc<Access>,
    data_plane: DataPlane,
    admin_address: Option<SocketAddr>,
    /// Raised last: the admin API answers, and what is measured is told, until the drain is over.
    stop: watch::Sender<bool>,
    scaling: JoinSet<()>,
    tasks: JoinSet<()>,
}

impl Daemon {
    /// Starts all rooms. When it returns, listeners are open and a snapshot is in force.
    ///
    /// # Errors
    /// When an address is taken, the state file or the outbox can't be used, or the tokens can't be read.
    pub async fn start(spec: Spec) -> anyhow::Result<Self> {
        let name = config::host_name();
        let spec = Arc::new(spec);
        let cores = match spec.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let registry = Registry::new(env!("CARGO_PKG_VERSION"))?;
        let (live, reports) = Live::new(cores);
        registry.register(LiveMetrics::new(Arc::clone(&live))?)?;
        let access = Arc::new(Access::load(spec.admin.tokens_file.as_deref())?);
        let admin_socket = admin::bind(&spec.admin).await?;
        let admin_address = admin_socket.tcp_address();
        let store = store::open(&spec.store)?;
        let mail_metrics = MailMetrics::register(registry.inner())?;
        let (mailer, post) = Mailer::start(spec.email.clone(), spec.outbox.clone(), name.clone(), mail_metrics)?;

        let mut tasks = JoinSet::new();
        tasks.spawn(post);
        let (spec_sender, spec_receiver) = watch::channel(Arc::clone(&spec));
        let (mut sync, published) =
            Sync::new(Arc::clone(&live), Arc::clone(&store), mailer.clone(), name.clone(), spec_receiver);
        sync.step().await;
        let court = Court::convene(Arc::clone(&live), Arc::clone(&store), mailer.clone(), name.clone()).await;
        tasks.spawn(court.run(reports));
        tasks.spawn(sync.run());
        let driver = Driver::new(Arc::clone(&live), Arc::clone(&store), mailer.clone(), name.clone());
        let holder = driver.holder().to_owned();
        let scaler = Autoscaler::new(Arc::clone(&live), Arc::clone(&store), mailer.clone(), name.clone(), holder);
        let (stop, stopped) = watch::channel(false);
        let mut scaling = JoinSet::new();
        scaling.spawn(scaler.run(stopped.clone()));
        tasks.spawn(driver.run(published.clone()));
        tasks.spawn(health::run(Arc::clone(&live), published.clone()));
        tasks.spawn(slow::learn(Arc::clone(&live)));
        tasks.spawn(watch_rules(Arc::clone(&live), mailer));
        first_checks(&live).await;
        let data_plane = DataPlane::start(&spec, &live)?;

        let state = AdminState {
            live: Arc::clone(&live),
            store,
            registry,
            proxy_name: name,
            access: Arc::clone(&access),
            published,
            ofrep_rate: spec.admin.ofrep_rate,
        };
        tasks.spawn(serve_admin(admin_socket, state, stopped));
        Ok(Self { live, spec: spec_sender, access, data_plane, admin_address, stop, scaling, tasks })
    }

    /// Where each listener listens, by name.
    pub fn listeners(&self) -> &[(String, SocketAddr)] {
        self.data_plane.addresses()
    }

    /// Where the admin API listens, unless on a unix socket.
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// What the daemon knows.
    pub const fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Puts a new configuration in force: services and all that belongs to them. What would
    /// need a restart stays as it was, and the log says so. Tokens are read anew.
    pub fn reload(&self, spec: Spec) {
        if let Err(error) = self.access.reload() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "The tokens file is refused: the old tokens stay"
            );
        }
        let before = Arc::clone(&self.spec.borrow());
        for (what, changed) in restart_needed(&before, &spec) {
            if changed {
                tracing::warn!(what, "A changed setting takes effect only at a restart");
            }
        }
        self.data_plane.renew_tls(&spec);
        self.spec.send_replace(Arc::new(spec));
        tracing::info!("Configuration reloaded");
    }

    /// Takes in certificates whose files changed since they were read. Those that can't be used are tried again
    /// when their files change again: mostly a certificate whose key is still to be written.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn renew_certificates(&self) -> Result<(), config::ConfigError> {
        let before = Arc::clone(&self.spec.borrow());
        if let Some(spec) = config::changed_certificates(&before)? {
            self.data_plane.renew_tls(&spec);
            self.spec.send_replace(Arc::new(spec));
        }
        Ok(())
    }

    /// Fails readiness, takes no new connections, lets running requests finish, ends.
    pub async fn drain(mut self) {
        self.live.start_draining();
        tracing::info!("Draining");
        let data_plane = self.data_plane;
        if tokio::task::spawn_blocking(move || data_plane.drain()).await.is_err() {
            tracing::error!("The drain panicked");
        }
        self.stop.send_replace(true);
        // It takes back what it told other proxies; a store that hangs keeps nobody.
        let _in_time_or_not = tokio::time::timeout(LAST_WORD, self.scaling.join_next()).await;
        self.tasks.shutdown().await;
        tracing::info!("Ended");
    }
}

async fn serve_admin(socket: admin::Bound, state: AdminState, mut stopped: watch::Receiver<bool>) {
    let stop = async move {
        let _either_way_it_is_over = stopped.wait_for(|stop| *stop).await;
    };
    if let Err(error) = admin::serve(socket, state, stop).await {
        tracing::error!(%error, "The admin API ended");
    }
}

/// Waits until no endpoint is unknown any more, or for long enough.
async fn first_checks(live: &Live) {
    let until = Instant::now() + FIRST_CHECKS;
    let unknown = || {
        let snapshot = live.snapshot();
        let pools = snapshot.services().iter().flat_map(|service| Arm::BOTH.map(|arm| service.pools.get(arm)));
        pools.flatten().any(|endpoint| endpoint.live.health() == Health::Unknown)
    };
    while unknown() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Settings that only a restart puts in force, and whether they changed.
fn restart_needed(before: &Spec, after: &Spec) -> [(&'static str, bool); 5] {
    let differ = |one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| format!("{one:?}") != format!("{other:?}");
    [
        ("runtime.threads", before.threads != after.threads),
        ("admin", differ(&before.admin, &after.admin)),
        ("store", differ(&before.store, &after.store) || before.store.kind != after.store.kind),
        ("listener", differ(&without_certificates(before), &without_certificates(after))),
        ("alert.email", differ(&(&before.email, &before.outbox), &(&after.email, &after.outbox))),
    ]
}

/// The listeners, but for what of their TLS takes effect at once.
fn without_certificates(spec: &Spec) -> Vec<(ListenerSpec, Option<Option<HeaderValue>>)> {
    let plain = |listener: &ListenerSpec| {
        let hsts = listener.tls.as_ref().map(|tls| tls.hsts.clone());
        (ListenerSpec { tls: None, ..listener.clone() }, hsts)
    };
    spec.listeners.iter().map(plain).collect()
}

/// Each connection is a file descriptor: takes as many as the system lets this process have.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, wanted).is_err() {
        tracing::warn!(limit = limit.current, "The limit of open files can't be raised");
    }
}

/// Runs the daemon until SIGTERM or SIGINT; SIGHUP reloads the configuration from `path`.
///
/// # Errors
/// When the daemon can't start.
pub async fn serve(path: &Path) -> anyhow::Result<()> {
    let (spec, notes) = config::load(path)?;
    for note in notes {
        tracing::warn!("{}: {note}", path.display());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    raise_file_limit();
    let daemon = Daemon::start(spec).await?;
    for (name, address) in daemon.listeners() {
        tracing::info!(listener = name, %address, "Listening");
    }
    let mut look = tokio::time::interval(CERTIFICATE_LOOK);
    let mut readable = true;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = look.tick() => {
                let renewed = daemon.renew_certificates();
                if let (true, Err(error)) = (readable, &renewed) {
                    let error = error as &dyn std::error::Error;
                    tracing::warn!(error, "Certificates can't be read again: those in use stay");
                }
                readable = renewed.is_ok();
            }
            _ = hang_up.recv() => match config::load(path) {
                Ok((spec, _)) => daemon.reload(spec),
                Err(error) => tracing::error!("The new configuration is refused, the old one stays:\n{error}"),
            },
        }
    }
    daemon.drain().await;
    Ok(())
}
