//! A Redis that isn't there, for simulated time: it is cut off, answers late, loses answers, falls back to older
//! copies and forgets everything, as the seed says. What stands before it, the last good state and the
//! rules of a write, is the real thing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::audit::Audit;
use super::codec::Decoded;
use super::connection::Down;
use super::evidence::Evidence;
use super::flags::Flags;
use super::write::{Wish, next_fence};
use super::{RedisStore, Remote};
use crate::model::rollout::Fence;
use crate::model::state::{Change, ServiceState, State};
use crate::model::weight::Weight;
use crate::store::audit::AuditLog;
use crate::store::lease;
use crate::store::state_file::{Kept, Saved};
use crate::store::{Store, StoreError};

/// How long a proxy waits for an answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// As many older copies are there to fall back to.
const COPIES: usize = 12;

/// A state file that outlives its process.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateFile(Arc<Mutex<Saved>>);

impl StateFile {
    /// What it says of a service.
    pub(crate) fn service(&self, name: &str) -> ServiceState {
        let saved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        saved.services.get(name).cloned().unwrap_or_default()
    }
}

/// How likely what goes wrong is, each time it may.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// An answer is lost on its way.
    pub(crate) lost_answer: f64,
    /// A read is of an older copy.
    pub(crate) stale_read: f64,
    /// A message takes many looks to arrive.
    pub(crate) slow: f64,
    /// A write is refused at once: for want of memory, disk or replicas.
    pub(crate) refused_write: f64,
    /// A change doesn't arrive.
    pub(crate) lost_write: f64,
}

/// What wrote.
#[derive(Clone, Debug)]
pub(crate) enum Wrote {
    /// A change.
    Change(Box<Change>),
    /// The whole service, into a server that had nothing of it.
    Restore,
}

/// One write, as it came about.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The proxy.
    pub(crate) by: usize,
    /// What it wrote.
    pub(crate) wrote: Wrote,
    /// What that proxy held for the last good state when it asked.
    pub(crate) own: ServiceState,
    /// What was there.
    pub(crate) before: ServiceState,
    /// What is there now.
    pub(crate) after: ServiceState,
}

/// The server that all proxies share. It knows one service.
#[derive(Debug)]
pub(crate) struct Server(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    draws: StdRng,
    copy: Held,
    /// Rises with each write: what a transaction watches.
    version: u64,
    older: VecDeque<Held>,
    faults: Faults,
    cut: Vec<bool>,
    /// Transactions that are on their way, by their number: they arrive also when nobody waits any more.
    sent: Vec<(u64, u64, Written)>,
    arrived: HashMap<u64, bool>,
    tickets: u64,
    written: Vec<Written>,
}

/// What the server holds.
#[derive(Clone, Debug, Default)]
struct Held {
    service: Option<ServiceState>,
    leader: Option<(String, Instant)>,
    fence: Option<u64>,
}

impl Inner {
    fn keep_copy(&mut self) {
        self.older.push_back(self.copy.clone());
        if self.older.len() > COPIES {
            self.older.pop_front();
        }
    }

    fn write(&mut self, written: Written) {
        self.keep_copy();
        self.copy.service = Some(written.after.clone());
        self.version += 1;
        self.written.push(written);
    }

    /// Whether the transaction of this number went through.
    fn execute(&mut self, ticket: u64) -> bool {
        if let Some(at) = self.sent.iter().position(|(number, ..)| *number == ticket) {
            let (_, version, written) = self.sent.swap_remove(at);
            let won = version == self.version;
            if won {
                self.write(written);
            }
            return won;
        }
        self.arrived.remove(&ticket).unwrap_or(false)
    }
}

