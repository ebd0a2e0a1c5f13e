//! `[service.NAME.balance]`, `[service.NAME.stickiness]` and `[service.NAME.ejection]` as written.

use serde::Deserialize;
use toml::Spanned;

use super::{Scalar, Text, Texts, Value};

/// `[service.NAME.balance]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawBalance {
    pub(in crate::config) policy: Text,
    pub(in crate::config) hash_by: Text,
    pub(in crate::config) hash_bound: Value,
    pub(in crate::config) slow_start: Value,
    pub(in crate::config) slow_start_aggression: Value,
    pub(in crate::config) panic_percent: Value,
    pub(in crate::config) all_down: Text,
}

/// `[service.NAME.stickiness]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawStickiness {
    pub(in crate::config) session_cookies: Texts,
    pub(in crate::config) secret_file: Text,
    pub(in crate::config) drain: Value,
}

/// `[service.NAME.ejection]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawEjection {
    pub(in crate::config) consecutive: Value,
    pub(in crate::config) status: Option<Vec<Spanned<Scalar>>>,
    pub(in crate::config) peer_margin: Value,
    pub(in crate::config) min_requests: Value,
    pub(in crate::config) interval: Value,
    pub(in crate::config) max_percent: Value,
    pub(in crate::config) min_ready: Value,
    pub(in crate::config) time: Value,
    pub(in crate::config) max_time: Value,
    pub(in crate::config) canary: Option<bool>,
}
