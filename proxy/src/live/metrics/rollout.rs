//! The metrics of what the canary gets: weight, circuit, and the latest rollout.

use super::{Named, Scrape, ServiceView, gauge};
use crate::model::rollout::Phase;

const WEIGHT: Named =
    gauge("serin_weight_percent", "The canary weight: as asked for, and in effect.", &["service", "kind"]);
const OPEN: Named = gauge("serin_circuit_open", "1 while the circuit is open.", &["service"]);
const PHASE: Named =
    gauge("serin_rollout_phase", "1 for the phase of the latest rollout, 0 for all others.", &["service", "phase"]);
const STEP: Named = gauge("serin_rollout_step", "The step in force, from 1; 0 before the first.", &["service"]);
const ROLLOUT_WEIGHT: Named =
    gauge("serin_rollout_weight_percent", "The weight that the latest rollout wants.", &["service"]);

pub(super) const ALL: &[&Named] = &[&WEIGHT, &OPEN, &PHASE, &STEP, &ROLLOUT_WEIGHT];

impl Scrape {
    pub(super) fn rollout(&mut self, view: &ServiceView) {
        let service = view.spec.name.as_str();
        self.value(&WEIGHT, &[service, "asked"], view.asked.percent());
        self.value(&WEIGHT, &[service, "effective"], view.effective().percent());
        self.number(&OPEN, &[service], view.live.is_open().into());
        // Shown as none where there is no rollout, so that an alert on its absence needs no guess.
        let rollout = view.rollout.as_ref();
        for phase in Phase::ALL {
            let holds = rollout.is_some_and(|rollout| rollout.phase == phase);
            self.number(&PHASE, &[service, phase.name()], holds.into());
        }
        self.number(&STEP, &[service], rollout.map_or(0, |rollout| rollout.step as u64));
        self.value(&ROLLOUT_WEIGHT, &[service], rollout.map_or(0.0, |rollout| rollout.weight().percent()));
    }
}
