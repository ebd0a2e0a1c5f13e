//! `[service.NAME.limits]` and `[[service.NAME.rate_limit]]`: how much a service takes at once, and how often clients may
//! ask.

use std::num::NonZeroU32;
use std::time::Duration;

use http::header::HeaderName;
use toml::Spanned;

use super::gate::{method, normal_path};
use crate::config::findings::Findings;
use crate::config::raw::{RawLimits, RawQueue, RawRate, RawService, Scalar, Value};
use crate::config::units::{self, Reason};
use crate::config::values;
use crate::model::gate::GatePath;
use crate::model::limits::{LimitsSpec, QueueSpec, RateKey, RateSpec};

/// Beyond this a limit is none, and had better be left out.
const MOST_IN_FLIGHT: u64 = 1_000_000;
/// Each that waits holds a connection.
const MOST_WAITING: u64 = 1_000_000;
/// Rates of a service: each request to it may have to look at all of them.
const MOST_RATES: usize = 20;
/// Beyond this the arithmetic rounds too much.
const MOST_BURST: u64 = 100_000;
const MOST_REQUESTS: u32 = 1_000_000;
/// Nobody remembers for longer what a client did.
const LONGEST_PERIOD: Duration = Duration::from_secs(24 * 3600);
/// Half a megabyte for a rate.
const CLIENTS: usize = 65_536;
const LEAST_CLIENTS: u64 = 1_024;
const MOST_CLIENTS: u64 = 16 << 20;

/// The limits of a service.
pub(super) fn limits(raw: &RawService, findings: &mut Findings<'_>) -> LimitsSpec {
    let RawLimits { max_in_flight, max_in_flight_per_endpoint, queue } = &raw.limits;
    let spec = LimitsSpec {
        max_in_flight: count(max_in_flight, MOST_IN_FLIGHT, findings),
        max_in_flight_per_endpoint: count(max_in_flight_per_endpoint, MOST_IN_FLIGHT, findings),
        queue: queue.as_ref().map_or_else(QueueSpec::default, |queue| self::queue(queue.get_ref(), findings)),
        rates: rates(&raw.rate_limit, findings),
    };
    if let (Some(queue), false) = (queue, spec.bounds_requests()) {
        let text = "without `max_in_flight` or `max_in_flight_per_endpoint` no request ever waits here";
        findings.note_at(&queue.span(), text);
    }
    if let (Some(all), Some(each), Some(at)) =
        (spec.max_in_flight, spec.max_in_flight_per_endpoint, max_in_flight_per_endpoint)
        && each >= all
    {
        findings.note_at(&at.span(), "no endpoint gets so many requests: `max_in_flight` is reached before");
    }
    spec
}

fn count(raw: &Value, most: u64, findings: &mut Findings<'_>) -> Option<NonZeroU32> {
    let count = raw.as_ref().and_then(|raw| findings.read(raw, |value| units::count(value, 1, most)))?;
    u32::try_from(count).ok().and_then(NonZeroU32::new)
}

fn queue(raw: &RawQueue, findings: &mut Findings<'_>) -> QueueSpec {
    let default = QueueSpec::default();
    let length = |value: &Scalar| {
        let length = units::count(value, 0, MOST_WAITING)?;
        u32::try_from(length).map_err(|_| "this queue is too long".to_owned())
    };
    QueueSpec {
        length: findings.read_or(raw.length.as_ref(), default.length, length),
        timeout: findings.read_or(raw.timeout.as_ref(), default.timeout, units::positive_duration),
    }
}

fn rates(raw: &[Spanned<RawRate>], findings: &mut Findings<'_>) -> Vec<RateSpec> {
    if let Some(beyond) = raw.get(MOST_RATES) {
        findings.problem(beyond.span(), format!("a service has at most {MOST_RATES} rates"));
    }
    let mut rates: Vec<RateSpec> = Vec::with_capacity(raw.len());
    for raw in raw {
        let Some(rate) = rate(raw, findings) else { continue };
        if rates.iter().any(|other| other.name == rate.name) {
            let at = raw.get_ref().name.as_ref().map_or_else(|| raw.span(), Spanned::span);
            findings.problem(at, "another rate of this service has this name");
        }
        rates.push(rate);
    }
    rates
}

