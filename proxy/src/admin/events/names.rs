//! What became of names that endpoints have, told by comparing what is with what was.

use super::watch::Told;
use super::{EventJson, Kind};
use crate::live::ServiceView;
use crate::model::split::Arm;

/// Names that came to fail, answer again, or have no address.
pub(super) fn names(name: &str, before: &ServiceView, after: &ServiceView) -> Vec<Told> {
    let mut told = Vec::new();
    for arm in Arm::BOTH {
        for is in after.names.get(arm) {
            let was = before.names.get(arm).iter().find(|was| was.id == is.id).map_or("unresolved", |was| was.state());
            if was != is.state() {
                let (endpoint, why) = (Some(format!("{arm}/{}", is.id)), is.why());
                told.push((Kind::Discovery, EventJson { endpoint, why, ..EventJson::of(Some(name), was, is.state()) }));
            }
        }
    }
    told
}
