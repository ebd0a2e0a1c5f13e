//! `[dns]` as written.

use serde::Deserialize;

use super::{Texts, Value};

/// `[dns]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawDns {
    pub(in crate::config) servers: Texts,
    pub(in crate::config) min_ttl: Value,
    pub(in crate::config) max_ttl: Value,
    pub(in crate::config) timeout: Value,
    pub(in crate::config) keep_denied: Value,
}
