//! The one with the least in flight for its weight, of all.

use std::ops::Range;

use super::Choice;

/// The least busy of the members, over all cores: for requests that take long, of which each core alone sees too few.
/// Costs a look at each member, so it is for pools of some dozens.
pub(super) fn among(choice: &Choice<'_>, members: &Range<usize>) -> Option<usize> {
    if members.is_empty() {
        return None;
    }
    let load = |index: &usize| {
        let endpoint = &choice.pool[*index];
        endpoint.live.in_flight().saturating_mul(endpoint.burden.into())
    };
    // Of several equal ones the first, from a random place on.
    let least = choice.around(members).filter(|index| choice.takes(*index)).min_by_key(load);
    least.or_else(|| choice.any(members))
}
