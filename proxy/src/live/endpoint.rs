//! What is known of one endpoint: is it healthy, how much is in flight.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::counters::{self, Padded};
pub use crate::model::health::Health;
use crate::model::time::Timestamp;
use crate::telemetry;

/// Facts on one endpoint; they outlive any snapshot.
#[derive(Debug)]
pub struct EndpointLive {
    health: AtomicU8,
    /// When it was last seen to stop being up, in milliseconds since the Unix epoch; 0 = never.
    left_up: AtomicU64,
    cores: Box<[Padded<EndpointCore>]>,
}

/// One core's counters of an endpoint.
#[derive(Debug, Default)]
pub struct EndpointCore {
    in_flight: AtomicU64,
    requests: AtomicU64,
}

impl EndpointLive {
    pub(super) fn new(cores: usize, health: Health) -> Self {
        let live = Self {
            health: AtomicU8::new(0),
            left_up: AtomicU64::new(0),
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

    /// Requests that are with the endpoint now.
    pub fn in_flight(&self) -> u64 {
        // A core may be read between its two stores: then the sum is one off, never wildly.
        self.cores.iter().map(|core| core.0.in_flight.load(Ordering::Relaxed)).sum()
    }

    /// Requests sent to it since it is known.
    pub fn requests(&self) -> u64 {
        self.cores.iter().map(|core| core.0.requests.load(Ordering::Relaxed)).sum()
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
}
