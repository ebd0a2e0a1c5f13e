//! A small world for tests: a service, and snapshots of it as the control plane would publish them.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::{Method, StatusCode};

use super::{FlagFacts, Live, Snapshot, Standings, compile};
use crate::model::balance::BalanceSpec;
use crate::model::flag::Definitions;
use crate::model::gate::{GateAnswer, GatePath, GateSpec, NormalPath};
use crate::model::limits::{LimitsSpec, QueueSpec, RateKey, RateSpec};
use crate::model::naming::NamingSpec;
use crate::model::place::Place;
use crate::model::rollout::plan::RolloutSpec;
use crate::model::route::Methods;
use crate::model::scaling::{DriverKind, DriverSpec, InRollout, Measure, Metric, Pace, RuleSpec, ScalingSpec, Want};
use crate::model::spec::{
    AdminAddress, AdminSpec, HealthSpec, ProbeAsk, Protocol, ServiceSpec, Spec, SplitSpec, StatusSet, Sticky,
    StoreKind, StoreSpec, Timeouts, VerdictSpec,
};
use crate::model::split::PerArm;
use crate::model::state::{ServiceState, State};
use crate::model::weight::Weight;

/// A service with two stable endpoints and one canary.
pub(crate) fn service(name: &str) -> ServiceSpec {
    let second = Duration::from_secs(1);
    let seed = |port| Place::from(([127, 0, 0, 1], port));
    ServiceSpec {
        name: name.to_owned(),
        hosts: vec![format!("{name}.example")],
        routes: vec![],
        seeds: PerArm { stable: vec![seed(3001), seed(3002)], canary: vec![seed(4001)] },
        control: vec![],
        split: Some(SplitSpec {
            weight: Weight::ZERO,
            control: Weight::ZERO,
            sticky: Sticky::Cookie,
            override_secret: None,
        }),
        verdict: VerdictSpec::default(),
        rollout: RolloutSpec::default(),
        health: None,
        balance: BalanceSpec::default(),
        protocol: Protocol::Http1,
        proxy_protocol: None,
        tls: None,
        timeouts: Timeouts {
            connect: second,
            header: second,
            idle: second,
            total: second,
            keep_alive: second,
            tunnel_idle: second,
        },
        max_body_bytes: 1,
        alerts: vec![],
        gates: vec![],
        told_flags: vec![],
        autoscale: None,
        limits: LimitsSpec::default(),
    }
}

/// A check a second, of which one decides.
pub(crate) fn health() -> HealthSpec {
    let second = Duration::from_secs(1);
    HealthSpec {
        path: "/".into(),
        ask: ProbeAsk::default(),
        expect_status: StatusSet::EMPTY,
        expect_body: None,
        interval: second,
        down_interval: second,
        timeout: second,
        rise: 1,
        fall: 1,
    }
}

/// A request at once, and one a minute from each client; one waits.
pub(crate) fn limits() -> LimitsSpec {
    let one = NonZeroU32::MIN;
    let rate = RateSpec {
        name: "all".to_owned(),
        requests: one,
        per: Duration::from_secs(60),
        burst: one,
        by: RateKey::Address,
        methods: vec![],
        paths: vec![],
        exempt: vec![],
        clients: 64,
        fleet: false,
    };
    LimitsSpec {
        max_in_flight: Some(one),
        queue: QueueSpec { length: 1, ..QueueSpec::default() },
        rates: vec![rate],
        ..LimitsSpec::default()
    }
}

/// A pool of 1 to 6 instances, of which each takes ten requests a second.
pub(crate) fn scaling() -> ScalingSpec {
    let want = Want::Target { value: 10.0, forecast: Duration::ZERO, last_week: false };
    ScalingSpec {
        min: 1,
        max: 6,
        rules: vec![RuleSpec { measure: Measure::Own(Metric::Requests), want }],
        schedules: vec![],
        pace: Pace::default(),
        starts_per_hour: None,
        in_rollout: InRollout::Hold,
        freeze: vec![],
        dry_run: false,
        prometheus: String::new(),
        driver: Some(DriverSpec {
            kind: DriverKind::Exec(vec![]),
            timeout: Duration::from_secs(9),
            ready_within: Duration::from_secs(60),
        }),
    }
}

/// A gate before POSTs to a path, which is open where its flag says nothing.
pub(crate) fn gate(flag: &str, path: &str) -> GateSpec {
    GateSpec {
        flag: flag.to_owned(),
        methods: Methods::of(vec![Method::POST]),
        path: GatePath::Exact(NormalPath::of(path).text().into()),
        default: true,
        answer: GateAnswer {
            status: StatusCode::SERVICE_UNAVAILABLE,
            content_type: HeaderValue::from_static("text/plain"),
            body: None,
            location: None,
        },
    }
}

/// From now on there are these flags; services that ask for them are to be published after.
pub(crate) fn set_flags(live: &Live, document: &serde_json::Value) {
    let definitions = Definitions::parse(document.to_string().as_bytes()).expect("a document");
    set_definitions(live, Arc::new(definitions));
}

/// From now on there are these definitions.
pub(crate) fn set_definitions(live: &Live, definitions: Arc<Definitions>) {
    let before = live.snapshot();
    let (set, refusals) = definitions.compile(before.flags());
    let set = Arc::new(set);
    live.set_flags(FlagFacts { definitions, refusals: refusals.into(), set: Arc::clone(&set) }, &set);
    let next = Snapshot::new(before.revision + 1, before.services().to_vec(), set, live.cores());
    live.snapshot_cell().store(Arc::new(next));
}

/// A configuration without services.
pub(crate) fn spec() -> Spec {
    Spec {
        threads: 1,
        admin: AdminSpec { listen: AdminAddress::Tcp(([127, 0, 0, 1], 0).into()), tokens_file: None, ofrep_rate: None },
        store: StoreSpec { kind: StoreKind::Embedded, namespace: String::new(), state_file: PathBuf::new() },
        listeners: Vec::new(),
        services: Vec::new(),
        email: None,
        outbox: PathBuf::new(),
        mass_expiry_share: 0.5,
        flag_file: None,
        naming: NamingSpec::default(),
        drain: Duration::ZERO,
        drain_grace: Duration::ZERO,
    }
}

/// Publishes the next snapshot: these services in this state.
pub(crate) fn publish(live: &Live, services: &[Arc<ServiceSpec>], state: &State) {
    publish_as(live, services, state, &Standings::default());
}

/// As [`publish`], of a service whose members stand so.
pub(crate) fn publish_standing(live: &Live, service: &Arc<ServiceSpec>, standings: Standings) {
    publish_as(live, std::slice::from_ref(service), &State::default(), &standings);
}

fn publish_as(live: &Live, services: &[Arc<ServiceSpec>], state: &State, standings: &Standings) {
    let none = ServiceState::default();
    let views = services.iter().map(|spec| {
        let state = state.get(&spec.name).unwrap_or(&none);
        live.service(&spec.name).merge_circuit(&state.circuit);
        compile::service(live, spec, state, standings, live.snapshot().flags())
    });
    let revision = live.snapshot().revision + 1;
    live.snapshot_cell().store(Arc::new(Snapshot::new(
        revision,
        views.collect(),
        Arc::clone(live.snapshot().flags()),
        live.cores(),
    )));
}
