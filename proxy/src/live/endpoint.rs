//! What is known of one endpoint: is it healthy, how much is in flight, how many tunnels are open, how soon and how well
//! it answers.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::counters::{self, Padded};
use super::latency::Latency;
use super::turnstile::Slots;
use crate::model::balance::SlowStart;
use crate::model::balance::ejection::Tally;
pub use crate::model::health::Health;
use crate::model::time::Timestamp;
use crate::telemetry;

/// Facts on one endpoint; they outlive any snapshot.
#[derive(Debug)]
pub struct EndpointLive {
    /// What the probes say, and whether it is ejected: see [`UP`] and [`EJECTED`].
    state: AtomicU8,
    /// When its pool had its first endpoint.
    founded: Instant,
    /// When it came to take traffic, in microseconds since its pool was founded; 0 = it has long had its share.
    warms_since: AtomicU64,
    /// When it was first seen to drain, in milliseconds since the Unix epoch; 0 = it doesn't.
    drains_since: AtomicU64,
    /// How many times it was ejected.
    ejections: AtomicU64,
    /// The one at hand, for people.
    ejection: Mutex<Option<Ejection>>,
    /// When it was last seen to stop being up, in milliseconds since the Unix epoch; 0 = never.
    left_up: AtomicU64,
    /// How many times its tunnels were cut: see [`EndpointLive::cuts`].
    cuts: AtomicU64,
    /// Requests that take one of its slots, where it has so many: see `max_in_flight_per_endpoint`.
    pub slots: Padded<Slots>,
    cores: Box<[Padded<EndpointCore>]>,
}

/// An endpoint is left out for what it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// What that was, in words.
    pub why: String,
    /// When it comes back.
    pub until: Timestamp,
}

/// One core's counters of an endpoint.
#[derive(Debug, Default)]
pub struct EndpointCore {
    in_flight: AtomicU64,
    requests: AtomicU64,
    tunnels: AtomicU64,
    good: AtomicU64,
    failed: AtomicU64,
    latency: Latency,
}

/// The state of one that is up and not ejected.
const UP: u8 = 1;
const DOWN: u8 = 2;
/// A bit on top of what the probes say.
const EJECTED: u8 = 4;
/// In place of when it began to drain: long ago.
const SESSIONS_ENDED: u64 = 1;

impl EndpointLive {
    pub(super) fn new(cores: usize, health: Health, founded: Instant) -> Self {
        let live = Self {
            state: AtomicU8::new(0),
            founded,
            warms_since: AtomicU64::new(0),
            drains_since: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            ejection: Mutex::default(),
            left_up: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            slots: Padded::default(),
            cores: (0..cores).map(|_| Padded::default()).collect(),
        };
        live.set_health(health);
        live
    }

    /// What the probes say.
    pub fn health(&self) -> Health {
        match self.state.load(Ordering::Relaxed) & !EJECTED {
            UP => Health::Up,
            DOWN => Health::Down,
            _ => Health::Unknown,
        }
    }

    /// Whether it may take traffic, as far as probes and passive evidence go.
    pub fn is_usable(&self) -> bool {
        self.state.load(Ordering::Relaxed) == UP
    }

    /// Whether it was up at that instant or any time since.
    pub fn was_up_since(&self, instant: Timestamp) -> bool {
        self.health() == Health::Up || self.left_up.load(Ordering::Relaxed) >= instant.as_millis().max(1)
    }

