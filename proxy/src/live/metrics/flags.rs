//! The metrics of flags. Anybody with a role may add flags, so only those that the configuration names,
//! for a gate or for `X-Serin-Flags`, have series of their own; all others are counted together.

use super::{Live, Named, Scrape, counter, gauge};
use crate::live::ServiceView;

const FLAGS: Named = gauge("serin_flags", "Flags in force.", &[]);
const REFUSED: Named = gauge("serin_flags_refused", "Refusals of definitions that the store holds.", &[]);
const EVALUATIONS: Named = counter(
    "serin_flag_evaluations_total",
    "Evaluations by flag and variant, since the definition last changed.",
    &["flag", "variant"],
);

const TURNED_AWAY: Named =
    counter("serin_gate_closed_total", "Requests that a closed gate answered.", &["service", "flag"]);

pub(super) const ALL: &[&Named] = &[&FLAGS, &REFUSED, &EVALUATIONS, &TURNED_AWAY];

/// The flag of all that the configuration doesn't name. No key has a colon, and no variant.
const OTHERS: &str = ":other";
/// The variant of an evaluation that gave no value.
const WITHOUT_VALUE: &str = ":none";

impl Scrape {
    pub(super) fn gates(&mut self, service: &ServiceView) {
        for (flag, count) in service.live.gates().turned_away() {
            // One that the configuration dropped is remembered, and not told of.
            if service.spec.gates.iter().any(|gate| gate.flag == flag) {
                self.number(&TURNED_AWAY, &[&service.spec.name, &flag], count);
            }
        }
    }

    pub(super) fn flags(&mut self, live: &Live, flags: usize) {
        self.number(&FLAGS, &[], flags as u64);
        self.number(&REFUSED, &[], live.flag_facts().refusals.len() as u64);
        let (mut others, mut others_without) = (0, 0);
        for (key, usage) in live.flags_usage() {
            let counts = usage.read().by_variant;
            if usage.is_asked_by_requests() {
                for (variant, count) in &counts {
                    self.number(&EVALUATIONS, &[&key, variant], *count);
                }
                self.number(&EVALUATIONS, &[&key, WITHOUT_VALUE], usage.without_value());
            } else {
                others += counts.values().sum::<u64>();
                others_without += usage.without_value();
            }
        }
        self.number(&EVALUATIONS, &[OTHERS, ":any"], others);
        self.number(&EVALUATIONS, &[OTHERS, WITHOUT_VALUE], others_without);
    }
}
