//! Two drawn by weight; of these the one that will answer sooner.

use std::ops::Range;

use super::Choice;
use crate::live::snapshot::ONE_REQUEST;

/// How often one is drawn anew that warms up and leaves the request to others.
const DRAWS: usize = 4;

/// One of two that are drawn. Costs the same for ten endpoints and for ten thousand, as long as most are ready.
pub(super) fn among(choice: &Choice<'_>, members: &Range<usize>) -> Option<usize> {
    match members.len() {
        0 => return None,
        1 => return Some(members.start).filter(|index| choice.may(*index)),
        _ => {}
    }
    let draw = || match choice.slow {
        None => Some(choice.draw(members)).filter(|index| choice.may(*index)),
        Some(_) => (0..DRAWS).map(|_| choice.draw(members)).find(|index| choice.takes(*index)),
    };
    match (draw(), draw()) {
        (Some(one), Some(other)) => Some(sooner(choice, one, other)),
        (Some(only), None) | (None, Some(only)) => Some(only),
        // Both draws missed: look at all.
        (None, None) => choice.any(members),
    }
}

/// The other if it is clearly better, else the first: differences of less than a quarter are noise, and who is a little
/// slower than its peers shall keep its share.
fn sooner(choice: &Choice<'_>, one: usize, other: usize) -> usize {
    let (core, at) = (choice.core.id, choice.core.clock.micros());
    let facts = |index: usize| {
        let endpoint = &choice.pool[index];
        let in_flight = endpoint.live.in_flight_on(core).saturating_mul(endpoint.burden.into());
        (in_flight.saturating_add(ONE_REQUEST.into()), endpoint.live.latency_on(core, at))
    };
    let ((busy, late), (other_busy, other_late)) = (facts(one), facts(other));
    // Where one of them isn't known, only how busy they are can be compared.
    let (late, other_late) = if late == 0 || other_late == 0 { (1, 1) } else { (late, other_late) };
    let cost = |busy: u64, late: u64| u128::from(busy) * u128::from(late);
    if cost(other_busy, other_late) * 5 < cost(busy, late) * 4 { other } else { one }
}
