//! Listening sockets: one per listener and core, on the same address, so that the
//! kernel deals connections out and no core waits for another.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::connection::Serving;
use super::core::Core;
use super::tls::Acceptor;
use crate::live::counters;
use crate::live::crowd::Crowd;
use crate::model::spec::ListenerSpec;

/// Connections that may wait to be accepted, for each core.
const BACKLOG: i32 = 4_096;
/// How long to wait after a failed accept: mostly there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a listener can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("listener `{name}` can't listen on {address}: is the address taken, or not this machine's?")]
pub struct ListenError {
    name: String,
    address: SocketAddr,
    source: io::Error,
}

/// A listener's socket for one core, not yet part of that core's runtime.
#[derive(Debug)]
pub(crate) struct BoundListener {
    listener: Arc<Listener>,
    socket: std::net::TcpListener,
}

/// What all cores know of a listener.
#[derive(Debug)]
struct Listener {
    spec: Arc<ListenerSpec>,
    /// Its handshakes; none without TLS.
    acceptor: Option<Arc<Acceptor>>,
    /// Its open connections, over all cores.
    open: Arc<AtomicUsize>,
    /// The same by client; none where one may have all.
    crowd: Option<Arc<Crowd>>,
}

/// Opens a listener once for each core. Port 0 is resolved by the first and shared by the rest.
pub(crate) fn bind(
    spec: &ListenerSpec,
    acceptor: Option<&Arc<Acceptor>>,
    cores: usize,
) -> Result<(SocketAddr, Vec<BoundListener>), ListenError> {
    let failed = |source| ListenError { name: spec.name.clone(), address: spec.address, source };
    let first = open(spec.address).map_err(failed)?;
    let address = first.local_addr().map_err(failed)?;
    let crowd = spec.max_connections_per_client.map(|limit| Crowd::new(limit, spec.max_connections));
    let (spec_of_all, acceptor) = (Arc::new(spec.clone()), acceptor.cloned());
    let listener = Arc::new(Listener { spec: spec_of_all, acceptor, open: Arc::default(), crowd });
    let bound = |socket| BoundListener { listener: Arc::clone(&listener), socket };
    let mut listeners = vec![bound(first)];
    for _ in 1..cores {
        listeners.push(bound(open(address).map_err(failed)?));
    }
    Ok((address, listeners))
}

fn open(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Inherited by what is accepted: no call per connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts connections until `stop` resolves, then takes in what was already queued.
pub(crate) async fn accept(core: Rc<Core>, bound: BoundListener, stop: impl Future<Output = ()>) -> io::Result<()> {
    let BoundListener { listener, socket } = bound;
    let socket = TcpListener::from_std(socket)?;
    let mut stop = pin!(stop);
    loop {
        let accepted = poll_fn(|context| match socket.poll_accept(context) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            // Asked only when nothing waits to be taken.
            Poll::Pending => stop.as_mut().poll(context).map(|()| None),
        });
        match accepted.await {
            None => break,
            Some(Ok((stream, peer))) => admit(&core, &listener, stream, peer),
            Some(Err(error)) => {
                tracing::warn!(listener = %listener.spec.name, %error, "Accept failed");
                tokio::select! {
                    () = &mut stop => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    // Closing the socket would reset these.
    while let Some(Ok((stream, peer))) = poll_once(socket.accept()) {
        admit(&core, &listener, stream, peer);
    }
    Ok(())
}

fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn admit(core: &Rc<Core>, listener: &Listener, stream: TcpStream, peer: SocketAddr) {
    let Listener { spec, acceptor, open, crowd } = listener;
    let counted = OpenConnection::count(core, open);
    if open.load(Ordering::Relaxed) > spec.max_connections {
        tracing::debug!(listener = %spec.name, %peer, "Connection refused: too many are open");
        return;
    }
    tokio::task::spawn_local(Serving::new(core, spec, counted, acceptor.as_ref(), stream, peer, crowd.as_ref()));
}

/// Counts a connection as long as it is open, however it ends.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    core: Rc<Core>,
    /// Of its listener, over all cores: touched once when it opens and once when it ends.
    of_listener: Arc<AtomicUsize>,
}

impl OpenConnection {
    fn count(core: &Rc<Core>, of_listener: &Arc<AtomicUsize>) -> Self {
        counters::add(core.live.connections_of(core.id), 1);
        of_listener.fetch_add(1, Ordering::Relaxed);
        Self { core: Rc::clone(core), of_listener: Arc::clone(of_listener) }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        counters::sub(self.core.live.connections_of(self.core.id), 1);
        self.of_listener.fetch_sub(1, Ordering::Relaxed);
    }
}
