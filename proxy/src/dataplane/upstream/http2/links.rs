//! One core's connections to endpoints that speak HTTP/2: each carries many requests, and a request takes one that has
//! room. Who finds none connects, and who comes meanwhile waits for that.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::promises::Promises;
use super::upload::Upload;
use crate::dataplane::clock::{deadline, earlier};
use crate::dataplane::upstream::connect::connect;
use crate::dataplane::upstream::pool::{ByAddress, Pool};
use crate::dataplane::upstream::{Alarm, ExchangeError, Terms, head};
use crate::trust::Words;

/// Requests at once on one connection, unless the endpoint wants fewer.
const MAX_STREAMS: u32 = 100;
/// What an endpoint may send of one response that its client has yet to take. There is room for as much of each: a
/// client that is slow holds up no other.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;
/// What is held of one request that its endpoint has yet to take.
const SEND_BUFFER: usize = 64 * 1024;

/// The connections of one core.
#[derive(Debug, Default)]
pub(in crate::dataplane::upstream) struct Links {
    endpoints: RefCell<ByAddress<Endpoint>>,
}

#[derive(Debug, Default)]
struct Endpoint {
    links: Vec<Rc<Link>>,
    /// Rings when the connection is there that somebody makes, or isn't coming.
    dialled: Option<Rc<Notify>>,
}

/// A connection.
#[derive(Debug)]
struct Link {
    sender: SendRequest<Upload>,
    /// Requests under way.
    streams: Cell<usize>,
    /// How many there may be.
    room: Rc<Cell<usize>>,
    /// Requests that nobody waits for any more and that hyper still holds: see [`Lease::strand`].
    stranded: Cell<usize>,
    /// Whether it ended since its endpoint sent too many interim responses.
    broken: Rc<Cell<bool>>,
    /// Whether it takes no more requests: one of them found that something is wrong with it.
    retired: Cell<bool>,
    /// When it was last used.
    used: Cell<Instant>,
    keep: Duration,
    /// What runs it.
    task: AbortHandle,
}

impl Link {
    /// Whether it may be used for one more request.
    fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.retired.get() && self.streams.get() < self.room.get()
    }

    /// Whether it is of use; if not, it ends here, with whatever is stranded on it.
    fn is_kept(&self, now: Instant) -> bool {
        let in_use = self.streams.get() > self.stranded.get();
        let is_fresh = || !self.retired.get() && now.saturating_duration_since(self.used.get()) < self.keep;
        !self.sender.is_closed() && (in_use || is_fresh())
    }
}

/// Room for one request on a connection.
#[derive(Debug)]
pub(super) struct Lease {
    link: Rc<Link>,
    reused: bool,
    stranded: Cell<bool>,
}

impl Lease {
    fn of(link: &Rc<Link>, reused: bool) -> Self {
        link.streams.set(link.streams.get() + 1);
        Self { link: Rc::clone(link), reused, stranded: Cell::new(false) }
    }

    /// Takes the request.
    pub(super) fn sender(&self) -> SendRequest<Upload> {
        self.link.sender.clone()
    }

    /// Says that the connection is no good for other requests. Those under way on it go on.
    pub(super) fn retire(&self) {
        self.link.retired.set(true);
    }

    /// Says that nobody waits for the request any more though its endpoint has yet to take the rest of it, and may never
    /// do so: hyper holds it until then. Once nothing else is under way on the connection, that ends.
    pub(super) fn strand(&self) {
        self.retire();
        if !self.stranded.replace(true) {
            self.link.stranded.set(self.link.stranded.get() + 1);
        }
    }

    /// Whether the connection ended since its endpoint sent interim responses without end.
    pub(super) fn is_broken(&self) -> bool {
        self.link.broken.get()
    }

    /// Whether the connection had served before.
    pub(super) const fn is_reused(&self) -> bool {
        self.reused
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.streams.set(self.link.streams.get() - 1);
        if self.stranded.get() {
            self.link.stranded.set(self.link.stranded.get() - 1);
        }
        self.link.used.set(Instant::now());
    }
}

impl Links {
    /// Room for a request, on a connection that is there or on a fresh one. Also for a second try: a connection on which
    /// the first one failed is not there any more, and many that fail at once share the next.
    pub(super) async fn lease(&self, pool: &Pool, alarm: &Alarm, terms: &Terms) -> Result<Lease, ExchangeError> {
        if let Some(lease) = self.share(alarm, terms).await? {
            return Ok(lease);
        }
        let _others_wait = Dialling::begin(self, terms.endpoint);
        let link = Rc::new(link(pool, alarm, terms).await?);
        let lease = Lease::of(&link, false);
        self.endpoints.borrow_mut().entry(terms.endpoint).or_default().links.push(link);
        Ok(lease)
    }

