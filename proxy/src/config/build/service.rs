//! `[service.NAME]`: hosts, pools, split, health, timeouts and alert rules.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use toml::Spanned;

use crate::config::findings::Findings;
use crate::config::raw::{RawHealth, RawRule, RawService, RawSplit, RawTimeouts, RawVerdict, Scalar};
use crate::config::units::{self, Reason};
use crate::config::values;
use crate::model::alert::{AlertMetric, Condition, RuleSpec};
use crate::model::place::Place;
use crate::model::route::RouteSpec;
use crate::model::secret::OverrideSecret;
use crate::model::spec::{HealthSpec, ProbeAsk, Protocol, ServiceSpec, SplitSpec, Sticky, Timeouts};
use crate::model::split::PerArm;
use crate::model::weight::Weight;

use super::claims::{self, Claim, Claims};
use super::route::{self, Usual};
use super::{autoscale, balance, gate, limits, rollout, service_tls, verdict};

const MAX_BODY_BYTES: u64 = 64 << 20;
/// How long an alert rule's condition holds before it fires.
const HOLD: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const RISE: u64 = 2;
const FALL: u64 = 3;
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(1),
    header: Duration::from_secs(30),
    idle: Duration::from_secs(60),
    total: Duration::ZERO,
    // Node closes an idle connection after 5 s; whoever closes first never meets a stale one.
    keep_alive: Duration::from_secs(4),
    tunnel_idle: Duration::from_secs(3_600),
};

/// Every service, by name; no request belongs to two.
pub(super) fn services(
    raw: &BTreeMap<Spanned<String>, RawService>,
    findings: &mut Findings<'_>,
) -> Vec<Arc<ServiceSpec>> {
    if raw.is_empty() {
        findings.note("there is no [service.NAME]: every request gets 404");
    }
    // In the order of the text.
    let mut in_order: Vec<_> = raw.iter().collect();
    in_order.sort_by_key(|(name, _)| name.span().start);
    let mut services: Vec<Arc<ServiceSpec>> = Vec::with_capacity(raw.len());
    let mut host_places: Vec<Vec<Range<usize>>> = Vec::with_capacity(raw.len());
    for (name, raw) in in_order {
        findings.read(name, |text| values::name(text));
        let hosts = findings.read_distinct(&raw.hosts, values::host);
        if raw.hosts.is_empty() {
            let text = format!("service `{}` has no `hosts`: no request reaches it", name.get_ref());
            findings.note_at(&name.span(), text);
        }
        let (at, hosts) = hosts.into_iter().unzip();
        host_places.push(at);
        services.push(Arc::new(service(name, hosts, raw, findings)));
    }
    examine_claims(&services, &host_places, raw, findings);
    services.sort_by(|one, other| one.name.cmp(&other.name));
    services
}

/// Finds out whether two services want the same requests. `host_places` is where each service names its hosts.
fn examine_claims(
    services: &[Arc<ServiceSpec>],
    host_places: &[Vec<Range<usize>>],
    raw: &BTreeMap<Spanned<String>, RawService>,
    findings: &mut Findings<'_>,
) {
    let route_places: HashMap<usize, Range<usize>> =
        raw.values().flat_map(|raw| &raw.route).map(|route| (route.span().start, route.span())).collect();
    let mut claims = Claims::new();
    for (service, places) in services.iter().zip(host_places) {
        let name = service.name.as_str();
        for (host, at) in service.hosts.iter().zip(places) {
            let claims = claims.entry(host).or_default();
            if raw[name].route.is_empty() {
                claims.push(Claim { service: name, route: None, at });
            }
            let at = |route: &RouteSpec| route_places.get(&route.place);
            let routes = service.routes.iter().filter_map(|route| Some((&**route, at(route)?)));
            claims.extend(routes.map(|(route, at)| Claim { service: name, route: Some(route), at }));
        }
    }
    claims::examine(&claims, findings);
}

