//! With what the canary is compared, and what else is shown where a service has a fresh control.
//!
//! A host that was just restarted errs more for a while, whatever it runs. So a slice of stable may be
//! restarted together with the canary: the control, which has as many keys as the canary, mirrored
//! ([`crate::model::split::control_share`]). Beside a control, a fact says something only if its unit or
//! that unit's mirror image was on the canary and the other in the control; had the canary the same release
//! as the control, each such unit would be on the canary with probability exactly ½. Not w/(w + c) of two
//! slices of different size: as the weight rises, units come to the canary that never met a cold host,
//! while all of the control met its own long ago, and a canary that is as cold would look worse.
//!
//! Facts drawn while there was no control are compared with stable, as ever. One product of both is what
//! decides: each factor is fair by what was drawn at its own moment, so nothing of α needs to be split.

use super::signals::{Fact, Processes};
use crate::model::circuit::ControlEvidence;
use crate::model::split::Arm;

impl Fact {
    /// The chance that its unit had of being on the canary, among the units with which it is compared;
    /// none if it is compared with none.
    pub(super) fn chance(&self) -> Option<f64> {
        if self.control.is_zero() {
            return Some(self.weight.fraction());
        }
        (self.is_control() || self.is_opposite_control()).then_some(0.5)
    }

    /// Whether its unit was in the control.
    fn is_control(&self) -> bool {
        self.arm == Arm::Stable && self.unit.is_control(self.control)
    }

    /// Whether its unit was on the canary, and its mirror image in the control.
    fn is_opposite_control(&self) -> bool {
        self.arm == Arm::Canary && self.unit.mirrors_control(self.control)
    }

    /// The chance that a unit of stable had of being in the control.
    fn chance_of_control(&self) -> f64 {
        self.control.fraction() / (1.0 - self.weight.fraction())
    }
}

/// Each comparison by itself, for people: what decides may be of facts with and without a control.
#[derive(Clone, Debug)]
pub(super) struct Comparisons {
    canary_vs_control: Processes,
    canary_vs_stable: Processes,
    control_vs_rest: Processes,
    bad_canary: u64,
    bad_control: u64,
}

impl Comparisons {
    /// After the evidence so far, none of which was drawn beside a control.
    pub(super) fn after(canary_vs_stable: &Processes) -> Self {
        let (none, canary_vs_stable) = (canary_vs_stable.without_evidence(), canary_vs_stable.clone());
        Self { canary_vs_control: none.clone(), canary_vs_stable, control_vs_rest: none, bad_canary: 0, bad_control: 0 }
    }

    /// Takes in one newly bad unit.
    pub(super) fn observe(&mut self, fact: &Fact) {
        let canary = fact.arm == Arm::Canary;
        self.canary_vs_stable.observe(fact.signal, canary, fact.weight.fraction());
        if fact.control.is_zero() {
            return;
        }
        self.bad_canary += u64::from(fact.is_opposite_control());
        self.bad_control += u64::from(fact.is_control());
        if let Some(chance) = fact.chance() {
            self.canary_vs_control.observe(fact.signal, canary, chance);
        }
        let chance = fact.chance_of_control();
        if !canary && chance < 1.0 {
            self.control_vs_rest.observe(fact.signal, fact.is_control(), chance);
        }
    }

    /// What it comes to.
    pub(super) fn evidence(&self) -> ControlEvidence {
        ControlEvidence {
            canary_vs_control: self.canary_vs_control.value(),
            canary_vs_stable: self.canary_vs_stable.value(),
            control_vs_rest: self.control_vs_rest.value(),
            bad_canary: self.bad_canary,
            bad_control: self.bad_control,
        }
    }
}

#[cfg(test)]
mod tests;
