//! What the API sends about services: fields may be added, never renamed.
//!
//! The CLI reads the same types back, so unknown fields are passed over.

mod control;
mod limits;
mod names;
mod verdict;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rollout_view::RolloutJson;
use crate::live::service::{ArmTotals, CLASS_NAMES};
use crate::live::{EndpointView, Health, Live, ServiceView};
use crate::model::audit::Entry;
use crate::model::circuit::{Circuit, CircuitState};
use crate::model::outcome::BadReason;
use crate::model::split::{Arm, PerArm};
use crate::telemetry;

pub use control::{ComparisonsJson, ControlJson};
pub use limits::{AtOnceJson, LimitsJson, RateJson};
pub use names::NameJson;
pub use verdict::{
    ExpectedJson, OutlookJson, PassJson, ProofJson, RatioJson, SampleJson, SampleOf, ShareJson, SignalJson,
    SignalsJson, UnitsJson, VerdictJson,
};

/// All services.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServicesJson {
    /// The proxy that answers.
    pub proxy: String,
    /// How its store is doing.
    pub store: StoreJson,
    /// The services, in the order of the configuration.
    pub services: Vec<ServiceJson>,
}

/// The audit log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditJson {
    /// The proxy that answers.
    pub proxy: String,
    /// How many entries an answer has at most.
    pub capacity: usize,
    /// Those of all proxies of the store, the newest first.
    pub entries: Vec<Entry>,
    /// What is missing, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceJson {
    /// Its name.
    pub name: String,
    /// Hosts it answers for.
    pub hosts: Vec<String>,
    /// The store's revision of it; also the `ETag`.
    pub revision: u64,
    /// Whether it can have a canary at all.
    pub has_canary: bool,
    /// The canary weight.
    pub weight: WeightJson,
    /// Whether the canary may get traffic.
    pub circuit: CircuitJson,
    /// How the canary is judged.
    pub verdict: VerdictJson,
    /// The latest rollout, also after its end; null if there never was one.
    #[serde(default)]
    pub rollout: Option<RolloutJson>,
    /// What each arm served since this process started.
    pub traffic: PerArm<TrafficJson>,
    /// Attempts beyond the first.
    pub retries: u64,
    /// The endpoints.
    pub pools: PerArm<PoolJson>,
    /// Its limits; null where it has none.
    #[serde(default)]
    pub limits: Option<LimitsJson>,
    /// How the store is doing.
    pub store: StoreJson,
    /// What the caller of a change should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The canary weight, in percent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct WeightJson {
    /// As asked for.
    pub asked: f64,
    /// In effect: zero while the circuit is open.
    pub effective: f64,
}

/// A circuit. All but the state is null while it is closed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CircuitJson {
    /// `open` or `closed`.
    pub state: CircuitState,
    /// What opened it: see `docs/admin.md` for the list.
    pub cause: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// When it opened, RFC 3339.
    pub since: Option<String>,
    /// Who opened it: a person, or the proxy.
    pub by: Option<String>,
    /// The weight in effect until then, in percent.
    pub weight_before: Option<f64>,
    /// The proof.
    pub evidence: Option<ProofJson>,
    /// Rises by one with each trip and each reset.
    pub epoch: u64,
}

/// What an arm served since this process started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrafficJson {
    /// Requests.
    pub requests: u64,
    /// Bad first attempts.
    pub bad: u64,
    /// Requests by class of the response.
    pub by_class: BTreeMap<String, u64>,
    /// Bad first attempts by reason; only reasons that were seen.
    pub by_reason: BTreeMap<String, u64>,
    /// Quantiles of the time to the response head.
    pub head_seconds: QuantilesJson,
}

/// Quantiles, in seconds; null without a request.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct QuantilesJson {
    /// The median.
    pub p50: Option<f64>,
    /// The 95th percentile.
    pub p95: Option<f64>,
    /// The 99th percentile.
    pub p99: Option<f64>,
}

/// A pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolJson {
    /// How many of its endpoints are ready.
    pub ready: usize,
    /// Whether all of them get work, since too few are ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub panic: bool,
    /// Its endpoints, in the order of their ids; then names that have no address yet.
    pub endpoints: Vec<EndpointJson>,
    /// Its members that have names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NameJson>,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointJson {
    /// Its id.
    pub id: String,
    /// Its address and port.
    pub address: String,
    /// `ready`, `checking`, `down`, `ejected`, `draining`, or `returning`: it went, beats again, and gets no work yet. Of a
    /// name `resolved`, `failing` or `unresolved`.
    pub state: String,
    /// The name that has its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why it is left out, while it is ejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejection: Option<EjectionJson>,
    /// What the probes say: `up`, `down` or `unknown`.
    pub health: String,
    /// Its share inside the pool.
    pub weight: u16,
    /// The version it runs, if somebody said so.
    pub version: Option<String>,
    /// Where it stands, if somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What else was said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// How it stands with this proxy, if it is there by heartbeat: `steady`, `late`, `kept` or `returning`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// Whether it is marked to serve the control.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control: bool,
    /// Requests and tunnels that are with it now, through this proxy.
    pub in_flight: u64,
    /// Of these, the tunnels, such as WebSockets.
    #[serde(default)]
    pub tunnels: u64,
    /// Requests sent to it.
    pub requests: u64,
    /// What the caller of a change should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// An endpoint is left out for what it failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EjectionJson {
    /// What that was.
    pub why: String,
    /// When it comes back, RFC 3339.
    pub until: String,
}

