//! What a connection and its requests share: the client, what the connection waits for, and what it holds meanwhile.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use http::Version;
use http::header::HeaderMap;
use tokio::time::Instant;

use super::clock::{Alarm, deadline};
use super::core::Core;
use super::introduction::Introduced;
use super::pace::Pace;
use super::record::Met;
use super::splice::{Bypass, Intake, WORTH_IT, Ways};
use super::tunnel::Far;
use crate::live::counters;
use crate::live::crowd::{Crowd, Member};
use crate::model::spec::ListenerSpec;

/// A connection whose requests follow each other within this time is brisk: it keeps what it
/// needs for a request for as long, so that it doesn't pay for making it again. Any other is
/// parked at once.
const BRISK: Duration = Duration::from_millis(50);

/// What a connection and its requests share. Very many may wait for a request: what few have is boxed.
pub(crate) struct Downstream {
    pub(crate) core: Rc<Core>,
    pub(crate) alarm: Rc<Alarm>,
    /// The peer's address; IPv4 mapped into IPv6 is IPv4 here.
    pub(crate) peer: IpAddr,
    /// The peer's port.
    pub(crate) port: u16,
    /// Where it came.
    local: (IpAddr, u16),
    /// Whether what the peer says of its own clients is believed.
    pub(crate) trusted: bool,
    listener: Arc<ListenerSpec>,
    phase: Cell<Phase>,
    /// When its phase began, unless it is busy.
    since: Cell<Instant>,
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
    /// Whether long bodies may go past serin's memory, and how they do since there was one.
    splices: bool,
    ways: OnceCell<Box<Ways>>,
    /// Where it is to go on in another protocol: set before the answer that says so.
    pub(crate) far: Cell<Option<Box<Far>>>,
    /// Connections to endpoints that were told whose they are.
    pub(crate) introduced: Cell<Option<Box<Introduced>>>,
    /// One of its client's connections, where these are counted.
    member: Cell<Option<Box<Member>>>,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// For the first byte of a request.
    Idle,
    /// For the rest of a request head.
    Head,
    /// For an endpoint: the exchange has deadlines of its own.
    Busy,
}

impl Downstream {
    /// A connection that was accepted.
    pub(super) fn new(core: &Rc<Core>, listener: &Arc<ListenerSpec>, peer: SocketAddr, local: SocketAddr) -> Rc<Self> {
        let (peer, port) = (peer.ip().to_canonical(), peer.port());
        Rc::new(Self {
            core: Rc::clone(core),
            alarm: core.clock.alarm(),
            peer,
            port,
            local: (local.ip(), local.port()),
            trusted: listener.trusted.iter().any(|range| range.contains(peer)),
            listener: Arc::clone(listener),
            phase: Cell::new(Phase::Idle),
            since: Cell::new(core.clock.refresh()),
            sending_body: Cell::new(false),
            writing: Cell::new(false),
            served: Cell::new(false),
            met: Met::default(),
            brisk: Cell::new(false),
            // TLS has them encrypted.
            splices: listener.tls.is_none(),
            ways: OnceCell::new(),
            far: Cell::default(),
            introduced: Cell::default(),
            member: Cell::default(),
        })
    }

    /// The same connection, of whom a PROXY header says that it is.
    pub(super) fn of_another(&self, peer: SocketAddr, local: SocketAddr) -> Rc<Self> {
        Self::new(&self.core, &self.listener, peer, local)
    }

    /// What one of several requests at once has of its connection: the same client, an alarm of its own.
    pub(crate) fn stream(&self) -> Rc<Self> {
        Rc::new(Self {
            core: Rc::clone(&self.core),
            alarm: self.core.clock.alarm(),
            peer: self.peer,
            port: self.port,
            local: self.local,
            trusted: self.trusted,
            listener: Arc::clone(&self.listener),
            phase: Cell::new(Phase::Busy),
            since: Cell::new(self.core.clock.now()),
            sending_body: Cell::new(false),
            writing: Cell::new(false),
            served: Cell::new(false),
            met: Cell::new(self.met.get()),
            brisk: Cell::new(false),
            // Frames of many bodies share the socket.
            splices: false,
            ways: OnceCell::new(),
            far: Cell::default(),
            introduced: Cell::default(),
            member: Cell::default(),
        })
    }

