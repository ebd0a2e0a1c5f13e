//! `[service.NAME.autoscale]`: bounds, rules, pace and driver, and that they don't contradict each other.

use std::time::Duration;

use toml::Spanned;

use super::driver;
use crate::config::findings::Findings;
use crate::config::raw::{RawAutoscale, RawScalingRule, RawSchedule, RawService, Scalar, Value};
use crate::config::units::{self, Reason};
use crate::config::values;
use crate::model::rollout::freeze::Freeze;
use crate::model::scaling::{
    InRollout, MOST_INSTANCES, Measure, Metric, Pace, RuleSpec, ScalingSpec, Schedule, Stride, Threshold, Want,
};

const MIN: u32 = 1;
/// Enough for a small fleet; whoever has more says so.
const MAX: u32 = 10;
/// Where Prometheus listens unless told otherwise.
const PROMETHEUS: &str = "http://127.0.0.1:9090";
/// What a query is called that has no name.
const QUERY: &str = "query";

/// How the size of a service's stable pool follows its load.
pub(super) fn autoscale(service: &str, raw: &RawService, findings: &mut Findings<'_>) -> Option<ScalingSpec> {
    let whole = raw.autoscale.as_ref()?;
    let raw_scaling = whole.get_ref();
    let (min, max) = bounds(raw_scaling, findings);
    let rules = rules(raw_scaling, findings);
    if raw_scaling.rule.is_empty() && raw_scaling.schedule.is_empty() {
        let text =
            format!("service `{service}` has no rule to scale by: its pool is kept from {min} to {max} instances");
        findings.note_at(&whole.span(), text);
    }
    let is_limited = raw.limits.max_in_flight.is_some() || raw.limits.max_in_flight_per_endpoint.is_some();
    let metrics = raw_scaling.rule.iter().filter_map(|rule| rule.get_ref().metric.as_ref());
    for metric in metrics.filter(|metric| !is_limited && metric.get_ref() == Metric::QueueWait.name()) {
        let text = format!("nobody waits where nothing is limited: see `max_in_flight` in [service.{service}.limits]");
        findings.problem(metric.span(), text);
    }
    let driver = raw_scaling.driver.as_ref().and_then(|raw| driver::driver(service, raw, findings));
    if raw_scaling.driver.is_none() {
        let text = format!("service `{service}` has rules to scale by and no driver: serin says what it would do");
        findings.note_at(&whole.span(), text);
    } else if raw.health.is_none() {
        let text = format!("service `{service}` scales without [service.{service}.health]: instances serve unchecked");
        findings.note_at(&whole.span(), text);
    }
    Some(ScalingSpec {
        min,
        max,
        rules,
        schedules: raw_scaling.schedule.iter().filter_map(|s| schedule(s, (min, max), findings)).collect(),
        pace: pace(raw_scaling, findings),
        starts_per_hour: raw_scaling.starts_per_hour.as_ref().and_then(|raw| findings.read(raw, instances)),
        in_rollout: findings.read_or(raw_scaling.in_rollout.as_ref(), InRollout::Hold, |text| in_rollout(text)),
        freeze: findings.read_distinct(&raw_scaling.freeze, window).into_iter().map(|(_, window)| window).collect(),
        dry_run: raw_scaling.dry_run.unwrap_or(false),
        prometheus: findings.read_or(raw_scaling.prometheus.as_ref(), PROMETHEUS.to_owned(), |text| plain_url(text)),
        driver,
    })
}