fn rate(raw: &Spanned<RawRate>, findings: &mut Findings<'_>) -> Option<RateSpec> {
    let (at, raw) = (raw.span(), raw.get_ref());
    let name = match &raw.name {
        Some(name) => findings.read(name, |text| values::name(text)),
        None => {
            findings.problem(at.clone(), "`name` is missing here: clients and metrics know a rate by it");
            None
        }
    };
    let rate = match &raw.rate {
        Some(rate) => findings.read(rate, |text| self::requests(text)),
        None => {
            findings.problem(at, "`rate` is missing here, such as \"10/s\" or \"300/m\"");
            None
        }
    };
    let by = raw.by.as_ref().and_then(|raw| findings.read(raw, |text| self::by(text))).unwrap_or(RateKey::Address);
    let methods = findings.read_distinct(&raw.methods, method).into_iter().map(|(_, method)| method).collect();
    let paths = findings.read_distinct(&raw.paths, self::path).into_iter().map(|(_, path)| path).collect();
    let exempt = findings.read_distinct(&raw.exempt, values::cidr).into_iter().map(|(_, range)| range).collect();
    let clients = raw.clients.as_ref();
    if let (RateKey::All, Some(clients)) = (&by, clients) {
        findings.note_at(&clients.span(), "`clients` does nothing where all requests are counted together");
    }
    let clients = findings.read_or(clients, CLIENTS, |value| {
        let clients = units::count(value, LEAST_CLIENTS, MOST_CLIENTS)?;
        usize::try_from(clients).map_err(|_| "this table is too large".to_owned())
    });
    let fleet = findings.read_or(raw.scope.as_ref(), false, |text| scope(text));
    let burst = count(&raw.burst, MOST_BURST, findings);
    let (requests, per) = rate?;
    let most = NonZeroU32::new(u32::try_from(MOST_BURST).unwrap_or(u32::MAX)).unwrap_or(requests);
    let burst = burst.unwrap_or(requests.min(most));
    let clients = if by == RateKey::All { 1 } else { clients };
    Some(RateSpec { name: name?, requests, per, burst, by, methods, paths, exempt, clients, fleet })
}

/// `"10/s"`, `"300/m"`, `"5/10s"`: so many requests in so long a time.
fn requests(text: &str) -> Result<(NonZeroU32, Duration), Reason> {
    const HELP: &str = "a rate is a number of requests and a time, such as \"10/s\", \"300/m\" or \"5/10s\"";
    let (requests, per) = text.split_once('/').ok_or(HELP)?;
    let requests: NonZeroU32 = requests.trim().parse().map_err(|_| HELP)?;
    let per = per.trim();
    let per = if per.starts_with(|first: char| first.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
    let per = units::positive_duration(&Scalar::Text(per)).map_err(|_| HELP)?;
    if requests.get() > MOST_REQUESTS || per > LONGEST_PERIOD {
        return Err("a rate is at most 1000000 requests, in at most a day".to_owned());
    }
    Ok((requests, per))
}

fn by(text: &str) -> Result<RateKey, Reason> {
    const HELP: &str = "`by` is \"address\", \"header:NAME\", \"cookie\" (serin's own), or \"all\"";
    match text {
        "address" => Ok(RateKey::Address),
        "cookie" => Ok(RateKey::Cookie),
        "all" => Ok(RateKey::All),
        _ => {
            let name = text.strip_prefix("header:").ok_or(HELP)?;
            HeaderName::from_bytes(name.as_bytes()).map(RateKey::Header).map_err(|_| HELP.to_owned())
        }
    }
}

/// Whether all proxies count together.
fn scope(text: &str) -> Result<bool, Reason> {
    match text {
        "proxy" => Ok(false),
        "fleet" => Ok(true),
        _ => {
            Err("`scope` is \"proxy\" (each counts for itself) or \"fleet\" (all of the store count together)"
                .to_owned())
        }
    }
}

/// A path, or all below one that ends in `/`.
fn path(text: &str) -> Result<GatePath, Reason> {
    let normal = normal_path(text)?;
    Ok(if text.ends_with('/') { GatePath::Prefix(normal) } else { GatePath::Exact(normal) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_so_many_in_so_long() {
        for (text, requests, millis) in
            [("10/s", 10, 1_000), ("300/m", 300, 60_000), ("5/10s", 5, 10_000), ("1 / 1m30s", 1, 90_000)]
        {
            let count = NonZeroU32::new(requests).expect("some");
            assert_eq!(self::requests(text), Ok((count, Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "10", "/s", "0/s", "-1/s", "10/", "10/0s", "10/x", "1.5/s", "10/2d", "2000000/s", "1/s/s"] {
            assert!(self::requests(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_ends_in_a_slash_stands_for_all_below() {
        assert_eq!(path("/login"), Ok(GatePath::Exact(b"/login".as_slice().into())));
        assert_eq!(path("/api/"), Ok(GatePath::Prefix(b"/api".as_slice().into())));
        assert!(path("/a?b").is_err() && path("a").is_err() && path("/a/../b").is_err());
    }
}
