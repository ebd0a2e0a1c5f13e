//! One downstream connection: parked while it waits for a request, hyper's server on it
//! while it has one, a tunnel once it has switched to another protocol.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Response, StatusCode};
use hyper::server::conn::http1::{self, Parts};
use hyper::service::service_fn;
use tokio::net::TcpStream;
use tokio_rustls::Accept;

use super::body::Body;
use super::core::Core;
use super::downstream::Downstream;
use super::handle::handle;
use super::http2;
use super::listen::OpenConnection;
use super::preface::Preface;
use super::socket::{Parked, Socket};
use super::tls::Acceptor;
use super::transport::Transport;
use super::tunnel::Tunnel;
use crate::live::counters;
use crate::live::crowd::Crowd;
use crate::model::proxy_protocol::Header;
use crate::model::spec::ListenerSpec;

/// How often a connection is polled that gets on with a body each time, before others have their turn: what was just
/// read is still at hand for the write, and so is the memory for the next read.
pub(crate) const TURN: usize = 16;

/// One connection from its accept to its end. Never fails: what goes wrong is the client's or is
/// logged. A future written out by hand, because very many may wait: a parked one has room for
/// its socket and for nothing else.
pub(crate) struct Serving {
    state: State,
    _counted: OpenConnection,
}

enum State {
    /// Is told whose it is.
    Preface(Box<Preface>, Option<Arc<Acceptor>>, Option<Arc<Crowd>>),
    /// Agrees with the client on keys.
    Handshake(Box<Handshake>),
    /// Waits for a request.
    Parked(Parked),
    /// Has the first bytes of one, which may have to be more to tell its protocol.
    Beginning(Box<Socket>),
    /// Has one, or had one a moment ago. Says how it goes on.
    Busy(Pin<Box<dyn Future<Output = Self>>>),
    /// Has switched to another protocol.
    Tunnel(Box<Tunnel<Transport>>),
    /// Over.
    Ended,
}

impl Serving {
    /// Serves a connection that was accepted.
    pub(crate) fn new(
        core: &Rc<Core>,
        listener: &Arc<ListenerSpec>,
        counted: OpenConnection,
        acceptor: Option<&Arc<Acceptor>>,
        stream: TcpStream,
        peer: SocketAddr,
        crowd: Option<&Arc<Crowd>>,
    ) -> Self {
        let downstream = Downstream::new(core, listener, peer, local_of(&stream, listener));
        let is_proxy = listener.proxy_protocol.iter().any(|range| range.contains(peer.ip()));
        let state = if is_proxy {
            State::Preface(Box::new(Preface::begin(stream, downstream)), acceptor.cloned(), crowd.cloned())
        } else {
            State::first(acceptor.map(Arc::as_ref), crowd, stream, downstream)
        };
        Self { state, _counted: counted }
    }
}

/// Where a connection came. The system is asked only where the listener doesn't say.
fn local_of(stream: &TcpStream, listener: &ListenerSpec) -> SocketAddr {
    let says_it = !listener.address.ip().is_unspecified() && listener.address.port() != 0;
    let asked = if says_it { None } else { stream.local_addr().ok() };
    // Who is gone already has none any more.
    asked.unwrap_or(listener.address)
}

/// A handshake, which has as long as a request head.
struct Handshake {
    accept: Accept<TcpStream>,
    downstream: Rc<Downstream>,
}

impl Handshake {
    fn begin(acceptor: &Acceptor, stream: TcpStream, downstream: Rc<Downstream>) -> Self {
        // From now on it is the client's time that runs.
        downstream.bytes_read();
        Self { accept: acceptor.accept(stream), downstream }
    }

