//! Facts the running daemon learns: which snapshot is in force, what is in flight,
//! who is healthy, what became of requests, which circuits are latched.
//!
//! The two planes meet here and nowhere else: snapshots go down through one
//! atomic swap, outcomes come up through counters and one queue of bad ones.
//! What is known of an endpoint or a service outlives any snapshot.
//! May know: model, telemetry, trust. Never: store, planes, admin.

pub mod census;
pub mod compile;
pub mod counters;
pub mod crowd;
pub mod discovery;
pub mod endpoint;
mod endpoint_tls;
pub mod flags;
pub mod gates;
pub mod latency;
pub mod limits;
pub mod metrics;
pub mod names;
pub mod pulse;
pub mod rates;
pub mod rotas;
pub mod routes;
#[cfg(test)]
pub(crate) mod sample;
pub mod scaling;
pub mod seen;
pub mod service;
pub mod service_flags;
mod sets;
pub mod slow;
pub mod snapshot;
pub mod trial;
pub mod turnstile;
mod untold;
pub mod verdict;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc};

use crate::model::flag::{Flag, FlagSet};
use crate::model::outcome::BadOutcome;
use crate::model::redis::Mirrored;
use crate::model::time::Timestamp;
use crate::model::tls::Certificate;
use crate::telemetry;

use flags::FlagsLive;
use names::NamesLive;

pub use discovery::{DiscoveryStatus, Standings};
pub use endpoint::{EndpointLive, Health};
pub use flags::{FlagFacts, FlagUsage};
pub use gates::{Gates, TurnedAway};
pub use limits::{RateLive, ServiceLimits};
pub use names::NameView;
pub use pulse::Pulse;
pub use seen::{EpisodeLive, StepLive};
pub use service::{Halt, ServiceLive, Telling};
pub use service_flags::{AskedFlag, ServiceFlags, ToldFlag};
pub use snapshot::{EndpointView, EpisodeView, ServiceView, Snapshot};
pub use trial::TrialView;
pub use turnstile::{Lane, Refusal, Turnstile};
pub use verdict::{PassStatus, RatioStatus, VerdictStatus};

/// Bad outcomes that may wait for the verdict. What comes on top is dropped, counted, and
/// dropped for both arms alike, so that the verdict stays honest.
const REPORTS: usize = 65_536;

/// A bad outcome on its way from a core to the verdict.
#[derive(Debug)]
pub struct Report {
    /// The service as the request saw it, its episode included.
    pub service: Arc<ServiceView>,
    /// What happened.
    pub outcome: BadOutcome,
}

/// How the store is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Whether the last read came from the store itself.
    pub reachable: bool,
    /// When the state in force was last read from the store.
    pub read_at: Option<Timestamp>,
    /// What is wrong, in a sentence.
    pub detail: Option<String>,
    /// Keys with values that could not be understood, and why.
    pub poisoned: Vec<(String, String)>,
    /// How the mirror is doing; none where there is none.
    pub mirror: Option<Mirrored>,
}

/// Everything the running daemon knows, shared by all rooms above.
#[derive(Debug)]
pub struct Live {
    cores: usize,
    snapshot: ArcSwap<Snapshot>,
    services: Mutex<HashMap<String, Arc<ServiceLive>>>,
    reports: mpsc::Sender<Report>,
    reports_dropped: AtomicU64,
    store: ArcSwap<StoreHealth>,
    flags: FlagsLive,
    discovery: ArcSwap<DiscoveryStatus>,
    names: NamesLive,
    draining: AtomicBool,
    pulse: Pulse,
    connections: Box<[counters::Padded<AtomicU64>]>,
    failed_handshakes: Box<[counters::Padded<AtomicU64>]>,
    floods: Box<[counters::Padded<AtomicU64>]>,
    crowded: Box<[counters::Padded<AtomicU64>]>,
    refused_prefaces: Box<[counters::Padded<AtomicU64>]>,
    recalls: Arc<AtomicU64>,
    /// By listener.
    certificates: Mutex<BTreeMap<String, Vec<Certificate>>>,
    /// Rung when a circuit was latched here and the rest of the world must be told.
    pub latched: Arc<Notify>,
}

impl Live {
    /// An empty world for this many data-plane cores, and the queue of bad outcomes.
    pub fn new(cores: usize) -> (Arc<Self>, mpsc::Receiver<Report>) {
        let (reports, receiver) = mpsc::channel(REPORTS);
        let live = Self {
            cores,
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            services: Mutex::default(),
            reports,
            reports_dropped: AtomicU64::new(0),
            store: ArcSwap::default(),
            flags: FlagsLive::new(cores),
            discovery: ArcSwap::default(),
            names: NamesLive::default(),
            draining: AtomicBool::new(false),
            pulse: Pulse::new(cores),
            connections: (0..cores).map(|_| counters::Padded::default()).collect(),
            failed_handshakes: (0..cores).map(|_| counters::Padded::default()).collect(),
            floods: (0..cores).map(|_| counters::Padded::default()).collect(),
            crowded: (0..cores).map(|_| counters::Padded::default()).collect(),
            refused_prefaces: (0..cores).map(|_| counters::Padded::default()).collect(),
            recalls: Arc::default(),
            certificates: Mutex::default(),
            latched: Arc::default(),
        };
        (Arc::new(live), receiver)
    }