fn instances(value: &Scalar) -> Result<u32, Reason> {
    units::count(value, 1, MOST_INSTANCES.into()).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

fn bounds(raw: &RawAutoscale, findings: &mut Findings<'_>) -> (u32, u32) {
    let min = findings.read_or(raw.min.as_ref(), MIN, instances);
    let max = findings.read_or(raw.max.as_ref(), MAX, instances);
    if max < min {
        match (&raw.max, &raw.min) {
            (Some(raw_max), _) => findings.problem(raw_max.span(), format!("`max` is less than `min`, which is {min}")),
            (None, Some(raw_min)) => {
                findings.problem(raw_min.span(), format!("this is more than `max`, which is {MAX}"))
            }
            (None, None) => {}
        }
    }
    (min, max.max(min))
}

fn pace(raw: &RawAutoscale, findings: &mut Findings<'_>) -> Pace {
    let usual = Pace::default();
    Pace {
        deadband: findings.read_or(raw.deadband.as_ref(), usual.deadband, |value| {
            let share = units::number(value).filter(|share| (0.0..=0.5).contains(share));
            share.ok_or_else(|| "a deadband is a number from 0 to 0.5, such as 0.05 for 5 %".to_owned())
        }),
        warm_up: findings.read_or(raw.warm_up.as_ref(), usual.warm_up, units::duration),
        cooldown: findings.read_or(raw.cooldown.as_ref(), usual.cooldown, units::duration),
        grow_after: findings.read_or(raw.grow_after.as_ref(), usual.grow_after, units::duration),
        shrink_after: findings.read_or(raw.shrink_after.as_ref(), usual.shrink_after, units::duration),
        max_grow: findings.read_or(raw.max_grow.as_ref(), usual.max_grow, |value| stride(value, 10.0)),
        max_shrink: findings.read_or(raw.max_shrink.as_ref(), usual.max_shrink, |value| stride(value, 1.0)),
    }
}

/// A number of instances, or a percent of the pool up to a share.
fn stride(value: &Scalar, most: f64) -> Result<Stride, Reason> {
    let Scalar::Text(text) = value else { return instances(value).map(Stride::Count) };
    let percent = text.strip_suffix('%').and_then(|percent| percent.trim().parse::<f64>().ok());
    let share = percent.map(|percent| percent / 100.0).filter(|share| *share > 0.0 && *share <= most);
    share.map(Stride::Share).ok_or_else(|| {
        format!("this is a number of instances, or a percent of the pool up to {} %, such as \"50%\"", most * 100.0)
    })
}

fn in_rollout(text: &str) -> Result<InRollout, Reason> {
    match text {
        "hold" => Ok(InRollout::Hold),
        "grow" => Ok(InRollout::Grow),
        _ => Err("`in_rollout` is \"hold\" or \"grow\"".to_owned()),
    }
}

fn window(text: &str) -> Result<Freeze, Reason> {
    // The type says what a freeze window is; here it is any window.
    text.parse::<Freeze>().map_err(|error| error.to_string().replace("freeze window", "window"))
}

/// Where Prometheus is: over TLS it would need certificates, and it mostly is next door.
fn plain_url(text: &str) -> Result<String, Reason> {
    match values::web_url(text)? {
        url if url.starts_with("http://") => Ok(url),
        _ => Err("Prometheus is asked over http:// only".to_owned()),
    }
}

fn schedule(raw: &Spanned<RawSchedule>, (min, max): (u32, u32), findings: &mut Findings<'_>) -> Option<Schedule> {
    let (at, raw) = (raw.span(), raw.get_ref());
    let window = findings.read(&raw.window, |text| window(text));
    let mut bound = |value: &Value| value.as_ref().map(|raw| (raw.span(), findings.read(raw, instances)));
    let (least, most) = (bound(&raw.min), bound(&raw.max));
    let floor = least.as_ref().and_then(|(_, count)| *count);
    let ceiling = most.as_ref().and_then(|(_, count)| *count);
    match (least, most) {
        (None, None) => findings.problem(at, "`min` or `max` is missing here: this schedule changes nothing"),
        (Some((at, _)), _) if floor.is_some_and(|floor| floor > max) => {
            findings.problem(at, format!("this is more than the pool's `max`, which is {max}"));
        }
        (_, Some((at, _))) if ceiling.is_some_and(|ceiling| ceiling < floor.unwrap_or(min)) => {
            findings.problem(at, "this `max` is less than the `min` that holds then");
        }
        _ => {}
    }
    Some(Schedule { window: window?, min: floor, max: ceiling })
}

/// All rules; no two with a target look at the same.
fn rules(raw: &RawAutoscale, findings: &mut Findings<'_>) -> Vec<RuleSpec> {
    let mut rules: Vec<RuleSpec> = Vec::with_capacity(raw.rule.len());
    for written in &raw.rule {
        let Some(rule) = rule(written, findings) else { continue };
        let is_target = |rule: &RuleSpec| matches!(rule.want, Want::Target { .. });
        let same = |other: &RuleSpec| other.name() == rule.name() && is_target(other) == is_target(&rule);
        if rules.iter().any(same) {
            let reason = match rule.measure {
                Measure::Own(_) => "there is a rule of this kind on this metric already: one of them would never count",
                Measure::Query { .. } => "there is a query of this `name` already",
            };
            findings.problem(written.span(), reason);
        }
        rules.push(rule);
    }
    rules
}

fn rule(written: &Spanned<RawScalingRule>, findings: &mut Findings<'_>) -> Option<RuleSpec> {
    let measure = measure(written, findings);
    let raw = written.get_ref();
    let read = |value: &Scalar| quantity(measure.as_ref(), value);
    let want = match (&raw.target, &raw.above) {
        (Some(target), None) => {
            for (key, other) in [("add", &raw.add), ("below", &raw.below), ("remove", &raw.remove), ("for", &raw.hold)]
            {
                if let Some(other) = other {
                    findings.problem(other.span(), format!("`{key}` belongs to a rule with `above`, not `target`"));
                }
            }
            let forecast = findings.read_or(raw.forecast.as_ref(), Duration::ZERO, units::duration);
            let last_week = last_week(raw, forecast, findings);
            findings.read(target, |value| read(value)).map(|value| Want::Target { value, forecast, last_week })
        }
        (None, Some(_)) => threshold(written, read, findings).map(Want::Step),
        (None, None) => {
            findings.problem(written.span(), "`target` or `above` is missing here");
            None
        }
        (Some(_), Some(above)) => {
            findings.problem(above.span(), "a rule has `target` or `above`, not both: write two rules");
            None
        }
    };
    Some(RuleSpec { measure: measure?, want: want? })
}

/// Whether a rule grows for what came a week ago.
fn last_week(raw: &RawScalingRule, forecast: Duration, findings: &mut Findings<'_>) -> bool {
    let Some(written) = raw.last_week.as_ref().filter(|written| *written.get_ref()) else { return false };
    if raw.metric.as_ref().is_none_or(|metric| metric.get_ref() != Metric::Requests.name()) {
        findings.problem(written.span(), "`last_week` is for `metric = \"requests\"`: the load that users bring");
    } else if forecast.is_zero() {
        let text = "`last_week` needs `forecast`: how long an instance takes to start, such as \"75s\"";
        findings.problem(written.span(), text);
    }
    true
}

fn measure(written: &Spanned<RawScalingRule>, findings: &mut Findings<'_>) -> Option<Measure> {
    let raw = written.get_ref();
    match (&raw.metric, &raw.query) {
        (Some(metric), None) => {
            if let Some(name) = &raw.name {
                findings.problem(name.span(), "only a query has a `name`: this metric has one");
            }
            findings.read(metric, |text| {
                let metric = Metric::ALL.into_iter().find(|metric| metric.name() == *text).map(Measure::Own);
                metric.ok_or_else(|| {
                    "`metric` is \"in_flight\", \"requests\", \"p95\" or \"queue_wait\"; for others, give a `query`"
                        .to_owned()
                })
            })
        }
        (None, Some(query)) => {
            let name = findings.read_or(raw.name.as_ref(), QUERY.to_owned(), |text| values::name(text));
            findings
                .read(query, |text| values::needle(text).map_err(|_| "the query is missing".to_owned()))
                .map(|query| Measure::Query { name, query })
        }
        (None, None) => {
            findings.problem(written.span(), "`metric` or `query` is missing here");
            None
        }
        (Some(_), Some(query)) => {
            findings.problem(query.span(), "a rule has a `metric` or a `query`, not both: write two rules");
            None
        }
    }
}

fn threshold(
    written: &Spanned<RawScalingRule>,
    read: impl Fn(&Scalar) -> Result<f64, Reason>,
    findings: &mut Findings<'_>,
) -> Option<Threshold> {
    let raw = written.get_ref();
    if let Some(forecast) = &raw.forecast {
        findings.problem(forecast.span(), "`forecast` belongs to a rule with `target`, not `above`");
    }
    if let Some(last_week) = &raw.last_week {
        findings.problem(last_week.span(), "`last_week` belongs to a rule with `target`, not `above`");
    }
    let above = findings.read(raw.above.as_ref()?, |value| read(value));
    let add = findings.read_or(raw.add.as_ref(), Stride::Count(1), |value| stride(value, 10.0));
    let below = raw.below.as_ref().and_then(|raw| findings.read(raw, |value| read(value)));
    let remove = raw.remove.as_ref().and_then(|raw| findings.read(raw, |value| stride(value, 1.0)));
    let hold = findings.read_or(raw.hold.as_ref(), Duration::ZERO, units::duration);
    if let (Some(raw_below), Some(below), Some(above)) = (&raw.below, below, above)
        && below >= above
    {
        findings.problem(raw_below.span(), "`below` isn't below `above`: the pool would grow and shrink at once");
    }
    if let (Some(remove), None) = (&raw.remove, &raw.below) {
        findings.problem(remove.span(), "`remove` needs `below`: when instances are taken away");
    }
    Some(Threshold { above: above?, add, below, remove, hold })
}

/// A value in the unit of what is measured. What isn't known has its own problem, so any number will do for it.
fn quantity(measure: Option<&Measure>, value: &Scalar) -> Result<f64, Reason> {
    let positive = |number: &f64| *number > 0.0;
    match (measure, value) {
        (Some(Measure::Own(metric)), Scalar::Text(_)) if metric.is_time() => {
            units::positive_duration(value).map(|span| span.as_secs_f64())
        }
        (Some(Measure::Own(metric)), _) if metric.is_time() => Err("give a duration, such as \"250ms\"".to_owned()),
        _ => units::number(value)
            .filter(positive)
            .ok_or_else(|| "give a number above 0: so much for each instance, on average".to_owned()),
    }
}
