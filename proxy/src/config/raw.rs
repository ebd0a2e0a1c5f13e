//! The file as written: one plain table per struct, nothing understood yet.
//!
//! Numbers, durations and sizes stay [`Scalar`]s with their place in the text, so
//! that what they mean is judged in one go and each fault gets its own caret. No
//! `Debug` here: the store's URL may hold a password.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use toml::Spanned;

mod autoscale;
mod balance;
mod dns;
mod limits;
mod route;

pub(super) use autoscale::{RawAutoscale, RawDocker, RawDriver, RawScalingRule, RawSchedule};
pub(super) use balance::{RawBalance, RawEjection, RawStickiness};
pub(super) use dns::RawDns;
pub(super) use limits::{RawLimits, RawQueue, RawRate};
pub(super) use route::{RawHeaderChanges, RawHeaderRule, RawRedirect, RawRewrite, RawRoute};

/// Text, with its place.
pub(super) type Text = Option<Spanned<String>>;
/// A number, a duration or a size, with its place.
pub(super) type Value = Option<Spanned<Scalar>>;
/// A list of texts, each with its place.
pub(super) type Texts = Vec<Spanned<String>>;

/// A value that stands alone: what it means depends on its key.
#[derive(Clone)]
pub(super) enum Scalar {
    Integer(i64),
    Float(f64),
    Text(String),
    Truth,
}

/// The whole file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    pub(super) runtime: RawRuntime,
    pub(super) admin: RawAdmin,
    pub(super) store: RawStore,
    pub(super) discovery: RawDiscovery,
    pub(super) dns: RawDns,
    pub(super) flags: RawFlagFile,
    pub(super) listener: Vec<RawListener>,
    pub(super) service: BTreeMap<Spanned<String>, RawService>,
    pub(super) alert: RawAlert,
}

/// `[runtime]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRuntime {
    pub(super) threads: Value,
    pub(super) drain: Value,
    pub(super) drain_grace: Value,
}

/// `[admin]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAdmin {
    pub(super) listen: Text,
    pub(super) tokens_file: Text,
    pub(super) ofrep_rate: Value,
}

/// `[store]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStore {
    pub(super) url: Text,
    pub(super) username_file: Text,
    pub(super) password_file: Text,
    pub(super) sentinel_username_file: Text,
    pub(super) sentinel_password_file: Text,
    pub(super) tls: Option<Spanned<RawStoreTls>>,
    pub(super) mirror: Text,
    pub(super) mirror_max_age: Value,
    pub(super) namespace: Text,
    pub(super) state_file: Text,
}

/// `[discovery]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDiscovery {
    pub(super) mass_expiry_share: Value,
}

/// `[flags]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFlagFile {
    pub(super) file: Text,
}

/// `[store.tls]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStoreTls {
    pub(super) ca_file: Text,
    pub(super) certificate_file: Text,
    pub(super) key_file: Text,
}

/// `[[listener]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListener {
    pub(super) name: Spanned<String>,
    pub(super) address: Spanned<String>,
    #[serde(default)]
    pub(super) trusted: Texts,
    #[serde(default)]
    pub(super) proxy_protocol: Texts,
    pub(super) header_timeout: Value,
    pub(super) idle_timeout: Value,
    pub(super) max_header_bytes: Value,
    pub(super) max_connections: Value,
    pub(super) max_connections_per_client: Value,
    pub(super) min_rate: Value,
    pub(super) min_rate_over: Value,
    pub(super) redirect_to_https: Value,
    #[serde(default)]
    pub(super) http2: RawHttp2,
    pub(super) tls: Option<Spanned<RawTls>>,
}

/// `http2` of a listener.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHttp2 {
    pub(super) enabled: Option<bool>,
    pub(super) max_streams: Value,
    pub(super) max_resets: Value,
    pub(super) ping_interval: Value,
    pub(super) websocket: Option<bool>,
}

/// `tls` of a listener.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    #[serde(default)]
    pub(super) certificates: Vec<Spanned<RawCertificate>>,
    pub(super) min_version: Text,
    pub(super) client_ca_file: Text,
    pub(super) client_certificate: Text,
    pub(super) hsts: Value,
}

/// One of `tls.certificates`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCertificate {
    pub(super) cert_file: Text,
    pub(super) key_file: Text,
    pub(super) ocsp_file: Text,
}

