//! The right of a request to be inside: a slot of its service, one of its endpoint, or none where nothing is limited.

use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::time::Instant;

use super::Bound;
use crate::dataplane::core::Core;
use crate::dataplane::pick::{Wish, pick};
use crate::live::{EndpointLive, ServiceView, Turnstile};
use crate::model::split::Arm;

/// What a request has taken, until this is dropped. Then the next is called.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    service: Option<OfService>,
    endpoint: Option<OfEndpoint>,
    since: Option<Instant>,
}

#[derive(Debug)]
struct OfService {
    turnstile: Arc<Turnstile>,
    /// Whether it is counted among those inside.
    is_counted: bool,
    as_canary: bool,
}

/// A slot of an endpoint, which has a place in its pool.
#[derive(Debug)]
struct OfEndpoint {
    place: usize,
    live: Arc<EndpointLive>,
}

impl Drop for OfEndpoint {
    fn drop(&mut self) {
        self.live.slots.0.give_back();
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Some(OfService { turnstile, is_counted, as_canary }) = self.service.take() else { return };
        self.endpoint = None;
        if is_counted {
            turnstile.leave(as_canary);
        }
        turnstile.call();
    }
}

impl Pass {
    /// Takes what a request needs, all of it or nothing. The slot of the endpoint comes first: who finds none must not
    /// have kept the service's from others.
    pub(super) fn take(core: &Core, bound: &Bound<'_>, turnstile: &Arc<Turnstile>) -> Option<Self> {
        let Bound { service, arm, wish, .. } = *bound;
        let limits = &service.spec.limits;
        if limits.max_in_flight.is_some_and(|limit| !turnstile.has_room(limit)) {
            return None;
        }
        let endpoint = match limits.max_in_flight_per_endpoint {
            Some(limit) => OfEndpoint::one_of(core, service, arm, wish, None, limit)?,
            None => None,
        };
        // Where stable can't serve, the canary has all there is.
        let canary = match &service.limits {
            Some(limits) if arm == Arm::Canary && service.can_serve(Arm::Stable) => limits.canary,
            _ => None,
        };
        if limits.max_in_flight.is_some_and(|limit| !turnstile.enter(limit, canary)) {
            return None;
        }
        let of_service = OfService {
            turnstile: Arc::clone(turnstile),
            is_counted: limits.max_in_flight.is_some(),
            as_canary: canary.is_some(),
        };
        Some(Self { service: Some(of_service), endpoint, since: None })
    }

    /// It was the arm that kept the request waiting, since then.
    pub(crate) const fn waited_since(&mut self, since: Instant) {
        self.since = Some(since);
    }

    /// Since when its arm has kept the request waiting, if it has.
    pub(crate) const fn since(&self) -> Option<Instant> {
        self.since
    }

    /// The endpoint to try: first the one whose slot was taken, and after that another one with a free slot.
    pub(crate) fn pick(
        &mut self,
        core: &Core,
        service: &ServiceView,
        arm: Arm,
        wish: &Wish,
        avoid: Option<usize>,
    ) -> Option<usize> {
        let (Some(own), Some(limit)) = (&self.endpoint, service.spec.limits.max_in_flight_per_endpoint) else {
            return pick(core, service, arm, wish, avoid);
        };
        if avoid.is_none() {
            return Some(own.place);
        }
        let other = OfEndpoint::one_of(core, service, arm, wish, avoid, limit)??;
        let place = other.place;
        self.endpoint = Some(other);
        if let Some(service) = &self.service {
            service.turnstile.call();
        }
        Some(place)
    }
}

impl OfEndpoint {
    /// A slot of a ready endpoint other than `avoid`, as [`pick`] picks them. None if all are full, or the one that has the
    /// session is; none inside if there
    /// is no ready one, for which nobody needs to wait.
    fn one_of(
        core: &Core,
        service: &ServiceView,
        arm: Arm,
        wish: &Wish,
        avoid: Option<usize>,
        limit: NonZeroU32,
    ) -> Option<Option<Self>> {
        let pool = service.serving(arm);
        let take = |place: usize| {
            let live = &pool[place].live;
            live.slots.0.take(limit).then(|| Some(Self { place, live: Arc::clone(live) }))
        };
        let Some(picked) = pick(core, service, arm, wish, avoid) else { return Some(None) };
        if let Some(taken) = take(picked) {
            return Some(taken);
        }
        if wish.is_for(picked) {
            return None;
        }
        let members = wish.members();
        let among = if members.contains(&picked) { members.clone() } else { 0..pool.len() };
        let length = u32::try_from(among.len()).unwrap_or(u32::MAX);
        let start = among.start + usize::try_from(core.random_below(length.max(1))).unwrap_or(0);
        let ready = |place: &usize| Some(*place) != avoid && pool[*place].is_ready();
        (start..among.end).chain(among.start..start).filter(ready).find_map(take)
    }
}
