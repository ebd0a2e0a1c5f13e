//! Predefined alert rules: a metric, a threshold, and how long it must hold.
//!
//! A rule is a small state machine over samples. It fires once when its
//! condition has held for its whole time, and resolves once when it no longer holds.

use std::time::Duration;

use super::time::Timestamp;

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertMetric {
    /// The share of bad responses among all, 0 to 1, both arms together.
    ErrorRatio,
    /// The 95th percentile of the time to the response head, in seconds.
    P95,
    /// Endpoints that are ready, both pools together.
    ReadyEndpoints,
}

/// Which side of the threshold is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition {
    /// Fires above it.
    Above(f64),
    /// Fires below it.
    Below(f64),
}

/// A rule as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {
    /// What it looks at.
    pub metric: AlertMetric,
    /// What is wrong.
    pub condition: Condition,
    /// How long it must be wrong without a break.
    pub hold: Duration,
}

/// Where a rule stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuleState {
    /// All is well.
    #[default]
    Quiet,
    /// Wrong since then, not yet for long enough.
    Pending(Timestamp),
    /// Firing since then.
    Firing(Timestamp),
}

/// What somebody should be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleNews {
    /// The rule began to fire.
    Fires,
    /// The rule fires no more.
    Resolves,
}

impl AlertMetric {
    /// Its name in the configuration, in labels and in mails.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ErrorRatio => "error_ratio",
            Self::P95 => "p95",
            Self::ReadyEndpoints => "ready_endpoints",
        }
    }
}

impl Condition {
    /// Whether a value is wrong.
    pub fn is_wrong(self, value: f64) -> bool {
        match self {
            Self::Above(limit) => value > limit,
            Self::Below(limit) => value < limit,
        }
    }
}

impl RuleSpec {
    /// Takes one sample: the new state, and what to tell. No value (no traffic in the
    /// window) is no news: the rule stays where it is.
    pub fn step(&self, state: RuleState, value: Option<f64>, now: Timestamp) -> (RuleState, Option<RuleNews>) {
        let Some(value) = value else { return (state, None) };
        match (state, self.condition.is_wrong(value)) {
            (RuleState::Firing(_), true) => (state, None),
            (RuleState::Firing(_), false) => (RuleState::Quiet, Some(RuleNews::Resolves)),
            (_, false) => (RuleState::Quiet, None),
            (_, true) => {
                let since = match state {
                    RuleState::Pending(since) => since,
                    _ => now,
                };
                if now.since(since) >= self.hold {
                    (RuleState::Firing(now), Some(RuleNews::Fires))
                } else {
                    (RuleState::Pending(since), None)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: RuleSpec =
        RuleSpec { metric: AlertMetric::ErrorRatio, condition: Condition::Above(0.05), hold: Duration::from_secs(60) };

    fn play(samples: &[(u64, Option<f64>)]) -> Vec<(u64, RuleNews)> {
        let mut state = RuleState::default();
        let mut told = Vec::new();
        for (second, value) in samples {
            let (next, news) = RULE.step(state, *value, Timestamp::from_millis(second * 1_000));
            state = next;
            told.extend(news.map(|news| (*second, news)));
        }
        told
    }

    #[test]
    fn it_fires_once_after_its_time_and_resolves_once() {
        let told = play(&[
            (0, Some(0.2)),
            (59, Some(0.2)),
            (60, Some(0.2)),
            (90, Some(0.2)),
            (91, Some(0.0)),
            (92, Some(0.0)),
        ]);
        assert_eq!(told, [(60, RuleNews::Fires), (91, RuleNews::Resolves)]);
    }

    #[test]
    fn a_break_starts_the_time_anew() {
        let told = play(&[(0, Some(0.2)), (30, Some(0.0)), (31, Some(0.2)), (80, Some(0.2)), (91, Some(0.2))]);
        assert_eq!(told, [(91, RuleNews::Fires)]);
    }

    #[test]
    fn silence_neither_fires_nor_resolves() {
        assert_eq!(play(&[(0, None), (100, None)]), []);
        assert_eq!(play(&[(0, Some(0.2)), (60, Some(0.2)), (70, None)]), [(60, RuleNews::Fires)]);
    }
}