/// How the store is doing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoreJson {
    /// Whether the last read came from the store itself.
    pub reachable: bool,
    /// The age of the state in force, in seconds; null if the store was never read.
    pub age_seconds: Option<f64>,
    /// What is wrong.
    pub detail: Option<String>,
    /// Values that make no sense.
    pub poisoned: Vec<PoisonJson>,
    /// How the mirror is doing; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorJson>,
}

/// How the mirror is doing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MirrorJson {
    /// Whether it is read.
    pub in_use: bool,
    /// How far it is behind at most, in seconds; null where that can't be told.
    pub age_seconds: Option<f64>,
    /// Why it isn't read.
    pub detail: Option<String>,
}

/// A value in the store that makes no sense.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoisonJson {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What went wrong, as RFC 9457 problem details.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProblemJson {
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What went wrong, and what to do next.
    pub detail: String,
    /// The names that exist, where the asked-for one doesn't.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
}

impl ServiceJson {
    /// A service as it is now.
    pub fn of(live: &Live, view: &ServiceView) -> Self {
        let arm_traffic = |arm| TrafficJson::of(&view.live.totals(arm));
        Self {
            name: view.spec.name.clone(),
            hosts: view.spec.hosts.clone(),
            revision: view.revision,
            has_canary: view.spec.split.is_some(),
            weight: WeightJson { asked: view.asked.percent(), effective: view.effective().percent() },
            circuit: CircuitJson::of(&view.live.circuit()),
            verdict: VerdictJson::of(view),
            rollout: RolloutJson::of(view),
            traffic: PerArm::from_fn(arm_traffic),
            retries: view.live.retries(),
            pools: PerArm::from_fn(|arm| PoolJson::of(view, arm)),
            limits: LimitsJson::of(view),
            store: StoreJson::of(live),
            note: None,
        }
    }
}

impl CircuitJson {
    fn of(circuit: &Circuit) -> Self {
        let trip = circuit.trip.as_ref().filter(|_| circuit.is_open());
        Self {
            state: circuit.state,
            cause: trip.map(|trip| trip.cause.name().to_owned()),
            reason: trip.map(|trip| trip.reason.clone()),
            since: trip.map(|trip| trip.at.to_string()),
            by: trip.map(|trip| trip.by.clone()),
            weight_before: trip.map(|trip| trip.weight_before.percent()),
            evidence: trip.and_then(|trip| trip.evidence.as_ref()).map(ProofJson::of),
            epoch: circuit.epoch,
        }
    }
}

impl TrafficJson {
    fn of(totals: &ArmTotals) -> Self {
        let classes = CLASS_NAMES.iter().zip(totals.by_class);
        let reasons = BadReason::ALL.iter().zip(totals.bad).filter(|(_, count)| *count > 0);
        let quantile = |q| totals.latency.quantile(q);
        Self {
            requests: totals.requests(),
            bad: totals.bad_requests(),
            by_class: classes.map(|(class, count)| ((*class).to_owned(), count)).collect(),
            by_reason: reasons.map(|(reason, count)| (reason.name().to_owned(), count)).collect(),
            head_seconds: QuantilesJson { p50: quantile(0.5), p95: quantile(0.95), p99: quantile(0.99) },
        }
    }
}

impl PoolJson {
    /// A pool as it is now.
    pub fn of(view: &ServiceView, arm: Arm) -> Self {
        let names = view.names.get(arm);
        // Who has no address is no endpoint yet; people shall see it where they look for it.
        let unresolved = names.iter().filter(|name| name.facts.addresses.is_empty());
        let endpoints = view.pools.get(arm).iter().map(EndpointJson::of);
        Self {
            ready: view.ready(arm),
            panic: view.panics(arm),
            endpoints: endpoints.chain(unresolved.map(|name| EndpointJson::of_name(name))).collect(),
            names: names.iter().map(|name| NameJson::of(name)).collect(),
        }
    }
}

impl EndpointJson {
    /// An endpoint as it is now.
    pub fn of(endpoint: &EndpointView) -> Self {
        let health = match endpoint.live.health() {
            Health::Up => "up",
            Health::Down => "down",
            Health::Unknown => "unknown",
        };
        Self {
            state: endpoint.state().to_owned(),
            name: endpoint.name.as_ref().map(|name| name.host.to_string()),
            ejection: endpoint
                .live
                .ejection()
                .map(|ejection| EjectionJson { why: ejection.why, until: ejection.until.to_string() }),
            health: health.to_owned(),
            lease: endpoint.is_leased().then(|| endpoint.standing.name().to_owned()),
            control: endpoint.control,
            in_flight: endpoint.live.in_flight(),
            tunnels: endpoint.live.tunnels(),
            requests: endpoint.live.requests(),
            ..Self::of_member(&endpoint.id, &endpoint.member, "")
        }
    }
}

impl StoreJson {
    /// How the store is doing now.
    pub fn of(live: &Live) -> Self {
        let health = live.store_health();
        let poison = |(key, problem): &(String, String)| PoisonJson { key: key.clone(), problem: problem.clone() };
        Self {
            reachable: health.reachable,
            age_seconds: health.read_at.map(|read_at| telemetry::now().since(read_at).as_secs_f64()),
            detail: health.detail.clone(),
            poisoned: health.poisoned.iter().map(poison).collect(),
            mirror: health.mirror.as_ref().map(|mirror| MirrorJson {
                in_use: mirror.in_use,
                age_seconds: mirror.age.map(|age| age.as_secs_f64()),
                detail: mirror.detail.clone(),
            }),
        }
    }
}
