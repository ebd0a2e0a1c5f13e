//! The audit log: who changed what, from what, to what, why and when.
//!
//! Each entry goes to the log under the target `audit`, which keeps it for good, and
//! into a ring in memory, which `GET /v1/audit` shows.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::guard::Caller;
use crate::telemetry;
use crate::telemetry::log::AUDIT;

/// Entries kept in memory; the oldest goes first.
const CAPACITY: usize = 1_000;

/// One change that somebody made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// When, RFC 3339.
    at: String,
    /// The token's name, or the uid.
    who: String,
    /// What was done: `weight`, `trip`, `reset`, `endpoint.put` …
    what: String,
    /// To which service.
    service: String,
    /// To which endpoint, as `pool/id`, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// What was before.
    from: String,
    /// What is now.
    to: String,
    /// Why, if somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// What is to be noted of a change.
#[derive(Debug)]
pub(super) struct Note<'a> {
    pub(super) what: &'static str,
    pub(super) service: &'a str,
    pub(super) endpoint: Option<String>,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) why: Option<String>,
}

/// The ring.
#[derive(Debug, Default)]
pub(super) struct Audit(Mutex<VecDeque<Entry>>);

impl Audit {
    /// Notes a change that was made.
    pub(super) fn note(&self, caller: &Caller, note: Note<'_>) {
        let Note { what, service, endpoint, from, to, why } = note;
        let who = caller.name.clone();
        tracing::info!(target: AUDIT, who, what, service, endpoint, from, to, why, "Changed");
        let at = telemetry::now().to_string();
        let entry = Entry { at, who, what: what.to_owned(), service: service.to_owned(), endpoint, from, to, why };
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == CAPACITY {
            ring.pop_front();
        }
        ring.push_back(entry);
    }

    fn newest_first(&self) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

/// The audit log as it is sent.
#[derive(Debug, Serialize)]
pub(super) struct AuditJson {
    /// The proxy whose API was asked: each keeps its own.
    proxy: String,
    /// How many entries are kept.
    capacity: usize,
    /// The newest first.
    entries: Vec<Entry>,
}

/// `GET /v1/audit`
pub(super) async fn list(State(admin): State<Admin>) -> Json<AuditJson> {
    let entries = admin.audit.newest_first();
    Json(AuditJson { proxy: admin.state.proxy_name.clone(), capacity: CAPACITY, entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_and_the_oldest_goes_first() {
        let audit = Audit::default();
        let caller = Caller::for_tests("ann");
        for n in 0..CAPACITY + 5 {
            let (from, to) = (n.to_string(), (n + 1).to_string());
            audit.note(&caller, Note { what: "weight", service: "s", endpoint: None, from, to, why: None });
        }
        let entries = audit.newest_first();
        assert_eq!(entries.len(), CAPACITY);
        assert_eq!(entries[0].to, (CAPACITY + 5).to_string());
        assert_eq!(entries[CAPACITY - 1].from, "5");
    }
}
