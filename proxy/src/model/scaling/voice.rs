//! What each rule makes of what was measured.
//!
//! Two kinds of measure differ in what they can say. A *load* is shared out: with twice the instances each gets half,
//! so the right size follows from it, and instances that are still starting can be counted in advance. What measures
//! *strain* (how long answers take, how many requests wait) only says that there are too few: beyond saturation it has
//! no proportion, so it asks for no more than double what serves now, and waits to see what that helps.

use std::time::Duration;

use super::super::time::Timestamp;
use super::decision::{Opinion, Voice};
use super::spec::{Measure, Metric, RuleSpec, Threshold, Want, whole};
use super::trend::Trend;
use super::week::{Diary, Lesson, Recall};
use super::{Seen, Sizes};

/// Strain asks for no more than so many times what serves now.
const MOST_STRAIN: f64 = 2.0;

/// A load that jumps about is expected above its line by so much of its standard deviation; and by so much before
/// instances are taken away, so that it doesn't jump back over the target.
const ROOM: f64 = 0.5;
const ROOM_TO_SHRINK: f64 = 1.0;
/// So many times the deadband above its target, a rule doesn't ask whether that lasts.
const FAR: f64 = 3.0;

/// How far off its target a rule may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Band {
    /// Above it, as a share.
    pub(super) grow: f64,
    /// Below it, as a share.
    pub(super) shrink: f64,
    /// What is left after instances were taken away must do for so long.
    pub(super) calm: Duration,
    /// A trend is looked for in no less than four times this.
    pub(super) trend: Duration,
    /// For so long new instances don't help in full.
    pub(super) warm_up: Duration,
}

/// What one rule remembers.
#[derive(Clone, Debug, Default)]
pub(super) struct Ear {
    trend: Trend,
    diary: Diary,
    above: Option<Timestamp>,
    below: Option<Timestamp>,
}

impl Ear {
    /// What the rule says now.
    pub(super) fn hear(&mut self, rule: &RuleSpec, band: &Band, seen: &Seen<'_>, value: Option<f64>) -> Voice {
        // What isn't a number, or less than nothing, wasn't measured.
        let value = value.filter(|value| value.is_finite() && *value >= 0.0);
        let heard = match (value, &rule.want) {
            (None, _) => {
                (self.above, self.below) = (None, None);
                Opinion::Missing.into()
            }
            (Some(value), Want::Step(threshold)) => self.step(threshold, seen, value).into(),
            // Of nobody there is no average.
            (Some(_), Want::Target { .. }) if seen.sizes.ready == 0 => Opinion::Missing.into(),
            (Some(value), Want::Target { value: target, .. }) if matches!(rule.measure, Measure::Own(metric) if metric.is_time()) => {
                slow(value / target, band, seen.sizes).into()
            }
            (Some(value), Want::Target { value: target, forecast, last_week }) => {
                let saturates = rule.measure == Measure::Own(Metric::InFlight);
                let bears = if saturates { value.min(MOST_STRAIN * target) } else { value };
                let ready = f64::from(seen.sizes.ready);
                let load = Load { ready, target: *target, bears, ahead: *forecast, comes_again: *last_week };
                let heard = self.follow(&load, band, seen);
                match heard.opinion {
                    // It has no proportion any more, and the newest don't help yet.
                    Opinion::Wants { size } if saturates && seen.sizes.warming > 0 && size > seen.sizes.total() => {
                        Heard { opinion: Opinion::Holds, ..heard }
                    }
                    _ => heard,
                }
            }
        };
        let Heard { opinion, forecast, last_week } = heard;
        Voice { rule: rule.name().to_owned(), value, forecast, last_week, opinion }
    }

    /// What was learned of the load in a slot of the week that is over: once each.
    pub(super) const fn lesson(&mut self) -> Option<Lesson> {
        self.diary.lesson()
    }

