//! What one data-plane thread owns: nothing in here is shared with another core,
//! but the counters and the snapshot cell in `live`.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;
use bytes::BytesMut;
use rand::rngs::{SmallRng, StdRng};
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::clock::Clock;
use super::limits::Lines;
use super::splice::Pipes;
use super::upstream::{Pool, Secured};
use crate::live::{Live, ServiceView, Snapshot};
use crate::model::policy::RoutePolicy;
use crate::model::route::RouteSpec;
use crate::model::spec::Timeouts;

/// Head buffers kept for the next request.
const SPARE_HEADS: usize = 64;

/// One data-plane thread's own things.
#[derive(Debug)]
pub(crate) struct Core {
    /// Its number, from 0: the index of its counters.
    pub(crate) id: usize,
    pub(crate) live: Arc<Live>,
    /// Connections to endpoints in the clear, and by TLS.
    pub(crate) pool: Rc<Pool>,
    pub(crate) secured: Secured,
    pub(crate) clock: Rc<Clock>,
    /// Whether answers ask clients to come back by another connection. Those that wait for a request stay open until
    /// they had one, so that none is lost on its way.
    pub(crate) leaving: Cell<bool>,
    /// Whether connections shall end after the request at hand, and at once where there is none.
    pub(crate) draining: Cell<bool>,
    /// Where a write puts its parts together; nobody holds it for longer than that.
    pub(crate) scratch: RefCell<Vec<u8>>,
    /// Where parked connections read the first bytes of a request, and tunnels all of theirs.
    pub(crate) first_bytes: RefCell<BytesMut>,
    /// Pipes of the kernel, for long bodies.
    pub(crate) pipes: Rc<Pipes>,
    /// Where the frames of HTTP/2 are read, to be looked at before they are handed on.
    pub(crate) frames: RefCell<Vec<u8>>,
    /// Who waits for room at a service.
    pub(crate) lines: Lines,
    /// [`Live::recalls`] as this core has followed them.
    recalls: Cell<u64>,
    snapshots: RefCell<SnapshotReader>,
    rng: RefCell<StdRng>,
    dice: RefCell<SmallRng>,
    heads: RefCell<Vec<Vec<u8>>>,
}

impl Core {
    /// The things of core `id`.
    pub(crate) fn new(id: usize, live: Arc<Live>) -> Rc<Self> {
        let reader = SnapshotReader::new(Arc::clone(&live));
        Rc::new(Self {
            id,
            live,
            pool: Rc::default(),
            secured: Secured::default(),
            clock: Clock::new(),
            leaving: Cell::new(false),
            draining: Cell::new(false),
            scratch: RefCell::default(),
            first_bytes: RefCell::default(),
            pipes: Rc::default(),
            frames: RefCell::default(),
            lines: Lines::default(),
            recalls: Cell::default(),
            snapshots: RefCell::new(reader),
            rng: RefCell::new(StdRng::from_rng(&mut rand::rng())),
            dice: RefCell::new(SmallRng::from_rng(&mut rand::rng())),
            heads: RefCell::default(),
        })
    }

    /// Looks after what no connection does: tunnels that may have to end, and connections that nobody uses.
    /// Returns whether any of the latter are left.
    pub(crate) fn sweep(&self, now: Instant) -> bool {
        let recalls = self.live.recalls();
        if self.recalls.replace(recalls) != recalls {
            self.clock.wake_all();
        }
        self.lines.sweep();
        // Both, whatever the first says.
        self.pool.sweep(now) | self.secured.sweep(now)
    }

    /// The snapshot in force, and since when a recall isn't in it: two atomic loads.
    pub(crate) fn snapshot(&self) -> Sight {
        let recalls = self.live.recalls();
        Sight { snapshot: self.snapshots.borrow_mut().load(), recalls }
    }

    /// Random bits from a cryptographic generator of this core.
    pub(crate) fn random<T>(&self) -> T
    where
        rand::distr::StandardUniform: rand::distr::Distribution<T>,
    {
        self.rng.borrow_mut().random()
    }

    /// Random bits for what is no secret, and which cost little: who sees many of them may guess the next.
    pub(crate) fn id_bits(&self) -> u128 {
        self.dice.borrow_mut().random()
    }

    /// A random number below `bound`, which isn't zero; no secret either.
    pub(crate) fn random_below(&self, bound: u32) -> u32 {
        self.dice.borrow_mut().random_range(0..bound)
    }

