//! What was done lately, as the store keeps it: a new leader goes on where the last one ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::time::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);

/// Instances that were started together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// When.
    pub at: Timestamp,
    /// How many.
    pub count: u32,
}

/// What was done lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// When instances were last added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grew: Option<Timestamp>,
    /// When instances were last taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrank: Option<Timestamp>,
    /// What was started in the last hour, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<Start>,
}

impl Ledger {
    /// How many were started in the hour before a moment. What lies after it counts too: a clock that went back
    /// frees no budget.
    pub fn started_lately(&self, now: Timestamp) -> u32 {
        let lately = self.starts.iter().filter(|start| now.since(start.at) < HOUR);
        lately.fold(0, |sum, start| sum.saturating_add(start.count))
    }

    /// Notes that so many are started.
    pub fn note_grow(&mut self, now: Timestamp, count: u32) {
        self.starts.retain(|start| now.since(start.at) < HOUR);
        self.starts.push(Start { at: now, count });
        self.grew = Some(now);
    }

    /// Notes that some are taken away.
    pub const fn note_shrink(&mut self, now: Timestamp) {
        self.shrank = Some(now);
    }
}
