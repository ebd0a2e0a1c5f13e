//! Target tracking as Amazon EC2 Auto Scaling's documentation describes it, with its usual alarms and defaults.
//!
//! Data points of a minute. Three in a row above the target raise the alarm to grow, fifteen in a row below nine tenths
//! of it the one to shrink; the size then follows in proportion. New instances warm up for 300 s: until then they aren't
//! measured, count as there when it grows, and keep it from shrinking.

use std::collections::VecDeque;

use super::super::spec::whole;
use super::{Gauge, Scaler, Sight, last};

const PERIOD: u64 = 60;
const HIGH_POINTS: usize = 3;
const LOW_POINTS: usize = 15;
const LOW: f64 = 0.9;
const WARM_UP: u64 = 300;

/// The policy and its data points.
#[derive(Debug)]
pub struct TargetTracking {
    gauge: Gauge,
    target: f64,
    bounds: (u32, u32),
    /// The last data points, the latest first.
    points: VecDeque<f64>,
}

impl TargetTracking {
    /// One that keeps a gauge on target, between bounds.
    pub const fn new(gauge: Gauge, target: f64, min: u32, max: u32) -> Self {
        Self { gauge, target, bounds: (min, max), points: VecDeque::new() }
    }

    fn alarm(&self, count: usize, breaches: impl Fn(f64) -> bool) -> bool {
        self.points.len() >= count && self.points.iter().take(count).all(|point| breaches(*point))
    }
}

impl Scaler for TargetTracking {
    fn look(&mut self, sight: &Sight<'_>) -> Option<(u32, String)> {
        if !sight.now.is_multiple_of(PERIOD) {
            return None;
        }
        let point = self.gauge.average(last(sight.past, usize::try_from(PERIOD).unwrap_or(0)))?;
        self.points.push_front(point);
        self.points.truncate(LOW_POINTS);
        let size = sight.size();
        // Instances that were there from the first second have warmed up before it.
        let new = |at: &&u64| **at > 0 && sight.now - **at < WARM_UP;
        let warming = sight.pending + u32::try_from(sight.ready_since.iter().filter(new).count()).unwrap_or(u32::MAX);
        let measured = size - warming.min(size);
        let proportional = whole(f64::from(measured) * point / self.target);
        let next = if self.alarm(HIGH_POINTS, |point| point > self.target) {
            proportional.max(size)
        } else if warming == 0 && self.alarm(LOW_POINTS, |point| point < LOW * self.target) {
            proportional.min(size)
        } else {
            size
        };
        let next = next.clamp(self.bounds.0, self.bounds.1);
        (next != size).then(|| (next, format!("an alarm at {point:.2}")))
    }
}
