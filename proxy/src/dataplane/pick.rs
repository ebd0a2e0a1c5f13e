//! Which endpoint of a pool: two drawn by weight, the less busy of the two.

use std::ops::Range;

use super::core::Core;
use crate::live::EndpointView;

/// Picks a ready endpoint other than `avoid`, one of `members` if there is one; none if there is none at all.
/// Costs the same for ten endpoints and for ten thousand, as long as most are ready.
pub(crate) fn pick(core: &Core, pool: &[EndpointView], members: &Range<usize>, avoid: Option<usize>) -> Option<usize> {
    let all = 0..pool.len();
    let found = among(core, pool, members, avoid);
    if found.is_none() && *members != all { among(core, pool, &all, avoid) } else { found }
}

fn among(core: &Core, pool: &[EndpointView], members: &Range<usize>, avoid: Option<usize>) -> Option<usize> {
    let usable = |index: &usize| Some(*index) != avoid && pool[*index].is_ready();
    match members.len() {
        0 => return None,
        1 => return Some(members.start).filter(usable),
        _ => {}
    }
    let drawn = || Some(draw(core, pool, members)).filter(usable);
    let (one, other) = (drawn(), drawn());
    match (one, other) {
        (Some(one), Some(other)) => Some(less_busy(core, pool, one, other)),
        (Some(only), None) | (None, Some(only)) => Some(only),
        // Both draws missed: look at all, from a random place on.
        (None, None) => {
            let start = draw(core, pool, members);
            (start..members.end).chain(members.start..start).find(usable)
        }
    }
}

/// One of two or more members, by weight.
fn draw(core: &Core, pool: &[EndpointView], members: &Range<usize>) -> usize {
    let before = if members.start == 0 { 0 } else { pool[members.start - 1].share_end };
    let total = pool[members.end - 1].share_end - before;
    let ticket = before + core.random_below(total.max(1));
    pool.partition_point(|endpoint| endpoint.share_end <= ticket).clamp(members.start, members.end - 1)
}

fn less_busy(core: &Core, pool: &[EndpointView], one: usize, other: usize) -> usize {
    let load = |index: usize| pool[index].live.in_flight_on(core.id);
    if load(other) < load(one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{Health, Live};
    use crate::model::split::Arm;
    use crate::model::state::MemberSpec;
    use std::rc::Rc;

    fn pool(weights: &[u16]) -> (Rc<Core>, Vec<EndpointView>) {
        let (live, _reports) = Live::new(1);
        let service = live.service("test");
        let endpoint = |(index, weight): (usize, &u16)| {
            let member = MemberSpec { weight: *weight, ..MemberSpec::new(([127, 0, 0, 1], 80).into()) };
            let id = index.to_string();
            EndpointView::new(&id, member, service.endpoint(Arm::Stable, &id, Health::Up))
        };
        let pool = EndpointView::with_shares(weights.iter().enumerate().map(endpoint).collect());
        (Core::new(0, live), pool)
    }

    fn shares(core: &Core, pool: &[EndpointView]) -> Vec<usize> {
        let mut counts = vec![0; pool.len()];
        for _ in 0..10_000 {
            counts[pick(core, pool, &(0..pool.len()), None).expect("one is ready")] += 1;
        }
        counts
    }

    #[test]
    fn idle_endpoints_share_by_weight() {
        let (core, pool) = pool(&[1, 3]);
        let counts = shares(&core, &pool);
        assert!((7_200..7_800).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn a_busy_endpoint_gets_less() {
        let (core, pool) = pool(&[1, 1]);
        pool[0].live.begin(0);
        let counts = shares(&core, &pool);
        assert!((2_200..2_800).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn what_is_down_draining_or_avoided_gets_nothing() {
        let (core, mut pool) = pool(&[100, 100, 1, 100]);
        pool[0].live.set_health(Health::Down);
        pool[1].draining = true;
        for _ in 0..1_000 {
            assert_eq!(pick(&core, &pool, &(0..4), Some(3)), Some(2));
        }
        pool[2].draining = true;
        assert_eq!(pick(&core, &pool, &(0..4), Some(3)), None);
        assert_eq!(pick(&core, &pool[..1], &(0..1), None), None);
        assert_eq!(pick(&core, &[], &(0..0), None), None);
    }

    #[test]
    fn members_share_by_weight_and_the_others_serve_only_when_no_member_can() {
        let (core, mut pool) = pool(&[5, 1, 3, 7]);
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            counts[pick(&core, &pool, &(1..3), None).expect("one is ready")] += 1;
        }
        assert!(counts[0] == 0 && counts[3] == 0 && (7_200..7_800).contains(&counts[2]), "{counts:?}");
        pool[1].live.set_health(Health::Down);
        assert!((0..1_000).all(|_| pick(&core, &pool, &(1..3), None) == Some(2)));
        pool[2].draining = true;
        assert!((0..1_000).all(|_| matches!(pick(&core, &pool, &(1..3), None), Some(0 | 3))));
    }
}
