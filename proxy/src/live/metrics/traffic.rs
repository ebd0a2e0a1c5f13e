//! The metrics of requests: of each arm, and of each endpoint.

use super::{ENDPOINT, Named, Scrape, ServiceView, counter, gauge, histogram};
use crate::live::service::CLASS_NAMES;
use crate::model::outcome::BadReason;
use crate::model::split::Arm;

const REQUESTS: Named =
    counter("serin_requests_total", "Requests by arm and class of the response.", &["service", "arm", "code_class"]);
const BAD: Named = counter("serin_bad_requests_total", "Bad first attempts by reason.", &["service", "arm", "reason"]);
const HEAD: Named = histogram("serin_response_head_seconds", "Time to the response head.", &["service", "arm"]);
const SLOW: Named = gauge(
    "serin_slow_threshold_seconds",
    "From when on an answer is slow; absent while that isn't known.",
    &["service"],
);
const RETRIES: Named = counter("serin_retries_total", "Attempts beyond the first.", &["service"]);
const IN_FLIGHT: Named =
    gauge("serin_endpoint_in_flight", "Requests and tunnels that are with the endpoint now.", ENDPOINT);
const ENDPOINT_REQUESTS: Named = counter("serin_endpoint_requests_total", "Requests sent to the endpoint.", ENDPOINT);
const TUNNELS: Named = gauge("serin_tunnels", "Tunnels through the endpoint that are open now.", ENDPOINT);
const READY: Named = gauge("serin_endpoint_ready", "1 while the endpoint may get new work.", ENDPOINT);

pub(super) const ALL: &[&Named] =
    &[&REQUESTS, &BAD, &HEAD, &SLOW, &RETRIES, &IN_FLIGHT, &ENDPOINT_REQUESTS, &TUNNELS, &READY];

impl Scrape {
    pub(super) fn traffic(&mut self, view: &ServiceView) {
        let service = view.spec.name.as_str();
        for arm in Arm::BOTH {
            self.arm(view, arm);
        }
        self.number(&RETRIES, &[service], view.live.retries());
        if view.spec.split.is_some()
            && let Some(threshold) = view.live.slow_threshold(view.spec.verdict.slow)
        {
            self.value(&SLOW, &[service], threshold.as_secs_f64());
        }
    }

    fn arm(&mut self, view: &ServiceView, arm: Arm) {
        let service = view.spec.name.as_str();
        let totals = view.live.totals(arm);
        for (class, count) in CLASS_NAMES.iter().zip(totals.by_class) {
            self.number(&REQUESTS, &[service, arm.name(), class], count);
        }
        for (reason, count) in BadReason::ALL.iter().zip(totals.bad) {
            self.number(&BAD, &[service, arm.name(), reason.name()], count);
        }
        self.times(&HEAD, &[service, arm.name()], &totals.latency);
        for endpoint in view.pools.get(arm) {
            let labels = [service, arm.name(), &endpoint.id];
            self.number(&IN_FLIGHT, &labels, endpoint.live.in_flight());
            self.number(&ENDPOINT_REQUESTS, &labels, endpoint.live.requests());
            self.number(&TUNNELS, &labels, endpoint.live.tunnels());
            self.number(&READY, &labels, endpoint.is_ready().into());
        }
    }
}
