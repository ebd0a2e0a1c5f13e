//! Healthy or not: findings of active checks in a row, and what follows from them.

use super::spec::HealthSpec;

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
    use std::time::Duration;

    use super::*;
    use crate::model::spec::{ProbeAsk, StatusSet};

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
