//! `[[service.NAME.route]]` as written.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::{RawTimeouts, Text, Texts, Value};

/// `[[service.NAME.route]]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawRoute {
    pub(in crate::config) name: Text,
    pub(in crate::config) path: Text,
    pub(in crate::config) path_prefix: Text,
    pub(in crate::config) path_regex: Text,
    pub(in crate::config) methods: Texts,
    pub(in crate::config) headers: Vec<Spanned<RawHeaderRule>>,
    pub(in crate::config) timeouts: RawTimeouts,
    pub(in crate::config) max_body: Value,
    pub(in crate::config) retries: Text,
    pub(in crate::config) rewrite: Option<Spanned<RawRewrite>>,
    pub(in crate::config) merge_slashes: Option<Spanned<bool>>,
    pub(in crate::config) redirect: Option<Spanned<RawRedirect>>,
    pub(in crate::config) request_headers: RawHeaderChanges,
    pub(in crate::config) response_headers: RawHeaderChanges,
}

/// One of a route's `headers`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawHeaderRule {
    pub(in crate::config) name: Spanned<String>,
    pub(in crate::config) value: Text,
    pub(in crate::config) prefix: Text,
}

/// `rewrite` of a route.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRewrite {
    pub(in crate::config) prefix: Text,
    pub(in crate::config) path: Text,
}

/// `redirect` of a route.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRedirect {
    pub(in crate::config) to: Text,
    pub(in crate::config) status: Value,
    pub(in crate::config) keep_path: Option<bool>,
}

/// `request_headers` and `response_headers` of a route.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawHeaderChanges {
    pub(in crate::config) set: BTreeMap<Spanned<String>, Spanned<String>>,
    pub(in crate::config) remove: Texts,
}
