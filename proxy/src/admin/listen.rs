//! Where the admin API listens, and how it starts and ends.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::oneshot;

use super::guard::Peer;
use super::{AdminError, AdminState, Shared, audit, events, ofrep, router};
use crate::model::spec::{AdminAddress, AdminSpec};

/// How long requests may go on once the daemon ends; a drain's long wait is cut then.
const GRACE: Duration = Duration::from_secs(5);

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
    let shared = Arc::new(Shared { state, audit, events, ofrep, uid });
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

async fn run<L>(listener: L, app: axum::Router, shutdown: impl Future<Output = ()> + Send + 'static) -> io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
    Peer: for<'a> Connected<IncomingStream<'a, L>>,
{
    let (begun, begins) = oneshot::channel();
    let signal = async move {
        shutdown.await;
        let _ = begun.send(());
    };
    let cut = async {
        // An error means that the server ended before it was told to: then nothing is left to cut.
        if begins.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GRACE).await;
    };
    let service = app.into_make_service_with_connect_info::<Peer>();
    tokio::select! {
        ended = axum::serve(listener, service).with_graceful_shutdown(signal).into_future() => ended,
        () = cut => Ok(()),
    }
}