impl Server {
    /// An empty server for so many proxies.
    pub(crate) fn new(seed: u64, proxies: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner {
            draws: StdRng::seed_from_u64(seed),
            copy: Held::default(),
            version: 0,
            older: VecDeque::new(),
            faults: Faults::default(),
            cut: vec![false; proxies],
            sent: Vec::new(),
            arrived: HashMap::new(),
            tickets: 0,
            written: Vec::new(),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store as this proxy has it, with this state file.
    pub(crate) fn store(self: &Arc<Self>, proxy: usize, file: &StateFile) -> Arc<dyn Store> {
        let remote = Simulated { server: Arc::clone(self), proxy };
        let kept = Kept::simulated(Arc::clone(&file.0));
        Arc::new(RedisStore::of(remote, kept, Arc::default()))
    }

    /// What it holds.
    pub(crate) fn service(&self) -> ServiceState {
        self.inner().copy.service.clone().unwrap_or_default()
    }

    /// The writes since the last time.
    pub(crate) fn take_written(&self) -> Vec<Written> {
        std::mem::take(&mut self.inner().written)
    }

    /// From now on this much goes wrong.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.inner().faults = faults;
    }

    /// Cuts a proxy off, or lets it back.
    pub(crate) fn cut(&self, proxy: usize, cut: bool) {
        self.inner().cut[proxy] = cut;
    }

    /// Everything is gone.
    pub(crate) fn flush(&self) {
        let mut inner = self.inner();
        inner.copy = Held::default();
        inner.version += 1;
    }

    /// An older copy takes over: what was written since is gone.
    pub(crate) fn fail_over(&self) {
        let mut inner = self.inner();
        let known = inner.older.len();
        if known > 0 {
            let at = inner.draws.random_range(0..known);
            inner.older.truncate(at + 1);
            inner.copy = inner.older.pop_back().unwrap_or_default();
            inner.version += 1;
        }
    }

    /// A person writes a weight with `redis-cli`. The revision stays.
    pub(crate) fn write_by_hand(&self, weight: Weight) {
        let mut inner = self.inner();
        if inner.copy.service.is_some() {
            inner.keep_copy();
            inner.version += 1;
        }
        if let Some(service) = &mut inner.copy.service {
            service.weight = Some(weight);
        }
    }

    /// Something that is on its way arrives, if anything is: maybe after its sender died.
    pub(crate) fn deliver(&self) {
        let mut inner = self.inner();
        let sent = inner.sent.len();
        if sent == 0 {
            return;
        }
        let at = inner.draws.random_range(0..sent);
        let ticket = inner.sent[at].0;
        let won = inner.execute(ticket);
        inner.arrived.insert(ticket, won);
    }

    /// What nobody waits for any more is lost.
    pub(crate) fn lose_what_is_on_its_way(&self) {
        self.inner().sent.clear();
    }
}

/// The server, as one proxy asks it.
#[derive(Debug)]
struct Simulated {
    server: Arc<Server>,
    proxy: usize,
}

impl Simulated {
    /// A message travels, and may not arrive.
    async fn travel(&self, since: Instant) -> Result<(), Down> {
        let mut looks = {
            let mut inner = self.server.inner();
            let slow = inner.faults.slow;
            if inner.draws.random_bool(slow) { inner.draws.random_range(3..20) } else { inner.draws.random_range(0..2) }
        };
        std::future::poll_fn(|_| {
            if looks == 0 {
                return Poll::Ready(());
            }
            looks -= 1;
            Poll::Pending
        })
        .await;
        if self.server.inner().cut[self.proxy] {
            return Err(Down("cut off".to_owned()));
        }
        if since.elapsed() > DEADLINE { Err(Down("no answer in time".to_owned())) } else { Ok(()) }
    }

    async fn answer(&self, since: Instant) -> Result<(), Down> {
        let lost = {
            let mut inner = self.server.inner();
            let lost_answer = inner.faults.lost_answer;
            inner.draws.random_bool(lost_answer)
        };
        self.travel(since).await?;
        if lost { Err(Down("the answer was lost".to_owned())) } else { Ok(()) }
    }

    /// Draws only where there is such a fault at all, so that what other seeds mean stays.
    fn strikes(&self, fault: impl Fn(&Faults) -> f64) -> bool {
        let mut inner = self.server.inner();
        let likely = fault(&inner.faults);
        likely > 0.0 && inner.draws.random_bool(likely)
    }

