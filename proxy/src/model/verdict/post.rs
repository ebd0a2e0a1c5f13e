//! What proxies of a fleet tell each other of an episode.
//!
//! Posts may come in any order and more than once: whoever takes them in knows a fact by its unit,
//! signal and draw, and of two counts the larger stands.

use super::signals::Fact;
use crate::model::outcome::BadSample;
use crate::model::split::PerArm;
use crate::model::time::Timestamp;
use crate::model::weight::Weight;

/// One thing that a proxy tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Post {
    /// A unit went bad. Told once for each signal, and again where it goes bad in a later step.
    Bad {
        /// All that the verdict needs to know.
        fact: Fact,
        /// The request, for people; not every post has one.
        sample: Option<BadSample>,
    },
    /// How much traffic the proxy had.
    Seen(Seen),
}

/// How much traffic one proxy had.
///
/// Users may visit several proxies, so counts of several are never added: the largest of them is a lower bound
/// of what all of them saw together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The weight of the step that runs there.
    pub weight: Weight,
    /// When that step began there.
    pub begun_at: Timestamp,
    /// Distinct units of that step that had time to fail: a lower estimate.
    pub exposed: u64,
    /// Distinct client addresses of the episode.
    pub addresses: u64,
    /// Distinct units of the episode by arm.
    pub units: PerArm<u64>,
}

impl Seen {
    /// Whether this tells enough more than what was told before: another step, or a count that grew by
    /// a twentieth. The first addresses count each.
    pub fn is_news_after(&self, told: &Self) -> bool {
        let grew = |now: u64, before: u64| now > before + before / 20;
        self.weight != told.weight
            || self.begun_at != told.begun_at
            || grew(self.exposed, told.exposed)
            || grew(self.addresses, told.addresses)
            || grew(self.units.stable, told.units.stable)
            || grew(self.units.canary, told.units.canary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_when_they_grew_by_a_twentieth() {
        let told = Seen { exposed: 1_000, addresses: 8, ..Seen::default() };
        assert!(!told.is_news_after(&told));
        assert!(!Seen { exposed: 1_050, ..told }.is_news_after(&told));
        assert!(Seen { exposed: 1_051, ..told }.is_news_after(&told));
        assert!(Seen { addresses: 9, ..told }.is_news_after(&told));
        assert!(Seen { begun_at: Timestamp::from_millis(1), ..told }.is_news_after(&told));
        // so that a million units make for some three hundred posts
        let (mut last, mut posts) = (Seen::default(), 0);
        for exposed in 1..1_000_000 {
            let now = Seen { exposed, ..last };
            if now.is_news_after(&last) {
                (last, posts) = (now, posts + 1);
            }
        }
        assert!(posts < 300, "{posts}");
    }
}
