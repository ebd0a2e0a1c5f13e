//! From the file's seeds and the store's state to what requests read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::{self, Found, Names};
use super::rotas::Rotas;
use super::{
    EndpointView, EpisodeView, Health, Live, NameView, ServiceFlags, ServiceLimits, ServiceLive, ServiceView,
    Standings, TrialView,
};
use crate::model::balance::Policy;
use crate::model::balance::host::HostName;
use crate::model::discovery::Standing;
use crate::model::flag::FlagSet;
use crate::model::place::Place;
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
pub fn service(
    live: &Live,
    spec: &Arc<ServiceSpec>,
    state: &ServiceState,
    standings: &Standings,
    flags: &FlagSet,
) -> Arc<ServiceView> {
    let facts = live.service(&spec.name);
    let has_control = spec.split.as_ref().is_some_and(|split| !split.control.is_zero());
    let sources = Sources { spec, state, standings, facts: &facts, known_names: &live.names().known() };
    let mut names = PerArm::<Vec<Arc<NameView>>>::default();
    let pools = PerArm::from_fn(|arm| {
        let (mut endpoints, views) = sources.pool(arm);
        *names.get_mut(arm) = views;
        if has_control {
            endpoints.sort_by_key(|endpoint| endpoint.control);
        }
        EndpointView::with_shares(endpoints)
    });
    let is_of_rest = |endpoint: &EndpointView| !has_control || !endpoint.control;
    facts.retain_endpoints(|arm, id| pools.get(arm).iter().any(|endpoint| &*endpoint.id == id));
    let episode = state.episode.map(|episode| EpisodeView {
        id: episode.id,
        salt: episode.salt,
        live: facts.episode(episode.id),
        step: facts.step(episode.id, asked_weight(spec, state)),
    });
    let trial = state.live_rollout().and_then(|rollout| TrialView::compile(live, spec, rollout, flags));
    let promoted = trial.as_ref().and_then(TrialView::promoted);
    let control_from = pools.stable.partition_point(is_of_rest);
    let tls = facts.endpoint_tls(spec.tls.as_deref(), &pools);
    let rotas = (spec.balance.policy == Policy::RoundRobin).then(|| {
        let of = |arm| if arm == Arm::Stable { control_from } else { pools.canary.len() };
        Box::new(PerArm::from_fn(|arm| Rotas::of(pools.get(arm), of(arm))))
    });
    Arc::new(ServiceView {
        spec: Arc::clone(spec),
        revision: state.revision,
        asked: asked_weight(spec, state),
        episode,
        control_from,
        pools,
        names,
        rotas,
        canary_withdrawn: state.pools.canary.values().any(|member| !matches!(member, Member::Ready(_))),
        rollout: state.rollout.clone(),
        scaling: state.scaling.clone(),
        week: state.week.clone(),
        tls,
        flags: ServiceFlags::compile(live, spec, flags, promoted),
        limits: ServiceLimits::compile(&facts, spec, asked_weight(spec, state), live.cores()),
        trial: trial.map(Box::new),
        live: facts,
    })
}

/// What the pools of a service are made of.
struct Sources<'a> {
    spec: &'a ServiceSpec,
    state: &'a ServiceState,
    standings: &'a Standings,
    facts: &'a ServiceLive,
    known_names: &'a Names,
}

