//! What is known of one service: its endpoints, its running episode, what it waits for; its `latch.rs`, its counters
//! (`counting.rs`).

mod counting;
mod latch;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::counting::ServiceCore;
pub use self::counting::{ArmTotals, CLASS_NAMES, Ending};
pub use self::latch::{Halt, Telling};
use super::counters::Padded;
use super::endpoint::{EndpointLive, Health};
use super::endpoint_tls::EndpointTls;
use super::gates::Gates;
use super::limits::LimitCounts;
use super::scaling::ScalingStatus;
use super::seen::{EpisodeLive, StepLive};
use super::snapshot::EndpointView;
use super::verdict::VerdictStatus;
use crate::model::circuit::Circuit;
use crate::model::split::{Arm, EpisodeId, PerArm};
use crate::model::tls::EndpointTlsSpec;
use crate::model::weight::Weight;
use crate::trust::Client;

/// Facts on one service; they outlive any snapshot.
#[derive(Debug)]
pub struct ServiceLive {
    name: String,
    /// Why the canary gets nothing, in bits; 0 = it may get traffic.
    stops: AtomicU8,
    halts: Mutex<VecDeque<Halt>>,
    circuit: Mutex<Circuit>,
    /// Set by a trip of this process, until somebody takes it to tell people.
    untold: AtomicBool,
    /// Set by a trip of this process, until its mail is on its way.
    unmailed: AtomicBool,
    latched: Arc<Notify>,
    /// [`super::Live::recalls`] as of the last time that the canary was stopped.
    recalled_at: AtomicU64,
    /// Raised when tunnels shall look whether they may go on: see [`super::Live::recalls`].
    all_recalls: Arc<AtomicU64>,
    cores: Box<[Padded<ServiceCore>]>,
    endpoints: Mutex<Endpoints>,
    /// Whether all of a pool get work, since too few may.
    panics: PerArm<AtomicBool>,
    episode: Mutex<Option<Arc<EpisodeLive>>>,
    step: Mutex<Option<Arc<StepLive>>>,
    verdict: ArcSwap<VerdictStatus>,
    /// From when on an answer is slow, as learned, in microseconds; 0 = not known yet.
    learned_slow: AtomicU64,
    /// What the rollout waits for, as this proxy sees it.
    rollout_waits: ArcSwap<String>,
    gates: Gates,
    /// What is behind its limits.
    pub(super) limits: LimitCounts,
    scaling: ArcSwap<ScalingStatus>,
    tls: EndpointTls,
}

/// The endpoints that are known.
#[derive(Debug, Default)]
struct Endpoints {
    known: HashMap<(Arm, String), Known>,
    /// When each pool had its first endpoint, as long as it has any.
    founded: PerArm<Option<Instant>>,
}

impl Endpoints {
    /// The one of this id, made with this health where there is none.
    fn get(&mut self, arm: Arm, id: &str, cores: usize, first: Health) -> &mut Known {
        let founded = *self.founded.get_mut(arm).get_or_insert_with(Instant::now);
        let made = || Known { address: None, live: Arc::new(EndpointLive::new(cores, first, founded)) };
        self.known.entry((arm, id.to_owned())).or_insert_with(made)
    }
}

/// An endpoint that is known.
#[derive(Debug)]
struct Known {
    /// Where it was seen last, if somebody said so.
    address: Option<SocketAddr>,
    live: Arc<EndpointLive>,
}

