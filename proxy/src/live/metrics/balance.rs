//! The metrics of balancing. Shown as none where a service ejects nobody, so that an alert on their absence needs no guess.

use super::{ENDPOINT, Named, Scrape, ServiceView, counter, gauge};
use crate::model::split::Arm;

const EJECTED: Named =
    gauge("serin_endpoint_ejected", "1 while the endpoint is left out for what it failed.", ENDPOINT);
const EJECTIONS: Named =
    counter("serin_endpoint_ejections_total", "Times that the endpoint was left out for what it failed.", ENDPOINT);
const PANIC: Named =
    gauge("serin_pool_panic", "1 while all of a pool get work since too few of it are ready.", &["service", "arm"]);

pub(super) const ALL: &[&Named] = &[&EJECTED, &EJECTIONS, &PANIC];

impl Scrape {
    pub(super) fn balance(&mut self, view: &ServiceView) {
        let service = view.spec.name.as_str();
        for arm in Arm::BOTH {
            self.number(&PANIC, &[service, arm.name()], view.panics(arm).into());
            for endpoint in view.pools.get(arm) {
                let labels = [service, arm.name(), &endpoint.id];
                self.number(&EJECTED, &labels, endpoint.live.is_ejected().into());
                self.number(&EJECTIONS, &labels, endpoint.live.ejections());
            }
        }
    }
}
