//! The metrics of limits, for services that have any.

use super::{Named, Scrape, ServiceView, counter, gauge, histogram};
use crate::live::turnstile::Refusal;
use crate::model::split::Arm;

const WAITING: Named = gauge("serin_queue_length", "Requests that wait for room at a service.", &["service", "arm"]);
const WAITS: Named =
    histogram("serin_queue_wait_seconds", "How long requests waited that a service with a limit took.", &["service"]);
const REFUSED: Named =
    counter("serin_overload_refused_total", "Requests that found no room in time.", &["service", "arm", "reason"]);
const TOO_EARLY: Named =
    counter("serin_rate_limited_total", "Requests that came sooner than a rate allows.", &["service", "limit"]);

const ALONE: Named = gauge(
    "serin_rate_alone",
    "1 while this proxy counts a rate of the fleet alone, since it hears of no other.",
    &["service", "limit"],
);

pub(super) const ALL: &[&Named] = &[&WAITING, &WAITS, &REFUSED, &TOO_EARLY, &ALONE];

impl Scrape {
    pub(super) fn limits(&mut self, view: &ServiceView) {
        let service = view.spec.name.as_str();
        let Some(limits) = &view.limits else { return };
        if let Some(turnstile) = &limits.turnstile {
            self.times(&WAITS, &[service], &turnstile.waits());
            for arm in Arm::BOTH {
                self.number(&WAITING, &[service, arm.name()], turnstile.waiting_for(arm).into());
                for refusal in Refusal::ALL {
                    let labels = [service, arm.name(), refusal.name()];
                    self.number(&REFUSED, &labels, turnstile.refused(arm, refusal));
                }
            }
        }
        for rate in &limits.rates {
            let labels = [service, rate.spec.name.as_str()];
            self.number(&TOO_EARLY, &labels, rate.refused());
            if let Some(counting) = rate.counting() {
                self.number(&ALONE, &labels, counting.is_alone.into());
            }
        }
    }
}
