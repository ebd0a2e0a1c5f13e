//! The metrics of endpoints that are there by heartbeat.

use super::{Live, Named, Scrape, ServiceView, counter, gauge};
use crate::model::discovery::Standing;
use crate::model::split::Arm;

const LEASED: Named = gauge(
    "serin_discovery_endpoints",
    "Endpoints that are there by heartbeat, by how they stand.",
    &["service", "standing"],
);
const LAPSES: Named =
    counter("serin_discovery_lapses_total", "Leases that ran out without their endpoint leaving on purpose.", &[]);
const MASSES: Named =
    counter("serin_discovery_mass_expiries_total", "Times that too many leases ran out together.", &[]);
const SILENT: Named =
    gauge("serin_discovery_mass_expiry", "1 while endpoints serve on because too many leases ran out together.", &[]);

pub(super) const ALL: &[&Named] = &[&LEASED, &LAPSES, &MASSES, &SILENT];

impl Scrape {
    pub(super) fn leases(&mut self, view: &ServiceView) {
        for standing in Standing::ALL {
            let endpoints = Arm::BOTH.into_iter().flat_map(|arm| view.pools.get(arm));
            let stand = endpoints.filter(|endpoint| endpoint.is_leased() && endpoint.standing == standing).count();
            self.number(&LEASED, &[view.spec.name.as_str(), standing.name()], stand as u64);
        }
    }

    pub(super) fn discovery(&mut self, live: &Live) {
        let discovery = live.discovery();
        self.number(&LAPSES, &[], discovery.lapses);
        self.number(&MASSES, &[], discovery.masses);
        self.number(&SILENT, &[], discovery.mass_since.is_some().into());
    }
}
