//! What the configuration asks for: rules, bounds and pace.

use std::time::Duration;

use super::super::rollout::freeze::Freeze;
use super::super::time::Timestamp;
use super::driver::DriverSpec;

/// A pool of more instances is a slip of the keyboard.
pub const MOST_INSTANCES: u32 = 10_000;

/// How the size of a service's stable pool follows its load.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingSpec {
    /// Never fewer.
    pub min: u32,
    /// Never more: no decision, no person and no fault asks for more than this.
    pub max: u32,
    /// What the size follows; the largest wish counts.
    pub rules: Vec<RuleSpec>,
    /// Other bounds at certain times.
    pub schedules: Vec<Schedule>,
    /// How fast the size may change.
    pub pace: Pace,
    /// The most instances started in any hour; none = no limit but `max`.
    pub starts_per_hour: Option<u32>,
    /// What may happen while a canary gets traffic.
    pub in_rollout: InRollout,
    /// Times when nothing is changed.
    pub freeze: Vec<Freeze>,
    /// Decide and tell, but do nothing.
    pub dry_run: bool,
    /// Where Prometheus is asked, for rules with a query.
    pub prometheus: String,
    /// What starts and stops instances; none = decide and tell, but do nothing.
    pub driver: Option<DriverSpec>,
}

/// What may happen to the size while a rollout goes on or a canary gets traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InRollout {
    /// Nothing: what the canary is compared with stays as it is.
    #[default]
    Hold,
    /// Instances are added and none is taken away.
    Grow,
}

/// How fast the size may change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// A rule that is off its target by no more than this share is on target.
    pub deadband: f64,
    /// For so long instances are new: rules that can't count them in advance wait to see their help.
    pub warm_up: Duration,
    /// After instances were added none is taken away for so long; after some were taken away, adding takes twice the
    /// deadband for so long.
    pub cooldown: Duration,
    /// Grows to the smallest wish in so long a time.
    pub grow_after: Duration,
    /// Shrinks to the largest wish in so long a time.
    pub shrink_after: Duration,
    /// The most added in one step.
    pub max_grow: Stride,
    /// The most taken away in one step.
    pub max_shrink: Stride,
}

impl Default for Pace {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            deadband: 0.05,
            warm_up: minutes(1),
            cooldown: minutes(5),
            grow_after: Duration::ZERO,
            shrink_after: minutes(3),
            max_grow: Stride::Share(1.0),
            max_shrink: Stride::Share(0.5),
        }
    }
}

/// A number of instances, or a share of those there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stride {
    /// So many.
    Count(u32),
    /// So large a share of the pool, and at least one.
    Share(f64),
}

impl Stride {
    /// How many that is for a pool of this size.
    pub fn of(self, size: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Share(share) => whole(f64::from(size) * share).max(1),
        }
    }
}

/// The smallest whole number that isn't below a value; a hair above a whole number is that number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, and NaN becomes zero")]
pub(super) fn whole(value: f64) -> u32 {
    (value - 1e-9).ceil() as u32
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {
    /// What is looked at.
    pub measure: Measure,
    /// What it should be.
    pub want: Want,
}

impl RuleSpec {
    /// What it is called in explanations and labels.
    pub fn name(&self) -> &str {
        match &self.measure {
            Measure::Own(metric) => metric.name(),
            Measure::Query { name, .. } => name,
        }
    }
}

/// What a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// What this proxy sees of the pool by itself.
    Own(Metric),
    /// What Prometheus answers: one number, the average over the pool's instances.
    Query {
        /// What it is called.
        name: String,
        /// The query.
        query: String,
    },
}

/// What a proxy sees of a pool by itself. Each is an average over the last look, and one figure for the whole fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Requests under way, per ready endpoint.
    InFlight,
    /// Requests a second, per ready endpoint.
    Requests,
    /// The 95th percentile of the time to the response head, in seconds.
    P95,
    /// The 95th percentile of the time that requests wait for room at the service, in seconds.
    QueueWait,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::InFlight, Self::Requests, Self::P95, Self::QueueWait];

    /// Its name in the configuration, in explanations and in labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Requests => "requests",
            Self::P95 => "p95",
            Self::QueueWait => "queue_wait",
        }
    }

    /// Whether it is a time: of that each instance has all, not its part.
    pub const fn is_time(self) -> bool {
        matches!(self, Self::P95 | Self::QueueWait)
    }
}

/// What a rule wants of what it looks at.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// So much per instance: the size follows in proportion.
    Target {
        /// So much.
        value: f64,
        /// Grows already for the load that the last minutes promise after so long; zero = for the load there is.
        forecast: Duration,
        /// Grows already for what came a week ago, so long ahead that it has warmed up by then. Of loads alone.
        last_week: bool,
    },
    /// Steps when a threshold is crossed.
    Step(Threshold),
}

/// A rule by threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// Above this the pool grows.
    pub above: f64,
    /// By so many.
    pub add: Stride,
    /// Below this others may shrink the pool; between the two it stays. None = below `above`.
    pub below: Option<f64>,
    /// By so many this rule itself shrinks the pool below `below`; none = it leaves that to others.
    pub remove: Option<Stride>,
    /// How long a threshold must be crossed without a break.
    pub hold: Duration,
}

/// Other bounds at certain times.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// When.
    pub window: Freeze,
    /// Never fewer then; none = the usual.
    pub min: Option<u32>,
    /// Never more then; none = the usual.
    pub max: Option<u32>,
}

impl ScalingSpec {
    /// The bounds at a moment: of several schedules the largest `min` and the smallest `max`. Where those cross, `min`
    /// counts, and never more than the usual `max`.
    pub fn bounds(&self, now: Timestamp) -> (u32, u32) {
        let (mut floor, mut ceiling) = (self.min, self.max);
        for schedule in self.schedules.iter().filter(|schedule| schedule.window.until(now).is_some()) {
            floor = floor.max(schedule.min.unwrap_or(floor));
            ceiling = ceiling.min(schedule.max.unwrap_or(ceiling));
        }
        let floor = floor.min(self.max);
        (floor, ceiling.clamp(floor, self.max.max(floor)))
    }

    /// When the freeze window ends that a moment lies in, if it lies in one.
    pub fn frozen_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.freeze.iter().filter_map(|window| window.until(now)).max()
    }
}
