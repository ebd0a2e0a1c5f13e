//! One downstream connection: parked while it waits for a request, hyper's server on it
//! while it has one, a tunnel once it has switched to another protocol.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HeaderMap, HeaderValue};
use http::{Response, StatusCode, Version};
use hyper::server::conn::http1::{self, Parts};
use hyper::service::service_fn;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::Accept;

use super::body::Body;
use super::clock::{Alarm, deadline};
use super::core::Core;
use super::handle::handle;
use super::http2;
use super::introduction::Introduced;
use super::listen::OpenConnection;
use super::pace::Pace;
use super::preface::Preface;
use super::record::Met;
use super::socket::{Socket, Woken};
use super::splice::Bypass;
use super::tls::Acceptor;
use super::transport::Transport;
use super::tunnel::{Far, Tunnel};
use crate::live::counters;
use crate::live::crowd::{Crowd, Member};
use crate::model::proxy_protocol::Header;
use crate::model::spec::ListenerSpec;

/// A connection whose requests follow each other within this time is brisk: it keeps what it
/// needs for a request for as long, so that it doesn't pay for making it again. Any other is
/// parked at once.
const BRISK: Duration = Duration::from_millis(50);

/// How often a connection is polled that gets on with a body each time, before others have their turn: what was just
/// read is still at hand for the write, and so is the memory for the next read.
pub(crate) const TURN: usize = 16;

/// What a connection and its requests share.
#[derive(Debug)]
pub(crate) struct Downstream {
    pub(crate) core: Rc<Core>,
    pub(crate) alarm: Rc<Alarm>,
    /// The peer's address; IPv4 mapped into IPv6 is IPv4 here.
    pub(crate) peer: IpAddr,
    /// The same, as it goes into `X-Forwarded-For`.
    pub(crate) peer_text: String,
    /// The peer's port, and where it came.
    pub(crate) port: u16,
    pub(crate) local: SocketAddr,
    /// Whether what the peer says of its own clients is believed.
    pub(crate) trusted: bool,
    listener: Arc<ListenerSpec>,
    phase: Cell<Phase>,
    /// Whether the client may be in the middle of a request body.
    sending_body: Cell<bool>,
    /// Whether the client has yet to take what was being written.
    writing: Cell<bool>,
    /// Whether a request was answered already.
    served: Cell<bool>,
    /// Whose request it was, and in which episode.
    pub(crate) met: Met,
    /// Whether the last request came soon after the one before.
    brisk: Cell<bool>,
    /// The way of long bodies past serin's memory; none where they have to be encrypted.
    pub(crate) bypass: Option<Bypass>,
    /// Where it is to go on in another protocol: set before the answer that says so.
    pub(crate) far: RefCell<Option<Box<Far>>>,
    /// Connections to endpoints that were told whose they are.
    pub(crate) introduced: RefCell<Option<Box<Introduced>>>,
    /// One of its client's connections, where these are counted.
    member: RefCell<Option<Member>>,
}

/// What a connection waits for, and since when.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// For the first byte of a request.
    Idle(Instant),
    /// For the rest of a request head.
    Head(Instant),
    /// For an endpoint: the exchange has deadlines of its own.
    Busy,
}

impl Downstream {
    fn new(core: &Rc<Core>, listener: &Arc<ListenerSpec>, peer: SocketAddr, local: SocketAddr) -> Rc<Self> {
        let (peer, port) = (peer.ip().to_canonical(), peer.port());
        Rc::new(Self {
            core: Rc::clone(core),
            alarm: core.clock.alarm(),
            peer,
            peer_text: peer.to_string(),
            port,
            local,
            trusted: listener.trusted.iter().any(|range| range.contains(peer)),
            listener: Arc::clone(listener),
            phase: Cell::new(Phase::Idle(core.clock.refresh())),
            sending_body: Cell::new(false),
            writing: Cell::new(false),
            served: Cell::new(false),
            met: Met::default(),
            brisk: Cell::new(false),
            bypass: listener.tls.is_none().then(|| Bypass::new(&core.pipes)),
            far: RefCell::default(),
            introduced: RefCell::default(),
            member: RefCell::default(),
        })
    }

