//! Healthy or not: what active checks ask, their findings in a row, and what follows from these.

use std::time::Duration;

use http::Method;
use http::header::{HeaderName, HeaderValue};

use super::spec::StatusSet;

/// What active checks say of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not checked to a conclusion yet: gets no traffic.
    Unknown,
    /// May take traffic. Endpoints without a `[health]` table always are.
    Up,
    /// Gets no traffic.
    Down,
}

/// How endpoints are probed.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthSpec {
    /// The path asked for.
    pub path: String,
    /// How it is asked for.
    pub ask: ProbeAsk,
    /// Statuses that mean healthy.
    pub expect_status: StatusSet,
    /// Text that a healthy body holds in its first 64 KiB.
    pub expect_body: Option<String>,
    /// The time between two probes.
    pub interval: Duration,
    /// The same while the endpoint is down.
    pub down_interval: Duration,
    /// How long one probe may take.
    pub timeout: Duration,
    /// Good probes in a row until an endpoint is ready.
    pub rise: u32,
    /// Bad probes in a row until it is down.
    pub fall: u32,
}

/// What a probe asks with, beside its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAsk {
    /// The method.
    pub method: Method,
    /// Headers beside those that any probe has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; none = no body.
    pub body: Option<String>,
    /// Whether cookies that the endpoint sets for a probe come back with the next one, so that not each begins a session.
    pub cookies: bool,
}

impl Default for ProbeAsk {
    /// A GET that brings cookies back.
    fn default() -> Self {
        Self { method: Method::GET, headers: vec![], body: None, cookies: true }
    }
}

/// Equal findings in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streak {
    good: u32,
    bad: u32,
}

impl Streak {
    /// The health after one more finding. The first good one of an unknown endpoint is enough.
    pub const fn after(&mut self, before: Health, good: bool, spec: &HealthSpec) -> Health {
        (self.good, self.bad) = if good { (self.good.saturating_add(1), 0) } else { (0, self.bad.saturating_add(1)) };
        match before {
            Health::Unknown if good => Health::Up,
            Health::Down if self.good >= spec.rise => Health::Up,
            Health::Unknown | Health::Up if self.bad >= spec.fall => Health::Down,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_rises_and_falls_by_findings_in_a_row() {
        let spec = HealthSpec {
            path: "/".into(),
            ask: ProbeAsk::default(),
            expect_status: StatusSet::EMPTY,
            expect_body: None,
            interval: Duration::from_secs(5),
            down_interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        };
        let mut streak = Streak::default();
        let mut health = Health::Unknown;
        let mut seen = String::new();
        for good in "+--+---+-++".chars().map(|mark| mark == '+') {
            health = streak.after(health, good, &spec);
            seen.push(if health == Health::Up { 'u' } else { 'd' });
        }
        assert_eq!(seen, "uuuuuuddddu");
    }
}