/// `[service.NAME]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawService {
    pub(super) hosts: Texts,
    pub(super) route: Vec<Spanned<RawRoute>>,
    pub(super) stable: Texts,
    pub(super) canary: Texts,
    pub(super) control: Texts,
    pub(super) protocol: Text,
    pub(super) max_body: Value,
    pub(super) proxy_protocol: Text,
    pub(super) tls: Option<Spanned<RawServiceTls>>,
    pub(super) split: Option<RawSplit>,
    pub(super) verdict: Option<Spanned<RawVerdict>>,
    pub(super) rollout: RawRollout,
    pub(super) health: Option<RawHealth>,
    pub(super) balance: RawBalance,
    pub(super) stickiness: Option<Spanned<RawStickiness>>,
    pub(super) ejection: Option<Spanned<RawEjection>>,
    pub(super) timeouts: RawTimeouts,
    pub(super) alert: Vec<Spanned<RawRule>>,
    pub(super) gate: Vec<Spanned<RawGate>>,
    pub(super) flags: RawFlags,
    pub(super) limits: RawLimits,
    pub(super) rate_limit: Vec<Spanned<RawRate>>,
    pub(super) autoscale: Option<Spanned<RawAutoscale>>,
}

/// `[service.NAME.tls]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServiceTls {
    pub(super) server_name: Text,
    pub(super) ca_file: Text,
    pub(super) certificate_file: Text,
    pub(super) key_file: Text,
    pub(super) verify: Option<Spanned<bool>>,
}

/// `[service.NAME.split]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSplit {
    pub(super) weight: Value,
    pub(super) control: Value,
    pub(super) sticky: Text,
    pub(super) override_secret_file: Text,
}

/// `[service.NAME.verdict]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawVerdict {
    pub(super) false_pull_rate: Value,
    pub(super) pass_error: Value,
    pub(super) pass_margin: Value,
    pub(super) max_excess_errors: Value,
    pub(super) errors: RawErrors,
    pub(super) slow: RawSlow,
    pub(super) client_errors: RawSignal,
    pub(super) missing: RawSignal,
}

/// `[service.NAME.verdict.errors]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawErrors {
    pub(super) status: Option<Vec<Spanned<Scalar>>>,
    pub(super) grpc_status: Option<Vec<Spanned<Scalar>>>,
    pub(super) body_contains: Texts,
    pub(super) headers: Texts,
    pub(super) session_cookies: Texts,
    pub(super) session_exclude_paths: Texts,
    pub(super) content_types: Texts,
    pub(super) exclude_paths: Texts,
    pub(super) enabled: Option<bool>,
    pub(super) tolerance: Value,
}

/// `[service.NAME.verdict.slow]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSlow {
    pub(super) threshold: Value,
    pub(super) enabled: Option<bool>,
    pub(super) tolerance: Value,
}

/// `[service.NAME.verdict.client_errors]`, and of the other signals without more to say
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSignal {
    pub(super) enabled: Option<bool>,
    pub(super) tolerance: Value,
}

/// `[service.NAME.rollout]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRollout {
    pub(super) steps: Option<Spanned<Texts>>,
    pub(super) max_weight: Value,
    pub(super) freeze: Texts,
    pub(super) deadline: Value,
    pub(super) lease: Value,
}

/// `[service.NAME.health]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHealth {
    pub(super) path: Text,
    pub(super) method: Text,
    pub(super) headers: Texts,
    pub(super) body: Text,
    pub(super) cookies: Option<bool>,
    pub(super) expect_status: Option<Spanned<Vec<Spanned<Scalar>>>>,
    pub(super) expect_body: Text,
    pub(super) interval: Value,
    pub(super) down_interval: Value,
    pub(super) timeout: Value,
    pub(super) rise: Value,
    pub(super) fall: Value,
}

/// `[service.NAME.timeouts]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTimeouts {
    pub(super) connect: Value,
    pub(super) header: Value,
    pub(super) idle: Value,
    pub(super) total: Value,
    pub(super) keep_alive: Value,
    pub(super) tunnel_idle: Value,
}

/// `[[service.NAME.alert]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    pub(super) metric: Spanned<String>,
    pub(super) above: Value,
    pub(super) below: Value,
    #[serde(rename = "for")]
    pub(super) hold: Value,
}

/// `[[service.NAME.gate]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGate {
    pub(super) flag: Spanned<String>,
    #[serde(default)]
    pub(super) methods: Texts,
    pub(super) path: Text,
    pub(super) path_prefix: Text,
    pub(super) default: Option<bool>,
    pub(super) status: Value,
    pub(super) body: Text,
    pub(super) content_type: Text,
    pub(super) redirect: Text,
}

/// `[service.NAME.flags]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFlags {
    pub(super) header: Texts,
}

/// `[alert]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAlert {
    pub(super) outbox: Text,
    pub(super) email: Option<RawEmail>,
}

/// `[alert.email]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEmail {
    pub(super) smtp: Spanned<String>,
    pub(super) from: Spanned<String>,
    pub(super) to: Spanned<Texts>,
    pub(super) username_file: Text,
    pub(super) password_file: Text,
    pub(super) ca_file: Text,
    pub(super) admin_url: Text,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a string")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Truth)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Integer(value))
    }

    /// An integer beyond 64 bits is out of every range here; as a float it is refused as such.
    fn visit_i128<E>(self, value: i128) -> Result<Scalar, E> {
        Ok(Scalar::Float(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }
}