    /// What a rule with a target says.
    ///
    /// Near the target the line through the last minutes counts, and where it leads; the moment only where it is far
    /// off. What came a week ago only ever adds to that.
    fn follow(&mut self, load: &Load, band: &Band, seen: &Seen<'_>) -> Heard {
        self.trend.note(seen.now, load.bears * load.ready, load.ahead.max(band.trend));
        if load.comes_again {
            self.diary.note(seen.now, load.bears * load.ready);
        }
        let now = load.size();
        let total = f64::from(seen.sizes.total());
        let line = self.trend.line();
        let at = |ahead, room| line.map_or(now, |line| line.after(ahead, room) / load.target);
        let recall = |ahead| load.recall(seen, ahead, at(Duration::ZERO, 0.0));
        let (again, again_later) = (recall(load.ahead + band.warm_up), recall(band.calm));
        let soon = at(Duration::ZERO, ROOM).max(at(load.ahead, ROOM));
        let counts = if now > total * (1.0 + FAR * band.grow) { soon.max(now) } else { soon };
        let opinion = match shared(counts.max(again.unwrap_or(0.0)), band, seen.sizes) {
            // What grows again isn't taken away first.
            Opinion::Wants { size } if size < seen.sizes.total() => {
                let later = at(Duration::ZERO, ROOM_TO_SHRINK).max(at(band.calm, ROOM_TO_SHRINK));
                let later = later.max(again_later.unwrap_or(0.0));
                Opinion::Wants { size: size.max(whole(later)).min(seen.sizes.total()) }
            }
            opinion => opinion,
        };
        let each = |size: f64| size * load.target / load.ready;
        let recalled = again.map_or(Recall::Unknown, |again| Recall::Promises(each(again)));
        Heard { opinion, forecast: line.map(|_| each(counts)), last_week: load.comes_again.then_some(recalled) }
    }

    fn step(&mut self, threshold: &Threshold, seen: &Seen<'_>, value: f64) -> Opinion {
        let now = seen.now;
        let below = threshold.below.unwrap_or(threshold.above);
        self.above = (value > threshold.above).then(|| self.above.unwrap_or(now));
        self.below = (value < below).then(|| self.below.unwrap_or(now));
        let held = |since: Option<Timestamp>| since.is_some_and(|since| now.since(since) >= threshold.hold);
        let total = seen.sizes.total();
        if held(self.above) && !seen.sizes.settling() {
            return Opinion::Wants { size: total.saturating_add(threshold.add.of(total)) };
        }
        match threshold.remove {
            _ if !held(self.below) => Opinion::Holds,
            None => Opinion::Fine,
            Some(_) if seen.sizes.settling() => Opinion::Holds,
            Some(remove) => Opinion::Wants { size: total.saturating_sub(remove.of(total)) },
        }
    }
}

/// What a rule said, and what it counted with where that isn't what each one bears just now.
struct Heard {
    opinion: Opinion,
    forecast: Option<f64>,
    last_week: Option<Recall>,
}

impl From<Opinion> for Heard {
    fn from(opinion: Opinion) -> Self {
        Self { opinion, forecast: None, last_week: None }
    }
}

/// A load that is shared out.
struct Load {
    ready: f64,
    /// What each instance should bear.
    target: f64,
    /// What each ready one bears.
    bears: f64,
    /// How long an instance takes to start.
    ahead: Duration,
    /// Whether what came a week ago is believed to come again.
    comes_again: bool,
}

impl Load {
    /// How many would bear just the target.
    fn size(&self) -> f64 {
        self.bears * self.ready / self.target
    }

    /// How many it takes for what came a week ago within so long, where it takes so many now; none where the rule
    /// doesn't ask, or nobody knows.
    fn recall(&self, seen: &Seen<'_>, ahead: Duration, now: f64) -> Option<f64> {
        let week = seen.week.filter(|_| self.comes_again)?;
        week.promises(seen.now, ahead, now * self.target).map(|promised| promised / self.target)
    }
}

/// What a rule says by which so many would be just right.
fn shared(size: f64, band: &Band, sizes: Sizes) -> Opinion {
    let off = size / f64::from(sizes.total()) - 1.0;
    if off <= band.grow && off >= -band.shrink { Opinion::Holds } else { Opinion::Wants { size: whole(size) } }
}

/// What a rule says by times: they tell when there are too few, never that fewer would do.
fn slow(relative: f64, band: &Band, sizes: Sizes) -> Opinion {
    if relative < 1.0 - band.shrink {
        Opinion::Fine
    } else if relative <= 1.0 + band.grow || sizes.settling() {
        Opinion::Holds
    } else {
        Opinion::Wants { size: whole(f64::from(sizes.ready) * relative.min(MOST_STRAIN)) }
    }
}
