//! The requests that all rules see alike.

use serin::model::split::{Arm, Salt, Unit};

use super::super::dice::Dice;
use super::super::judged::weight;

/// How long an episode is looked at, in seconds.
pub(super) const LENGTH: f64 = 1_800.0;
/// Requests of a user whose visit goes wrong, or not, as a whole; and the mean time between two, in seconds.
const VISIT: u32 = 10;
const PAUSE: f64 = 5.0;

/// One service under one load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    pub(super) per_second: f64,
    /// Of the canary, in percent.
    pub(super) weight: f64,
    /// The bad rates, in percent.
    pub(super) stable: f64,
    pub(super) canary: f64,
    /// Whether users make ten requests, which are all bad or all good, or one.
    pub(super) bursts: bool,
}

/// A request, when it is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// Seconds from the canary's begin.
    pub(super) at: f64,
    pub(super) unit: Unit,
    pub(super) address: u32,
    pub(super) canary: bool,
    /// Whether it belongs to the part of stable that is as large as the canary and serves as its control.
    pub(super) control: bool,
    pub(super) bad: bool,
}

impl Traffic {
    /// All requests of an episode, in their order.
    pub(super) fn requests(&self, dice: &mut Dice) -> Vec<Request> {
        let salt = Salt(dice.wide());
        let visit = if self.bursts { VISIT } else { 1 };
        let mut requests = Vec::new();
        // Visits under way at the begin are as many as ever.
        let mut begun = -3.0 * f64::from(visit - 1) * PAUSE;
        for user in 0.. {
            begun += dice.exponential() * f64::from(visit) / self.per_second;
            if begun >= LENGTH {
                break;
            }
            let mut request = self.first(dice, salt, user, begun);
            for _ in 0..visit {
                if (0.0..LENGTH).contains(&request.at) {
                    requests.push(request);
                }
                request.at += PAUSE * dice.exponential();
            }
        }
        requests.sort_unstable_by(|a, b| a.at.total_cmp(&b.at));
        requests
    }

    fn first(&self, dice: &mut Dice, salt: Salt, user: u32, at: f64) -> Request {
        let unit = Unit::of_key(salt, &user.to_le_bytes());
        let canary = unit.arm(weight(self.weight)) == Arm::Canary;
        let control = !canary && unit.arm(weight(2.0 * self.weight)) == Arm::Canary;
        let bad = dice.flip(if canary { self.canary } else { self.stable } / 100.0);
        Request { at, unit, address: user, canary, control, bad }
    }
}
