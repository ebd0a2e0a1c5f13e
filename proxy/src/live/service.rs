//! What is known of one service: its circuit, its counters, its running episode.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::counters::{self, Histogram, HistogramSum, Padded};
use super::endpoint::{EndpointLive, Health};
use super::gates::{Gates, TurnedAway};
use super::scaling::ScalingStatus;
use super::seen::{EpisodeLive, StepLive};
use super::verdict::VerdictStatus;
use crate::model::circuit::{Circuit, Trip};
use crate::model::outcome::{BadReason, Signal};
use crate::model::rollout::RolloutId;
use crate::model::rollout::change::Deed;
use crate::model::spec::SlowThreshold;
use crate::model::split::{Arm, EpisodeId, PerArm};
use crate::model::weight::Weight;

/// A rollout that is being aborted: the canary gets nothing here while the rest of the world is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// The rollout.
    pub id: RolloutId,
    /// Who wants it, when, and why.
    pub deed: Deed,
}

/// Aborts of rollouts that are remembered.
const ABORTS: usize = 16;

/// Bits of [`ServiceLive::stops`]: why the canary gets nothing.
const OPEN: u8 = 1;
const HALTED: u8 = 2;

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
    latched: Arc<Notify>,
    /// Raised when tunnels shall look whether they may go on: see [`super::Live::recalls`].
    recalls: Arc<AtomicU64>,
    cores: Box<[Padded<ServiceCore>]>,
    endpoints: Mutex<HashMap<(Arm, String), Known>>,
    episode: Mutex<Option<Arc<EpisodeLive>>>,
    step: Mutex<Option<Arc<StepLive>>>,
    verdict: ArcSwap<VerdictStatus>,
    /// From when on an answer is slow, as learned, in microseconds; 0 = not known yet.
    learned_slow: AtomicU64,
    /// What the rollout waits for, as this proxy sees it.
    rollout_waits: ArcSwap<String>,
    gates: Gates,
    scaling: ArcSwap<ScalingStatus>,
}

/// An endpoint that is known.
#[derive(Debug)]
struct Known {
    /// Where it was seen last, if somebody said so.
    address: Option<SocketAddr>,
    live: Arc<EndpointLive>,
}

/// One core's counters of a service.
#[derive(Debug, Default)]
pub struct ServiceCore {
    arms: PerArm<ArmCore>,
    /// Of the times to the response head, those that say nothing of how soon an endpoint answers.
    untimed: Histogram,
    retries: AtomicU64,
    /// What retries took from the budget of this core and requests haven't earned back yet, in
    /// fifths of a retry.
    retry_debt: AtomicU64,
}

/// One core's counters of one arm of a service.
#[derive(Debug, Default)]
struct ArmCore {
    by_class: [AtomicU64; CLASSES],
    bad: [AtomicU64; BadReason::ALL.len()],
    latency: Histogram,
}

/// A core may retry ten requests at once; beyond that, one for each five that it serves.
const RETRY_BUDGET_FIFTHS: u64 = 50;

/// 1xx to 5xx, and one for clients that left before the response head.
const CLASSES: usize = 6;
/// The classes' names, as in labels.
pub const CLASS_NAMES: [&str; CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx", "client_gone"];

/// The counters of one arm, summed over cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArmTotals {
    /// Requests by class: see [`CLASS_NAMES`].
    pub by_class: [u64; CLASSES],
    /// Bad first attempts by reason, in the order of [`BadReason::ALL`].
    pub bad: [u64; BadReason::ALL.len()],
    /// The time to the response head.
    pub latency: HistogramSum,
}

impl ArmTotals {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.by_class.iter().sum()
    }

    /// First attempts that failed: those that are bad by the `errors` signal. A request may be bad
    /// by others as well, and what is slow hasn't failed.
    pub fn bad_requests(&self) -> u64 {
        let failed = |(reason, _): &(&BadReason, &u64)| reason.signal() == Signal::Errors;
        BadReason::ALL.iter().zip(&self.bad).filter(failed).map(|(_, count)| count).sum()
    }
}