    /// The socket, or none if there will be no connection.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Parked>> {
        let downstream = &self.downstream;
        match Pin::new(&mut self.accept).poll(context) {
            Poll::Ready(Ok(stream)) => {
                downstream.handshaken();
                let transport = Transport::Tls(Box::new(stream.into()));
                Poll::Ready(Some(Parked::new(transport, Rc::clone(downstream))))
            }
            Poll::Ready(Err(error)) => {
                counters::add(downstream.core.live.failed_handshakes_of(downstream.core.id), 1);
                tracing::debug!(peer = %downstream.peer, %error, "No TLS handshake");
                Poll::Ready(None)
            }
            Poll::Pending if downstream.is_overdue(context) => {
                counters::add(downstream.core.live.failed_handshakes_of(downstream.core.id), 1);
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl State {
    /// A connection after its handshake.
    fn shaken(socket: Parked) -> Self {
        if socket.agreed_on_http2() { Self::http2(socket.wake(Bytes::new())) } else { Self::Parked(socket) }
    }

    /// A connection by HTTP/2, to its end.
    fn http2(socket: Socket) -> Self {
        Self::Busy(Box::pin(async {
            http2::serve(socket).await;
            Self::Ended
        }))
    }

    /// What a connection begins with, once it is known whose it is.
    fn first(
        acceptor: Option<&Acceptor>,
        crowd: Option<&Arc<Crowd>>,
        stream: TcpStream,
        downstream: Rc<Downstream>,
    ) -> Self {
        if crowd.is_some_and(|crowd| downstream.is_one_too_many(crowd)) {
            return Self::Ended;
        }
        match acceptor {
            Some(acceptor) => Self::Handshake(Box::new(Handshake::begin(acceptor, stream, downstream))),
            None => Self::Parked(Parked::new(Transport::Plain(stream), downstream)),
        }
    }

    /// Goes on behind a PROXY header with whose connection it is.
    fn introduced(self, header: Header) -> Self {
        let Self::Preface(preface, acceptor, crowd) = self else { return self };
        let (stream, mut downstream) = preface.into_parts();
        if let Some((source, destination)) = header.addresses {
            downstream = downstream.of_another(source, destination);
        } else {
            downstream.handshaken();
        }
        Self::first(acceptor.as_deref(), crowd.as_ref(), stream, downstream)
    }

    /// Takes the socket out of its parking place.
    fn wake(&mut self, first: Bytes) -> Self {
        match std::mem::replace(self, Self::Ended) {
            Self::Parked(parked) => Self::begin(parked.wake(first)),
            other => other,
        }
    }

    /// Begins to talk, once it is known how.
    fn begin(socket: Socket) -> Self {
        if socket.may_begin_http2() {
            Self::Beginning(Box::new(socket))
        } else if socket.begins_http2() {
            Self::http2(socket)
        } else {
            Self::Busy(Box::pin(talk(socket)))
        }
    }

    /// Goes on with a socket of which enough was read.
    fn begun(&mut self) -> Self {
        match std::mem::replace(self, Self::Ended) {
            Self::Beginning(socket) => Self::begin(*socket),
            other => other,
        }
    }
}

impl Future for Serving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let state = &mut self.state;
        loop {
            *state = match state {
                State::Preface(preface, ..) => match ready!(preface.poll(context)) {
                    Some(header) => std::mem::replace(state, State::Ended).introduced(header),
                    None => State::Ended,
                },
                State::Handshake(handshake) => ready!(handshake.poll(context)).map_or(State::Ended, State::shaken),
                State::Parked(parked) => match ready!(parked.poll_wake(context)) {
                    Some(first) => state.wake(first),
                    None => State::Ended,
                },
                State::Beginning(socket) => {
                    if ready!(socket.poll_beginning(context)) {
                        state.begun()
                    } else {
                        State::Ended
                    }
                }
                State::Busy(talk) => ready!(talk.as_mut().poll(context)),
                State::Tunnel(tunnel) => {
                    ready!(Pin::new(tunnel).poll(context));
                    State::Ended
                }
                State::Ended => return Poll::Ready(()),
            };
        }
    }
}

/// Serves requests until the connection ends, may be parked, or switches to another protocol.
async fn talk(socket: Socket) -> State {
    let downstream = Rc::clone(socket.downstream());
    let core = Rc::clone(&downstream.core);
    let service = {
        let downstream = Rc::clone(&downstream);
        service_fn(move |request| {
            // Before its first poll already: what was taken off the wire is never parked away.
            downstream.request_came();
            let downstream = Rc::clone(&downstream);
            async move {
                let core = Rc::clone(&downstream.core);
                let mut response = handle(downstream, request).await?;
                dismiss(&core, &mut response);
                Ok::<_, Infallible>(response)
            }
        })
    };
    let mut told = core.draining.get();
    let mut http = http1::Builder::new();
    http.max_buf_size(downstream.listener().max_header_bytes).keep_alive(!told);
    let mut connection = http.serve_connection(socket, service);
    let ended = poll_fn(|context| {
        if core.draining.get() && !told {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        for _ in 0..TURN {
            match Pin::new(&mut connection).poll(context) {
                Poll::Ready(ended) => return Poll::Ready(Some(ended)),
                Poll::Pending if downstream.alarm.has_rung() => {}
                Poll::Pending if downstream.may_park(context) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    });
    match ended.await {
        None => {
            let Parts { io: mut socket, read_buf, .. } = connection.into_parts();
            socket.give_back(read_buf);
            // A parked connection holds none of others.
            downstream.introduced.take();
            socket.park().map_or_else(|socket| State::begin(*socket), State::Parked)
        }
        Some(Ok(())) => {
            if let Some(far) = downstream.far.take() {
                let Parts { io: mut socket, read_buf, .. } = connection.into_parts();
                socket.give_back(read_buf);
                let (transport, ahead) = socket.into_parts();
                return State::Tunnel(Box::new(Tunnel::new(*far, transport, ahead, &downstream.alarm)));
            }
            // Where a request had an `Upgrade`, hyper says so first, and asked again goes on as with any other: what it
            // still has to write is written. Else the end is reached already.
            let _either_way_it_is_over = poll_fn(|context| Pin::new(&mut connection).poll(context)).await;
            State::Ended
        }
        Some(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(peer = %downstream.peer, error, "Connection ended early");
            State::Ended
        }
    }
}

/// Has the client come back by another connection, if serin is leaving. Who isn't told so in the answer may send the
/// next request while this end closes: so whoever is told is let go, and nobody else.
#[inline]
fn dismiss(core: &Core, response: &mut Response<Body>) {
    if core.leaving.get() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an allocator makes of both is measured by `tests/bench/compare.py --work W5m`: here they can't grow unnoticed.
    #[test]
    fn a_connection_that_waits_has_room_for_little_more_than_its_socket() {
        assert!(size_of::<Serving>() <= 80, "{} bytes in each task", size_of::<Serving>());
        let shared = size_of::<Downstream>() + 2 * size_of::<usize>();
        assert!(shared <= 160, "{shared} bytes beside it");
    }
}
