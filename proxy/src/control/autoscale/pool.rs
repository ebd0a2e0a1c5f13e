//! What is in a pool, as scaling counts it: what serves, what was asked for and didn't come yet, and what is down.

use std::collections::{BTreeMap, BTreeSet};

use crate::live::{EndpointView, Health, ServiceView};
use crate::model::scaling::{Bar, Candidate, Grant, ScalingSpec, Sizes};
use crate::model::split::Arm;
use crate::model::time::Timestamp;

/// The stable endpoints that count: registered, checked, and not on their way out.
pub(super) fn serving(service: &ServiceView) -> impl Iterator<Item = &str> {
    service.pools.get(Arm::Stable).iter().filter(|endpoint| endpoint.is_ready()).map(|endpoint| &*endpoint.id)
}

/// The stable endpoints of these ids that are in the pool.
pub(super) fn of_ids<'a>(service: &'a ServiceView, ids: &'a [String]) -> impl Iterator<Item = &'a EndpointView> {
    service.pools.stable.iter().filter(|endpoint| is_among(ids, &endpoint.id))
}

/// Whether an id is one of these.
pub(super) fn is_among(ids: &[String], id: &str) -> bool {
    ids.iter().any(|own| own == id)
}

/// What came of a grant so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrivals {
    /// How many are still to come to make up the size that was asked for.
    pub(super) missing: u32,
    /// How many may still come: where endpoints that were down make up the size, what the driver started comes on top.
    pub(super) unseen: u32,
}

/// What came of each grant, by its token. Each instance that came counts for one grant, the oldest first.
pub(super) fn arrivals(service: &ServiceView) -> BTreeMap<&str, Arrivals> {
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    let mut take = |count: u32, which: &dyn Fn(&str) -> bool| {
        let mut left = count;
        for id in serving(service).filter(|id| which(id)) {
            if left > 0 && taken.insert(id) {
                left -= 1;
            }
        }
        left
    };
    let mut arrivals = BTreeMap::new();
    for grant in grants(service) {
        let unseen = take(grant.count, &|id| !is_among(&grant.before, id));
        let missing = take(unseen, &|id| is_among(&grant.down, id));
        arrivals.insert(grant.token.as_str(), Arrivals { missing, unseen });
    }
    arrivals
}

fn grants(service: &ServiceView) -> impl Iterator<Item = &Grant> {
    service.scaling.iter().flat_map(|scaling| &scaling.grants)
}

/// The endpoints that are taken away.
fn leaving(service: &ServiceView) -> &[String] {
    service.scaling.as_ref().and_then(|scaling| scaling.removal.as_ref()).map_or(&[], |removal| &removal.ids)
}

/// How many there are; of those that warm up the caller knows.
pub(super) fn sizes(service: &ServiceView) -> Sizes {
    let arrivals = arrivals(service);
    let sum = |of: fn(&Arrivals) -> u32| arrivals.values().map(of).fold(0, u32::saturating_add);
    let (pending, unseen) = (sum(|arrivals| arrivals.missing), sum(|arrivals| arrivals.unseen));
    let leaving = leaving(service);
    let unready =
        || service.pools.stable.iter().filter(|endpoint| !endpoint.is_ready() && !is_among(leaving, &endpoint.id));
    // Registered already, and to be checked: these are of the unseen ones.
    let is_new = |endpoint: &&EndpointView| {
        !endpoint.draining && grants(service).all(|grant| !is_among(&grant.before, &endpoint.id))
    };
    let starting = count(unready().filter(is_new).count()).min(unseen);
    let down = (count(unready().count()) - starting).saturating_add(unseen - pending);
    Sizes { ready: count(serving(service).count()), warming: 0, pending, down }
}

/// A number of endpoints.
pub(super) fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Whether an endpoint fails its checks, and nobody drains it.
pub(super) fn is_down(endpoint: &EndpointView) -> bool {
    !endpoint.draining && endpoint.live.health() == Health::Down
}

/// An endpoint that may be taken away.
pub(super) fn candidate(service: &ServiceView, endpoint: &EndpointView, since: Option<Timestamp>) -> Candidate {
    Candidate {
        id: endpoint.id.to_string(),
        zone: endpoint.member.zone.clone(),
        since: since.unwrap_or_default(),
        // Who is there because a name says so comes and goes with the name.
        is_seed: endpoint.name.is_some() || service.spec.seeds.stable.contains(&endpoint.address.into()),
    }
}

/// Why the pool is to be left as it is.
pub(super) fn bars(service: &ServiceView, spec: &ScalingSpec, store: bool, heard: bool, now: Timestamp) -> Vec<Bar> {
    let order = service.scaling.as_ref().and_then(|scaling| scaling.order_at(now));
    let compared = service.live_rollout().is_some() || !service.effective().is_zero();
    // A person who drains an endpoint rolls the pool.
    let leaving = leaving(service);
    let rolled = service.pools.stable.iter().any(|endpoint| endpoint.draining && !is_among(leaving, &endpoint.id));
    let mut bars = Vec::new();
    bars.extend((!store).then_some(Bar::StoreGone));
    bars.extend((!heard).then_some(Bar::Unheard));
    bars.extend(order.filter(|order| order.size.is_none()).map(|order| Bar::Paused(order.until)));
    bars.extend((compared || rolled).then_some(Bar::Rollout));
    let freezes = service.spec.rollout.freeze.iter().filter_map(|window| window.until(now));
    bars.extend(freezes.chain(spec.frozen_until(now)).max().map(Bar::Freeze));
    bars
}
