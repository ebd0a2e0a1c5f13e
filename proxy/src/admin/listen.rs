//! Where the admin API listens, and how it starts and ends.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::serve::Listener;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::guard::Peer;
use super::seats::{self, Seats};
use super::{AdminError, AdminState, Shared, audit, events, ofrep, router};
use crate::model::spec::{AdminAddress, AdminSpec};

/// How long requests may go on once the daemon ends; a drain's long wait is cut then.
const GRACE: Duration = Duration::from_secs(5);

/// How long a request's head may take to come, or the next request.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Connections at once: each is a file descriptor, which users' connections need as well. More than there are [`seats`],
/// by enough for all that takes a moment.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// A listening socket of the admin API.
#[derive(Debug)]
pub struct Bound(Listening);

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A listening socket that another process opened, and shares.
#[derive(Debug)]
pub struct Inherited {
    /// The address that it was opened for, as [`address_of`] writes it.
    pub address: String,
    /// The socket.
    pub socket: OwnedFd,
}

impl Bound {
    /// The same socket once more, to be shared with another process.
    ///
    /// # Errors
    /// When there are no file descriptors left.
    pub fn share(&self) -> io::Result<OwnedFd> {
        match &self.0 {
            Listening::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Listening::Unix(listener) => listener.as_fd().try_clone_to_owned(),
        }
    }

    /// The address over TCP, with the port the system chose; none over a unix socket.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Listening::Tcp(listener) => listener.local_addr().ok(),
            Listening::Unix(_) => None,
        }
    }
}

/// Listens where the configuration says. A unix socket that nobody answers on any more is replaced.
///
/// # Errors
/// When the address is taken or can't be used; the error names it.
pub async fn bind(spec: &AdminSpec) -> Result<Bound, AdminError> {
    match &spec.listen {
        AdminAddress::Tcp(address) => {
            let wrong = |source| AdminError::Bind { address: address.to_string(), source };
            Ok(Bound(Listening::Tcp(TcpListener::bind(address).await.map_err(wrong)?)))
        }
        AdminAddress::Unix(path) => {
            clear(path).await?;
            let wrong = |source| AdminError::Bind { address: name(path), source };
            let listener = UnixListener::bind(path).map_err(wrong)?;
            // The group may connect and read; who may change is decided by uid or token.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(wrong)?;
            Ok(Bound(Listening::Unix(listener)))
        }
    }
}

/// Goes on with a socket that another process opened, if it is for the address that is asked for; else as [`bind`].
///
/// # Errors
/// As [`bind`].
pub async fn adopt(spec: &AdminSpec, inherited: Option<Inherited>) -> Result<Bound, AdminError> {
    let address = address_of(spec);
    let Some(inherited) = inherited.filter(|inherited| inherited.address == address) else { return bind(spec).await };
    let adopted = match spec.listen {
        AdminAddress::Tcp(_) => TcpListener::from_std(inherited.socket.into()).map(Listening::Tcp),
        AdminAddress::Unix(_) => UnixListener::from_std(inherited.socket.into()).map(Listening::Unix),
    };
    adopted.map(Bound).map_err(|source| AdminError::Bind { address, source })
}

/// The address that is asked for, as people write it.
pub fn address_of(spec: &AdminSpec) -> String {
    match &spec.listen {
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(path) => name(path),
    }
}

fn name(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// Removes a socket file that a process left behind, and nothing else.
async fn clear(path: &Path) -> Result<(), AdminError> {
    let wrong = |source| AdminError::Bind { address: name(path), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(wrong(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(AdminError::NoSocket(name(path))),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(AdminError::InUse(name(path))),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(wrong),
        Err(error) => Err(wrong(error)),
    }
}

/// Serves the admin API until `shutdown` is over; then requests may finish for a short while.
///
/// # Errors
/// When the system refuses to say who this process is.
pub async fn serve(
    bound: Bound,
    state: AdminState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let uid = UnixStream::pair()?.0.peer_cred()?.uid();
    let events = events::Events::new();
    let watcher = events::Watcher::new(Arc::clone(&state.live), &events).run(state.published.clone());
    let ofrep = ofrep::Ofrep::new(state.ofrep_rate);
    let audit = audit::Audit::new(Arc::clone(&state.store), state.proxy_name.clone());
    let listeners = Seats::new(seats::LISTENERS, "clients listen");
    let waits = Seats::new(seats::WAITS, "calls wait");
    let shared = Arc::new(Shared { state, audit, events, ofrep, listeners, waits, uid });
    let app = router::router(Arc::clone(&shared));
    let shutdown = async move {
        shutdown.await;
        // Else the end would wait for every client that listens.
        shared.events.close();
        shared.ofrep.close();
    };
    let serving = async {
        match bound.0 {
            Listening::Tcp(listener) => run(listener, app, shutdown).await,
            Listening::Unix(listener) => run(listener, app, shutdown).await,
        }
    };
    tokio::select! {
        ended = serving => ended,
        () = watcher => Ok(()),
    }
}

/// Takes in callers, as many at once as there may be. More wait in the system's queue: none is cut off from its answer.
async fn run<L: Entrance>(mut entrance: L, app: Router, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let (closing, told) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (stream, address) = entrance.accept(), if connections.len() < MAX_CONNECTIONS => {
                let app = app.clone().layer(Extension(ConnectInfo(L::peer(&stream, &address))));
                connections.spawn(talk(stream, app, told.clone()));
            }
        }
    }
    drop(entrance);
    closing.send_replace(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _what_takes_longer_is_cut = tokio::time::timeout(GRACE, ended).await;
    Ok(())
}

/// Serves a connection until it ends, or until its last request is answered once it is told.
async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, app: Router, mut told: watch::Receiver<bool>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app)));
    tokio::select! {
        _however_it_ended = connection.as_mut() => return,
        _either_way_it_is_over = told.wait_for(|told| *told) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _however_it_ended = connection.await;
}

/// Where callers come in, and who they are.
trait Entrance: Listener {
    fn peer(stream: &Self::Io, address: &Self::Addr) -> Peer;
}

impl Entrance for TcpListener {
    fn peer(_: &Self::Io, address: &Self::Addr) -> Peer {
        Peer::Tcp(*address)
    }
}

impl Entrance for UnixListener {
    fn peer(stream: &Self::Io, _: &Self::Addr) -> Peer {
        Peer::Unix(stream.peer_cred().ok().map(|peer| peer.uid()))
    }
}