    /// How many data-plane cores there are.
    pub const fn cores(&self) -> usize {
        self.cores
    }

    /// The cell that holds the snapshot in force. Requests read it, `control::sync` alone swaps it.
    pub const fn snapshot_cell(&self) -> &ArcSwap<Snapshot> {
        &self.snapshot
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// What is known of a service, made when it is first asked for.
    pub fn service(&self, name: &str) -> Arc<ServiceLive> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = services.get(name) {
            return Arc::clone(service);
        }
        let service =
            Arc::new(ServiceLive::new(name, self.cores, Arc::clone(&self.latched), Arc::clone(&self.recalls)));
        services.insert(name.to_owned(), Arc::clone(&service));
        service
    }

    /// Hands a bad outcome to the verdict. Never waits.
    pub fn report(&self, report: Report) {
        if self.reports.try_send(report).is_err() {
            self.reports_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Bad outcomes dropped because the verdict was too far behind.
    pub fn reports_dropped(&self) -> u64 {
        self.reports_dropped.load(Ordering::Relaxed)
    }

    /// How the store is doing.
    pub fn store_health(&self) -> Arc<StoreHealth> {
        self.store.load_full()
    }

    /// Says how the store is doing.
    pub fn set_store_health(&self, health: StoreHealth) {
        self.store.store(Arc::new(health));
    }

    /// The definitions behind the flags in force, and what is refused of them.
    pub fn flag_facts(&self) -> Arc<FlagFacts> {
        self.flags.facts.load_full()
    }

    /// Says which flags there are from now on; to be called before a snapshot has them.
    pub fn set_flags(&self, facts: FlagFacts, flags: &FlagSet) {
        self.flags.facts.store(Arc::new(facts));
        self.flags.count_use_of(flags, telemetry::now());
    }

    /// How a flag has been used; none where there is no such flag.
    pub fn flag_usage(&self, key: &str) -> Option<Arc<FlagUsage>> {
        self.flags.usage_of(key)
    }

    /// How a flag's new definition, on trial in a service, has been used: kept as long as it stays the same.
    pub fn trial_usage(&self, service: &str, flag: &Flag) -> Arc<FlagUsage> {
        self.flags.trial_usage(service, flag, telemetry::now())
    }

    /// How each flag has been used, by key.
    pub fn flags_usage(&self) -> BTreeMap<String, Arc<FlagUsage>> {
        self.flags.usage()
    }

    /// How leased members are doing.
    pub fn discovery(&self) -> Arc<DiscoveryStatus> {
        self.discovery.load_full()
    }

    /// Says how leased members are doing.
    pub fn set_discovery(&self, status: DiscoveryStatus) {
        if **self.discovery.load() != status {
            self.discovery.store(Arc::new(status));
        }
    }

    /// What is known of the names of endpoints.
    pub const fn names(&self) -> &NamesLive {
        &self.names
    }

    /// Whether the daemon is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Says that the daemon is on its way out.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Who of this process gets on.
    pub const fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// A core's count of open downstream connections, for that core to keep.
    pub fn connections_of(&self, core: usize) -> &AtomicU64 {
        &self.connections[core].0
    }

    /// Downstream connections that are open now.
    pub fn connections(&self) -> u64 {
        self.connections.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }

    /// A core's count of connections that never came to TLS, for that core to keep.
    pub fn failed_handshakes_of(&self, core: usize) -> &AtomicU64 {
        &self.failed_handshakes[core].0
    }

    /// Connections that never came to TLS.
    pub fn failed_handshakes(&self) -> u64 {
        self.failed_handshakes.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }

    /// A core's count of connections that were ended because they made work and nothing else, for that core to keep.
    pub fn floods_of(&self, core: usize) -> &AtomicU64 {
        &self.floods[core].0
    }

    /// Connections that were ended because they made work and nothing else.
    pub fn floods(&self) -> u64 {
        self.floods.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }

    /// A core's count of connections refused because their client had too many, for that core to keep.
    pub fn crowded_of(&self, core: usize) -> &AtomicU64 {
        &self.crowded[core].0
    }

    /// Connections refused because their client had too many.
    pub fn crowded(&self) -> u64 {
        self.crowded.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }

    /// A core's count of connections refused for their PROXY header, for that core to keep.
    pub fn refused_prefaces_of(&self, core: usize) -> &AtomicU64 {
        &self.refused_prefaces[core].0
    }

    /// Connections refused for their PROXY header.
    pub fn refused_prefaces(&self) -> u64 {
        self.refused_prefaces.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }

    /// Rises when open tunnels shall look whether they may go on: a canary was stopped, or an endpoint's are cut.
    pub fn recalls(&self) -> u64 {
        // What it was raised for is seen by whoever sees that it was.
        self.recalls.load(Ordering::Acquire)
    }

    /// Says which certificates a listener shows from now on.
    pub fn show_certificates(&self, listener: &str, certificates: Vec<Certificate>) {
        let mut shown = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        shown.insert(listener.to_owned(), certificates);
    }

    /// The certificates that are shown, by listener.
    pub fn certificates(&self) -> BTreeMap<String, Vec<Certificate>> {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