    /// Room on a connection that is there or is being made; none where that is not so.
    async fn share(&self, alarm: &Alarm, terms: &Terms) -> Result<Option<Lease>, ExchangeError> {
        loop {
            if let Some(lease) = self.find(terms.endpoint) {
                return Ok(Some(lease));
            }
            let Some(dialled) = self.dialled(terms.endpoint) else { return Ok(None) };
            wait(&dialled, alarm, terms).await?;
        }
    }

    /// Closes what has been idle for too long, and forgets what is closed. Returns whether any connection is left.
    pub(in crate::dataplane::upstream) fn sweep(&self, now: Instant) -> bool {
        let mut endpoints = self.endpoints.borrow_mut();
        endpoints.retain(|_, endpoint| {
            endpoint.links.retain(|link| {
                let is_kept = link.is_kept(now);
                if !is_kept {
                    link.task.abort();
                }
                is_kept
            });
            !endpoint.links.is_empty() || endpoint.dialled.is_some()
        });
        !endpoints.is_empty()
    }

    fn find(&self, endpoint: SocketAddr) -> Option<Lease> {
        let endpoints = self.endpoints.borrow();
        let link = endpoints.get(&endpoint)?.links.iter().find(|link| link.is_open())?;
        Some(Lease::of(link, true))
    }

    fn dialled(&self, endpoint: SocketAddr) -> Option<Rc<Notify>> {
        self.endpoints.borrow().get(&endpoint)?.dialled.clone()
    }
}

/// Waits until a connection is there that somebody else makes, or isn't coming.
async fn wait(dialled: &Notify, alarm: &Alarm, terms: &Terms) -> Result<(), ExchangeError> {
    let until = earlier(deadline(alarm.clock().now(), terms.timeouts.connect), terms.total);
    let mut rung = pin!(dialled.notified());
    poll_fn(|context| match rung.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(Ok(())),
        Poll::Pending if alarm.passed(until, context) => Poll::Ready(Err(ExchangeError::ConnectTimeout)),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Somebody makes a connection; however that ends, those who wait for it look again.
struct Dialling<'a> {
    links: &'a Links,
    endpoint: SocketAddr,
    rings: Rc<Notify>,
}

impl<'a> Dialling<'a> {
    fn begin(links: &'a Links, endpoint: SocketAddr) -> Self {
        let rings = Rc::new(Notify::new());
        links.endpoints.borrow_mut().entry(endpoint).or_default().dialled = Some(Rc::clone(&rings));
        Self { links, endpoint, rings }
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        if let Some(endpoint) = self.links.endpoints.borrow_mut().get_mut(&self.endpoint)
            && endpoint.dialled.as_ref().is_some_and(|dialled| Rc::ptr_eq(dialled, &self.rings))
        {
            endpoint.dialled = None;
        }
        self.rings.notify_waiters();
    }
}

/// Makes a connection, and has its tasks run until it ends.
async fn link(pool: &Pool, alarm: &Alarm, terms: &Terms) -> Result<Link, ExchangeError> {
    let stream = connect(pool, Words::Http2, alarm, terms).await?;
    let mut http = http2::Builder::new(OwnCore);
    http.initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(head::MAX_HEAD).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER);
    let broken = Rc::new(Cell::new(false));
    let stream = Promises::counted(stream, MAX_STREAMS as usize, &broken);
    let handshake = http.handshake(TokioIo::new(stream)).await;
    let (sender, mut connection) = handshake.map_err(|error| super::explain(error, false))?;
    let most = MAX_STREAMS as usize;
    let room = Rc::new(Cell::new(most));
    let shared = Rc::clone(&room);
    let task = tokio::task::spawn_local(async move {
        let ended = poll_fn(|context| {
            let ended = Pin::new(&mut connection).poll(context);
            // One at the least: who wants none is waited for, not connected to again and again.
            shared.set(connection.current_max_send_streams().clamp(1, most));
            ended
        });
        if let Err(error) = ended.await {
            tracing::debug!(error = &error as &dyn std::error::Error, "Connection to an endpoint ended early");
        }
    });
    Ok(Link {
        sender,
        streams: Cell::new(0),
        room,
        stranded: Cell::new(0),
        broken,
        retired: Cell::new(false),
        used: Cell::new(Instant::now()),
        keep: terms.timeouts.keep_alive,
        task: task.abort_handle(),
    })
}

/// Runs the tasks of a connection on the core that made it.
#[derive(Clone, Copy, Debug)]
struct OwnCore;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OwnCore {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
