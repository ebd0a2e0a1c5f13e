//! The turns of a pool's endpoints, found once when a snapshot is made, for services that go by turns.

use std::ops::Range;

use super::EndpointView;
use crate::model::balance::rota::rota;

/// Groups of members of a pool that take turns: all of them; where stable has a control, that and the rest as well.
pub const GROUPS: usize = 3;

/// The turns of one pool.
#[derive(Debug, Default)]
pub struct Rotas {
    /// Groups by their places in the pool, and the places in the order of their turns.
    groups: Vec<(Range<usize>, Box<[u32]>)>,
}

impl Rotas {
    /// Of a pool whose members from this place on are the control's.
    pub(super) fn of(pool: &[EndpointView], control_from: usize) -> Self {
        let mut groups: Vec<(Range<usize>, Box<[u32]>)> = Vec::with_capacity(GROUPS);
        for members in [0..pool.len(), 0..control_from, control_from..pool.len()] {
            if !groups.iter().any(|(known, _)| *known == members) && !members.is_empty() {
                let weights: Vec<u16> = pool[members.clone()].iter().map(|endpoint| endpoint.member.weight).collect();
                groups.push((members, rota(&weights).into()));
            }
        }
        Self { groups }
    }

    /// The turns of a group, as places counted from its first member, and which group it is, below [`GROUPS`].
    pub fn among(&self, members: &Range<usize>) -> Option<(usize, &[u32])> {
        let found = self.groups.iter().enumerate().find(|(_, (known, _))| known == members)?;
        Some((found.0, &found.1.1))
    }
}
