//! `[service.NAME.autoscale]` as written.

use serde::Deserialize;
use toml::Spanned;

use super::{Scalar, Text, Texts, Value};

/// `[service.NAME.autoscale]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawAutoscale {
    pub(in crate::config) min: Value,
    pub(in crate::config) max: Value,
    pub(in crate::config) deadband: Value,
    pub(in crate::config) warm_up: Value,
    pub(in crate::config) cooldown: Value,
    pub(in crate::config) grow_after: Value,
    pub(in crate::config) shrink_after: Value,
    pub(in crate::config) max_grow: Value,
    pub(in crate::config) max_shrink: Value,
    pub(in crate::config) starts_per_hour: Value,
    pub(in crate::config) in_rollout: Text,
    #[serde(default)]
    pub(in crate::config) freeze: Texts,
    pub(in crate::config) dry_run: Option<bool>,
    pub(in crate::config) prometheus: Text,
    #[serde(default)]
    pub(in crate::config) rule: Vec<Spanned<RawScalingRule>>,
    #[serde(default)]
    pub(in crate::config) schedule: Vec<Spanned<RawSchedule>>,
    pub(in crate::config) driver: Option<Spanned<RawDriver>>,
}

/// `[[service.NAME.autoscale.rule]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawScalingRule {
    pub(in crate::config) metric: Text,
    pub(in crate::config) query: Text,
    pub(in crate::config) name: Text,
    pub(in crate::config) target: Value,
    pub(in crate::config) forecast: Value,
    pub(in crate::config) last_week: Option<Spanned<bool>>,
    pub(in crate::config) above: Value,
    pub(in crate::config) add: Value,
    pub(in crate::config) below: Value,
    pub(in crate::config) remove: Value,
    #[serde(rename = "for")]
    pub(in crate::config) hold: Value,
}

/// `[[service.NAME.autoscale.schedule]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawSchedule {
    pub(in crate::config) window: Spanned<String>,
    pub(in crate::config) min: Value,
    pub(in crate::config) max: Value,
}

/// `[service.NAME.autoscale.driver]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawDriver {
    pub(in crate::config) exec: Option<Spanned<Texts>>,
    pub(in crate::config) docker: Option<Spanned<RawDocker>>,
    pub(in crate::config) timeout: Value,
    pub(in crate::config) ready_within: Value,
}

/// `[service.NAME.autoscale.driver.docker]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawDocker {
    pub(in crate::config) engine: Text,
    pub(in crate::config) ca_file: Text,
    pub(in crate::config) certificate_file: Text,
    pub(in crate::config) key_file: Text,
    pub(in crate::config) image: Spanned<String>,
    #[serde(default)]
    pub(in crate::config) command: Texts,
    pub(in crate::config) port: Spanned<Scalar>,
    pub(in crate::config) network: Text,
    pub(in crate::config) publish: Text,
    pub(in crate::config) env_file: Text,
}
