//! What happened, told by comparing what is with what was.
//!
//! A snapshot tells of weights, rollouts and members; circuits, health and the store change
//! without one, so all of it is looked at a few times a second as well.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::names::names;
use super::ring::Ring;
use super::scaling::scaling;
use super::{EventJson, Events, Kind};
use crate::live::{Live, ServiceView};
use crate::model::circuit::Circuit;
use crate::model::rollout::Rollout;
use crate::model::split::Arm;
use crate::model::state::Scope;
use crate::telemetry;

/// How often what no snapshot tells of is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// What an endpoint is before it was added, and once it is gone.
const AWAY: &str = "away";
/// What a circuit is.
const CLOSED: &str = "closed";
const OPEN: &str = "open";

/// Compares, for ever.
#[derive(Debug)]
pub(in super::super) struct Watcher {
    live: Arc<Live>,
    ring: Arc<Ring>,
    services: BTreeMap<String, Facts>,
    reachable: bool,
    /// Whether so many leases ran out that their endpoints are kept.
    silent: bool,
}

/// What is compared of a service.
#[derive(Clone, Debug)]
struct Facts {
    view: Arc<ServiceView>,
    circuit: Circuit,
    endpoints: BTreeMap<(Arm, Arc<str>), &'static str>,
}

impl Facts {
    fn of(view: &Arc<ServiceView>) -> Self {
        let endpoints = Arm::BOTH.into_iter().flat_map(|arm| view.pools.get(arm).iter().map(move |one| (arm, one)));
        Self {
            circuit: view.live.circuit(),
            endpoints: endpoints.map(|(arm, one)| ((arm, Arc::clone(&one.id)), one.state())).collect(),
            view: Arc::clone(view),
        }
    }
}

impl Watcher {
    /// A watcher to whom nothing of what is now is news.
    pub(in super::super) fn new(live: Arc<Live>, events: &Events) -> Self {
        let snapshot = live.snapshot();
        let services = snapshot.services().iter().map(|view| (view.spec.name.clone(), Facts::of(view))).collect();
        let reachable = live.store_health().reachable;
        let silent = live.discovery().mass_since.is_some();
        Self { live, ring: Arc::clone(&events.ring), services, reachable, silent }
    }

    /// Looks at each published snapshot, and a few times a second.
    pub(in super::super) async fn run(mut self, mut published: watch::Receiver<u64>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Only what was compiled anew; what else becomes of endpoints the next look at everything sees.
                Ok(()) = published.changed() => self.compare(Scope::Part),
                _ = looks.tick() => self.compare(Scope::Whole),
            }
        }
    }

    fn compare(&mut self, scope: Scope) {
        let reachable = self.live.store_health().reachable;
        if reachable != self.reachable {
            let event = EventJson {
                why: self.live.store_health().detail.clone(),
                ..EventJson::of(None, reach(self.reachable), reach(reachable))
            };
            self.ring.push(Kind::Store, &event);
            self.reachable = reachable;
        }
        let silent = self.live.discovery().mass_since.is_some();
        if silent != std::mem::replace(&mut self.silent, silent) {
            self.ring.push(Kind::Discovery, &EventJson::of(None, leases(!silent), leases(silent)));
        }
        let snapshot = self.live.snapshot();
        self.services.retain(|name, _| snapshot.service(name).is_some());
        for view in snapshot.services() {
            let name = &view.spec.name;
            let before = self.services.get(name);
            if scope == Scope::Part && before.is_some_and(|before| Arc::ptr_eq(&before.view, view)) {
                continue;
            }
            let after = Facts::of(view);
            // One that just came into the configuration has no before.
            if let Some(before) = before {
                let (circuit, endpoints) = (circuit(name, before, &after), endpoints(name, before, &after));
                let all = circuit.into_iter().chain(weight(name, before, &after)).chain(rollout(name, before, &after));
                let all =
                    all.chain(scaling(name, &before.view, &after.view)).chain(names(name, &before.view, &after.view));
                for (kind, event) in all.chain(endpoints) {
                    self.ring.push(kind, &event);
                }
            }
            self.services.insert(name.clone(), after);
        }
    }
}