/// How a request ended, as far as counting goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a response of this status.
    Status(u16),
    /// The client left before the response head.
    ClientGone,
}

impl ServiceLive {
    pub(super) fn new(name: &str, cores: usize, latched: Arc<Notify>, recalls: Arc<AtomicU64>) -> Self {
        Self {
            name: name.to_owned(),
            stops: AtomicU8::new(0),
            halts: Mutex::default(),
            circuit: Mutex::default(),
            untold: AtomicBool::new(false),
            latched,
            recalls,
            cores: (0..cores).map(|_| Padded::default()).collect(),
            endpoints: Mutex::default(),
            episode: Mutex::default(),
            step: Mutex::default(),
            verdict: ArcSwap::default(),
            learned_slow: AtomicU64::new(0),
            rollout_waits: ArcSwap::default(),
            gates: Gates::default(),
            scaling: ArcSwap::default(),
        }
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    // === circuit ===

    /// Whether the circuit is open.
    pub fn is_open(&self) -> bool {
        self.stops.load(Ordering::Relaxed) & OPEN != 0
    }

    /// Whether the canary gets nothing, whatever its weight: what every request reads.
    pub fn canary_is_stopped(&self) -> bool {
        self.stops.load(Ordering::Relaxed) != 0
    }

    fn stop(&self, why: u8, stopped: bool) {
        if stopped {
            if self.stops.fetch_or(why, Ordering::SeqCst) == 0 {
                self.recalls.fetch_add(1, Ordering::SeqCst);
            }
        } else {
            self.stops.fetch_and(!why, Ordering::SeqCst);
        }
    }

    /// The circuit as this process knows it.
    pub fn circuit(&self) -> Circuit {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens the circuit here and now, and rings for the rest to be told. Returns whether
    /// it was closed before. From the next request on no key is on the canary.
    pub fn trip(&self, episode: Option<EpisodeId>, trip: Trip) -> bool {
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        let was_closed = !circuit.is_open();
        circuit.trip(episode, trip);
        self.stop(OPEN, true);
        if was_closed {
            self.untold.store(true, Ordering::SeqCst);
        }
        self.latched.notify_one();
        was_closed
    }

    /// Whether this process tripped the circuit and people don't know yet. Asked once per trip.
    pub fn take_untold(&self) -> bool {
        self.untold.swap(false, Ordering::SeqCst)
    }

    /// Takes in a circuit from the store: see [`Circuit::merge`]. Returns what stands.
    pub fn merge_circuit(&self, other: &Circuit) -> Circuit {
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        *circuit = circuit.merge(other);
        self.stop(OPEN, circuit.is_open());
        circuit.clone()
    }

    // === rollout ===

    /// Stops the canary here and now because its rollout is aborted, and rings for the store to be told.
    pub fn halt(&self, halt: Halt) {
        let mut known = self.halts();
        if !known.iter().any(|aborted| aborted.id == halt.id) {
            known.truncate(ABORTS - 1);
            known.push_front(halt);
        }
        self.stop(HALTED, true);
        self.latched.notify_one();
    }

    /// The abort that the store may not know yet.
    pub fn halted(&self) -> Option<Halt> {
        let is_on = self.stops.load(Ordering::SeqCst) & HALTED != 0;
        if is_on { self.halts().front().cloned() } else { None }
    }

    /// The abort of a rollout that was aborted here: a store that fell back to an older copy may bring it back.
    pub fn aborted(&self, id: RolloutId) -> Option<Halt> {
        self.halts().iter().find(|halt| halt.id == id).cloned()
    }

    fn halts(&self) -> MutexGuard<'_, VecDeque<Halt>> {
        self.halts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lifts the stop of an abort: the snapshot in force says the same, or speaks of another rollout.
    pub fn lift_halt(&self, id: RolloutId) {
        if self.halts().front().is_some_and(|halt| halt.id == id) {
            self.stop(HALTED, false);
        }
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

    /// What is known of an endpoint, made with this health when it is first asked for.
    pub fn endpoint(&self, arm: Arm, id: &str, first: Health) -> Arc<EndpointLive> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || Known { address: None, live: Arc::new(EndpointLive::new(self.cores.len(), first)) };
        Arc::clone(&endpoints.entry((arm, id.to_owned())).or_insert_with(made).live)
    }

    /// As [`Self::endpoint`], of one that is here: what was known of its id elsewhere says nothing of it.
    pub fn endpoint_at(&self, arm: Arm, id: &str, address: SocketAddr, first: Health) -> Arc<EndpointLive> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || Known { address: None, live: Arc::new(EndpointLive::new(self.cores.len(), first)) };
        let known = endpoints.entry((arm, id.to_owned())).or_insert_with(made);
        if known.address.is_some_and(|before| before != address) {
            *known = made();
        }
        known.address = Some(address);
        Arc::clone(&known.live)
    }

    /// The health of an endpoint, if it is known in that pool.
    pub fn health_of(&self, arm: Arm, id: &str) -> Option<Health> {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.get(&(arm, id.to_owned())).map(|known| known.live.health())
    }

    /// Ends the tunnels that are open through an endpoint of this service, within a moment.
    pub fn cut_tunnels(&self, endpoint: &EndpointLive) {
        endpoint.cut_tunnels();
        self.recalls.fetch_add(1, Ordering::SeqCst);
    }

    /// Forgets the endpoints for which this says no and which have nothing in flight.
    pub fn retain_endpoints(&self, keep: impl Fn(Arm, &str) -> bool) {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.retain(|(arm, id), known| keep(*arm, id) || known.live.in_flight() > 0);
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

    // === counting ===

    /// Counts how a request on this core ended, and the time to its response head.
    pub fn count(&self, core: usize, arm: Arm, ending: Ending, head: Option<Duration>) {
        let counters = self.cores[core].0.arms.get(arm);
        let class = match ending {
            Ending::Status(status) => usize::from(status / 100).clamp(1, 5) - 1,
            Ending::ClientGone => CLASSES - 1,
        };
        counters::add(&counters.by_class[class], 1);
        if let Some(time) = head {
            counters.latency.record(time);
        }
    }

    /// Counts, of the times given to [`Self::count`], one that says nothing of how soon an endpoint
    /// answers: a retry's, a long upload's, one that serin answered itself.
    pub fn count_untimed(&self, core: usize, head: Duration) {
        self.cores[core].0.untimed.record(head);
    }

    /// How soon endpoints answered, over both arms and all cores.
    pub fn timed(&self) -> HistogramSum {
        let (mut all, mut untimed) = (HistogramSum::default(), HistogramSum::default());
        for core in &self.cores {
            // What is counted last is summed first: so there are never more of these than of all.
            core.0.untimed.add_to(&mut untimed);
            Arm::BOTH.iter().for_each(|arm| core.0.arms.get(*arm).latency.add_to(&mut all));
        }
        all.since(&untimed)
    }

    /// From when on an answer to a request that begins now is slow; none while that isn't known.
    pub fn slow_threshold(&self, by: SlowThreshold) -> Option<Duration> {
        match by {
            SlowThreshold::Fixed(threshold) => Some(threshold),
            SlowThreshold::Learned => match self.learned_slow.load(Ordering::Relaxed) {
                0 => None,
                micros => Some(Duration::from_micros(micros)),
            },
        }
    }

    /// Says from when on an answer is slow, as learned.
    pub fn set_learned_slow(&self, threshold: Duration) {
        self.learned_slow.store(u64::try_from(threshold.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts a bad first attempt on this core.
    pub fn count_bad(&self, core: usize, arm: Arm, reason: BadReason) {
        counters::add(&self.cores[core].0.arms.get(arm).bad[reason as usize], 1);
    }

    /// Earns the retry budget of this core its share of one request: a fifth of a retry.
    pub fn earn_retry(&self, core: usize) {
        let debt = &self.cores[core].0.retry_debt;
        if debt.load(Ordering::Relaxed) > 0 {
            counters::sub(debt, 1);
        }
    }

    /// Takes one retry from the budget of this core and counts it, if there is one.
    pub fn take_retry(&self, core: usize) -> bool {
        let core = &self.cores[core].0;
        let granted = core.retry_debt.load(Ordering::Relaxed) + 5 <= RETRY_BUDGET_FIFTHS;
        if granted {
            counters::add(&core.retry_debt, 5);
            counters::add(&core.retries, 1);
        }
        granted
    }

    /// Retries so far.
    pub fn retries(&self) -> u64 {
        self.cores.iter().map(|core| core.0.retries.load(Ordering::Relaxed)).sum()
    }

    /// What its gates turned away.
    pub const fn gates(&self) -> &Gates {
        &self.gates
    }

    /// The requests that a flag turns away at a gate of this service.
    pub fn turned_away_by(&self, flag: &str) -> Arc<TurnedAway> {
        self.gates.of(flag, self.cores.len())
    }

    /// An arm's counters, summed over cores.
    pub fn totals(&self, arm: Arm) -> ArmTotals {
        let mut totals = ArmTotals::default();
        for core in &self.cores {
            let counters = core.0.arms.get(arm);
            for (sum, n) in totals.by_class.iter_mut().zip(&counters.by_class) {
                *sum += n.load(Ordering::Relaxed);
            }
            for (sum, n) in totals.bad.iter_mut().zip(&counters.bad) {
                *sum += n.load(Ordering::Relaxed);
            }
            counters.latency.add_to(&mut totals.latency);
        }
        totals
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
    fn retries_are_ten_at_once_and_then_one_in_five() {
        let service = ServiceLive::new("test", 1, Arc::default(), Arc::default());
        let granted = (0..100).filter(|_| service.take_retry(0)).count();
        assert_eq!(granted, 10);
        let mut later = 0;
        for _ in 0..100 {
            service.earn_retry(0);
            later += usize::from(service.take_retry(0));
        }
        assert_eq!((later, service.retries()), (20, 30));
    }

    #[test]
    fn an_id_that_moved_to_another_address_is_another_endpoint() {
        let service = ServiceLive::new("test", 1, Arc::default(), Arc::default());
        let at = |port: u16| service.endpoint_at(Arm::Stable, "web-1", ([127, 0, 0, 1], port).into(), Health::Unknown);
        at(1).set_health(Health::Up);
        assert_eq!(at(1).health(), Health::Up);
        assert_eq!(at(2).health(), Health::Unknown, "it is believed to be as healthy as the one before");
    }

    #[test]
    fn what_is_only_slow_has_not_failed() {
        let service = ServiceLive::new("test", 1, Arc::default(), Arc::default());
        for reason in BadReason::ALL {
            service.count_bad(0, Arm::Canary, reason);
        }
        assert_eq!(service.totals(Arm::Canary).bad_requests(), 10);
    }

    #[test]
    fn a_trip_latches_at_once_and_is_told_once() {
        let service = ServiceLive::new("test", 1, Arc::default(), Arc::default());
        let trip = || Trip {
            cause: crate::model::circuit::Cause::Person,
            reason: "no".into(),
            by: "ann".into(),
            at: crate::model::time::Timestamp::from_millis(1),
            weight_before: crate::model::weight::Weight::FULL,
            evidence: None,
        };
        assert!(service.trip(None, trip()) && service.is_open());
        assert!(!service.trip(None, trip()), "it was open already");
        assert_eq!((service.take_untold(), service.take_untold()), (true, false));
        service.merge_circuit(&Circuit::default());
        assert!(service.is_open(), "an empty store closed it");
    }
}
