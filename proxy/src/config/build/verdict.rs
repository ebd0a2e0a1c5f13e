//! `[service.NAME.verdict]` and its signals.

use toml::Spanned;

use crate::config::findings::Findings;
use crate::config::raw::{RawErrors, RawVerdict, Scalar};
use crate::config::units::{self, Reason};
use crate::config::values;
use crate::model::outcome::PerSignal;
use crate::model::spec::{CodeSet, ErrorMatchers, Protocol, SignalSpec, SlowThreshold, VerdictSpec};

/// Codes of gRPC that are the server's fault: unknown, internal, unavailable, data loss.
const GRPC_FAULTS: [u32; 4] = [2, 13, 14, 15];
/// The last that has a meaning.
const LAST_GRPC_CODE: u64 = 16;

/// How a canary is judged whose endpoints speak this.
pub(super) fn verdict(raw: &RawVerdict, protocol: Protocol, findings: &mut Findings<'_>) -> VerdictSpec {
    let default = VerdictSpec::default();
    let mut fraction = |raw: &Option<_>, default| findings.read_or(raw.as_ref(), default, units::open_fraction);
    let false_pull_rate = fraction(&raw.false_pull_rate, default.false_pull_rate);
    let pass_error = fraction(&raw.pass_error, default.pass_error);
    let pass_margin = fraction(&raw.pass_margin, default.pass_margin);
    let max_excess_errors =
        findings.read_or(raw.max_excess_errors.as_ref(), 0, |value| units::count(value, 0, u64::MAX));
    let errors = errors(&raw.errors, protocol, findings);
    let slow = findings.read_or(raw.slow.threshold.as_ref(), default.slow, slow);
    let signals = signals(raw, findings);
    VerdictSpec { false_pull_rate, pass_error, pass_margin, max_excess_errors, errors, signals, slow }
}

fn signals(raw: &RawVerdict, findings: &mut Findings<'_>) -> PerSignal<SignalSpec> {
    let mut signal = |enabled: Option<bool>, tolerance: &Option<Spanned<Scalar>>, default: SignalSpec| SignalSpec {
        enabled: enabled.unwrap_or(default.enabled),
        tolerance: findings.read_or(tolerance.as_ref(), default.tolerance, units::tolerance),
    };
    let default = SignalSpec::DEFAULT;
    let signals = PerSignal {
        errors: signal(raw.errors.enabled, &raw.errors.tolerance, default.errors),
        slow: signal(raw.slow.enabled, &raw.slow.tolerance, default.slow),
        client_errors: signal(raw.client_errors.enabled, &raw.client_errors.tolerance, default.client_errors),
        missing: signal(raw.missing.enabled, &raw.missing.tolerance, default.missing),
    };
    if signals.iter().all(|(_, signal)| !signal.enabled) {
        findings.note("a service has every signal of its verdict switched off: no evidence will ever pull its canary");
    }
    signals
}

/// From when on an answer is slow.
fn slow(value: &Scalar) -> Result<SlowThreshold, Reason> {
    match value {
        Scalar::Text(text) if text == "learned" => Ok(SlowThreshold::Learned),
        value => match units::positive_duration(value) {
            Ok(threshold) => Ok(SlowThreshold::Fixed(threshold)),
            Err(reason) => Err(format!("`threshold` is \"learned\" or a duration: {reason}")),
        },
    }
}

/// With endpoints mostly gRPC is spoken by HTTP/2, all of whose answers have status 200.
fn grpc_status(raw: &RawErrors, protocol: Protocol, findings: &mut Findings<'_>) -> CodeSet {
    match &raw.grpc_status {
        Some(codes) => {
            let read = |code| findings.read(code, |value| units::count(value, 0, LAST_GRPC_CODE));
            codes.iter().filter_map(read).filter_map(|code| u32::try_from(code).ok()).collect()
        }
        None if protocol.is_http2() => GRPC_FAULTS.into_iter().collect(),
        None => CodeSet::default(),
    }
}

fn errors(raw: &RawErrors, protocol: Protocol, findings: &mut Findings<'_>) -> ErrorMatchers {
    let status = findings.failures(raw.status.as_deref());
    let items = |list: Vec<(_, String)>| list.into_iter().map(|(_, item)| item).collect();
    let body_contains = items(findings.read_distinct(&raw.body_contains, values::needle));
    let exclude_paths = items(findings.read_distinct(&raw.exclude_paths, values::settled_path));
    let headers = findings.read_distinct(&raw.headers, values::header_match);
    if let (Some(first), true) = (raw.session_exclude_paths.first(), raw.session_cookies.is_empty()) {
        findings.note_at(&first.span(), "`session_exclude_paths` has no effect without `session_cookies`");
    }
    if let (Some(first), true) = (raw.content_types.first(), raw.body_contains.is_empty()) {
        findings.note_at(&first.span(), "`content_types` has no effect without `body_contains`");
    }
    ErrorMatchers {
        status,
        grpc_status: grpc_status(raw, protocol, findings),
        body_contains,
        exclude_paths,
        headers: headers.into_iter().map(|(_, header)| header).collect(),
        session_cookies: items(findings.read_distinct(&raw.session_cookies, values::cookie_name)),
        session_exclude_paths: items(findings.read_distinct(&raw.session_exclude_paths, values::settled_path)),
        content_types: items(findings.read_distinct(&raw.content_types, values::media_type)),
    }
}
