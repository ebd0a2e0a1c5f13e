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

use socket2::{Domain, Protocol, SockRef, Socket, Type};
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

/// A listening socket that somebody else opened for this process.
#[derive(Debug)]
pub struct Given {
    /// The name of the listener that it was opened for; none where nobody says.
    pub name: Option<String>,
    /// The address that was asked for, which may leave the port open.
    pub address: SocketAddr,
    /// The socket.
    pub socket: std::net::TcpListener,
}

impl Given {
    /// Whether it was opened for this listener: for its address, or under its name where an address doesn't decide.
    fn is_for(&self, spec: &ListenerSpec) -> bool {
        let has_its_name = self.name.as_ref().is_some_and(|name| *name == spec.name);
        if spec.address.port() == 0 { has_its_name } else { self.address == spec.address }
    }
}

/// A listener's sockets, with what all cores know of it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) address: SocketAddr,
    pub(crate) sockets: Vec<std::net::TcpListener>,
    listener: Arc<Listener>,
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

/// Opens a listener once for each core, or takes the sockets that it was given. Port 0 is resolved by the first and
/// shared by the rest.
pub(crate) fn bind(
    spec: &ListenerSpec,
    acceptor: Option<&Arc<Acceptor>>,
    cores: usize,
    given: &mut Vec<Given>,
) -> Result<Opened, ListenError> {
    let failed = |source| ListenError { name: spec.name.clone(), address: spec.address, source };
    let mut sockets: Vec<_> = given.extract_if(.., |given| given.is_for(spec)).map(|given| given.socket).collect();
    let was_given = !sockets.is_empty();
    sockets.iter().try_for_each(prepare).map_err(failed)?;
    if !was_given {
        sockets.push(open(spec.address).map_err(failed)?);
    }
    let address = sockets[0].local_addr().map_err(failed)?;
    if !was_given {
        let more: io::Result<Vec<_>> = (1..cores).map(|_| open(address)).collect();
        sockets.extend(more.map_err(failed)?);
    }
    let crowd = spec.max_connections_per_client.map(|limit| Crowd::new(limit, spec.max_connections));
    let (spec, acceptor) = (Arc::new(spec.clone()), acceptor.cloned());
    let listener = Arc::new(Listener { spec, acceptor, open: Arc::default(), crowd });
    Ok(Opened { address, sockets, listener })
}

impl Opened {
    /// Deals the sockets out: each is served by a core at least, and each core serves one at least. A queue that
    /// nobody takes from would keep its clients waiting, so none is closed, and none is opened beside those that
    /// another process shares.
    pub(crate) fn deal(&self, cores: usize) -> io::Result<Vec<Vec<BoundListener>>> {
        let mut dealt: Vec<Vec<BoundListener>> = (0..cores).map(|_| Vec::new()).collect();
        for turn in 0..cores.max(self.sockets.len()) {
            let socket = self.sockets[turn % self.sockets.len()].try_clone()?;
            dealt[turn % cores].push(BoundListener { listener: Arc::clone(&self.listener), socket });
        }
        Ok(dealt)
    }
}

/// Makes a socket that was given one like those that are opened here.
fn prepare(socket: &std::net::TcpListener) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    SockRef::from(socket).set_tcp_nodelay(true)
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
