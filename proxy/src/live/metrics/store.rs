//! The metrics of what control knows and how fresh it is: the snapshot, the store and its mirror, reports of outcomes.

use super::{Live, Named, Scrape, counter, gauge};
use crate::telemetry;

const REVISION: Named = gauge("serin_snapshot_revision", "Revision of the snapshot in force.", &[]);
const REACHABLE: Named = gauge("serin_store_reachable", "1 while the last read came from the store itself.", &[]);
const AGE: Named =
    gauge("serin_store_age_seconds", "Age of the state in force; absent until the store was read once.", &[]);
const POISONED: Named =
    gauge("serin_store_poisoned_values", "Values in the store that make no sense and are passed over.", &[]);
const MIRROR_AGE: Named =
    gauge("serin_store_mirror_age_seconds", "How far the mirror is behind; absent while that can't be told.", &[]);
const MIRROR_IN_USE: Named =
    gauge("serin_store_mirror_in_use", "1 while the mirror is read; absent where there is none.", &[]);
const DROPPED: Named =
    counter("serin_reports_dropped_total", "Bad outcomes that the verdict was too far behind to take.", &[]);

pub(super) const ALL: &[&Named] = &[&REVISION, &REACHABLE, &AGE, &POISONED, &MIRROR_AGE, &MIRROR_IN_USE, &DROPPED];

impl Scrape {
    pub(super) fn store(&mut self, live: &Live, revision: u64) {
        let store = live.store_health();
        self.number(&REVISION, &[], revision);
        self.number(&DROPPED, &[], live.reports_dropped());
        self.number(&REACHABLE, &[], store.reachable.into());
        if let Some(read_at) = store.read_at {
            self.value(&AGE, &[], telemetry::now().since(read_at).as_secs_f64());
        }
        self.number(&POISONED, &[], store.poisoned.len() as u64);
        if let Some(mirror) = &store.mirror {
            self.number(&MIRROR_IN_USE, &[], mirror.in_use.into());
            if let Some(age) = mirror.age {
                self.value(&MIRROR_AGE, &[], age.as_secs_f64());
            }
        }
    }
}