    fn found(&self, may_be_stale: bool) -> Decoded {
        let mut inner = self.server.inner();
        let likely = inner.faults.stale_read;
        let stale = may_be_stale && inner.draws.random_bool(likely);
        let older = inner.older.len();
        let copy = if stale && older > 0 {
            let at = inner.draws.random_range(0..older);
            inner.older[at].service.clone()
        } else {
            inner.copy.service.clone()
        };
        let known = copy.is_some();
        let state = copy.unwrap_or_default();
        Decoded { sound: state.clone(), state, known, ..Decoded::default() }
    }
}

impl Remote for Simulated {
    async fn read(&self, services: &[String], _: &State) -> Result<Vec<Decoded>, Down> {
        let since = Instant::now();
        self.travel(since).await?;
        let found = services.iter().map(|_| self.found(true)).collect();
        self.answer(since).await?;
        Ok(found)
    }

    async fn change(&self, wish: &Wish<'_>) -> Result<ServiceState, StoreError> {
        let since = Instant::now();
        if self.strikes(|faults| faults.lost_write) {
            self.travel(since).await?;
            return Err(Down("the change was lost".to_owned()).into());
        }
        loop {
            self.travel(since).await?;
            let version = self.server.inner().version;
            let mut found = self.found(false);
            let before = found.state.clone();
            let after = match wish.outcome(&mut found) {
                Ok(after) if after.revision != before.revision => after,
                settled => {
                    self.answer(since).await?;
                    return settled;
                }
            };
            if self.strikes(|faults| faults.refused_write) {
                return Err(StoreError::Unavailable("out of memory".to_owned()));
            }
            // Others may write in between: then the transaction doesn't go through.
            self.travel(since).await?;
            let ticket = {
                let mut inner = self.server.inner();
                inner.tickets += 1;
                let (wrote, own) = (Wrote::Change(Box::new(wish.change.clone())), wish.last_good.clone());
                let written = Written { by: self.proxy, wrote, own, before, after: after.clone() };
                let ticket = inner.tickets;
                inner.sent.push((ticket, version, written));
                ticket
            };
            self.travel(since).await?;
            let won = self.server.inner().execute(ticket);
            self.answer(since).await?;
            if won {
                return Ok(after);
            }
        }
    }

    async fn lead(&self, holder: &str, ttl: Duration, known: Fence) -> Result<Option<Fence>, StoreError> {
        let since = Instant::now();
        self.travel(since).await?;
        let next = {
            let mut inner = self.server.inner();
            let now = Instant::now();
            let leads = inner.copy.leader.as_ref().filter(|(_, until)| *until > now).map(|(leader, _)| leader.as_str());
            let next = next_fence(holder, leads, inner.copy.fence, known);
            if next.is_some() {
                inner.copy.leader = Some((holder.to_owned(), now + ttl));
                inner.copy.fence = next;
            }
            next
        };
        self.answer(since).await?;
        Ok(next.map(Fence))
    }

    async fn restore(&self, _: &str, state: &ServiceState) -> Result<(), StoreError> {
        let since = Instant::now();
        self.travel(since).await?;
        {
            let mut inner = self.server.inner();
            if inner.copy.service.is_none() {
                let mut after = ServiceState { revision: state.revision + 1, ..state.clone() };
                lease::retain(&mut after, |_, _| false);
                let (own, before) = (state.clone(), ServiceState::default());
                inner.write(Written { by: self.proxy, wrote: Wrote::Restore, own, before, after });
            }
        }
        self.answer(since).await?;
        Ok(())
    }

    /// What goes bad is known only where it was seen.
    fn evidence(&self) -> Option<&Evidence> {
        None
    }

    fn audit(&self) -> Option<&Arc<AuditLog<Audit>>> {
        None
    }

    fn flags(&self) -> Option<&Flags> {
        None
    }
}
