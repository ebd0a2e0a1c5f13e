//! A service in arithmetic: instances that start slowly, serve so much, and queue what is more.

use super::{Chance, Load};

/// Beyond this share of its capacity an instance isn't asked how much slower it gets: there is a queue by then.
const FULL: f64 = 0.99;
/// How steeply answers slow down towards saturation: many that serve from one queue feel it late.
const STEEP: i32 = 8;
/// A leak leaves an instance so much of its capacity.
const LEAK_LEAVES: f64 = 0.4;

/// What a service and its surroundings are like.
#[derive(Clone, Copy, Debug)]
pub struct WorldSpec {
    /// Requests a second that one instance can serve.
    pub capacity: f64,
    /// Seconds that one request takes on an idle instance.
    pub service_time: f64,
    /// Seconds that an answer may take.
    pub slo: f64,
    /// Seconds after which a client goes away.
    pub patience: f64,
    /// Seconds from the wish for an instance to its first request.
    pub start: f64,
    /// The share of wishes for instances that fail, with nothing started.
    pub failing: f64,
    /// Instances at the beginning.
    pub initial: u32,
}

/// What happened in one second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Second {
    /// Requests that came.
    pub arrived: f64,
    /// Instances that served.
    pub ready: u32,
    /// Instances that are paid for.
    pub total: u32,
    /// The share of its capacity that each used.
    pub cpu: f64,
    /// Requests under way, per instance that served.
    pub in_flight: f64,
    /// Seconds that an answer took.
    pub latency: f64,
}

/// What a scaler may know.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The second.
    pub now: u64,
    /// Every second so far, the last one being the latest.
    pub past: &'a [Second],
    /// Since when each ready instance is ready.
    pub ready_since: &'a [u64],
    /// Instances that aren't ready yet.
    pub pending: u32,
    /// Whether a canary is being compared.
    pub rollout: bool,
}

impl Sight<'_> {
    /// All instances, as a size that is asked for counts them.
    pub fn size(&self) -> u32 {
        count(self.ready_since).saturating_add(self.pending)
    }

    /// The ready instances that aren't ready for so long.
    pub(super) fn younger_than(&self, seconds: u64) -> u32 {
        let young = self.ready_since.iter().filter(|since| self.now.saturating_sub(**since) < seconds);
        u32::try_from(young.count()).unwrap_or(u32::MAX)
    }
}

fn count<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

/// A service, its instances and its queue.
#[derive(Debug)]
pub struct World {
    spec: WorldSpec,
    past: Vec<Second>,
    /// When each became ready, or will; the oldest first.
    ready_at: Vec<u64>,
    /// Those of them that are ready.
    ready_since: Vec<u64>,
    backlog: f64,
    rollout: bool,
}

impl World {
    /// A service before its first second.
    pub fn new(spec: &WorldSpec) -> Self {
        let ready_at = vec![0; usize::try_from(spec.initial).unwrap_or(usize::MAX)];
        Self { spec: *spec, past: Vec::new(), ready_since: ready_at.clone(), ready_at, backlog: 0.0, rollout: false }
    }

    /// The second that comes next.
    pub fn now(&self) -> u64 {
        self.past.len() as u64
    }

    /// All instances, ready or starting.
    pub fn size(&self) -> u32 {
        count(&self.ready_at)
    }

    /// What a scaler may know now.
    pub fn sight(&self) -> Sight<'_> {
        let pending = self.size() - count(&self.ready_since);
        Sight { now: self.now(), past: &self.past, ready_since: &self.ready_since, pending, rollout: self.rollout }
    }

    /// Lets one second pass.
    pub fn pass(&mut self, load: &Load, chance: Chance<'_>) -> Second {
        let now = self.now();
        self.ready_since = self.ready_at.iter().copied().filter(|at| *at <= now).collect();
        self.rollout = load.rollout;
        let full: f64 = self.ready_since.iter().map(|since| self.capacity_of(now - since, load.leak)).sum();
        let arrived = load.rate * load.share * (1.0 + 0.02 * (chance() - 0.5));
        let work = self.backlog + arrived;
        let used = if full > 0.0 { (work / full).min(1.0) } else { 1.0 };
        self.backlog = (work - full).clamp(0.0, full * self.spec.patience);
        let latency = if full > 0.0 {
            let near = (arrived / full).min(FULL);
            let slower = 1.0 + near.powi(STEEP) / (1.0 - near);
            // An instance that can serve less takes longer for each.
            let tired = self.spec.capacity * f64::from(count(&self.ready_since)) / full;
            (self.spec.service_time * tired * slower + self.backlog / full).min(self.spec.patience)
        } else {
            self.spec.patience
        };
        let ready = count(&self.ready_since);
        let in_flight = arrived * latency / f64::from(ready.max(1));
        let second = Second { arrived, ready, total: self.size(), cpu: used, in_flight, latency };
        self.past.push(second);
        second
    }

    fn capacity_of(&self, age: u64, leak: f64) -> f64 {
        self.spec.capacity * (1.0 - leak * age as f64 / 3600.0).max(LEAK_LEAVES)
    }

    /// Asks the driver for a size. A wish for more may fail; the newest go first.
    pub fn ask(&mut self, size: u32, chance: Chance<'_>) {
        let wished = usize::try_from(size).unwrap_or(usize::MAX);
        if wished < self.ready_at.len() {
            self.ready_at.sort_unstable();
            self.ready_at.truncate(wished);
            let now = self.now();
            self.ready_since = self.ready_at.iter().copied().filter(|at| *at < now).collect();
        } else if chance() >= self.spec.failing {
            while self.ready_at.len() < wished {
                // Some start faster than others: up to a fifth to either side.
                let takes = self.spec.start * (0.8 + 0.4 * chance());
                self.ready_at.push(self.now() + seconds(takes));
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn seconds(span: f64) -> u64 {
    span.round() as u64
}
