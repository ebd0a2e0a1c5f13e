//! The metrics of limits, for services that have any.

use super::{Named, Scrape, ServiceView, counter, gauge};
use crate::live::turnstile::Refusal;
use crate::model::split::Arm;
use prometheus::proto::MetricType;

pub(super) const WAITING: Named =
    gauge("serin_queue_length", "Requests that wait for room at a service.", &["service", "arm"]);
pub(super) const WAITS: Named = Named {
    name: "serin_queue_wait_seconds",
    help: "How long requests waited that a service with a limit took.",
    kind: MetricType::HISTOGRAM,
    labels: &["service"],
};
pub(super) const REFUSED: Named =
    counter("serin_overload_refused_total", "Requests that found no room in time.", &["service", "arm", "reason"]);
pub(super) const TOO_EARLY: Named =
    counter("serin_rate_limited_total", "Requests that came sooner than a rate allows.", &["service", "limit"]);

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
            self.number(&TOO_EARLY, &[service, &rate.spec.name], rate.refused());
        }
    }
}