impl ServiceLive {
    pub(super) fn new(name: &str, cores: usize, latched: Arc<Notify>, all_recalls: Arc<AtomicU64>) -> Self {
        Self {
            name: name.to_owned(),
            stops: AtomicU8::new(0),
            halts: Mutex::default(),
            circuit: Mutex::default(),
            untold: AtomicBool::new(false),
            unmailed: AtomicBool::new(false),
            latched,
            recalled_at: AtomicU64::new(0),
            all_recalls,
            cores: (0..cores).map(|_| Padded::default()).collect(),
            endpoints: Mutex::default(),
            panics: PerArm::default(),
            episode: Mutex::default(),
            step: Mutex::default(),
            verdict: ArcSwap::default(),
            learned_slow: AtomicU64::new(0),
            rollout_waits: ArcSwap::default(),
            gates: Gates::default(),
            limits: LimitCounts::default(),
            scaling: ArcSwap::default(),
            tls: EndpointTls::default(),
        }
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the rollout waits for, as this proxy sees it; empty before it looked.
    pub fn rollout_waits(&self) -> Arc<String> {
        self.rollout_waits.load_full()
    }

    /// Says what the rollout waits for.
    pub fn set_rollout_waits(&self, why: String) {
        if **self.rollout_waits.load() != why {
            self.rollout_waits.store(Arc::new(why));
        }
    }

    // === endpoints and episode ===

    /// How connections to its endpoints are kept private, as a configuration says it; none where they aren't.
    pub(super) fn endpoint_tls(
        &self,
        spec: Option<&EndpointTlsSpec>,
        pools: &PerArm<Vec<EndpointView>>,
    ) -> Option<Arc<Client>> {
        let client = self.tls.client(&self.name, spec)?;
        let named = Arm::BOTH.into_iter().flat_map(|arm| pools.get(arm));
        client.know_names(named.filter_map(|endpoint| Some((endpoint.address, &*endpoint.name.as_ref()?.host))));
        Some(client)
    }

    /// What is known of an endpoint, made with this health when it is first asked for.
    pub fn endpoint(&self, arm: Arm, id: &str, first: Health) -> Arc<EndpointLive> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&endpoints.get(arm, id, self.cores.len(), first).live)
    }

    /// As [`Self::endpoint`], of one that is here: what was known of its id elsewhere says nothing of it.
    pub fn endpoint_at(&self, arm: Arm, id: &str, address: SocketAddr, first: Health) -> Arc<EndpointLive> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = |known: &Known| known.address.is_some_and(|before| before != address);
        if endpoints.known.get(&(arm, id.to_owned())).is_some_and(moved) {
            endpoints.known.remove(&(arm, id.to_owned()));
        }
        let known = endpoints.get(arm, id, self.cores.len(), first);
        known.address = Some(address);
        Arc::clone(&known.live)
    }

    /// The health of an endpoint, if it is known in that pool.
    pub fn health_of(&self, arm: Arm, id: &str) -> Option<Health> {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.known.get(&(arm, id.to_owned())).map(|known| known.live.health())
    }

    /// Ends the tunnels that are open through an endpoint of this service, within a moment.
    pub fn cut_tunnels(&self, endpoint: &EndpointLive) {
        endpoint.cut_tunnels();
        self.all_recalls.fetch_add(1, Ordering::SeqCst);
    }

    /// Forgets the endpoints for which this says no and which have nothing in flight.
    pub fn retain_endpoints(&self, keep: impl Fn(Arm, &str) -> bool) {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.known.retain(|(arm, id), known| keep(*arm, id) || known.live.in_flight() > 0);
        for arm in Arm::BOTH {
            if !endpoints.known.keys().any(|(of, _)| *of == arm) {
                *endpoints.founded.get_mut(arm) = None;
            }
        }
    }

    /// Whether all of a pool get work, since too few may.
    pub fn panics(&self, arm: Arm) -> bool {
        self.panics.get(arm).load(Ordering::Relaxed)
    }

    /// Says whether all of a pool get work. Returns whether that is news.
    pub fn set_panics(&self, arm: Arm, panics: bool) -> bool {
        self.panics.get(arm).swap(panics, Ordering::Relaxed) != panics
    }

    /// What is known of an episode: the running one's facts are kept, a new one begins empty.
    pub fn episode(&self, id: EpisodeId) -> Arc<EpisodeLive> {
        let mut episode = self.episode.lock().unwrap_or_else(PoisonError::into_inner);
        match episode.as_ref() {
            Some(known) if known.id() == id => Arc::clone(known),
            _ => {
                let fresh = Arc::new(EpisodeLive::new(id, self.cores.len()));
                *episode = Some(Arc::clone(&fresh));
                fresh
            }
        }
    }

    /// What is known of a step of an episode: as long as the weight stays, it is the same one.
    pub fn step(&self, episode: EpisodeId, weight: Weight) -> Arc<StepLive> {
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        match step.as_ref() {
            Some(known) if known.is(episode, weight) => Arc::clone(known),
            _ => {
                let fresh = Arc::new(StepLive::new(episode, weight, self.cores.len()));
                *step = Some(Arc::clone(&fresh));
                fresh
            }
        }
    }

    // === scaling ===

    /// How many instances there should be, and what is done about it.
    pub fn scaling(&self) -> Arc<ScalingStatus> {
        self.scaling.load_full()
    }

    /// Says how many there should be.
    pub fn set_scaling(&self, status: ScalingStatus) {
        self.scaling.store(Arc::new(status));
    }

    // === verdict ===

    /// What the verdict says.
    pub fn verdict(&self) -> Arc<VerdictStatus> {
        self.verdict.load_full()
    }

    /// Says what the verdict says.
    pub fn set_verdict(&self, status: VerdictStatus) {
        self.verdict.store(Arc::new(status));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_moved_to_another_address_is_another_endpoint() {
        let service = ServiceLive::new("test", 1, Arc::default(), Arc::default());
        let at = |port: u16| service.endpoint_at(Arm::Stable, "web-1", ([127, 0, 0, 1], port).into(), Health::Unknown);
        at(1).set_health(Health::Up);
        assert_eq!(at(1).health(), Health::Up);
        assert_eq!(at(2).health(), Health::Unknown, "it is believed to be as healthy as the one before");
    }
}