    /// From here on several requests at once watch the time, each by its [`Downstream::stream`], and the client may
    /// send at any time.
    pub(crate) fn is_multiplexed(&self) {
        self.phase.set(Phase::Busy);
        self.sending_body.set(true);
    }

    /// Where the client came.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local.into()
    }

    /// The way past serin's memory of an answer with so many bytes to come. None before a body was long enough for it.
    pub(crate) fn bypass(&self, left: u64) -> Option<&Bypass> {
        self.ways(left).map(|ways| &ways.bypass)
    }

    /// The same, of a request.
    pub(crate) fn intake(&self, left: u64) -> Option<&Intake> {
        self.ways(left).map(|ways| &ways.intake)
    }

    fn ways(&self, left: u64) -> Option<&Ways> {
        let makes_them = self.splices && left >= WORTH_IT;
        let made = || Box::new(Ways::new(&self.core.pipes));
        let ways = if makes_them { Some(self.ways.get_or_init(made)) } else { self.ways.get() };
        ways.map(|ways| &**ways)
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
    pub(super) fn handshaken(&self) {
        self.waits_since(Phase::Idle, self.core.clock.now());
    }

    /// A request was taken off the wire: from here on the connection isn't parked.
    pub(super) fn request_came(&self) {
        self.phase.set(Phase::Busy);
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
        self.sending_body.get() || self.phase.get() == Phase::Head
    }

    /// The response is handed over: the connection waits for the next request.
    pub(crate) fn request_ended(&self) {
        self.served.set(true);
        self.waits_since(Phase::Idle, self.core.clock.now());
    }

    /// How long the client may take none of what is being written.
    pub(crate) fn idle_timeout(&self) -> Duration {
        self.listener.idle_timeout
    }

    /// Counts the connection as its client's. Peers that speak for others aren't counted.
    pub(super) fn is_one_too_many(&self, crowd: &Arc<Crowd>) -> bool {
        if self.trusted {
            return false;
        }
        let member = crowd.enter(self.peer);
        let refused = member.is_none();
        if refused {
            counters::add(self.core.live.crowded_of(self.core.id), 1);
            tracing::debug!(peer = %self.peer, "Connection refused: its client has too many");
        }
        self.member.set(member.map(Box::new));
        refused
    }

    /// Something of a request was read.
    pub(crate) fn bytes_read(&self) {
        if self.phase.get() == Phase::Idle {
            let now = self.core.clock.now();
            self.brisk.set(self.served.get() && now.saturating_duration_since(self.since.get()) <= BRISK);
            self.waits_since(Phase::Head, now);
        }
    }

    /// Some of a response was written: who takes its end slowly isn't idle.
    pub(crate) fn bytes_written(&self) {
        if self.phase.get() == Phase::Idle {
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
            Phase::Idle => deadline(self.since.get(), self.listener.idle_timeout),
            Phase::Head => deadline(self.since.get(), self.listener.header_timeout),
            Phase::Busy => None,
        };
        self.alarm.passed(until, context)
    }

    /// Whether the connection stands between two requests and the next isn't expected right away.
    /// If that is only a matter of time, the task wakes when it is over.
    pub(super) fn may_park(&self, context: &Context<'_>) -> bool {
        if self.phase.get() != Phase::Idle || self.writing.get() || self.sending_body.get() {
            return false;
        }
        !self.brisk.get() || self.alarm.passed(self.since.get().checked_add(BRISK), context)
    }

    fn waits_since(&self, phase: Phase, since: Instant) {
        self.phase.set(phase);
        self.since.set(since);
    }
}

impl fmt::Debug for Downstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downstream").field("peer", &self.peer).field("phase", &self.phase).finish_non_exhaustive()
    }
}
