//! From the file's seeds and the store's state to what requests read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{EndpointView, EpisodeView, Health, Live, ServiceView};
use crate::model::spec::ServiceSpec;
use crate::model::split::{Arm, PerArm};
use crate::model::state::{Member, MemberSpec, ServiceState};
use crate::model::weight::Weight;

/// The weight asked for: the store's, or else the file's.
pub fn asked_weight(spec: &ServiceSpec, state: &ServiceState) -> Weight {
    match &spec.split {
        Some(split) => state.weight.unwrap_or(split.weight),
        None => Weight::ZERO,
    }
}

/// Compiles one service.
pub fn service(live: &Live, spec: &Arc<ServiceSpec>, state: &ServiceState) -> Arc<ServiceView> {
    let facts = live.service(&spec.name);
    let first_health = if spec.health.is_some() { Health::Unknown } else { Health::Up };
    let pools = PerArm::from_fn(|arm| {
        let endpoints = members(spec, state, arm).into_iter().map(|(id, (member, draining))| {
            // One that changed pools (`promote --swap`) is as healthy as it was.
            let first = facts.health_of(arm.other(), &id).unwrap_or(first_health);
            let known = facts.endpoint(arm, &id, first);
            if spec.health.is_none() {
                known.set_health(Health::Up);
            }
            EndpointView {
                id: Arc::from(id),
                address: member.address,
                weight: member.weight,
                share_end: 0,
                draining,
                leased: member.ttl_ms.is_some(),
                version: member.version,
                live: known,
            }
        });
        EndpointView::with_shares(endpoints.collect())
    });
    facts.retain_endpoints(|arm, id| pools.get(arm).iter().any(|endpoint| &*endpoint.id == id));
    let episode = state.episode.map(|episode| EpisodeView {
        id: episode.id,
        salt: episode.salt,
        live: facts.episode(episode.id),
        step: facts.step(episode.id, asked_weight(spec, state)),
    });
    Arc::new(ServiceView {
        spec: Arc::clone(spec),
        revision: state.revision,
        asked: asked_weight(spec, state),
        episode,
        pools,
        canary_withdrawn: state.pools.canary.values().any(|member| !matches!(member, Member::Ready(_))),
        rollout: state.rollout.clone(),
        live: facts,
    })
}

/// The members of a pool by id, and whether each drains: the file's seeds, overridden by the store.
fn members(spec: &ServiceSpec, state: &ServiceState, arm: Arm) -> BTreeMap<String, (MemberSpec, bool)> {
    let seeds = spec.seeds.get(arm).iter().map(|address| (address.to_string(), (MemberSpec::new(*address), false)));
    let mut members: BTreeMap<_, _> = seeds.collect();
    for (id, member) in state.pools.get(arm) {
        match member {
            Member::Ready(known) => members.insert(id.clone(), (known.clone(), false)),
            Member::Draining(known) => members.insert(id.clone(), (known.clone(), true)),
            Member::Removed => members.remove(id),
        };
    }
    members
}
