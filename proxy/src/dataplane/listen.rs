//! Listening sockets: one per listener and core, on the same address, so that the
//! kernel deals connections out and no core waits for another.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::connection;
use super::core::Core;
use crate::live::counters;
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
    spec: Arc<ListenerSpec>,
    socket: std::net::TcpListener,
}

/// Opens a listener once for each core. Port 0 is resolved by the first and shared by the rest.
pub(crate) fn bind(spec: &ListenerSpec, cores: usize) -> Result<(SocketAddr, Vec<BoundListener>), ListenError> {
    let failed = |source| ListenError { name: spec.name.clone(), address: spec.address, source };
    let spec = Arc::new(spec.clone());
    let first = open(spec.address).map_err(failed)?;
    let address = first.local_addr().map_err(failed)?;
    let mut listeners = vec![BoundListener { spec: Arc::clone(&spec), socket: first }];
    for _ in 1..cores {
        listeners.push(BoundListener { spec: Arc::clone(&spec), socket: open(address).map_err(failed)? });
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
    let listener = TcpListener::from_std(bound.socket)?;
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(&core, &bound.spec, stream, peer),
                Err(error) => {
                    tracing::warn!(listener = %bound.spec.name, %error, "Accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // Closing the socket would reset these.
    while let Some(Ok((stream, peer))) = poll_once(listener.accept()) {
        admit(&core, &bound.spec, stream, peer);
    }
    Ok(())
}

fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

fn admit(core: &Rc<Core>, spec: &Arc<ListenerSpec>, stream: TcpStream, peer: SocketAddr) {
    let share = (spec.max_connections / core.live.cores()).max(1) as u64;
    let open = core.live.connections_of(core.id);
    if open.load(Ordering::Relaxed) >= share {
        tracing::debug!(listener = %spec.name, %peer, "Connection refused: too many are open");
        return;
    }
    counters::add(open, 1);
    let (core, spec) = (Rc::clone(core), Arc::clone(spec));
    tokio::task::spawn_local(async move {
        let _open = OpenConnection(Rc::clone(&core));
        connection::serve(core, spec, stream, peer).await;
    });
}

/// Counts a connection as long as it is open, however it ends.
struct OpenConnection(Rc<Core>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        counters::sub(self.0.live.connections_of(self.0.id), 1);
    }
}
