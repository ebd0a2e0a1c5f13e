//! From accept to response: one thread per core, each with a runtime, listening
//! sockets and upstream connections of its own.
//!
//! May know: model, live, telemetry. Never: store, control, admin. A request reads
//! top to bottom in `handle.rs`: route, admit, draw (`sticky.rs`), flags (`flags.rs`), pick (`pick.rs`),
//! forward (`forward.rs` over `upstream/`), record (`record.rs`). `respond.rs` is
//! the one place where an error becomes a response. A connection that switches to another protocol goes on in
//! `tunnel/`.

mod authority;
mod body;
mod clock;
mod connection;
mod core;
mod flags;
mod forward;
mod handle;
mod head;
mod host;
mod http2;
mod introduction;
mod listen;
mod matcher;
mod pick;
mod plain;
mod preface;
mod record;
mod respond;
mod session;
mod socket;
mod splice;
mod sticky;
pub mod tls;
mod transport;
mod tunnel;
mod upstream;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;

use self::core::Core;
use self::tls::{Acceptor, TlsError};
use crate::live::Live;
use crate::model::spec::{ListenerSpec, Spec};
use crate::model::tls::TlsSpec;
use crate::telemetry;
use listen::BoundListener;
pub use listen::ListenError;

/// How often a draining core looks whether its connections have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// The running data plane.
#[derive(Debug)]
pub struct DataPlane {
    addresses: Vec<(String, SocketAddr)>,
    /// Of the listeners with TLS, by name.
    acceptors: Vec<(String, Arc<Acceptor>)>,
    live: Arc<Live>,
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// Why the data plane can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener can't be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
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
    /// Opens the listeners and starts one thread for each core of `live`.
    ///
    /// # Errors
    /// When a listener can't be opened or a thread can't be started.
    pub fn start(spec: &Spec, live: &Arc<Live>) -> Result<Self, StartError> {
        let cores = live.cores();
        let mut by_core: Vec<Vec<BoundListener>> = (0..cores).map(|_| Vec::new()).collect();
        let (mut addresses, mut acceptors) = (Vec::new(), Vec::new());
        for listener in &spec.listeners {
            let acceptor = listener.tls.as_ref().map(|tls| begin_tls(listener, tls, live)).transpose()?;
            let (address, sockets) = listen::bind(listener, acceptor.as_ref(), cores)?;
            acceptors.extend(acceptor.map(|acceptor| (listener.name.clone(), acceptor)));
            addresses.push((listener.name.clone(), address));
            for (own, socket) in by_core.iter_mut().zip(sockets) {
                own.push(socket);
            }
        }
        let (stop, stopped) = watch::channel(false);
        let mut threads = Vec::new();
        for (id, listeners) in by_core.into_iter().enumerate() {
            let (live, stopped, drain) = (Arc::clone(live), stopped.clone(), spec.drain);
            let thread = std::thread::Builder::new().name(format!("serin-core-{id}"));
            let body = move || run_core(id, live, listeners, stopped, drain);
            threads.push(thread.spawn(body).map_err(StartError::Thread)?);
        }
        Ok(Self { addresses, acceptors, live: Arc::clone(live), threads, stop })
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

    /// Takes no new connections, lets running requests finish (until the drain's time is
    /// over), and ends. Blocks until then.
    pub fn drain(self) {
        let _no_core_is_left_to_hear = self.stop.send(true);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("A data-plane thread had panicked");
            }
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
fn run_core(id: usize, live: Arc<Live>, listeners: Vec<BoundListener>, stop: watch::Receiver<bool>, drain: Duration) {
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
        tokio::task::spawn_local(Rc::clone(&core.clock).run(move |now| swept.sweep(now)));
        let accepting = listeners.into_iter().map(|listener| {
            let mut stop = stop.clone();
            let stopped = async move {
                let _either_way_it_is_over = stop.wait_for(|stop| *stop).await;
            };
            tokio::task::spawn_local(listen::accept(Rc::clone(&core), listener, stopped))
        });
        for task in accepting.collect::<Vec<_>>() {
            if let Ok(Err(error)) = task.await {
                tracing::error!(core = id, %error, "A listener failed");
            }
        }
        drain_connections(&core, drain).await;
    });
}

/// Ends connections as their requests end; cuts what is left when the time is over.
async fn drain_connections(core: &Core, drain: Duration) {
    core.draining.set(true);
    core.clock.wake_all();
    let open = core.live.connections_of(core.id);
    let ended = async {
        while open.load(std::sync::atomic::Ordering::Relaxed) > 0 {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    };
    if tokio::time::timeout(drain, ended).await.is_err() {
        tracing::warn!(core = core.id, "The drain's time is over: open connections are cut");
    }
}
