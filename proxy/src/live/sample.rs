//! A small world for tests: a service, and snapshots of it as the control plane would publish them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{EndpointView, EpisodeView, Health, Live, ServiceView, Snapshot};
use crate::model::spec::{ErrorMatchers, ServiceSpec, SplitSpec, StatusSet, Sticky, Timeouts, VerdictSpec};
use crate::model::split::{Arm, PerArm};
use crate::model::state::{Member, MemberSpec, ServiceState, State};
use crate::model::weight::Weight;

/// A service with two stable endpoints and one canary.
pub(crate) fn service(name: &str) -> ServiceSpec {
    let second = Duration::from_secs(1);
    let seed = |port| SocketAddr::from(([127, 0, 0, 1], port));
    ServiceSpec {
        name: name.to_owned(),
        hosts: vec![format!("{name}.example")],
        seeds: PerArm { stable: vec![seed(3001), seed(3002)], canary: vec![seed(4001)] },
        split: Some(SplitSpec { weight: Weight::ZERO, sticky: Sticky::Cookie }),
        verdict: VerdictSpec {
            false_pull_rate: 0.001,
            pass_error: 0.05,
            pass_margin: 0.005,
            max_excess_errors: 0,
            errors: ErrorMatchers { status: StatusSet::EMPTY, body_contains: vec![], exclude_paths: vec![] },
        },
        health: None,
        timeouts: Timeouts { connect: second, header: second, idle: second, total: second, keep_alive: second },
        max_body_bytes: 1,
        alerts: vec![],
    }
}

/// Publishes the next snapshot: these services in this state.
pub(crate) fn publish(live: &Live, services: &[Arc<ServiceSpec>], state: &State) {
    let none = ServiceState::default();
    let views = services.iter().map(|spec| {
        let state = state.get(&spec.name).unwrap_or(&none);
        live.service(&spec.name).merge_circuit(&state.circuit);
        Arc::new(view(live, spec, state))
    });
    let revision = live.snapshot().revision + 1;
    live.snapshot_cell().store(Arc::new(Snapshot::new(revision, views.collect())));
}

fn view(live: &Live, spec: &Arc<ServiceSpec>, state: &ServiceState) -> ServiceView {
    let known = live.service(&spec.name);
    let episode = state.episode.map(|e| EpisodeView { id: e.id, salt: e.salt, live: known.episode(e.id) });
    let pools = PerArm::from_fn(|arm| {
        let seeds = spec.seeds.get(arm).iter();
        let mut members: BTreeMap<String, Member> =
            seeds.map(|address| (address.to_string(), Member::Ready(MemberSpec::new(*address)))).collect();
        members.extend(state.pools.get(arm).clone());
        let endpoints = members.iter().filter_map(|(id, member)| endpoint(live, &spec.name, arm, id, member));
        EndpointView::with_shares(endpoints.collect())
    });
    let asked = state.weight.or(spec.split.as_ref().map(|split| split.weight)).unwrap_or_default();
    ServiceView {
        spec: Arc::clone(spec),
        revision: state.revision,
        canary_withdrawn: state.pools.canary.values().any(|member| !matches!(member, Member::Ready(_))),
        live: known,
        asked,
        episode,
        pools,
    }
}

fn endpoint(live: &Live, service: &str, arm: Arm, id: &str, member: &Member) -> Option<EndpointView> {
    let spec = member.spec()?;
    Some(EndpointView {
        id: id.into(),
        address: spec.address,
        weight: spec.weight,
        share_end: 0,
        draining: matches!(member, Member::Draining(_)),
        version: spec.version.clone(),
        live: live.service(service).endpoint(arm, id, Health::Up),
    })
}
