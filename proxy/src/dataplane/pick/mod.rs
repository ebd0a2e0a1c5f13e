//! Which endpoint of a pool gets a request: the one that has its session, else whom the service's policy says, of those
//! that are ready.

mod hash;
mod least;
mod p2c;
mod turns;
mod wish;

#[cfg(test)]
mod tests;

use std::ops::Range;

use super::core::Core;
use crate::live::{EndpointView, ServiceView};
use crate::model::balance::{AllDown, Policy, SlowStart};
use crate::model::split::Arm;

pub(crate) use self::wish::Wish;

/// Picks an endpoint of the pool that serves an arm, other than `avoid`; none if none can be had.
///
/// It is one of the members that shall serve the request, as long as one of these is ready.
pub(crate) fn pick(core: &Core, service: &ServiceView, arm: Arm, wish: &Wish, avoid: Option<usize>) -> Option<usize> {
    let arm = service.serving_pool(arm);
    let pool = service.pools.get(arm).as_slice();
    if let Some(host) = wish.host.filter(|host| Some(*host) != avoid && pool[*host].serves_sessions(&service.spec)) {
        return Some(host);
    }
    let balance = &service.spec.balance;
    let slow = Some(&balance.slow_start).filter(|slow| slow.is_on());
    let all_may = service.panics(arm);
    let choice = Choice { core, pool, avoid, all_may, slow };
    let (members, all) = (&wish.members, 0..pool.len());
    let among = |choice: &Choice<'_>, members: &Range<usize>| match &balance.policy {
        Policy::P2c => p2c::among(choice, members),
        Policy::RoundRobin => turns::among(choice, service, arm, members),
        Policy::LeastRequest => least::among(choice, members),
        Policy::ConsistentHash(hash) => match wish.key {
            Some(key) => hash::among(choice, members, hash.bound, key),
            None => p2c::among(choice, members),
        },
    };
    among(&choice, members).or_else(|| if *members == all { None } else { among(&choice, &all) }).or_else(|| {
        let opens = balance.all_down == AllDown::FailOpen && !all_may;
        if opens { among(&Choice { all_may: true, ..choice }, &all) } else { None }
    })
}

/// What a policy chooses from.
#[derive(Clone, Copy)]
struct Choice<'a> {
    core: &'a Core,
    pool: &'a [EndpointView],
    avoid: Option<usize>,
    /// Whether those that are down or ejected may be chosen as well.
    all_may: bool,
    /// How an endpoint comes to its share, if not at once.
    slow: Option<&'a SlowStart>,
}

impl Choice<'_> {
    /// Whether an endpoint may get the request.
    fn may(&self, index: usize) -> bool {
        let endpoint = &self.pool[index];
        Some(index) != self.avoid && if self.all_may { endpoint.may_be_tried() } else { endpoint.is_ready() }
    }

    /// The part of its share that an endpoint gets, while that isn't all of it.
    fn warming(&self, index: usize) -> Option<f64> {
        self.pool[index].live.warming(self.slow?, self.core.clock.now())
    }

    /// Whether an endpoint may get the request, and takes it: one that warms up leaves some to others, by the dice.
    fn takes(&self, index: usize) -> bool {
        const SIDES: u32 = 1 << 16;
        let accepts = |share: f64| f64::from(self.core.random_below(SIDES)) < share * f64::from(SIDES);
        self.may(index) && self.warming(index).is_none_or(accepts)
    }

    /// One of two or more members, by weight.
    fn draw(&self, members: &Range<usize>) -> usize {
        let before = if members.start == 0 { 0 } else { self.pool[members.start - 1].share_end };
        let total = self.pool[members.end - 1].share_end - before;
        let ticket = before + self.core.random_below(total.max(1));
        self.pool.partition_point(|endpoint| endpoint.share_end <= ticket).clamp(members.start, members.end - 1)
    }

    /// The members from a random place on, once around.
    fn around(&self, members: &Range<usize>) -> impl Iterator<Item = usize> + use<> {
        let start = self.draw(members);
        (start..members.end).chain(members.start..start)
    }

    /// Any that may get the request, where those that were asked didn't take it.
    fn any(&self, members: &Range<usize>) -> Option<usize> {
        self.around(members).find(|index| self.may(*index))
    }
}