    /// What one of several requests at once has of its connection: the same client, an alarm of its own.
    pub(crate) fn stream(&self) -> Rc<Self> {
        Rc::new(Self {
            core: Rc::clone(&self.core),
            alarm: self.core.clock.alarm(),
            peer: self.peer,
            peer_text: self.peer_text.clone(),
            port: self.port,
            local: self.local,
            trusted: self.trusted,
            listener: Arc::clone(&self.listener),
            phase: Cell::new(Phase::Busy),
            sending_body: Cell::new(false),
            writing: Cell::new(false),
            served: Cell::new(false),
            met: Cell::new(self.met.get()),
            brisk: Cell::new(false),
            // Frames of many bodies share the socket.
            bypass: None,
            far: RefCell::default(),
            introduced: RefCell::default(),
            member: RefCell::default(),
        })
    }

    /// From here on several requests at once watch the time, each by its [`Downstream::stream`], and the client may
    /// send at any time.
    pub(crate) fn is_multiplexed(&self) {
        self.phase.set(Phase::Busy);
        self.sending_body.set(true);
    }

    /// Whether an address is one whose word is believed.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.listener.trusted.iter().any(|range| range.contains(address))
    }

    /// Whether the connection is one by TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.listener.tls.is_some()
    }

    /// Whether the client came over TLS: to serin, or to a trusted peer that says so.
    pub(crate) fn is_secure(&self, headers: &HeaderMap) -> bool {
        let said = if self.trusted { headers.get("x-forwarded-proto") } else { None };
        said.map_or_else(|| self.is_tls(), |proto| proto == "https")
    }

    /// How slowly a request body may come by this version of HTTP, of which one connection may carry several.
    pub(crate) fn upload_pace(&self, version: Version) -> Pace {
        let shared = self.listener.http2.filter(|_| version == Version::HTTP_2);
        Pace::new(self.listener.min_rate, shared.map_or(1, |http2| http2.max_streams))
    }

    /// What its listener says.
    pub(crate) fn listener(&self) -> &ListenerSpec {
        &self.listener
    }

    /// The handshake is over: the connection waits for its first request.
    fn handshaken(&self) {
        self.phase.set(Phase::Idle(self.core.clock.now()));
    }

    /// A request head was read: from here on the exchange watches the time.
    pub(crate) fn request_began(&self, with_body: bool) {
        self.core.clock.refresh();
        self.phase.set(Phase::Busy);
        self.sending_body.set(with_body);
    }

    /// Says whether all of the request was read by the time that its response begins.
    pub(crate) fn request_is_read(&self, read: bool) {
        self.sending_body.set(!read);
    }

    /// Whether the client may still be sending when serin has nothing more to say.
    pub(crate) fn may_be_sending(&self) -> bool {
        self.sending_body.get() || matches!(self.phase.get(), Phase::Head(_))
    }

    /// The response is handed over: the connection waits for the next request.
    pub(crate) fn request_ended(&self) {
        self.served.set(true);
        self.phase.set(Phase::Idle(self.core.clock.now()));
    }

    /// How long the client may take none of what is being written.
    pub(crate) fn idle_timeout(&self) -> Duration {
        self.listener.idle_timeout
    }

    /// Counts the connection as its client's. Peers that speak for others aren't counted.
    fn is_one_too_many(&self, crowd: &Arc<Crowd>) -> bool {
        if self.trusted {
            return false;
        }
        let member = crowd.enter(self.peer);
        let refused = member.is_none();
        if refused {
            counters::add(self.core.live.crowded_of(self.core.id), 1);
            tracing::debug!(peer = %self.peer, "Connection refused: its client has too many");
        }
        self.member.replace(member);
        refused
    }

    /// Something of a request was read.
    pub(crate) fn bytes_read(&self) {
        if let Phase::Idle(since) = self.phase.get() {
            let now = self.core.clock.now();
            self.brisk.set(self.served.get() && now.saturating_duration_since(since) <= BRISK);
            self.phase.set(Phase::Head(now));
        }
    }

    /// Some of a response was written: who takes its end slowly isn't idle.
    pub(crate) fn bytes_written(&self) {
        if let Phase::Idle(_) = self.phase.get() {
            self.request_ended();
        }
    }

    /// Says whether a write waits for the client.
    pub(crate) fn is_writing(&self, writing: bool) {
        self.writing.set(writing);
    }

    /// Whether the client has kept us waiting for too long. If not, the task wakes when it has.
    pub(crate) fn is_overdue(&self, context: &Context<'_>) -> bool {
        let until = match self.phase.get() {
            Phase::Idle(since) => deadline(since, self.listener.idle_timeout),
            Phase::Head(since) => deadline(since, self.listener.header_timeout),
            Phase::Busy => None,
        };
        self.alarm.passed(until, context)
    }

    /// Whether the connection stands between two requests and the next isn't expected right away.
    /// If that is only a matter of time, the task wakes when it is over.
    fn may_park(&self, context: &Context<'_>) -> bool {
        match self.phase.get() {
            Phase::Idle(since) if !self.writing.get() && !self.sending_body.get() => {
                !self.brisk.get() || self.alarm.passed(since.checked_add(BRISK), context)
            }
            _ => false,
        }
    }
}

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
    Parked(Socket),
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
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Socket>> {
        let downstream = &self.downstream;
        match Pin::new(&mut self.accept).poll(context) {
            Poll::Ready(Ok(stream)) => {
                downstream.handshaken();
                let transport = Transport::Tls(Box::new(stream.into()));
                Poll::Ready(Some(Socket::new(transport, Rc::clone(downstream))))
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
    fn shaken(socket: Socket) -> Self {
        if socket.agreed_on_http2() { Self::http2(socket) } else { Self::Parked(socket) }
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
            None => Self::Parked(Socket::new(Transport::Plain(stream), downstream)),
        }
    }

    /// Goes on behind a PROXY header with whose connection it is.
    fn introduced(self, header: Header) -> Self {
        let Self::Preface(preface, acceptor, crowd) = self else { return self };
        let (stream, mut downstream) = preface.into_parts();
        if let Some((source, destination)) = header.addresses {
            downstream = Downstream::new(&downstream.core, &downstream.listener, source, destination);
        } else {
            downstream.handshaken();
        }
        Self::first(acceptor.as_deref(), crowd.as_ref(), stream, downstream)
    }

    /// Takes the socket out of its parking place and begins to talk.
    fn begin(&mut self) -> Self {
        match std::mem::replace(self, Self::Ended) {
            Self::Parked(socket) if socket.begins_http2() => Self::http2(socket),
            Self::Parked(socket) => Self::Busy(Box::pin(talk(socket))),
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
                State::Parked(socket) => match ready!(socket.poll_wake(context)) {
                    Woken::Ended => State::Ended,
                    Woken::Began => state.begin(),
                },
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
            downstream.phase.set(Phase::Busy);
            let downstream = Rc::clone(&downstream);
            async move {
                let core = Rc::clone(&downstream.core);
                handle(downstream, request).await.map(|response| dismiss(&core, response))
            }
        })
    };
    let mut told = core.draining.get();
    let mut http = http1::Builder::new();
    http.max_buf_size(downstream.listener.max_header_bytes).keep_alive(!told);
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
            State::Parked(socket)
        }
        Some(Ok(())) => {
            if let Some(far) = downstream.far.take() {
                let Parts { io: socket, read_buf, .. } = connection.into_parts();
                let (transport, ahead) = socket.into_parts();
                return State::Tunnel(Box::new(Tunnel::new(*far, transport, join(read_buf, ahead), &downstream.alarm)));
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
fn dismiss(core: &Core, mut response: Response<Body>) -> Response<Body> {
    if core.leaving.get() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What came first, and what came next.
fn join(first: Bytes, next: Bytes) -> Bytes {
    if next.is_empty() {
        return first;
    }
    let mut joined = BytesMut::from(first);
    joined.extend_from_slice(&next);
    joined.freeze()
}
