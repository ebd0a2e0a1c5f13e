//! Kubernetes' Horizontal Pod Autoscaler, as its documentation describes `autoscaling/v2` with its defaults.
//!
//! Every 15 s: desired = ⌈size × measured / target⌉, unless within a tenth of the target; pods that aren't ready count
//! as using nothing when that would grow; it grows by the larger of 4 pods and 100 % in 15 s, and shrinks to the largest
//! size that it wanted in the last 5 minutes.

use std::collections::VecDeque;

use super::super::spec::whole;
use super::{Gauge, Scaler, Sight, last};

/// The sync period, and the resolution of the metrics it reads.
const SYNC: u64 = 15;
/// What it reads is at least so old: it syncs in the middle between two scrapes.
const AGE: u64 = 7;
const TOLERANCE: f64 = 0.1;
const STABILISATION: u64 = 300;
const MOST_PODS: u32 = 4;

/// The autoscaler and what it remembers.
#[derive(Debug)]
pub struct Hpa {
    gauge: Gauge,
    target: f64,
    bounds: (u32, u32),
    /// What it wanted, and when.
    wanted: VecDeque<(u64, u32)>,
}

impl Hpa {
    /// One that keeps a gauge on target, between bounds.
    pub const fn new(gauge: Gauge, target: f64, min: u32, max: u32) -> Self {
        Self { gauge, target, bounds: (min, max), wanted: VecDeque::new() }
    }

    /// What the formula says.
    fn formula(&self, sight: &Sight<'_>) -> Option<u32> {
        let past = &sight.past[..sight.past.len().saturating_sub(usize::try_from(AGE).unwrap_or(0))];
        let measured = self.gauge.average(last(past, usize::try_from(SYNC).unwrap_or(0)))?;
        let size = sight.size();
        // A pod is measured once it has been ready for a whole window.
        let unready = sight.pending + sight.younger_than(SYNC);
        let ready = size - unready;
        let ratio = measured / self.target;
        if (ratio - 1.0).abs() <= TOLERANCE {
            return Some(size);
        }
        if unready == 0 || ratio < 1.0 {
            return Some(whole(ratio * f64::from(ready)));
        }
        let with_unready = ratio * f64::from(ready) / f64::from(size);
        let within = with_unready < 1.0 || (with_unready - 1.0).abs() <= TOLERANCE;
        Some(if within { size } else { whole(with_unready * f64::from(size)) })
    }
}

impl Scaler for Hpa {
    fn look(&mut self, sight: &Sight<'_>) -> Option<(u32, String)> {
        if sight.now % SYNC != AGE {
            return None;
        }
        let size = sight.size();
        // Without a metric it does nothing.
        let desired = self.formula(sight)?;
        self.wanted.push_back((sight.now, desired));
        while self.wanted.front().is_some_and(|(at, _)| sight.now - at > STABILISATION) {
            self.wanted.pop_front();
        }
        let largest = self.wanted.iter().map(|(_, wanted)| *wanted).max().unwrap_or(desired);
        let stable = if desired > size { desired } else { largest.min(size) };
        let fastest = size.saturating_add(size.max(MOST_PODS));
        let next = stable.min(fastest).clamp(self.bounds.0, self.bounds.1);
        (next != size).then(|| (next, format!("the formula says {desired}")))
    }
}