impl Sources<'_> {
    /// The endpoints of a pool by id, and the names among its members.
    fn pool(&self, arm: Arm) -> (Vec<EndpointView>, Vec<Arc<NameView>>) {
        let is_checked = self.spec.health.is_some();
        let serves = |id: &str| !is_checked || self.facts.health_of(arm, id) == Some(Health::Up);
        let members = members(self.spec, self.state, arm);
        let (found, views) = names::resolve(members, self.known_names, self.state.pools.get(arm), serves);
        (found.into_iter().map(|(id, found)| self.endpoint(arm, &id, found)).collect(), views)
    }

    /// An endpoint, with all that was known of it.
    fn endpoint(&self, arm: Arm, id: &str, found: Found) -> EndpointView {
        let Found { member, address, draining, name } = found;
        let registered = name.as_ref().map_or(id, |name| &name.id);
        let standing = self.standings.of(&self.spec.name, arm, registered);
        let is_checked = self.spec.health.is_some();
        // One that changed pools (`promote --swap`) is as healthy as it was; one that comes back after it
        // went must rise as one that was down.
        let first_health = match standing {
            _ if !is_checked => Health::Up,
            Standing::Returning => Health::Down,
            _ => Health::Unknown,
        };
        let first = self.facts.health_of(arm.other(), id).unwrap_or(first_health);
        let known = self.facts.endpoint_at(arm, id, address, first);
        if !is_checked {
            known.set_health(Health::Up);
        }
        known.set_draining(draining);
        let control = member.control && arm == Arm::Stable;
        let stickiness = self.spec.balance.stickiness.as_ref();
        let host = stickiness.map_or_else(HostName::default, |by| by.secret.name_of(id, address));
        EndpointView { draining, control, standing, host, name, ..EndpointView::new(id, address, member, known) }
    }
}

/// The members of a pool by id, and whether each drains: the file's seeds, overridden by the store.
fn members(spec: &ServiceSpec, state: &ServiceState, arm: Arm) -> BTreeMap<String, (MemberSpec, bool)> {
    let seed = |place: &Place| MemberSpec { control: spec.control.contains(place), ..MemberSpec::new(place.clone()) };
    let seeds = spec.seeds.get(arm).iter().map(|place| (place.to_string(), (seed(place), false)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::sample;
    use crate::model::spec::SplitSpec;
    use crate::model::split::{Episode, EpisodeId, Salt, Unit};

    fn weight(percent: f64) -> Weight {
        Weight::from_percent(percent).expect("a weight")
    }

    /// A service with a control of at most 20 %, its first stable seed, at this weight.
    fn with_control(live: &Live, percent: f64) -> Arc<ServiceView> {
        let mut spec = sample::service("checkbox");
        let control = weight(20.0);
        spec.control = spec.seeds.stable[..1].to_vec();
        spec.split = spec.split.map(|split| SplitSpec { control, ..split });
        let episode = (percent > 0.0).then_some(Episode { id: EpisodeId(1), salt: Salt(1) });
        let state = ServiceState { weight: Some(weight(percent)), episode, ..ServiceState::default() };
        service(live, &Arc::new(spec), &state, &Standings::default(), &FlagSet::default())
    }

    #[test]
    fn users_of_the_control_reach_its_members_and_other_users_the_others() {
        let (live, _reports) = Live::new(1);
        let view = with_control(&live, 10.0);
        let share = view.control_share(view.effective());
        assert_eq!((share, view.control().len(), view.control_note()), (weight(10.0), 1, None));
        for key in 0..1_000u32 {
            let unit = Unit::of_key(Salt(1), &key.to_le_bytes());
            let members = &view.pools.stable[view.members(Arm::Stable, unit, share)];
            assert!(members.iter().all(|member| member.control == unit.is_control(share)), "key {key}: {members:?}");
            assert_eq!((members.len(), view.members(Arm::Canary, unit, share)), (1, 0..1));
        }
        assert_eq!(view.members(Arm::Stable, Unit(0), Weight::ZERO), 0..2, "without a control all serve all");
        // then without a ready member there is no control, and it is said
        view.control()[0].live.set_health(Health::Down);
        assert!(view.control_share(view.effective()).is_zero());
        assert!(view.control_note().is_some_and(|note| note.contains("no endpoint of the control is ready")));
    }

    #[test]
    fn beside_a_large_canary_the_control_gets_what_is_left_and_that_is_said() {
        let (live, _reports) = Live::new(1);
        for (percent, share, note) in [
            (0.0, 0.0, None),
            (15.0, 15.0, None),
            (80.0, 20.0, None),
            (95.0, 5.0, Some("beside a canary of 95 % only 5 % are left for the control, not 20 %")),
        ] {
            let view = with_control(&live, percent);
            assert_eq!(view.control_share(view.effective()), weight(share), "at {percent} %");
            assert_eq!(view.control_note().as_deref(), note);
        }
    }
}
