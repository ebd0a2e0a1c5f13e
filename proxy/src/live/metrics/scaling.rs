//! The metrics of scaling. Shown as none where a service isn't scaled, so that an alert on their absence needs no guess.

use super::{Named, Scrape, ServiceView, gauge};
use crate::model::scaling::Limit;

const INSTANCES: Named = gauge(
    "serin_autoscale_instances",
    "Instances of the stable pool: ready, pending, and how many there should be; the last is 0 where another proxy leads.",
    &["service", "kind"],
);
const CUT: Named =
    gauge("serin_autoscale_limited", "1 while this limit cuts what the rules want.", &["service", "limit"]);
const FAILURES: Named = gauge("serin_autoscale_driver_failures", "Failures of the driver in a row.", &["service"]);

pub(super) const ALL: &[&Named] = &[&INSTANCES, &CUT, &FAILURES];

impl Scrape {
    pub(super) fn scaling(&mut self, view: &ServiceView) {
        let service = view.spec.name.as_str();
        let status = view.live.scaling();
        let wanted = status.decision.as_ref().map_or(0, |decision| decision.size);
        for (kind, count) in [("ready", status.sizes.ready), ("pending", status.sizes.pending), ("wanted", wanted)] {
            self.number(&INSTANCES, &[service, kind], count.into());
        }
        for limit in Limit::ALL {
            let cuts = status.decision.iter().flat_map(|decision| &decision.cuts);
            self.number(&CUT, &[service, limit.name()], cuts.filter(|cut| cut.limit == limit).count().min(1) as u64);
        }
        self.number(&FAILURES, &[service], view.scaling.as_ref().map_or(0, |scaling| scaling.failures).into());
    }
}