fn service(name: &Spanned<String>, hosts: Vec<String>, raw: &RawService, findings: &mut Findings<'_>) -> ServiceSpec {
    let seeds = seeds(name, raw, findings);
    let control = control(raw, &seeds, findings);
    let split = split(raw, &seeds, findings);
    if let (None, Some(verdict)) = (&split, &raw.verdict) {
        let text = format!(
            "service `{}` has a verdict but neither `canary` nor a split: there is nothing to judge",
            name.get_ref()
        );
        findings.note_at(&verdict.span(), text);
    }
    let default = RawVerdict::default();
    let protocol = raw.protocol.as_ref().and_then(|raw| findings.read(raw, |text| protocol(text))).unwrap_or_default();
    if let (true, Some(at), Some(_)) = (protocol.is_http2(), &raw.protocol, &raw.health) {
        findings
            .note_at(&at.span(), "active checks are made by HTTP/1.1: an endpoint that speaks only HTTP/2 fails them");
    }
    let usual = Usual {
        timeouts: timeouts(&raw.timeouts, &TIMEOUTS, findings),
        max_body_bytes: findings.read_or(raw.max_body.as_ref(), MAX_BODY_BYTES, units::size),
    };
    let routes = route::routes(raw, &usual, findings);
    let tls = service_tls::tls(name.get_ref(), raw, &seeds, protocol, findings).map(Box::new);
    ServiceSpec {
        name: name.get_ref().clone(),
        hosts,
        routes,
        seeds,
        control,
        balance: balance::balance(name.get_ref(), raw, split.as_ref(), findings),
        split,
        verdict: verdict::verdict(raw.verdict.as_ref().map_or(&default, Spanned::get_ref), protocol, findings),
        rollout: rollout::rollout(&raw.rollout, findings),
        health: raw.health.as_ref().map(|health| self::health(health, findings)),
        protocol,
        proxy_protocol: raw
            .proxy_protocol
            .as_ref()
            .and_then(|raw| findings.read(raw, |text| values::proxy_protocol(text))),
        tls,
        timeouts: usual.timeouts,
        max_body_bytes: usual.max_body_bytes,
        alerts: raw.alert.iter().filter_map(|rule| self::rule(rule, findings)).collect(),
        gates: gate::gates(raw, findings),
        told_flags: gate::told(raw, findings),
        limits: limits::limits(raw, findings),
        autoscale: autoscale::autoscale(name.get_ref(), raw, findings).map(Arc::new),
    }
}

/// What endpoints speak.
fn protocol(text: &str) -> Result<Protocol, Reason> {
    match text {
        "http/1.1" => Ok(Protocol::Http1),
        "h2" => Ok(Protocol::H2),
        "h2c" => Ok(Protocol::H2c),
        _ => {
            Err("`protocol` is \"http/1.1\", \"h2\": HTTP/2 by TLS, or \"h2c\": HTTP/2 without TLS, as gRPC servers speak it"
                .to_owned())
        }
    }
}

fn seeds(name: &Spanned<String>, raw: &RawService, findings: &mut Findings<'_>) -> PerArm<Vec<Place>> {
    let stable = findings.read_distinct(&raw.stable, values::place);
    let canary = findings.read_distinct(&raw.canary, values::place);
    for (at, address) in &canary {
        if stable.iter().any(|(_, other)| other == address) {
            findings.note_at(at, "this endpoint is in both pools: its faults count against both arms");
        }
    }
    let only_redirects = !raw.route.is_empty() && raw.route.iter().all(|route| route.get_ref().redirect.is_some());
    if raw.stable.is_empty() && !only_redirects {
        let text = format!(
            "service `{}` has no `stable` members in the file: until the store has some, it answers 503",
            name.get_ref()
        );
        findings.note_at(&name.span(), text);
    }
    let places = |list: Vec<(_, Place)>| list.into_iter().map(|(_, place)| place).collect();
    PerArm { stable: places(stable), canary: places(canary) }
}