    /// Says what the probes found.
    pub fn set_health(&self, health: Health) {
        let was_up = self.health() == Health::Up;
        if was_up && health != Health::Up {
            self.left_up.store(telemetry::now().as_millis(), Ordering::Relaxed);
        }
        if !was_up && health == Health::Up {
            self.warm_up();
        }
        let code = match health {
            Health::Unknown => 0,
            Health::Up => UP,
            Health::Down => DOWN,
        };
        // Another thread may eject it meanwhile.
        let changed =
            self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| Some(before & EJECTED | code));
        debug_assert!(changed.is_ok(), "every state has a next one");
    }

    // === ejection ===

    /// Whether it is left out for a while for what it failed.
    pub fn is_ejected(&self) -> bool {
        self.state.load(Ordering::Relaxed) & EJECTED != 0
    }

    /// Leaves it out until [`Self::readmit`].
    pub fn eject(&self, why: String, until: Timestamp) {
        *self.ejection.lock().unwrap_or_else(PoisonError::into_inner) = Some(Ejection { why, until });
        if self.state.fetch_or(EJECTED, Ordering::Relaxed) & EJECTED == 0 {
            self.ejections.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lets it take traffic again.
    pub fn readmit(&self) {
        if self.is_ejected() {
            self.warm_up();
            self.state.fetch_and(!EJECTED, Ordering::Relaxed);
            *self.ejection.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Why it is left out, and until when, if it is.
    pub fn ejection(&self) -> Option<Ejection> {
        self.ejection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many times it was ejected.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Notes on a core what became of an attempt with it.
    pub fn note_end(&self, core: usize, failed: bool) {
        let core = &self.cores[core].0;
        counters::add(if failed { &core.failed } else { &core.good }, 1);
    }

    /// What became of attempts with it, in services that eject.
    pub fn tally(&self) -> Tally {
        Tally { good: self.sum(|core| &core.good), failed: self.sum(|core| &core.failed) }
    }

    // === slow start ===

    /// From now on it comes to its share slowly, where the service says so.
    pub fn warm_up(&self) {
        let micros = u64::try_from(self.founded.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.warms_since.store(micros.max(1), Ordering::Relaxed);
    }

    /// The part of its share that it gets at this instant; none once that is all of it.
    ///
    /// Who came while its pool was younger than the window has all of its share: the pool as a whole had no traffic
    /// before that somebody could go on taking.
    pub fn warming(&self, slow: &SlowStart, now: Instant) -> Option<f64> {
        let since = Duration::from_micros(Some(self.warms_since.load(Ordering::Relaxed)).filter(|since| *since > 0)?);
        let age = now.saturating_duration_since(self.founded).saturating_sub(since);
        if since < slow.window || age >= slow.window {
            // Two cores may both say so, and one that just came anew may be taken for one that came long ago: once.
            self.warms_since.store(0, Ordering::Relaxed);
            return None;
        }
        Some(slow.share(age))
    }

    // === sessions of one that drains ===

    /// Says whether it drains.
    pub(super) fn set_draining(&self, draining: bool) {
        if draining != (self.drains_since.load(Ordering::Relaxed) > 0) {
            let since = if draining { telemetry::now().as_millis().max(1) } else { 0 };
            self.drains_since.store(since, Ordering::Relaxed);
            if !draining {
                self.warm_up();
            }
        }
    }

    /// Whether it has been draining for less than this, and its sessions weren't ended.
    pub fn keeps_sessions(&self, spell: Duration) -> bool {
        let since = Timestamp::from_millis(self.drains_since.load(Ordering::Relaxed));
        telemetry::now().since(since) < spell
    }

    /// From now on it gets no request of its sessions either, until it is made ready again.
    pub fn end_sessions(&self) {
        self.drains_since.store(SESSIONS_ENDED, Ordering::Relaxed);
    }

    // === how soon it answers ===

    /// Notes on a core how soon it answered, at an instant of the core's clock, both in microseconds.
    pub fn note_latency(&self, core: usize, micros: u64, at: u64, failed: bool) {
        let latency = &self.cores[core].0.latency;
        if failed { latency.note_failure(micros, at) } else { latency.note(micros, at) }
    }

    /// How soon it answers, as a core knows it at an instant of its clock, both in microseconds; 0 = not known.
    pub fn latency_on(&self, core: usize, at: u64) -> u64 {
        self.cores[core].0.latency.now(at)
    }

    // === counts ===

    fn sum(&self, counter: impl Fn(&EndpointCore) -> &AtomicU64) -> u64 {
        // A core may be read between its two stores: then the sum is one off, never wildly.
        self.cores.iter().map(|core| counter(&core.0).load(Ordering::Relaxed)).sum()
    }

    /// Requests and tunnels that are with the endpoint now.
    pub fn in_flight(&self) -> u64 {
        self.sum(|core| &core.in_flight)
    }

    /// Requests sent to it since it is known.
    pub fn requests(&self) -> u64 {
        self.sum(|core| &core.requests)
    }

    /// Tunnels through it that are open now.
    pub fn tunnels(&self) -> u64 {
        self.sum(|core| &core.tunnels)
    }

    /// Requests that it hasn't answered yet. A tunnel was answered when it opened.
    pub fn awaited(&self) -> u64 {
        self.in_flight().saturating_sub(self.tunnels())
    }

    /// Counts the times that its tunnels were cut: one that opened before the last of them is to end.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }

    pub(super) fn cut_tunnels(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes on a core that a request went to the endpoint.
    pub fn begin(&self, core: usize) {
        let core = &self.cores[core].0;
        counters::add(&core.in_flight, 1);
        counters::add(&core.requests, 1);
    }

    /// Notes on the same core that the request is done with the endpoint.
    pub fn end(&self, core: usize) {
        counters::sub(&self.cores[core].0.in_flight, 1);
    }

    /// Notes on a core that a request which is with the endpoint became a tunnel. It stays in flight.
    pub fn begin_tunnel(&self, core: usize) {
        counters::add(&self.cores[core].0.tunnels, 1);
    }

    /// Notes on the same core that the tunnel has ended, and with it what the request had begun.
    pub fn end_tunnel(&self, core: usize) {
        counters::sub(&self.cores[core].0.tunnels, 1);
        self.end(core);
    }

    /// How many of this core's own requests are with the endpoint: what a pick compares.
    pub fn in_flight_on(&self, core: usize) -> u64 {
        self.cores[core].0.in_flight.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_endpoint_that_went_down_was_up_until_then() {
        let endpoint = EndpointLive::new(1, Health::Unknown, Instant::now());
        let start = telemetry::now();
        endpoint.set_health(Health::Down);
        assert!(!endpoint.was_up_since(start), "it never was up");
        endpoint.set_health(Health::Up);
        assert!(endpoint.was_up_since(start));
        endpoint.set_health(Health::Down);
        assert!(endpoint.was_up_since(start));
        assert!(!endpoint.was_up_since(telemetry::now() + Duration::from_secs(1)));
    }

    #[test]
    fn a_tunnel_is_in_flight_and_yet_answered() {
        let endpoint = EndpointLive::new(2, Health::Up, Instant::now());
        endpoint.begin(0);
        endpoint.begin(1);
        endpoint.begin_tunnel(1);
        assert_eq!((endpoint.in_flight(), endpoint.tunnels(), endpoint.awaited()), (2, 1, 1));
        endpoint.end_tunnel(1);
        assert_eq!((endpoint.in_flight(), endpoint.tunnels(), endpoint.awaited()), (1, 0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_to_a_pool_that_serves_warms_up_and_who_founds_it_does_not() {
        let slow = SlowStart { window: Duration::from_secs(10), aggression: 1.0 };
        let founded = Instant::now();
        let at = async |seconds| {
            tokio::time::sleep_until(founded + Duration::from_secs(seconds)).await;
            Instant::now()
        };
        let (founder, late) =
            (EndpointLive::new(1, Health::Unknown, founded), EndpointLive::new(1, Health::Unknown, founded));
        founder.set_health(Health::Up);
        assert_eq!(founder.warming(&slow, at(1).await), None);
        at(20).await;
        late.set_health(Health::Up);
        assert_eq!(late.warming(&slow, at(25).await), Some(0.5));
        late.set_health(Health::Up);
        assert_eq!(late.warming(&slow, at(29).await), Some(0.9), "it didn't come anew");
        assert_eq!(late.warming(&slow, at(30).await), None);
        // then who recovers, comes back from an ejection or from a drain warms up again
        founder.set_health(Health::Down);
        founder.set_health(Health::Up);
        assert_eq!(founder.warming(&slow, at(35).await), Some(0.5));
        founder.eject(String::new(), telemetry::now());
        founder.readmit();
        assert_eq!(founder.warming(&slow, at(37).await), Some(0.2));
        founder.set_draining(true);
        founder.set_draining(false);
        assert_eq!(founder.warming(&slow, at(40).await), Some(0.3));
        assert_eq!(late.warming(&slow, at(40).await), None);
    }

    #[test]
    fn probes_and_ejections_do_not_undo_each_other() {
        let endpoint = EndpointLive::new(1, Health::Up, Instant::now());
        endpoint.eject(String::new(), telemetry::now());
        endpoint.eject(String::new(), telemetry::now());
        endpoint.set_health(Health::Down);
        endpoint.set_health(Health::Up);
        assert!(endpoint.is_ejected() && !endpoint.is_usable() && endpoint.health() == Health::Up);
        endpoint.set_health(Health::Down);
        endpoint.readmit();
        assert!(!endpoint.is_usable() && endpoint.health() == Health::Down);
        endpoint.set_health(Health::Up);
        assert!(endpoint.is_usable());
        assert_eq!(endpoint.ejections(), 1);
    }

    #[test]
    fn one_that_drains_keeps_its_sessions_for_a_while_unless_they_are_ended() {
        let at = |millis| telemetry::simulated::set_clock(Some(Timestamp::from_millis(millis)));
        let spell = Duration::from_secs(30);
        let endpoint = EndpointLive::new(1, Health::Up, Instant::now());
        at(1_000_000);
        endpoint.set_draining(true);
        assert!(endpoint.keeps_sessions(spell));
        at(1_029_000);
        endpoint.set_draining(true);
        assert!(endpoint.keeps_sessions(spell));
        at(1_030_000);
        assert!(!endpoint.keeps_sessions(spell), "it was seen draining twice, but began once");
        endpoint.set_draining(false);
        endpoint.set_draining(true);
        assert!(endpoint.keeps_sessions(spell));
        endpoint.end_sessions();
        endpoint.set_draining(true);
        assert!(!endpoint.keeps_sessions(spell));
        telemetry::simulated::set_clock(None);
    }
}
