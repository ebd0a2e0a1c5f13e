//! `[service.NAME.balance]`, `.stickiness` and `.ejection`: how requests are shared among the endpoints of a pool.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use toml::Spanned;

use crate::config::findings::Findings;
use crate::config::raw::{RawBalance, RawEjection, RawService, RawStickiness, Scalar};
use crate::config::units::{self, Reason};
use crate::config::values;
use crate::model::balance::host::HostSecret;
use crate::model::balance::{AllDown, BalanceSpec, EjectionSpec, HashBy, HashSpec, Policy, SlowStart, StickinessSpec};
use crate::model::spec::{SplitSpec, Sticky};

/// The bound of consistent hashes: a quarter more than the fair share.
const BOUND: f64 = 1.25;
const SESSION_DRAIN: Duration = Duration::from_secs(30);
const CONSECUTIVE: u64 = 5;
const PEER_MARGIN: f64 = 0.1;
const MIN_REQUESTS: u64 = 50;
const INTERVAL: Duration = Duration::from_secs(10);
/// Pools of a small team have two to five endpoints: of two one may be out, of five two.
const MAX_PERCENT: u64 = 50;
const TIME: Duration = Duration::from_secs(30);
const MAX_TIME: Duration = Duration::from_secs(300);

/// How the requests of the service of this name are shared.
pub(super) fn balance(
    name: &str,
    raw: &RawService,
    split: Option<&SplitSpec>,
    findings: &mut Findings<'_>,
) -> BalanceSpec {
    let RawBalance { slow_start, slow_start_aggression, panic_percent, all_down, .. } = &raw.balance;
    BalanceSpec {
        policy: policy(&raw.balance, split, findings),
        slow_start: SlowStart {
            window: findings.read_or(slow_start.as_ref(), Duration::ZERO, units::duration),
            aggression: findings.read_or(slow_start_aggression.as_ref(), 1.0, aggression),
        },
        panic_percent: percent(panic_percent.as_ref(), 0, findings),
        all_down: findings.read_or(all_down.as_ref(), AllDown::Refuse, |text| self::all_down(text)),
        stickiness: raw.stickiness.as_ref().map(|raw| stickiness(name, raw, findings)),
        ejection: raw.ejection.as_ref().map(|raw| ejection(raw, findings)),
    }
}

fn policy(raw: &RawBalance, split: Option<&SplitSpec>, findings: &mut Findings<'_>) -> Policy {
    let by = findings.read_or(raw.hash_by.as_ref(), HashBy::Sticky, |text| hash_by(text));
    let bound = findings.read_or(raw.hash_bound.as_ref(), BOUND, hash_bound);
    let name = raw.policy.as_ref().map_or("p2c", |raw| raw.get_ref().as_str());
    if name != "consistent_hash"
        && let Some(at) = raw.hash_by.as_ref().map(Spanned::span).or(raw.hash_bound.as_ref().map(Spanned::span))
    {
        findings.note_at(&at, "this has no effect: `policy` isn't \"consistent_hash\"");
    }
    let Some(written) = &raw.policy else { return Policy::P2c };
    match name {
        "p2c" => Policy::P2c,
        "round_robin" => Policy::RoundRobin,
        "least_request" => Policy::LeastRequest,
        "consistent_hash" => {
            if by == HashBy::Sticky && split.is_none_or(|split| split.sticky == Sticky::None) {
                let reason = "requests of this service have no sticky key to hash: give `hash_by` as \"client-ip\" or \
                              \"header:NAME\"";
                findings.problem(written.span(), reason);
            }
            Policy::ConsistentHash(HashSpec { by, bound })
        }
        _ => {
            let reason = "`policy` is \"p2c\", \"round_robin\", \"least_request\" or \"consistent_hash\"";
            findings.problem(written.span(), reason);
            Policy::P2c
        }
    }
}

fn hash_by(text: &str) -> Result<HashBy, Reason> {
    match (text, text.strip_prefix("header:")) {
        ("sticky", _) => Ok(HashBy::Sticky),
        ("client-ip", _) => Ok(HashBy::ClientIp),
        (_, Some(header)) => HeaderName::from_bytes(header.as_bytes())
            .map(HashBy::Header)
            .map_err(|_| "this is no name of a header, such as \"header:X-User-Id\"".to_owned()),
        _ => Err("`hash_by` is \"sticky\", \"header:NAME\" or \"client-ip\"".to_owned()),
    }
}

