//! What is known of one endpoint: is it healthy, how much is in flight, how many tunnels are open.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::counters::{self, Padded};
use super::turnstile::Slots;
pub use crate::model::health::Health;
use crate::model::time::Timestamp;
use crate::telemetry;

/// Facts on one endpoint; they outlive any snapshot.
#[derive(Debug)]
pub struct EndpointLive {
    health: AtomicU8,
    /// When it was last seen to stop being up, in milliseconds since the Unix epoch; 0 = never.
    left_up: AtomicU64,
    /// How many times its tunnels were cut: see [`EndpointLive::cuts`].
    cuts: AtomicU64,
    /// Requests that take one of its slots, where it has so many: see `max_in_flight_per_endpoint`.
    pub slots: Padded<Slots>,
    cores: Box<[Padded<EndpointCore>]>,
}

/// One core's counters of an endpoint.
#[derive(Debug, Default)]
pub struct EndpointCore {
    in_flight: AtomicU64,
    requests: AtomicU64,
    tunnels: AtomicU64,
}

impl EndpointLive {
    pub(super) fn new(cores: usize, health: Health) -> Self {
        let live = Self {
            health: AtomicU8::new(0),
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
        match self.health.load(Ordering::Relaxed) {
            1 => Health::Up,
            2 => Health::Down,
            _ => Health::Unknown,
        }
    }

    /// Whether it was up at that instant or any time since.
    pub fn was_up_since(&self, instant: Timestamp) -> bool {
        self.health() == Health::Up || self.left_up.load(Ordering::Relaxed) >= instant.as_millis().max(1)
    }

    /// Says what the probes found.
    pub fn set_health(&self, health: Health) {
        if self.health() == Health::Up && health != Health::Up {
            self.left_up.store(telemetry::now().as_millis(), Ordering::Relaxed);
        }
        let code = match health {
            Health::Unknown => 0,
            Health::Up => 1,
            Health::Down => 2,
        };
        self.health.store(code, Ordering::Relaxed);
    }

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
        let endpoint = EndpointLive::new(1, Health::Unknown);
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
        let endpoint = EndpointLive::new(2, Health::Up);
        endpoint.begin(0);
        endpoint.begin(1);
        endpoint.begin_tunnel(1);
        assert_eq!((endpoint.in_flight(), endpoint.tunnels(), endpoint.awaited()), (2, 1, 1));
        endpoint.end_tunnel(1);
        assert_eq!((endpoint.in_flight(), endpoint.tunnels(), endpoint.awaited()), (1, 0, 1));
    }
}
