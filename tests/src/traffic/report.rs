//! What users met: statuses, versions, failures, latencies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::client::{Failure, Reply};

/// What one user met.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Answers by the version of the stand-in that gave them.
    pub versions: BTreeMap<String, u64>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers of 200 with an error in their body.
    pub error_bodies: u64,
    /// Requests without a whole answer, by kind.
    pub failures: BTreeMap<&'static str, u64>,
    /// How long each request took from when it was due.
    pub latencies: Vec<Duration>,
}

impl Seen {
    /// Notes what became of a request.
    pub fn note(&mut self, reply: &Result<Reply, Failure>, latency: Duration) {
        self.latencies.push(latency);
        match reply {
            Ok(reply) => {
                *self.statuses.entry(reply.status).or_default() += 1;
                if let Some(version) = reply.version() {
                    *self.versions.entry(version.to_owned()).or_default() += 1;
                }
                if reply.status == 200 && reply.json().is_ok_and(|body| body.get("error").is_some()) {
                    self.error_bodies += 1;
                }
            }
            Err(failure) => *self.failures.entry(failure.kind()).or_default() += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        for (version, count) in &other.versions {
            *self.versions.entry(version.clone()).or_default() += count;
        }
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (kind, count) in &other.failures {
            *self.failures.entry(kind).or_default() += count;
        }
        self.error_bodies += other.error_bodies;
        self.latencies.extend(&other.latencies);
    }
}

/// What all users met.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By user.
    pub users: BTreeMap<u32, Seen>,
    /// Together; the latencies sorted.
    pub total: Seen,
    /// From the first request to when the last was sent.
    pub took: Duration,
}

impl Report {
    pub(super) fn of(seen: Vec<(u32, Seen)>, took: Duration) -> Self {
        let mut report = Self { took, ..Self::default() };
        for (user, seen) in seen {
            report.total.add(&seen);
            report.users.insert(user, seen);
        }
        report.total.latencies.sort();
        report
    }

    /// Requests sent.
    pub fn requests(&self) -> usize {
        self.total.latencies.len()
    }

    /// Answers with this status.
    pub fn status(&self, status: u16) -> u64 {
        self.total.statuses.get(&status).copied().unwrap_or_default()
    }

    /// Answers of 500 and above.
    pub fn server_errors(&self) -> u64 {
        self.total.statuses.range(500..).map(|(_, count)| count).sum()
    }

    /// Requests without a whole answer.
    pub fn failures(&self) -> u64 {
        self.total.failures.values().sum()
    }

    /// Users who met this version.
    pub fn users_on(&self, version: &str) -> BTreeSet<u32> {
        let on = self.users.iter().filter(|(_, seen)| seen.versions.contains_key(version));
        on.map(|(user, _)| *user).collect()
    }

    /// Users who met more than one version.
    pub fn users_who_switched(&self) -> BTreeSet<u32> {
        self.users.iter().filter(|(_, seen)| seen.versions.len() > 1).map(|(user, _)| *user).collect()
    }

    /// The latency below which this share (0 to 1) of requests stayed; zero if there were none.
    pub fn latency(&self, share: f64) -> Duration {
        let latencies = &self.total.latencies;
        #[expect(clippy::cast_possible_truncation, reason = "between 0 and the count")]
        let rank = (share.clamp(0.0, 1.0) * latencies.len() as f64).ceil() as usize;
        latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_ranked_over_all_users() {
        let seen = |millis: std::ops::Range<u64>| Seen {
            latencies: millis.rev().map(Duration::from_millis).collect(),
            ..Seen::default()
        };
        let report = Report::of(vec![(1, seen(51..101)), (2, seen(1..51))], Duration::ZERO);
        assert_eq!(report.latency(0.5), Duration::from_millis(50));
        assert_eq!(report.latency(0.99), Duration::from_millis(99));
        assert_eq!(report.latency(1.0), Duration::from_millis(100));
        assert_eq!(Report::default().latency(0.5), Duration::ZERO);
    }
}
