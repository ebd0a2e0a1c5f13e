//! `promote` with `swap`: whether the pools may change places, and what the file adds to them.

use std::collections::BTreeMap;

use super::conflict;
use crate::admin::problem::Problem;
use crate::live::ServiceView;
use crate::model::split::{Arm, PerArm};
use crate::model::state::MemberSpec;

/// The file's members of each pool, if the canary can carry all that stable carries.
pub(super) fn seeds(service: &ServiceView) -> Result<PerArm<BTreeMap<String, MemberSpec>>, Problem> {
    let (canary, stable) = (service.capacity(Arm::Canary), service.capacity(Arm::Stable));
    if canary < stable {
        return Err(conflict(&format!(
            "the canary pool can't carry all users: its ready endpoints weigh {canary} together, stable's {stable}; add \
             endpoints to it, or promote without swap and roll the stable pool"
        )));
    }
    if let Some(id) = Arm::BOTH.into_iter().find_map(|arm| service.leased(arm)) {
        return Err(conflict(&format!(
            "{id} says by heartbeat which pool it is in, and would say so again: promote without swap, or register it \
             without a ttl first"
        )));
    }
    Ok(PerArm::from_fn(|arm| {
        let seeds = service.spec.seeds.get(arm).iter();
        seeds.map(|address| (address.to_string(), MemberSpec::new(address.clone()))).collect()
    }))
}
