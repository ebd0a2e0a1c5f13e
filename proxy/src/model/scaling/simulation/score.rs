//! What a run came to: who waited too long, what it cost, and how often the size turned.

use super::{Second, WorldSpec};

/// One change of the size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub second: u64,
    /// The size before.
    pub from: u32,
    /// The size asked for.
    pub to: u32,
    /// Why, in words.
    pub why: String,
}

/// A second as a plot shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Requests that came.
    pub arrived: f64,
    /// Instances that served.
    pub ready: u32,
    /// Instances that are paid for.
    pub total: u32,
    /// Whether answers took too long.
    pub violated: bool,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Every second.
    pub moments: Vec<Moment>,
    /// Every change of the size.
    pub steps: Vec<Step>,
    violated: f64,
    paid: u64,
}

impl Outcome {
    pub(super) fn note(&mut self, second: &Second, spec: &WorldSpec) {
        let violated = second.latency > spec.slo;
        let Second { arrived, ready, total, .. } = *second;
        self.moments.push(Moment { arrived, ready, total, violated });
        self.violated += if violated { arrived } else { 0.0 };
        self.paid += u64::from(total);
    }

    /// How much was answered too late: requests a second, times the minutes for which they were.
    pub fn violating_request_minutes(&self) -> f64 {
        self.violated / 60.0
    }

    /// What was paid for.
    pub fn instance_hours(&self) -> f64 {
        self.paid as f64 / 3600.0
    }

    /// The largest size.
    pub fn peak(&self) -> u32 {
        self.moments.iter().map(|moment| moment.total).max().unwrap_or(0)
    }

    /// When a step went against the one before it.
    pub fn reversals(&self) -> Vec<u64> {
        let pairs = self.steps.windows(2);
        let turned = pairs.filter(|pair| (pair[0].to > pair[0].from) != (pair[1].to > pair[1].from));
        turned.map(|pair| pair[1].second).collect()
    }

    /// The most reversals in any stretch of so many seconds.
    pub fn most_reversals_within(&self, seconds: u64) -> usize {
        let turns = self.reversals();
        let from = |at: u64| turns.iter().filter(|turn| (at..at + seconds).contains(turn)).count();
        turns.iter().map(|at| from(*at)).max().unwrap_or(0)
    }
}