/// The members of stable that serve the control.
fn control(raw: &RawService, seeds: &PerArm<Vec<Place>>, findings: &mut Findings<'_>) -> Vec<Place> {
    let members = findings.read_distinct(&raw.control, values::place);
    for (at, address) in &members {
        if !seeds.stable.contains(address) {
            findings.problem(at.clone(), "a member of the control is one of `stable`: it runs stable's release");
        }
    }
    let asked = raw.split.as_ref().is_some_and(|split| split.control.is_some());
    if let (false, Some((at, _))) = (asked, members.first()) {
        let text = "without `control` in the split's table these members serve as any other of `stable`";
        findings.note_at(at, text);
    }
    members.into_iter().map(|(_, address)| address).collect()
}

/// The most keys that the control gets.
fn control_share(raw: &RawService, split: &RawSplit, weight: Weight, findings: &mut Findings<'_>) -> Weight {
    let control = findings.read_or(split.control.as_ref(), Weight::ZERO, units::weight);
    let Some(written) = split.control.as_ref().filter(|_| !control.is_zero()) else { return control };
    if weight.hundredths() + control.hundredths() > Weight::FULL.hundredths() {
        let text = format!("weight {weight} % and control {control} % are more than 100 % together");
        findings.problem(written.span(), text);
    } else if raw.control.is_empty() {
        let text = format!("control {control} %, but there is no `control` member in the file");
        findings.note_at(&written.span(), text);
    }
    control
}

/// A service has a split when the file gives it one, or canary members.
fn split(raw: &RawService, seeds: &PerArm<Vec<Place>>, findings: &mut Findings<'_>) -> Option<SplitSpec> {
    let Some(split) = &raw.split else {
        return (!seeds.canary.is_empty()).then_some(SplitSpec {
            weight: Weight::ZERO,
            control: Weight::ZERO,
            sticky: Sticky::Cookie,
            override_secret: None,
        });
    };
    let weight = findings.read_or(split.weight.as_ref(), Weight::ZERO, units::weight);
    let sticky = findings.read_or(split.sticky.as_ref(), Sticky::Cookie, |text| values::sticky(text));
    if let Some(raw_weight) = split.weight.as_ref().filter(|_| !weight.is_zero() && raw.canary.is_empty()) {
        findings.note_at(&raw_weight.span(), format!("weight {weight} %, but there is no `canary` member in the file"));
    }
    let file = split.override_secret_file.as_ref().and_then(|raw| findings.read(raw, |text| values::path(text)));
    // What it holds is read when the text has a meaning: see `load`.
    let override_secret = file.map(|file| OverrideSecret { file, value: Arc::default() });
    Some(SplitSpec { weight, control: control_share(raw, split, weight, findings), sticky, override_secret })
}

/// How endpoints are probed.
pub(in crate::config) fn health(raw: &RawHealth, findings: &mut Findings<'_>) -> HealthSpec {
    let path = findings.read_or(raw.path.as_ref(), "/".to_owned(), |text| values::request_path(text));
    if let Some(list) = raw.expect_status.as_ref().filter(|list| list.get_ref().is_empty()) {
        findings.problem(list.span(), "no endpoint could be healthy: give at least one status");
    }
    let listed = raw.expect_status.as_ref().map(|list| findings.statuses(list.get_ref()));
    let expect_status = listed.unwrap_or_else(|| (200..400).collect());
    let mut small = |raw: &Option<_>, default: u64| {
        let number = findings.read_or(raw.as_ref(), default, |value| units::count(value, 1, 1_000));
        u32::try_from(number).unwrap_or(u32::MAX)
    };
    let (rise, fall) = (small(&raw.rise, RISE), small(&raw.fall, FALL));
    let interval = findings.read_or(raw.interval.as_ref(), INTERVAL, units::positive_duration);
    HealthSpec {
        path,
        ask: ask(raw, findings),
        expect_status,
        expect_body: raw.expect_body.as_ref().and_then(|raw| findings.read(raw, |text| values::needle(text))),
        interval,
        down_interval: findings.read_or(raw.down_interval.as_ref(), interval, units::positive_duration),
        timeout: findings.read_or(raw.timeout.as_ref(), PROBE_TIMEOUT, units::positive_duration),
        rise,
        fall,
    }
}

