//! `[dns]`: whom serin asks for the addresses of endpoints that have names, and how often.

use crate::config::findings::Findings;
use crate::config::raw::RawDns;
use crate::config::{units, values};
use crate::model::naming::NamingSpec;
use crate::model::span;

/// How names of endpoints are looked up.
pub(super) fn naming(raw: &RawDns, findings: &mut Findings<'_>) -> NamingSpec {
    let usual = NamingSpec::default();
    let servers = findings.read_distinct(&raw.servers, values::dns_server);
    let min_ttl = findings.read_or(raw.min_ttl.as_ref(), usual.min_ttl, units::positive_duration);
    let max_ttl = findings.read_or(raw.max_ttl.as_ref(), usual.max_ttl.max(min_ttl), units::positive_duration);
    if let (true, Some(written)) = (max_ttl < min_ttl, &raw.max_ttl) {
        let text = format!("`max_ttl` is less than `min_ttl`, which is {}", span::show(min_ttl));
        findings.problem(written.span(), text);
    }
    NamingSpec {
        servers: servers.into_iter().map(|(_, server)| server).collect(),
        min_ttl,
        max_ttl,
        timeout: findings.read_or(raw.timeout.as_ref(), usual.timeout, units::positive_duration),
        keep_denied: findings.read_or(raw.keep_denied.as_ref(), usual.keep_denied, units::duration),
    }
}