fn hash_bound(value: &Scalar) -> Result<f64, Reason> {
    units::number(value).filter(|n| (1.01..=100.0).contains(n)).ok_or_else(|| {
        "a bound is a number from 1.01 to 100: how many times its fair share an endpoint may have in flight".to_owned()
    })
}

fn aggression(value: &Scalar) -> Result<f64, Reason> {
    units::number(value).filter(|n| (0.1..=10.0).contains(n)).ok_or_else(|| {
        "this is a number from 0.1 to 10: at 1 the share grows evenly, above it fast at first".to_owned()
    })
}

fn all_down(text: &str) -> Result<AllDown, Reason> {
    match text {
        "503" => Ok(AllDown::Refuse),
        "fail_open" => Ok(AllDown::FailOpen),
        _ => Err("`all_down` is \"503\" or \"fail_open\"".to_owned()),
    }
}

fn percent(raw: Option<&Spanned<Scalar>>, default: u64, findings: &mut Findings<'_>) -> u8 {
    let percent = findings.read_or(raw, default, |value| units::count(value, 0, 100));
    u8::try_from(percent).unwrap_or(100)
}

fn stickiness(name: &str, raw: &Spanned<RawStickiness>, findings: &mut Findings<'_>) -> StickinessSpec {
    let (at, raw) = (raw.span(), raw.get_ref());
    let cookies = findings.read_distinct(&raw.session_cookies, values::cookie_name);
    if raw.session_cookies.is_empty() {
        findings.problem(at.clone(), "`session_cookies` is missing here, such as [\"JSESSIONID\"]");
    }
    let file = raw.secret_file.as_ref().and_then(|raw| findings.read(raw, |text| values::path(text)));
    if file.is_none() {
        let text = "without `secret_file` the cookie that names an endpoint is made with the service's name: who knows \
                    that can find out endpoints' addresses";
        findings.note_at(&at, text);
    }
    StickinessSpec {
        session_cookies: cookies.into_iter().map(|(_, name)| name).collect(),
        // What the file holds is read when the text has a meaning: see `load`.
        secret: HostSecret { file, value: Arc::from(name.as_bytes()) },
        drain: findings.read_or(raw.drain.as_ref(), SESSION_DRAIN, units::duration),
    }
}

fn ejection(raw: &Spanned<RawEjection>, findings: &mut Findings<'_>) -> EjectionSpec {
    let (at, raw) = (raw.span(), raw.get_ref());
    let status = findings.failures(raw.status.as_deref());
    let mut count = |raw: &Option<_>, default, least, most| {
        findings.read_or(raw.as_ref(), default, |value| units::count(value, least, most))
    };
    let consecutive = count(&raw.consecutive, CONSECUTIVE, 0, 1_000_000);
    let (min_requests, min_ready) =
        (count(&raw.min_requests, MIN_REQUESTS, 1, 1_000_000), count(&raw.min_ready, 1, 1, 10_000));
    let peer_margin = findings.read_or(raw.peer_margin.as_ref(), PEER_MARGIN, margin);
    if consecutive == 0 && peer_margin == 0.0 {
        findings.note_at(&at, "neither failures in a row nor a comparison with peers ejects: nothing ever is");
    }
    EjectionSpec {
        consecutive: u32::try_from(consecutive).unwrap_or(u32::MAX),
        status,
        peer_margin,
        min_requests,
        interval: findings.read_or(raw.interval.as_ref(), INTERVAL, units::positive_duration),
        max_percent: percent(raw.max_percent.as_ref(), MAX_PERCENT, findings),
        min_ready: usize::try_from(min_ready).unwrap_or(usize::MAX),
        time: findings.read_or(raw.time.as_ref(), TIME, units::positive_duration),
        max_time: findings.read_or(raw.max_time.as_ref(), MAX_TIME, units::positive_duration),
        canary: raw.canary.unwrap_or(false),
    }
}

fn margin(value: &Scalar) -> Result<f64, Reason> {
    units::number(value).filter(|n| (0.0..=1.0).contains(n)).ok_or_else(|| {
        "a margin is a number from 0 to 1, such as 0.1: a tenth of the requests more; 0 = off".to_owned()
    })
}
