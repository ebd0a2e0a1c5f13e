//! Whether what the store says of a scaling can have come about: people and scripts may write there too.
//!
//! What is sound by itself may still be too much for a pool: that is for whoever knows the pool and its bounds.

use std::collections::BTreeSet;

use super::record::Scaling;
use super::spec::MOST_INSTANCES;

/// The longest token, in characters.
const LONGEST_TOKEN: usize = 64;

/// What is wrong with a scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScalingError {
    /// A driver may make a file's name or a label of it.
    #[error("a token is 1 to {LONGEST_TOKEN} letters, digits, `-` and `_`, and names one wish")]
    Token,
    /// No pool is that large, and nobody asks for none.
    #[error("a wish is for 1 to {MOST_INSTANCES} instances")]
    Count,
    /// Which endpoints a removal is about.
    #[error("a removal names 1 to {MOST_INSTANCES} endpoints, each once")]
    Endpoints,
    /// The leader that acted.
    #[error("no leader has such a fence")]
    Fence,
    /// What a person ordered.
    #[error("an order is for at most {MOST_INSTANCES} instances")]
    Order,
}

impl Scaling {
    /// Whether this is a scaling that can have come about.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), ScalingError> {
        if !self.fence.is_sound() {
            return Err(ScalingError::Fence);
        }
        let tokens = || self.grants.iter().map(|grant| &grant.token).chain(self.removal.iter().map(|r| &r.token));
        if !tokens().all(|token| is_token(token)) || tokens().collect::<BTreeSet<_>>().len() != tokens().count() {
            return Err(ScalingError::Token);
        }
        if !self.grants.iter().all(|grant| (1..=MOST_INSTANCES).contains(&grant.count)) {
            return Err(ScalingError::Count);
        }
        let most = usize::try_from(MOST_INSTANCES).unwrap_or(usize::MAX);
        if let Some(removal) = &self.removal {
            let once: BTreeSet<&String> = removal.ids.iter().collect();
            if !(1..=most).contains(&removal.ids.len()) || once.len() != removal.ids.len() {
                return Err(ScalingError::Endpoints);
            }
        }
        let ordered = self.order.as_ref().and_then(|order| order.size);
        if ordered.is_some_and(|size| size > MOST_INSTANCES) { Err(ScalingError::Order) } else { Ok(()) }
    }
}

fn is_token(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=LONGEST_TOKEN).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::super::super::rollout::Fence;
    use super::super::super::time::Timestamp;
    use super::super::{Grant, Order, Removal, Stage};
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn granting(token: &str, count: u32) -> Scaling {
        let (before, down) = (vec![], vec![]);
        let grant = Grant { token: token.into(), count, at: NOW, stage: Stage::Asked, before, down };
        Scaling { grants: vec![grant], ..Scaling::default() }
    }

    fn removing(token: &str, ids: &[&str]) -> Scaling {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let removal = Removal { token: token.into(), ids, at: NOW, stage: super::super::Leaving::Given };
        Scaling { removal: Some(removal), ..Scaling::default() }
    }

    #[test]
    fn what_nobody_can_have_asked_for_is_refused() {
        for sound in [Scaling::default(), granting("5f1c-0a_9", 10_000), removing("t", &["a", "b"])] {
            assert_eq!(sound.check(), Ok(()), "{sound:?}");
        }
        let order = Order { size: Some(10_001), until: NOW, by: "ann".into(), reason: None };
        let mut twice = removing("t", &["a"]);
        twice.grants = granting("t", 1).grants;
        for (scaling, error) in [
            (granting("t", 100_000), ScalingError::Count),
            (granting("t", 0), ScalingError::Count),
            (granting("../t", 1), ScalingError::Token),
            (granting("", 1), ScalingError::Token),
            (twice, ScalingError::Token),
            (removing("t", &[]), ScalingError::Endpoints),
            (removing("t", &["a", "a"]), ScalingError::Endpoints),
            (Scaling { fence: Fence(u64::MAX), ..Scaling::default() }, ScalingError::Fence),
            (Scaling { order: Some(order), ..Scaling::default() }, ScalingError::Order),
        ] {
            assert_eq!(scaling.check(), Err(error), "{scaling:?}");
        }
    }
}
