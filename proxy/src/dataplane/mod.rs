//! From accept to response: one thread per core, each with a runtime, listening
//! sockets and upstream connections of its own.
//!
//! May know: model, live, telemetry. Never: store, control, admin. A request reads
//! top to bottom in `handle.rs`: route (`route.rs`), admit, draw (`lot.rs`, `sticky.rs`), flags (`flags.rs`), limits
//! (`limits/`), pick (`pick.rs`),
//! forward (`forward.rs` over `upstream/`), record (`record.rs`). `respond.rs` is
//! the one place where an error becomes a response. A connection that switches to another protocol goes on in
//! `tunnel/`.

mod address_text;
mod authority;
mod body;
mod client;
mod clock;
mod connection;
mod core;
mod downstream;
mod flags;
mod forward;
mod frame_heads;
mod handle;
mod head;
mod host;
mod http2;
mod introduction;
mod limits;
mod listen;
mod lookup;
mod lot;
mod matcher;
mod pace;
mod pick;
mod plain;
mod preface;
mod record;
mod request_id;
mod respond;
mod route;
mod session;
mod socket;
mod splice;
mod sticky;
pub mod tls;
mod trailers;
mod transport;
mod tunnel;
mod upstream;
mod vital;

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;

use self::core::Core;
use self::tls::{Acceptor, TlsError};
use self::vital::Vital;
use crate::live::Live;
use crate::model::spec::{ListenerSpec, Spec};
use crate::model::tls::TlsSpec;
use crate::telemetry;
use listen::{BoundListener, Opened};
pub use listen::{Given, ListenError};

/// How often a draining core looks whether its connections have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// How far the data plane is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Not at all.
    Serving,
    /// New connections are taken; answers ask clients to come back by another connection.
    Leaving,
    /// Nothing new is taken; connections that wait for a request may still have one.
    Lingering,
    /// Connections end with the request at hand.
    Closing,
}

/// How the data plane ends.
#[derive(Clone, Copy, Debug)]
pub struct Farewell {
    /// For how long new connections are taken while clients are asked to go: whoever balances load before serin needs
    /// this time to notice.
    pub grace: Duration,
    /// Whether connections that wait for a request stay open for one more, as long as the drain lasts: where another
    /// process serves at the same address, that costs nothing and loses no request that is under way to this one.
    pub lingers: bool,
}

/// The running data plane.
#[derive(Debug)]
pub struct DataPlane {
    /// By name, with the address that was asked for.
    listeners: Vec<(String, SocketAddr, Opened)>,
    addresses: Vec<(String, SocketAddr)>,
    /// Of the listeners with TLS, by name.
    acceptors: Vec<(String, Arc<Acceptor>)>,
    live: Arc<Live>,
    threads: Vec<JoinHandle<()>>,
    stage: watch::Sender<Stage>,
    vital: Vital,
}

/// Why the data plane can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener can't be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A listening socket can't be shared by several threads.
    #[error("a listening socket can't be shared by threads: are there file descriptors left?")]
    Share(#[source] std::io::Error),
    /// A listener's certificates can't be used.
    #[error("the TLS of listener `{listener}` can't be used: {source}")]
    Tls {
        /// Its name.
        listener: String,
        /// Why.
        source: Box<TlsError>,
    },
    /// The system gives no thread.
    #[error("a data-plane thread can't be started")]
    Thread(#[source] std::io::Error),
}

impl DataPlane {
    /// Opens the listeners, or takes the sockets that they were given, and starts one thread for each core of `live`.
    ///
    /// # Errors
    /// When a listener can't be opened or a thread can't be started.
    pub fn start(spec: &Spec, live: &Arc<Live>, mut given: Vec<Given>) -> Result<Self, StartError> {
        let cores = live.cores();
        let mut by_core: Vec<Vec<BoundListener>> = (0..cores).map(|_| Vec::new()).collect();
        let (mut listeners, mut acceptors) = (Vec::new(), Vec::new());
        for listener in &spec.listeners {
            let acceptor = listener.tls.as_ref().map(|tls| begin_tls(listener, tls, live)).transpose()?;
            let opened = listen::bind(listener, acceptor.as_ref(), cores, &mut given)?;
            for (own, sockets) in by_core.iter_mut().zip(opened.deal(cores).map_err(StartError::Share)?) {
                own.extend(sockets);
            }
            acceptors.extend(acceptor.map(|acceptor| (listener.name.clone(), acceptor)));
            listeners.push((listener.name.clone(), listener.address, opened));
        }
        for unwanted in given {
            tracing::warn!(address = %unwanted.address, "A socket was given that no listener asks for: it is not used");
        }
        let (stage, staged) = watch::channel(Stage::Serving);
        let (mut threads, vital) = (Vec::new(), Vital::default());
        for (id, listeners) in by_core.into_iter().enumerate() {
            let (live, staged, drain, vital) = (Arc::clone(live), staged.clone(), spec.drain, vital.clone());
            let thread = std::thread::Builder::new().name(format!("serin-core-{id}"));
            let body = move || {
                let _told_however_it_ends = vital.ends_with(id);
                run_core(id, live, listeners, staged, drain, &vital);
            };
            threads.push(thread.spawn(body).map_err(StartError::Thread)?);
        }
        let addresses = listeners.iter().map(|(name, _, opened)| (name.clone(), opened.address)).collect();
        Ok(Self { listeners, addresses, acceptors, live: Arc::clone(live), threads, stage, vital })
    }

    /// The listening sockets by the name of their listener and the address that was asked for: to be shared with
    /// another process.
    pub fn sockets(&self) -> impl Iterator<Item = (&str, SocketAddr, &[TcpListener])> {
        self.listeners.iter().map(|(name, address, opened)| (name.as_str(), *address, &*opened.sockets))
    }

    /// From the next connection on, handshakes as this configuration wants them, on the listeners that have TLS
    /// already. One whose certificates can't be used keeps those that it has, and the log says so.
    pub fn renew_tls(&self, spec: &Spec) {
        for (name, acceptor) in &self.acceptors {
            let listener = spec.listeners.iter().find(|listener| listener.name == *name);
            let Some(tls) = listener.and_then(|listener| listener.tls.as_ref()) else { continue };
            match acceptor.replace(tls, telemetry::now()) {
                Ok(certificates) => {
                    self.live.show_certificates(name, certificates);
                    tracing::info!(listener = name, "Certificates renewed");
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(listener = name, error, "The new certificates are refused: the old ones stay");
                }
            }
        }
    }

    /// Where each listener listens, by name.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Waits until a core is no more what it has to be, by a mistake in serin: the log says what failed, and what was sent
    /// to that core may be answered by nobody. For one to wait at a time.
    pub async fn broke(&self) {
        self.vital.failed().await;
    }

    /// Asks clients to go, takes no new connections after the time of grace, lets running requests finish (until the
    /// drain's time is over), and ends.
    pub async fn drain(self, farewell: Farewell) {
        self.stage.send_replace(Stage::Leaving);
        tokio::time::sleep(farewell.grace).await;
        // Before the cores take the last from their queues: who still held these would let clients queue for nobody.
        drop(self.listeners);
        self.stage.send_replace(if farewell.lingers { Stage::Lingering } else { Stage::Closing });
        let threads = self.threads;
        let joining = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok()));
        if !joining.await.unwrap_or(false) {
            tracing::error!("A data-plane thread had panicked");
        }
    }
}

