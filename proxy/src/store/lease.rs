//! Leases: members that live only as long as somebody's heartbeat says so.
//!
//! What a change means for a lease is said here once, for every kind of store.
//! May know: model.

use std::time::Duration;

use crate::model::split::Arm;
use crate::model::state::{Change, Member, MemberSpec, ServiceState};

/// The longest lease, about 31 years: what a clock and a store can add to now without overflow.
const LONGEST: Duration = Duration::from_secs(1_000_000_000);

/// What becomes of the lease of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaseChange<'a> {
    /// The member's pool.
    pub(super) arm: Arm,
    /// The member's id.
    pub(super) id: &'a str,
    /// From now on it lives for this long; none = there is no lease any more.
    pub(super) ttl: Option<Duration>,
}

impl<'a> LeaseChange<'a> {
    /// What a change does to a lease of a service that was in this state.
    pub(super) fn of(change: &'a Change, before: &ServiceState) -> Option<Self> {
        match change {
            Change::PutMember { arm, id, spec } => Some(Self { arm: *arm, id, ttl: ttl(spec) }),
            Change::RemoveMember { arm, id } => Some(Self { arm: *arm, id, ttl: None }),
            // Draining isn't a heartbeat: it leaves the lease of a known member as it is.
            Change::SetDraining { arm, id, spec, .. } => {
                let known = before.pools.get(*arm).get(id).and_then(Member::spec).is_some();
                (!known).then(|| Self { arm: *arm, id, ttl: ttl(spec) })
            }
            _ => None,
        }
    }
}

/// How long a member's lease is; none if it is there for good.
pub(super) fn ttl(spec: &MemberSpec) -> Option<Duration> {
    spec.ttl().map(|ttl| ttl.clamp(Duration::from_millis(1), LONGEST))
}

/// Every member that has a lease.
pub(super) fn leased(state: &ServiceState) -> impl Iterator<Item = (Arm, &str, Duration)> {
    Arm::BOTH.into_iter().flat_map(move |arm| {
        let members = state.pools.get(arm).iter();
        members.filter_map(move |(id, member)| Some((arm, id.as_str(), ttl(member.spec()?)?)))
    })
}

/// Takes the leased members out that don't live any more.
pub(super) fn retain(state: &mut ServiceState, mut lives: impl FnMut(Arm, &str) -> bool) {
    for arm in Arm::BOTH {
        state.pools.get_mut(arm).retain(|id, member| member.spec().and_then(ttl).is_none() || lives(arm, id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(ttl_ms: Option<u64>) -> MemberSpec {
        MemberSpec { ttl_ms, ..MemberSpec::new(([127, 0, 0, 1], 80).into()) }
    }

    fn put(id: &str, ttl_ms: Option<u64>) -> Change {
        Change::PutMember { arm: Arm::Canary, id: id.into(), spec: spec(ttl_ms) }
    }

    fn drain(id: &str) -> Change {
        Change::SetDraining { arm: Arm::Canary, id: id.into(), spec: spec(Some(9)), draining: true }
    }

    #[test]
    fn a_heartbeat_renews_a_lease_and_a_drain_leaves_it() {
        let state = ServiceState::default().apply(&put("a", Some(5)));
        let renewed = LeaseChange { arm: Arm::Canary, id: "a", ttl: Some(Duration::from_millis(5)) };
        assert_eq!(LeaseChange::of(&put("a", Some(5)), &state), Some(renewed));
        assert_eq!(LeaseChange::of(&drain("a"), &state), None);
        assert_eq!(LeaseChange::of(&drain("b"), &state).and_then(|lease| lease.ttl), Some(Duration::from_millis(9)));
    }

    #[test]
    fn a_member_that_stays_for_good_or_goes_has_no_lease() {
        let state = ServiceState::default().apply(&put("a", Some(5)));
        let remove = Change::RemoveMember { arm: Arm::Canary, id: "a".into() };
        for change in [put("a", None), remove] {
            let ended = LeaseChange { arm: Arm::Canary, id: "a", ttl: None };
            assert_eq!(LeaseChange::of(&change, &state), Some(ended));
        }
    }

    #[test]
    fn only_leased_members_can_run_out() {
        let mut state = ServiceState::default()
            .apply(&put("dead", Some(5)))
            .apply(&put("live", Some(5)))
            .apply(&put("fixed", None));
        retain(&mut state, |_, id| id == "live");
        assert_eq!(state.pools.canary.keys().collect::<Vec<_>>(), ["fixed", "live"]);
    }

    #[test]
    fn no_lease_is_too_short_or_too_long_for_a_clock() {
        assert_eq!(ttl(&spec(Some(0))), Some(Duration::from_millis(1)));
        assert_eq!(ttl(&spec(Some(u64::MAX))), Some(LONGEST));
    }
}
