//! The metrics of names that endpoints have.

use super::{Named, Scrape, counter, gauge};
use crate::live::Live;
use crate::live::names::OUTCOMES;

const ADDRESSES: Named = gauge("serin_name_addresses", "Addresses that the name is known to have.", &["name"]);
const FAILING: Named = gauge("serin_name_failing", "1 while the name fails, or is said to have no address.", &["name"]);
const LOOKUPS: Named = counter("serin_name_lookups_total", "Lookups of names by what came of them.", &["outcome"]);

pub(super) const ALL: &[&Named] = &[&ADDRESSES, &FAILING, &LOOKUPS];

impl Scrape {
    pub(super) fn names(&mut self, live: &Live) {
        for (outcome, count) in OUTCOMES.iter().zip(live.names().lookups()) {
            self.number(&LOOKUPS, &[outcome], count);
        }
        for (name, facts) in &*live.names().known() {
            self.number(&ADDRESSES, &[name], facts.addresses.len() as u64);
            self.number(&FAILING, &[name], facts.trouble.is_some().into());
        }
    }
}
