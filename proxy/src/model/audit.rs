//! An entry of the audit log: who changed what, from what, to what, why and when.

use serde::{Deserialize, Serialize};

/// One change that somebody made. Fields may be added, never renamed: it is stored, and sent to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, RFC 3339 in UTC to the millisecond, so that entries sort by it as text.
    pub at: String,
    /// Names it: an entry that was stored twice is one entry. Who notes it may leave it empty.
    #[serde(default)]
    pub id: String,
    /// The proxy that made the change.
    #[serde(default)]
    pub proxy: String,
    /// The token's name, or the uid; the proxy's name where no person did it.
    pub who: String,
    /// What was done: `weight`, `trip`, `reset`, `endpoint.put` …
    pub what: String,
    /// To which service, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// To which endpoint, as `pool/id`, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// To which flag, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<String>,
    /// What was before.
    pub from: String,
    /// What is now.
    pub to: String,
    /// Why, if somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
