//! `[[listener]]`.

use std::num::NonZeroU32;
use std::time::Duration;

use super::tls;
use crate::config::findings::Findings;
use crate::config::raw::{RawHttp2, RawListener, Scalar};
use crate::config::{units, values};
use crate::model::spec::{AdminAddress, Cidr, Http2Spec, ListenerSpec, MinRate};

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Above the 60 s that load balancers in front keep their connections, so that they close first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
const MAX_HEADER_BYTES: u64 = 64 << 10;
/// The HTTP reader's buffer can't be smaller.
const LEAST_HEADER_BYTES: u64 = 8 << 10;
const MOST_HEADER_BYTES: u64 = 16 << 20;
const MAX_CONNECTIONS: u64 = 10_000;
const MOST_CONNECTIONS: u64 = 10_000_000;
/// A client on the worst of lines does better; who holds connections on purpose does worse.
const MIN_RATE: u64 = 100;
const MIN_RATE_OVER: Duration = Duration::from_secs(30);
const MAX_STREAMS: u64 = 100;
/// As many as keep the memory of one connection within bounds, whatever its requests do.
const MOST_STREAMS: u64 = 10_000;
const MAX_RESETS: u64 = 100;
const MOST_RESETS: u64 = 1_000_000;

/// All listeners, each name and address once.
pub(super) fn listeners(raw: &[RawListener], admin: &AdminAddress, findings: &mut Findings<'_>) -> Vec<ListenerSpec> {
    if raw.is_empty() {
        findings.note("there is no [[listener]]: serin accepts no requests");
    }
    let mut listeners: Vec<ListenerSpec> = Vec::with_capacity(raw.len());
    for raw in raw {
        let Some(listener) = listener(raw, findings) else { continue };
        let taken = |other: &ListenerSpec| other.address == listener.address && listener.address.port() != 0;
        if listeners.iter().any(|other| other.name == listener.name) {
            findings.problem(raw.name.span(), "another listener has this name");
        }
        if listeners.iter().any(taken) {
            findings.problem(raw.address.span(), "another listener has this address");
        }
        if *admin == AdminAddress::Tcp(listener.address) && listener.address.port() != 0 {
            findings.problem(raw.address.span(), "the admin API has this address: see `listen` in [admin]");
        }
        listeners.push(listener);
    }
    listeners
}

fn listener(raw: &RawListener, findings: &mut Findings<'_>) -> Option<ListenerSpec> {
    let name = findings.read(&raw.name, |text| values::name(text));
    let address = findings.read(&raw.address, |text| values::listen_address(text));
    let tls = raw.tls.as_ref().map(|raw| tls::tls(raw, findings));
    let redirect = raw.redirect_to_https.as_ref();
    if let (Some(redirect), true) = (redirect, tls.is_some()) {
        findings.note_at(&redirect.span(), "`redirect_to_https` does nothing on a listener that has `tls`");
    }
    let redirect = redirect.filter(|_| tls.is_none());
    let redirect = redirect.and_then(|port| findings.read(port, |value| units::count(value, 1, u16::MAX.into())));
    let trusted = findings.read_distinct(&raw.trusted, values::cidr);
    if let Some((at, _)) = trusted.iter().find(|(_, range)| range.prefix == 0) {
        findings.note_at(at, "every client is trusted: each may claim any address in X-Forwarded-For");
    }
    let proxies = findings.read_distinct(&raw.proxy_protocol, values::cidr);
    if let Some((at, _)) = proxies.iter().find(|(_, range)| range.prefix == 0) {
        findings.note_at(at, "every client may claim any address in a PROXY header");
    }
    let ranges = |list: Vec<(_, Cidr)>| list.into_iter().map(|(_, range)| range).collect();
    let header_timeout = findings.read_or(raw.header_timeout.as_ref(), HEADER_TIMEOUT, units::positive_duration);
    let idle_timeout = findings.read_or(raw.idle_timeout.as_ref(), IDLE_TIMEOUT, units::positive_duration);
    let max_header_bytes =
        findings.read_or(raw.max_header_bytes.as_ref(), MAX_HEADER_BYTES, |value| match units::size(value)? {
            LEAST_HEADER_BYTES..=MOST_HEADER_BYTES => units::size(value),
            _ => Err("the room for a request head is from \"8KiB\" to \"16MiB\"".to_owned()),
        });
    let max_connections = findings
        .read_or(raw.max_connections.as_ref(), MAX_CONNECTIONS, |value| units::count(value, 1, MOST_CONNECTIONS));
    let of_client = raw.max_connections_per_client.as_ref();
    let of_client = of_client.and_then(|raw| findings.read(raw, |value| units::count(value, 1, max_connections)));
    let http2 = http2(&raw.http2, tls.is_some(), findings);
    Some(ListenerSpec {
        name: name?,
        address: address?,
        trusted: ranges(trusted),
        proxy_protocol: ranges(proxies),
        header_timeout,
        idle_timeout,
        max_header_bytes: usize::try_from(max_header_bytes).ok()?,
        max_connections: usize::try_from(max_connections).ok()?,
        max_connections_per_client: of_client.and_then(|most| u32::try_from(most).ok()).and_then(NonZeroU32::new),
        min_rate: min_rate(raw, findings),
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        http2,
        redirect_to_https: redirect.and_then(|port| u16::try_from(port).ok()),
    })
}

/// How slow clients may be.
fn min_rate(raw: &RawListener, findings: &mut Findings<'_>) -> MinRate {
    let bytes = findings.read_or(raw.min_rate.as_ref(), MIN_RATE, |value| match value {
        Scalar::Integer(0) => Ok(0),
        value => units::size(value),
    });
    let over = findings.read_or(raw.min_rate_over.as_ref(), MIN_RATE_OVER, units::positive_duration);
    MinRate { bytes, over }
}

/// HTTP/2 as a listener has it. Without TLS only who asks for it gets it: browsers never do.
fn http2(raw: &RawHttp2, has_tls: bool, findings: &mut Findings<'_>) -> Option<Http2Spec> {
    let mut count = |value: Option<&_>, default, most| {
        let read = findings.read_or(value, default, |value| units::count(value, 1, most));
        u32::try_from(read).unwrap_or(u32::MAX)
    };
    let max_streams = count(raw.max_streams.as_ref(), MAX_STREAMS, MOST_STREAMS);
    let max_resets = count(raw.max_resets.as_ref(), MAX_RESETS, MOST_RESETS);
    let ping_interval = findings.read_or(raw.ping_interval.as_ref(), Duration::ZERO, units::duration);
    let websocket = raw.websocket.unwrap_or(true);
    raw.enabled.unwrap_or(has_tls).then_some(Http2Spec { max_streams, max_resets, ping_interval, websocket })
}
