//! What the store keeps of a pool's scaling: who may act, what is under way, what a person ordered.
//!
//! It changes by [`ScalingChange`]s alone. Those of a leader name its fence: what an earlier leader decided before it
//! was overtaken, such as a process that was paused and wakes up, changes nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::rollout::Fence;
use super::super::state::ServiceState;
use super::super::time::Timestamp;
use super::{Ledger, Lesson, Week};

/// After the first failure of the driver it is left alone for so long; twice as long after each one more.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
/// But never for longer than this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(600);

/// What is kept of a pool's scaling.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// The latest leader that acted.
    #[serde(default)]
    pub fence: Fence,
    /// What was done lately.
    #[serde(default)]
    pub ledger: Ledger,
    /// Instances that were asked for and haven't all come, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// Instances that are being taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal: Option<Removal>,
    /// What a person ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Failures of the driver in a row.
    #[serde(default)]
    pub failures: u32,
    /// The last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Timestamp>,
}

/// Instances that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Names the wish to the driver: told twice, it is one.
    pub token: String,
    /// How many, in all.
    pub count: u32,
    /// When, or when more were asked for.
    pub at: Timestamp,
    /// How far it is.
    pub stage: Stage,
    /// The endpoints that were in the pool before.
    pub before: Vec<String>,
    /// Those of them that weren't ready: one that is ready now was brought back by the driver, or came back by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<String>,
}

/// How far a grant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The driver is to start them.
    Asked,
    /// The driver says that they are started.
    Started,
    /// The driver failed, or they didn't come in time: it is to make sure that none of them runs. Until it has, they
    /// count as there.
    Undone,
}

/// Instances that are taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Names the wish to the driver.
    pub token: String,
    /// Which endpoints.
    pub ids: Vec<String>,
    /// Since when they drain.
    pub at: Timestamp,
    /// How far it is.
    #[serde(default)]
    pub stage: Leaving,
}

/// How far a removal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leaving {
    /// They drain. The driver hasn't heard of it.
    #[default]
    Draining,
    /// They are to serve again: it is over once they do.
    Returning,
    /// They were given to the driver, which may have begun to stop them.
    Given,
    /// The driver says that they are stopped: it is over once they are out of the pool.
    Stopped,
}

/// What a person ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The size to have; none = leave it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Until when.
    pub until: Timestamp,
    /// Who.
    pub by: String,
    /// Why, if somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A wish to change what is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum ScalingChange {
    /// A person orders something, or nothing any more.
    Order(Option<Order>),
    /// A leader does something.
    Lead {
        /// Which leader.
        fence: Fence,
        /// What.
        act: Act,
    },
}

/// What a leader does.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Asks for instances, or for more by the same grant: while some haven't come, those that come can't be told apart
    /// by grant, so there is one at a time. Whoever asks by another one hasn't seen the first, and gets nothing.
    Grant(Grant),
    /// Notes how far a grant is.
    Reach {
        /// Its token.
        token: String,
        /// How far.
        stage: Stage,
    },
    /// A grant is over: all of it came, or none of it runs.
    Settle {
        /// Its token.
        token: String,
    },
    /// Takes instances away.
    Remove(Removal),
    /// Notes how far a removal is.
    Leave {
        /// Its token.
        token: String,
        /// How far.
        stage: Leaving,
    },
    /// A removal is over.
    Removed {
        /// Its token.
        token: String,
    },
    /// The driver failed.
    Fail {
        /// When.
        at: Timestamp,
    },
    /// Learns what the load was.
    Learn(Lesson),
    /// Nothing, but that this leader leads.
    Hold,
    /// The driver did as asked.
    Succeed,
}

impl Scaling {
    /// The grant of a token.
    pub fn grant(&self, token: &str) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.token == token)
    }

    /// The order, while it holds.
    pub fn order_at(&self, now: Timestamp) -> Option<&Order> {
        self.order.as_ref().filter(|order| order.until > now)
    }

    /// Until when the driver is left alone after its failures. One that is to come was noted by a clock that was wrong.
    pub fn backs_off_until(&self, now: Timestamp) -> Option<Timestamp> {
        let doublings = self.failures.checked_sub(1)?.min(16);
        let failed = self.failed.filter(|failed| failed.since(now) <= LONGEST_BACKOFF)?;
        Some(failed + (FIRST_BACKOFF * (1 << doublings)).min(LONGEST_BACKOFF))
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Grant(grant) => {
                let known = self.grant(&grant.token).map_or(0, |known| known.count);
                let others = self.grants.iter().any(|known| known.token != grant.token);
                if grant.count > known && !others {
                    self.ledger.note_grow(grant.at, grant.count - known);
                    self.grants.retain(|known| known.token != grant.token);
                    self.grants.push(grant.clone());
                }
            }
            Act::Reach { token, stage } => {
                if let Some(grant) = self.grants.iter_mut().find(|grant| grant.token == *token) {
                    grant.stage = *stage;
                }
            }
            Act::Settle { token } => self.grants.retain(|grant| grant.token != *token),
            Act::Remove(removal) => {
                if self.removal.is_none() {
                    self.removal = Some(removal.clone());
                    self.ledger.note_shrink(removal.at);
                }
            }
            Act::Leave { token, stage } => {
                if let Some(removal) = self.removal.as_mut().filter(|removal| removal.token == *token) {
                    removal.stage = *stage;
                }
            }
            Act::Removed { token } => self.removal = self.removal.take().filter(|removal| removal.token != *token),
            Act::Fail { at } => {
                self.failures = self.failures.saturating_add(1);
                self.failed = Some(*at);
            }
            // That is kept beside this: see `ServiceState::alter_scaling`.
            Act::Hold | Act::Learn(_) => {}
            Act::Succeed => (self.failures, self.failed) = (0, None),
        }
    }
}

