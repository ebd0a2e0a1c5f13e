//! Wiring: which rooms run on which threads, and how they start, reload, drain and end. `daemon/serve.rs` is the
//! process around it, `daemon/handover/` how a new one takes over from it.
//!
//! The data plane has threads of its own; everything else shares one small runtime.
//! May know all rooms.

mod handover;
mod loops;
mod reload;
mod serve;
mod vital;
mod watchdog;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::admin::{self, Access, AdminState, Replacing};
use crate::config;
use crate::control::alert::{Mailer, Metrics as MailMetrics};
use crate::dataplane::{DataPlane, Farewell, Given};
use crate::live::metrics::LiveMetrics;
use crate::live::{Health, Live};
use crate::model::naming::Remembered;
use crate::model::spec::Spec;
use crate::model::split::Arm;
use crate::store::{self, Store, StoreError};
use crate::telemetry::metrics::Registry;
use loops::{Desk, Ends, Loops};
use reload::restart_needed;
pub use serve::serve;
use vital::Vital;

/// How long the start waits for the first answers on names and the first health checks, so that the first requests find
/// endpoints that are known to be healthy.
const FIRST_CHECKS: Duration = Duration::from_secs(2);
/// How long a mail that is being sent may hold up a new process. One that takes longer may be sent twice.
const LAST_MAIL: Duration = Duration::from_secs(3);
/// How long a process that ends waits for the store to hear of it.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Sockets that were opened for this process by another one, and what that one knew.
#[derive(Debug, Default)]
struct Inheritance {
    listeners: Vec<Given>,
    admin: Option<admin::Inherited>,
    /// What was known of names.
    names: BTreeMap<String, Remembered>,
}

/// A running serin.
#[derive(Debug)]
pub struct Daemon {
    live: Arc<Live>,
    spec: watch::Sender<Arc<Spec>>,
    access: Arc<Access>,
    store: Arc<dyn Store>,
    mailer: Mailer,
    data_plane: DataPlane,
    admin_address: Option<SocketAddr>,
    /// Its address as it was asked for, and its socket, for a process that takes over.
    admin_socket: (String, OwnedFd),
    /// What acts for the whole fleet, or tells people: never two processes of one proxy at a time.
    acting: Vec<AbortHandle>,
    /// Raised last, unless another process serves in its place: the admin API answers until the drain is over.
    stop: watch::Sender<bool>,
    /// Raised once nothing is in flight any more.
    drained: watch::Sender<bool>,
    admin: JoinHandle<()>,
    scaling: JoinHandle<()>,
    tasks: JoinSet<()>,
    vital: Vital,
}

impl Daemon {
    /// Starts all rooms. When it returns, listeners are open and a snapshot is in force.
    ///
    /// # Errors
    /// When an address is taken, the state file or the outbox can't be used, or the tokens can't be read.
    pub async fn start(spec: Spec) -> anyhow::Result<Self> {
        Ok(Self::start_with(spec, Inheritance::default()).await?.0)
    }

