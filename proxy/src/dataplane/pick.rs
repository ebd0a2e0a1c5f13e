//! Which endpoint of a pool: two drawn by weight, the less busy of the two.

use super::core::Core;
use crate::live::EndpointView;

/// Picks a ready endpoint other than `avoid`; none if there is none. Costs the same
/// for ten endpoints and for ten thousand, as long as most are ready.
pub(crate) fn pick(core: &Core, pool: &[EndpointView], avoid: Option<usize>) -> Option<usize> {
    let usable = |index: &usize| Some(*index) != avoid && pool[*index].is_ready();
    match pool.len() {
        0 => return None,
        1 => return Some(0).filter(usable),
        _ => {}
    }
    let (one, other) = (Some(draw(core, pool)).filter(usable), Some(draw(core, pool)).filter(usable));
    match (one, other) {
        (Some(one), Some(other)) => Some(less_busy(core, pool, one, other)),
        (Some(only), None) | (None, Some(only)) => Some(only),
        // Both draws missed: look at all, from a random place on.
        (None, None) => {
            let start = draw(core, pool);
            (start..pool.len()).chain(0..start).find(usable)
        }
    }
}

fn draw(core: &Core, pool: &[EndpointView]) -> usize {
    let total = pool.last().map_or(1, |last| last.share_end);
    let ticket = core.random_below(total.max(1));
    pool.partition_point(|endpoint| endpoint.share_end <= ticket).min(pool.len() - 1)
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
    use std::rc::Rc;
    use std::sync::Arc;

    fn pool(weights: &[u16]) -> (Rc<Core>, Vec<EndpointView>) {
        let (live, _reports) = Live::new(1);
        let service = live.service("test");
        let endpoint = |(index, weight): (usize, &u16)| EndpointView {
            id: Arc::from(index.to_string()),
            address: ([127, 0, 0, 1], 80).into(),
            weight: *weight,
            share_end: 0,
            leased: false,
            draining: false,
            version: None,
            live: service.endpoint(Arm::Stable, &index.to_string(), Health::Up),
        };
        let pool = EndpointView::with_shares(weights.iter().enumerate().map(endpoint).collect());
        (Core::new(0, live), pool)
    }

    fn shares(core: &Core, pool: &[EndpointView]) -> Vec<usize> {
        let mut counts = vec![0; pool.len()];
        for _ in 0..10_000 {
            counts[pick(core, pool, None).expect("one is ready")] += 1;
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
            assert_eq!(pick(&core, &pool, Some(3)), Some(2));
        }
        pool[2].draining = true;
        assert_eq!(pick(&core, &pool, Some(3)), None);
        assert_eq!(pick(&core, &pool[..1], None), None);
        assert_eq!(pick(&core, &[], None), None);
    }
}