/// What a probe asks with, beside its path.
fn ask(raw: &RawHealth, findings: &mut Findings<'_>) -> ProbeAsk {
    let method = findings.read_or(raw.method.as_ref(), Method::GET, |text| values::probe_method(text));
    if let (true, Some(text)) = (method == Method::HEAD, &raw.expect_body) {
        findings
            .problem(text.span(), "an answer to HEAD has no body: leave `expect_body` out, or ask by another method");
    }
    let headers = findings.read_distinct(&raw.headers, values::header);
    ProbeAsk {
        method,
        headers: headers.into_iter().map(|(_, header)| header).collect(),
        body: raw.body.as_ref().map(|body| body.get_ref().clone()),
        cookies: raw.cookies.unwrap_or(true),
    }
}

/// How long things may take: what isn't said is as `usual`.
pub(super) fn timeouts(raw: &RawTimeouts, usual: &Timeouts, findings: &mut Findings<'_>) -> Timeouts {
    Timeouts {
        connect: findings.read_or(raw.connect.as_ref(), usual.connect, units::duration),
        header: findings.read_or(raw.header.as_ref(), usual.header, units::duration),
        idle: findings.read_or(raw.idle.as_ref(), usual.idle, units::duration),
        total: findings.read_or(raw.total.as_ref(), usual.total, units::duration),
        keep_alive: findings.read_or(raw.keep_alive.as_ref(), usual.keep_alive, units::positive_duration),
        tunnel_idle: findings.read_or(raw.tunnel_idle.as_ref(), usual.tunnel_idle, units::duration),
    }
}

fn rule(raw: &Spanned<RawRule>, findings: &mut Findings<'_>) -> Option<RuleSpec> {
    let (at, raw) = (raw.span(), raw.get_ref());
    let metric = findings.read(&raw.metric, |text| metric(text));
    let hold = findings.read_or(raw.hold.as_ref(), HOLD, units::duration);
    let condition = match (&raw.above, &raw.below) {
        (Some(limit), None) => findings.read(limit, |value| threshold(metric, value)).map(Condition::Above),
        (None, Some(limit)) => findings.read(limit, |value| threshold(metric, value)).map(Condition::Below),
        (None, None) => {
            findings.problem(at, "`above` or `below` is missing here");
            None
        }
        (Some(_), Some(below)) => {
            findings.problem(below.span(), "a rule has `above` or `below`, not both: write two rules");
            None
        }
    };
    Some(RuleSpec { metric: metric?, condition: condition?, hold })
}

fn metric(text: &str) -> Result<AlertMetric, Reason> {
    [AlertMetric::ErrorRatio, AlertMetric::P95, AlertMetric::ReadyEndpoints]
        .into_iter()
        .find(|metric| metric.name() == text)
        .ok_or_else(|| "`metric` is \"error_ratio\", \"p95\" or \"ready_endpoints\"".to_owned())
}

/// A threshold in the metric's unit. An unknown metric has its own problem, so any number will do for it.
fn threshold(metric: Option<AlertMetric>, value: &Scalar) -> Result<f64, Reason> {
    let number = units::number(value);
    match metric {
        Some(AlertMetric::ErrorRatio) => number
            .filter(|n| (0.0..=1.0).contains(n))
            .ok_or_else(|| "an error ratio is a number from 0 to 1, such as 0.05 for 5 %".to_owned()),
        Some(AlertMetric::P95) => match value {
            Scalar::Text(_) => units::duration(value).map(|span| span.as_secs_f64()),
            _ => number.filter(|n| *n >= 0.0).ok_or_else(|| "give seconds, or a duration such as \"250ms\"".to_owned()),
        },
        Some(AlertMetric::ReadyEndpoints) => {
            number.filter(|n| *n >= 0.0).ok_or_else(|| "give a number of endpoints, such as 2".to_owned())
        }
        None => Ok(0.0),
    }
}
