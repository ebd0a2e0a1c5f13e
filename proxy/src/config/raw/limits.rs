//! `[service.NAME.limits]` and `[[service.NAME.rate_limit]]` as written.

use serde::Deserialize;

use super::{Text, Texts, Value};

/// `[service.NAME.limits]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawLimits {
    pub(in crate::config) max_in_flight: Value,
    pub(in crate::config) max_in_flight_per_endpoint: Value,
    pub(in crate::config) queue: Option<toml::Spanned<RawQueue>>,
}

/// `[service.NAME.limits.queue]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawQueue {
    pub(in crate::config) length: Value,
    pub(in crate::config) timeout: Value,
}

/// `[[service.NAME.rate_limit]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRate {
    pub(in crate::config) name: Text,
    pub(in crate::config) rate: Text,
    pub(in crate::config) burst: Value,
    pub(in crate::config) by: Text,
    #[serde(default)]
    pub(in crate::config) methods: Texts,
    #[serde(default)]
    pub(in crate::config) paths: Texts,
    #[serde(default)]
    pub(in crate::config) exempt: Texts,
    pub(in crate::config) clients: Value,
    pub(in crate::config) scope: Text,
}