/// The handshakes of a listener, with certificates that may be old: no others are there.
fn begin_tls(listener: &ListenerSpec, spec: &TlsSpec, live: &Live) -> Result<Arc<Acceptor>, StartError> {
    let name = listener.name.as_str();
    let failed = |error| StartError::Tls { listener: name.to_owned(), source: Box::new(error) };
    let (acceptor, certificates) = Acceptor::new(spec, listener.http2.is_some()).map_err(failed)?;
    for expired in certificates.iter().filter(|certificate| certificate.expires <= telemetry::now()) {
        tracing::error!(listener = name, names = ?expired.names, at = %expired.expires, "A certificate has expired");
    }
    live.show_certificates(name, certificates);
    Ok(Arc::new(acceptor))
}

/// One core's life.
fn run_core(
    id: usize,
    live: Arc<Live>,
    listeners: Vec<BoundListener>,
    stage: watch::Receiver<Stage>,
    drain: Duration,
    vital: &Vital,
) {
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(core = id, %error, "A data-plane core can't start");
            return;
        }
    };
    runtime.block_on(async move {
        let core = Core::new(id, live);
        let swept = Rc::clone(&core);
        vital.spawn(id, "its clock", Rc::clone(&core.clock).run(move |now| swept.sweep(now)));
        let alive = Arc::clone(&core.live);
        vital.spawn(id, "its pulse", async move { alive.pulse().answer_for(id).await });
        vital.spawn(id, "its way out", follow(Rc::clone(&core), stage.clone()));
        let accepting = listeners.into_iter().map(|listener| {
            let stopped = reached(stage.clone(), Stage::Lingering);
            let accepting = listen::accept(Rc::clone(&core), listener, stopped);
            let failed = vital.clone();
            vital.spawn(id, "a listener", async move {
                if let Err(error) = accepting.await {
                    tracing::error!(core = id, %error, "A listener failed");
                    failed.fail();
                }
            })
        });
        for task in accepting.collect::<Vec<_>>() {
            let _what_failed_was_told = task.await;
        }
        // Also where there is none to wait for.
        reached(stage, Stage::Lingering).await;
        drain_connections(&core, drain).await;
    });
}

/// Waits until the data plane is that far on its way out.
async fn reached(mut stage: watch::Receiver<Stage>, wanted: Stage) {
    let _either_way_it_is_over = stage.wait_for(|stage| *stage >= wanted).await;
}

/// Tells the core's connections how far the data plane is on its way out.
async fn follow(core: Rc<Core>, stage: watch::Receiver<Stage>) {
    reached(stage.clone(), Stage::Leaving).await;
    core.leaving.set(true);
    core.clock.wake_all();
    reached(stage, Stage::Closing).await;
    core.draining.set(true);
    core.clock.wake_all();
}

/// Ends connections as their requests end; cuts what is left when the time is over.
async fn drain_connections(core: &Core, drain: Duration) {
    let open = core.live.connections_of(core.id);
    let ended = async {
        while open.load(std::sync::atomic::Ordering::Relaxed) > 0 {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    };
    if tokio::time::timeout(drain, ended).await.is_ok() {
        return;
    }
    // What waits for a request had its time; what runs is cut, and not the client's doing.
    let waited = !core.draining.replace(true);
    core.clock.wake_all();
    if waited {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    if open.load(std::sync::atomic::Ordering::Relaxed) > 0 {
        tracing::warn!(core = core.id, "The drain's time is over: open connections are cut");
    }
}
