//! One after the other, by weight.

use std::ops::Range;

use super::Choice;
use crate::live::ServiceView;
use crate::model::split::Arm;

/// The next of the members whose turn it is and that takes the request.
///
/// Who can't has its turn passed over, not taken by the one behind it: so the others go on sharing by their weights.
pub(super) fn among(choice: &Choice<'_>, service: &ServiceView, arm: Arm, members: &Range<usize>) -> Option<usize> {
    let (group, rota) = service.rotas.as_ref()?.get(arm).among(members)?;
    let mut turns = (0..rota.len()).map(|_| {
        let turn = service.live.take_turn(choice.core.id, arm, group, rota.len());
        members.start + rota[turn] as usize
    });
    turns.find(|index| choice.takes(*index)).or_else(|| choice.any(members))
}
