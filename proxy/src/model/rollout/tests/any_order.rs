//! Changes by chance.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

/// Whatever comes in whatever order: see the assertions.
#[test]
fn no_order_of_changes_breaks_what_a_rollout_promises() {
    let mut rng = StdRng::seed_from_u64(20_260_401);
    for _ in 0..400 {
        let mut state = ServiceState::default();
        let mut promoted = 0;
        for _ in 0..60 {
            let before = state.clone();
            let step = rng.random_range(0..4);
            let change = match rng.random_range(0..12) {
                0 => {
                    let (id, text) = (rng.random_range(1..4), "5%:1m,20%:1m:manual,40%:1m");
                    let plan =
                        if id == 1 && rng.random_bool(0.5) { flags::flag_plan(id, text) } else { plan(id, text) };
                    Change::Rollout(RolloutChange::Start { plan })
                }
                1 | 2 => advance(step, rng.random_range(1..4)),
                3 => pause(),
                4 => resume(step),
                5 => promote(),
                6 => Change::Rollout(RolloutChange::Promote {
                    id: RolloutId(1),
                    lead: Some(lead(step, rng.random_range(1..4))),
                    deed: deed(),
                    swap: None,
                }),
                7 => finish(step),
                8 => abort(rng.random_range(1..4)),
                9 => trip(),
                10 => reset(),
                _ => Change::Rollout(RolloutChange::Lead { id: RolloutId(1), fence: Fence(rng.random_range(1..4)) }),
            };
            state = state.apply(&change);
            assert_eq!(state.apply(&change), state.apply(&change).apply(&change), "{change:?} isn't idempotent");
            let (Some(now), was) = (&state.rollout, before.rollout.as_ref()) else { continue };
            assert_eq!(now.check(), Ok(()));
            assert!(state.weight.unwrap_or_default() <= weight(40.0), "above the plan's weights");
            if let Some(was) = was.filter(|was| was.plan.id == now.plan.id) {
                assert!(was.is_live() || now == was, "{change:?} changed an ended rollout");
                assert!(!was.phase.is_decided() || was.phase == now.phase || now.finished);
                promoted += usize::from(was.phase != Phase::Promoted && now.phase == Phase::Promoted);
                assert!(now.step >= was.step && now.step <= was.step + 1, "steps were skipped or undone");
            } else {
                promoted = 0;
            }
            assert!(promoted <= 1, "promoted twice");
            if state.circuit.is_open() || matches!(now.phase, Phase::Pulled | Phase::Aborted) {
                assert_eq!((state.weight.unwrap_or_default(), state.episode), (Weight::ZERO, None), "after {change:?}");
            }
        }
    }
}