    /// An empty buffer for a request head.
    pub(crate) fn head_buffer(&self) -> Vec<u8> {
        self.heads.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(1_024))
    }

    /// Takes a head buffer back.
    pub(crate) fn return_head_buffer(&self, mut buffer: Vec<u8>) {
        let mut heads = self.heads.borrow_mut();
        if heads.len() < SPARE_HEADS && buffer.capacity() <= 16 * 1024 {
            buffer.clear();
            heads.push(buffer);
        }
    }
}

/// A snapshot as this core holds it: requests count their hold on it without a locked
/// instruction, and the core's one hold on the shared count lasts until the next snapshot.
#[derive(Debug)]
pub(crate) struct Held(Arc<Snapshot>);

impl Deref for Held {
    type Target = Snapshot;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A snapshot as a request came to see it.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    snapshot: Rc<Held>,
    /// [`Live::recalls`] right before it was loaded: what was recalled later may stand otherwise in it.
    recalls: u64,
}

impl Deref for Sight {
    type Target = Snapshot;

    fn deref(&self) -> &Self::Target {
        &self.snapshot
    }
}

/// Gives requests the snapshot in force, without touching a count shared between cores.
struct SnapshotReader {
    cache: Cache<SnapshotCell, Arc<Snapshot>>,
    current: Rc<Held>,
}

struct SnapshotCell(Arc<Live>);

impl Deref for SnapshotCell {
    type Target = ArcSwap<Snapshot>;

    fn deref(&self) -> &Self::Target {
        self.0.snapshot_cell()
    }
}

impl SnapshotReader {
    fn new(live: Arc<Live>) -> Self {
        let current = Rc::new(Held(live.snapshot()));
        Self { cache: Cache::new(SnapshotCell(live)), current }
    }

    fn load(&mut self) -> Rc<Held> {
        let newest = self.cache.load();
        if !Arc::ptr_eq(newest, &self.current.0) {
            self.current = Rc::new(Held(Arc::clone(newest)));
        }
        Rc::clone(&self.current)
    }
}

impl std::fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotReader").field("revision", &self.current.revision).finish()
    }
}

/// A service in the snapshot that a request loaded; keeps that snapshot alive.
#[derive(Clone, Debug)]
pub(crate) struct ServiceRef {
    sight: Sight,
    index: usize,
    /// The route by which a request came to it.
    route: Option<usize>,
    /// What it was when the request came, where the snapshot changed while it waited: its route is the one that it came by.
    former: Option<Rc<Self>>,
}

impl ServiceRef {
    /// The service at `index` of the snapshot, which has one there.
    pub(crate) const fn new(sight: Sight, index: usize) -> Self {
        Self { sight, index, route: None, former: None }
    }

    /// [`Live::recalls`] before anything was decided by this snapshot.
    pub(crate) const fn recalls(&self) -> u64 {
        self.sight.recalls
    }

    /// The same, for a request that came by this of its routes.
    #[must_use]
    pub(crate) fn by(self, route: Option<usize>) -> Self {
        Self { route, ..self }
    }

    /// The route by which the request came; none where its service has it without one.
    pub(crate) fn route(&self) -> Option<&RouteSpec> {
        match &self.former {
            Some(former) => former.route(),
            None => self.route.map(|route| &*self.spec.routes[route]),
        }
    }

    /// What the route asks for.
    pub(crate) fn policy(&self) -> Option<&RoutePolicy> {
        self.route().map(|route| &route.policy)
    }

    /// How long things may take.
    pub(crate) fn timeouts(&self) -> &Timeouts {
        self.policy().map_or(&self.spec.timeouts, |policy| &policy.timeouts)
    }

    /// The largest request body, in bytes.
    pub(crate) fn max_body_bytes(&self) -> u64 {
        self.policy().map_or(self.spec.max_body_bytes, |policy| policy.max_body_bytes)
    }

    /// The same service in the snapshot in force now; none where there is none of its name any more.
    pub(crate) fn renewed(&self, core: &Core) -> Option<Self> {
        let sight = core.snapshot();
        let index = sight.place(&self.spec.name)?;
        let routed = || self.route.is_some().then(|| Rc::new(self.clone()));
        let former = self.former.clone().or_else(routed);
        Some(Self { sight, index, route: None, former })
    }

    /// Whether it is one of a snapshot's.
    pub(crate) fn is_of(&self, sight: &Sight) -> bool {
        Rc::ptr_eq(&self.sight.snapshot, &sight.snapshot)
    }

    /// The service, to be kept beyond this core.
    pub(crate) fn shared(&self) -> Arc<ServiceView> {
        Arc::clone(&self.sight.services()[self.index])
    }
}

impl Deref for ServiceRef {
    type Target = ServiceView;

    fn deref(&self) -> &Self::Target {
        &self.sight.services()[self.index]
    }
}