impl ServiceState {
    pub(in crate::model) fn alter_scaling(&mut self, change: &ScalingChange) {
        let mut scaling = self.scaling.take().unwrap_or_default();
        match change {
            ScalingChange::Order(order) => scaling.order.clone_from(order),
            ScalingChange::Lead { fence, act } if *fence >= scaling.fence => {
                scaling.fence = *fence;
                scaling.act(act);
                if let Act::Learn(lesson) = act {
                    self.week = Some(Week::after(self.week.as_ref(), *lesson));
                }
            }
            // Overtaken.
            ScalingChange::Lead { .. } => {}
        }
        self.scaling = (scaling != Scaling::default()).then_some(scaling);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::state::Change;
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn grant(token: &str) -> Grant {
        Grant { token: token.into(), count: 2, at: NOW, stage: Stage::Asked, before: vec![], down: vec![] }
    }

    fn lead(fence: u64, act: Act) -> Change {
        Change::Scaling(ScalingChange::Lead { fence: Fence(fence), act })
    }

    fn scaling(state: &ServiceState) -> Scaling {
        state.scaling.clone().unwrap_or_default()
    }

    #[test]
    fn a_leader_that_was_overtaken_changes_nothing() {
        let state = ServiceState::default().apply(&lead(5, Act::Grant(grant("a"))));
        let overtaken = state.apply(&lead(6, Act::Reach { token: "a".into(), stage: Stage::Started }));
        for late in [Act::Grant(grant("b")), Act::Settle { token: "a".into() }, Act::Fail { at: NOW }] {
            assert_eq!(overtaken.apply(&lead(5, late)), overtaken);
        }
    }

    #[test]
    fn a_grant_told_twice_is_one() {
        let once = ServiceState::default().apply(&lead(5, Act::Grant(grant("a"))));
        assert_eq!(once.apply(&lead(5, Act::Grant(grant("a")))), once);
        assert_eq!(scaling(&once).ledger.started_lately(NOW), 2);
        let more = once.apply(&lead(5, Act::Grant(Grant { count: 5, ..grant("a") })));
        let stored = scaling(&more);
        assert_eq!((stored.grants.len(), stored.grants[0].count, stored.ledger.started_lately(NOW)), (1, 5, 5));
        let over = once.apply(&lead(5, Act::Settle { token: "a".into() }));
        assert!(scaling(&over).grants.is_empty());
    }

    #[test]
    fn instances_are_asked_for_by_one_grant_at_a_time() {
        let state = ServiceState::default().apply(&lead(5, Act::Grant(grant("a"))));
        assert_eq!(state.apply(&lead(6, Act::Grant(grant("b")))).scaling.map(|scaling| scaling.grants), {
            state.scaling.clone().map(|scaling| scaling.grants)
        });
        let over = state.apply(&lead(5, Act::Settle { token: "a".into() })).apply(&lead(6, Act::Grant(grant("b"))));
        assert_eq!(scaling(&over).grants, [grant("b")]);
    }

    #[test]
    fn one_removal_is_under_way_at_a_time() {
        let removal =
            |token: &str| Removal { token: token.into(), ids: vec!["x".into()], at: NOW, stage: Leaving::Draining };
        let state = ServiceState::default().apply(&lead(5, Act::Remove(removal("a"))));
        assert_eq!(state.apply(&lead(5, Act::Remove(removal("b")))), state);
        let leave = |token: &str| Act::Leave { token: token.into(), stage: Leaving::Given };
        assert_eq!(state.apply(&lead(5, leave("b"))), state);
        assert_eq!(
            scaling(&state.apply(&lead(5, leave("a")))).removal.map(|removal| removal.stage),
            Some(Leaving::Given)
        );
        let over = state.apply(&lead(5, Act::Removed { token: "a".into() }));
        assert_eq!(scaling(&over).removal, None);
    }

    #[test]
    fn a_driver_that_keeps_failing_is_asked_less_and_less() {
        let mut state = ServiceState::default();
        let mut waits = Vec::new();
        for _ in 0..9 {
            state = state.apply(&lead(5, Act::Fail { at: NOW }));
            waits.push(scaling(&state).backs_off_until(NOW).expect("it failed").since(NOW).as_secs());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert_eq!(scaling(&state).backs_off_until(NOW - Duration::from_secs(601)), None, "nobody failed to-morrow");
        assert_eq!(scaling(&state.apply(&lead(5, Act::Succeed))).backs_off_until(NOW), None);
    }

    #[test]
    fn an_order_ends_by_itself() {
        let order = Order { size: Some(4), until: NOW, by: "ann".into(), reason: None };
        let state = ServiceState::default().apply(&Change::Scaling(ScalingChange::Order(Some(order.clone()))));
        assert_eq!(scaling(&state).order_at(NOW - Duration::from_secs(1)), Some(&order));
        assert_eq!(scaling(&state).order_at(NOW), None);
        assert_eq!(state.apply(&Change::Scaling(ScalingChange::Order(None))).scaling, None);
    }
}