    /// As [`Daemon::start`], with sockets that are open already. Gives also the wishes for a process that takes over.
    async fn start_with(spec: Spec, inheritance: Inheritance) -> anyhow::Result<(Self, mpsc::Receiver<Replacing>)> {
        let name = config::host_name();
        let spec = Arc::new(spec);
        let cores = match spec.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let registry = Registry::new(env!("CARGO_PKG_VERSION"))?;
        let (live, reports) = Live::new(cores);
        registry.register(LiveMetrics::new(Arc::clone(&live))?)?;
        live.names().remember(inheritance.names);
        let access = Arc::new(Access::load(spec.admin.tokens_file.as_deref())?);
        let admin_bound = admin::adopt(&spec.admin, inheritance.admin).await?;
        let admin_address = admin_bound.tcp_address();
        let admin_socket = (admin::address_of(&spec.admin), admin_bound.share()?);
        let store = store::open(&spec.store)?;
        let mail_metrics = MailMetrics::register(registry.inner())?;
        let (mailer, post) = Mailer::start(spec.email.clone(), spec.outbox.clone(), name.clone(), mail_metrics)?;

        let (vital, mut tasks) = (Vital::default(), JoinSet::new());
        tasks.spawn(vital.guard("mail", post));
        let desk =
            Desk { live: Arc::clone(&live), store: Arc::clone(&store), mailer: mailer.clone(), name: name.clone() };
        let (spec_sender, spec_receiver) = watch::channel(Arc::clone(&spec));
        let (stop, stopped) = watch::channel(false);
        let (drained, is_drained) = watch::channel(false);
        let ends = Ends { stopped: stopped.clone(), drained: is_drained };
        let loops = Loops::start(&vital, &mut tasks, desk, spec_receiver, reports, ends).await;
        let Loops { acting, scaling, published } = loops;
        first_checks(&live).await;
        let data_plane = DataPlane::start(&spec, &live, inheritance.listeners)?;

        let (upgrades, wishes) = mpsc::channel(1);
        let state = AdminState {
            live: Arc::clone(&live),
            store: Arc::clone(&store),
            registry,
            proxy_name: name,
            access: Arc::clone(&access),
            published,
            ofrep_rate: spec.admin.ofrep_rate,
            upgrades,
        };
        let admin = tokio::spawn(vital.guard("admin API", serve_admin(admin_bound, state, stopped)));
        let spec = spec_sender;
        let daemon = Self {
            live,
            spec,
            access,
            store,
            mailer,
            data_plane,
            admin_address,
            admin_socket,
            acting,
            stop,
            drained,
            admin,
            scaling,
            tasks,
            vital,
        };
        Ok((daemon, wishes))
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
            if before.listeners.iter().zip(&spec.listeners).any(|(before, now)| before.tls != now.tls) {
                self.data_plane.renew_tls(&spec);
            }
            self.spec.send_replace(Arc::new(spec));
        }
        Ok(())
    }

    /// Lets a process that is to take over have the files. Until [`Daemon::take_back`] nothing is written and no mail
    /// is sent; requests are served all the same.
    ///
    /// # Errors
    /// When they can't be written to the end.
    async fn give_up(&self) -> Result<(), StoreError> {
        if tokio::time::timeout(LAST_MAIL, self.mailer.rest()).await.is_err() {
            tracing::warn!("A mail is still being sent: it may be sent twice");
        }
        self.store.give_up().await
    }

    /// Has the files again, from a process that is gone.
    async fn take_back(&self) {
        match self.store.take_back().await {
            Ok(()) => {
                self.mailer.go_on();
                // What waited is on its way again.
                self.live.snapshot().services().iter().for_each(|service| service.live.set_unmailed(false));
            }
            Err(error) => tracing::error!(%error, "The files can't be taken back: nothing is written any more"),
        }
    }

    /// Fails readiness, asks clients to go, takes no new connections after the time of grace, lets running requests
    /// finish, ends.
    pub async fn drain(self) {
        let grace = self.spec.borrow().drain_grace;
        self.end(Farewell { grace, lingers: false }).await;
    }

    /// Leaves callers of the admin API who come now to another process; those who are there are answered.
    fn close_admin(&self) {
        self.stop.send_replace(true);
    }

    /// Ends what it has, while another process serves in its place.
    async fn make_way(self) {
        self.acting.iter().for_each(AbortHandle::abort);
        self.close_admin();
        self.end(Farewell { grace: Duration::ZERO, lingers: true }).await;
    }

    async fn end(mut self, farewell: Farewell) {
        self.live.start_draining();
        tracing::info!("Draining");
        self.data_plane.drain(farewell).await;
        self.stop.send_replace(true);
        self.drained.send_replace(true);
        // It lets its requests finish, and cuts what takes too long by itself.
        if self.admin.await.is_err() {
            tracing::error!("The admin API had panicked");
        }
        // It takes back what it told other proxies; a store that hangs keeps nobody.
        let _in_time_or_not = tokio::time::timeout(LAST_WORD, self.scaling).await;
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
        let arms = || snapshot.services().iter().flat_map(|service| Arm::BOTH.map(|arm| (service, arm)));
        let mut names = arms().flat_map(|(service, arm)| service.names.get(arm));
        let mut endpoints = arms().flat_map(|(service, arm)| service.pools.get(arm));
        names.any(|name| !name.facts.is_asked) || endpoints.any(|endpoint| endpoint.live.health() == Health::Unknown)
    };
    while unknown() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
