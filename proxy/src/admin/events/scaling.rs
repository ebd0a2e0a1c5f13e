//! What is told of the size of a pool.

use super::watch::Told;
use super::{EventJson, Kind};
use crate::live::ServiceView;
use crate::model::scaling::Decision;

/// Instances that are asked for or taken away, and what becomes of the driver.
pub(super) fn scaling(name: &str, before: &ServiceView, after: &ServiceView) -> Option<Told> {
    let (from, to) = (under_way(before), under_way(after));
    let why = after.live.scaling().decision.as_ref().map(Decision::why);
    (from != to).then(|| (Kind::Autoscale, EventJson { why, ..EventJson::of(Some(name), &from, &to) }))
}

/// What is under way of a pool's scaling.
fn under_way(service: &ServiceView) -> String {
    let Some(scaling) = &service.scaling else { return "steady".to_owned() };
    let started = scaling.grants.iter().fold(0_u32, |sum, grant| sum.saturating_add(grant.count));
    let mut words = Vec::new();
    words.extend((started > 0).then(|| format!("starting {started}")));
    words.extend(scaling.removal.as_ref().map(|removal| format!("taking away {}", removal.ids.len())));
    words.extend((scaling.failures > 0).then(|| format!("driver failed {} times in a row", scaling.failures)));
    if words.is_empty() { "steady".to_owned() } else { words.join(", ") }
}