const fn reach(reachable: bool) -> &'static str {
    if reachable { "reachable" } else { "lost" }
}

const fn leases(silent: bool) -> &'static str {
    if silent { "mass expiry" } else { "steady" }
}

pub(super) type Told = (Kind, EventJson);

/// A trip, a reset, or both if they came between two looks.
fn circuit(name: &str, before: &Facts, after: &Facts) -> Vec<Told> {
    let (before, after) = (&before.circuit, &after.circuit);
    let is_new = after.trip.as_ref().filter(|_| after.trip != before.trip);
    let mut told = Vec::new();
    if let Some(trip) = is_new {
        let event = EventJson {
            at: trip.at.to_string(),
            who: Some(trip.by.clone()),
            why: Some(trip.reason.clone()),
            cause: Some(trip.cause.name()),
            ..EventJson::of(Some(name), CLOSED, OPEN)
        };
        told.push((Kind::Trip, event));
    }
    if let Some(reset) = after.reset.as_ref().filter(|_| before.is_open() || is_new.is_some()) {
        let event = EventJson {
            at: reset.at.to_string(),
            who: Some(reset.by.clone()),
            why: Some(reset.reason.clone()),
            ..EventJson::of(Some(name), OPEN, CLOSED)
        };
        told.push((Kind::Reset, event));
    }
    told
}

/// A change of the weight that is asked for. What a trip takes away is told by the trip.
fn weight(name: &str, before: &Facts, after: &Facts) -> Option<Told> {
    let (from, to) = (before.view.asked, after.view.asked);
    let moved_by = after.view.rollout.as_ref().filter(|rollout| {
        let was = before.view.rollout.as_ref().map(|rollout| (rollout.step, rollout.finished));
        was != Some((rollout.step, rollout.finished)) && rollout.weight() == to
    });
    let event = EventJson {
        why: moved_by.map(|rollout| format!("rollout {}: {}", rollout.plan.id, rollout.why)),
        ..EventJson::of(Some(name), from, to)
    };
    (from != to).then_some((Kind::Weight, event))
}

/// A rollout that began, moved or ended.
fn rollout(name: &str, before: &Facts, after: &Facts) -> Option<Told> {
    let after = after.view.rollout.as_ref()?;
    let before = before.view.rollout.as_ref().filter(|before| before.plan.id == after.plan.id);
    let (from, to) = (before.map_or_else(|| "none".to_owned(), stands), stands(after));
    let who = match before {
        None => Some(after.plan.by.clone()),
        Some(before) if before.decided_by != after.decided_by => after.decided_by.clone(),
        Some(_) => None,
    };
    let event = EventJson { who, why: Some(after.why.clone()), ..EventJson::of(Some(name), &from, &to) };
    (from != to).then_some((Kind::Rollout, event))
}

/// Where a rollout stands: its phase and step, and whether all is done.
fn stands(rollout: &Rollout) -> String {
    let done = if rollout.finished { ", finished" } else { "" };
    format!("{}, step {} of {}{done}", rollout.phase, rollout.step, rollout.plan.steps.len())
}

/// Endpoints that came, went, or are in another state.
fn endpoints<'a>(name: &'a str, before: &'a Facts, after: &'a Facts) -> impl Iterator<Item = Told> + 'a {
    let (was, is) = (&before.endpoints, &after.endpoints);
    let gone = was.keys().filter(|key| !is.contains_key(*key)).map(|key| (key, AWAY));
    gone.chain(is.iter().map(|(key, state)| (key, *state))).filter_map(move |(key, to)| {
        let from = was.get(key).copied().unwrap_or(AWAY);
        let endpoint = Some(format!("{}/{}", key.0, key.1));
        (from != to).then(|| (Kind::Endpoint, EventJson { endpoint, ..EventJson::of(Some(name), from, to) }))
    })
}

impl EventJson {
    /// Something that happened just now.
    pub(super) fn of(service: Option<&str>, from: impl Display, to: impl Display) -> Self {
        Self {
            at: telemetry::now().to_string(),
            service: service.map(str::to_owned),
            endpoint: None,
            from: from.to_string(),
            to: to.to_string(),
            cause: None,
            who: None,
            why: None,
        }
    }
}

#[cfg(test)]
mod tests;
