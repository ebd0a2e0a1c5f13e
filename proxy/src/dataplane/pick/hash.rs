//! The one to which a key belongs, as long as that isn't too busy.

use std::ops::Range;

use super::Choice;
use crate::model::balance::rendezvous::{capacity, distance, is_among};

/// The member that is the nearest to the key of those that may have one more request in flight. By what this core has in
/// flight: each core keeps the bound for itself, and so all of them do. Costs a look at each member.
pub(super) fn among(choice: &Choice<'_>, members: &Range<usize>, bound: f64, key: u64) -> Option<usize> {
    let in_flight = |index: usize| choice.pool[index].live.in_flight_on(choice.core.id);
    let weight = |index: usize| choice.pool[index].member.weight.max(1);
    let (mut total, mut all) = (0, 0);
    for index in members.clone().filter(|index| choice.may(*index)) {
        total += u64::from(weight(index));
        all += in_flight(index);
    }
    let has_room = |index: &usize| in_flight(*index) < capacity(bound, all, weight(*index), total);
    let is_its =
        |index: &usize| choice.warming(*index).is_none_or(|share| is_among(key, choice.pool[*index].point, share));
    let (mut nearest, mut anyhow) = (None, None);
    for index in members.clone().filter(|index| choice.may(*index)).filter(has_room) {
        let distance = distance(key, choice.pool[index].point, weight(index));
        let found = if is_its(&index) { &mut nearest } else { &mut anyhow };
        if found.is_none_or(|(_, best)| distance < best) {
            *found = Some((index, distance));
        }
    }
    nearest.or(anyhow).map(|(index, _)| index)
}
