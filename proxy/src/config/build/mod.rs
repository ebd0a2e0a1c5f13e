//! From the file as written to the [`Spec`]: every value gets its meaning or a problem.
//!
//! Nothing stops at the first problem. A value that has none stands in with its
//! default, so that the rest is still looked at; the spec is then thrown away.

mod autoscale;
mod balance;
mod claims;
mod dns;
mod driver;
mod gate;
mod limits;
mod listener;
mod mail;
mod rollout;
mod route;
mod service;
mod service_tls;
mod store;
mod tls;
mod verdict;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::model::flag::FlagFile;
use crate::model::spec::{AdminAddress, AdminSpec, ServiceSpec, Spec, StoreKind, StoreSpec};

pub(super) use service::health;
pub(super) use store::{NAMESPACE, agents_store};

use super::findings::Findings;
use super::raw::{RawAdmin, RawConfig, Text};
use super::{units, values};

/// Where the admin API listens unless told otherwise.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);
/// Flag evaluations a second that OFREP gives unless told otherwise.
const OFREP_RATE: u64 = 2_000;
/// Beyond this a limit is none, and had better be switched off.
const MOST_OFREP: u64 = 1_000_000;
/// Half of all endpoints rarely die in one moment; a store or a clock often fails.
const MASS_EXPIRY_SHARE: f64 = 0.5;
const DRAIN: Duration = Duration::from_secs(30);
/// A balancer that looks once a second sees it in time; a person who waits for the end doesn't mind.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// More threads than any machine has cores.
const MOST_THREADS: u64 = 1024;

/// The spec that a file asks for.
pub(super) fn spec(raw: RawConfig, state_directory: Option<&Path>, findings: &mut Findings<'_>) -> Spec {
    let threads = findings.read_or(raw.runtime.threads.as_ref(), 0, |value| units::count(value, 0, MOST_THREADS));
    let drain = findings.read_or(raw.runtime.drain.as_ref(), DRAIN, units::duration);
    let drain_grace = findings.read_or(raw.runtime.drain_grace.as_ref(), DRAIN_GRACE, units::duration);
    let share = raw.discovery.mass_expiry_share.as_ref();
    let mass_expiry_share = findings.read_or(share, MASS_EXPIRY_SHARE, units::share);
    let store = store::store(&raw.store, state_directory, findings);
    let admin = admin(&raw.admin, findings);
    let listeners = listener::listeners(&raw.listener, &admin.listen, findings);
    let services = service::services(&raw.service, findings);
    note_lone_rates(&store, &services, findings);
    let email = raw.alert.email.as_ref().and_then(|email| mail::email(email, findings));
    let outbox = findings
        .read_or(raw.alert.outbox.as_ref(), store.state_file.with_file_name("outbox"), |text| values::path(text));
    if raw.alert.email.is_none() {
        note_silence(&services, findings);
    }
    // What is in it is read with the secrets.
    let flag_file = file(&raw.flags.file, findings).map(|file| FlagFile { file, definitions: Arc::default() });
    let naming = dns::naming(&raw.dns, findings);
    let threads = usize::try_from(threads).unwrap_or(0);
    Spec {
        threads,
        admin,
        store,
        listeners,
        services,
        email,
        outbox,
        mass_expiry_share,
        flag_file,
        naming,
        drain,
        drain_grace,
    }
}

/// A rate of the fleet is one of this proxy alone where no store is shared.
fn note_lone_rates(store: &StoreSpec, services: &[Arc<ServiceSpec>], findings: &mut Findings<'_>) {
    let is_alone = store.kind == StoreKind::Embedded;
    for service in services.iter().filter(|_| is_alone) {
        for rate in service.limits.rates.iter().filter(|rate| rate.fleet) {
            let (service, rate) = (&service.name, &rate.name);
            let text = "the embedded store has no proxies that share it: `scope = \"fleet\"` counts for this one alone";
            findings.note(format!("the rate `{rate}` of service `{service}`: {text}"));
        }
    }
}

fn note_silence(services: &[Arc<ServiceSpec>], findings: &mut Findings<'_>) {
    let silent: Vec<&str> =
        services.iter().filter(|s| s.split.is_some() || !s.alerts.is_empty()).map(|s| s.name.as_str()).collect();
    if !silent.is_empty() {
        findings
            .note(format!("there is no [alert.email]: nobody is told of trips and alerts of {}", silent.join(", ")));
    }
}

fn admin(raw: &RawAdmin, findings: &mut Findings<'_>) -> AdminSpec {
    let listen = findings.read_or(raw.listen.as_ref(), AdminAddress::Tcp(ADMIN), |text| values::admin_address(text));
    let tokens_file = raw.tokens_file.as_ref().and_then(|raw| findings.read(raw, |text| values::path(text)));
    if let (AdminAddress::Tcp(address), Some(raw_listen), None) = (&listen, &raw.listen, &tokens_file)
        && !address.ip().is_loopback()
    {
        let text = "the admin API listens beyond this machine without `tokens_file`: anybody there can read it";
        findings.note_at(&raw_listen.span(), text);
    }
    let rate = findings.read_or(raw.ofrep_rate.as_ref(), OFREP_RATE, |value| units::count(value, 0, MOST_OFREP));
    let ofrep_rate = u32::try_from(rate).ok().and_then(NonZeroU32::new);
    AdminSpec { listen, tokens_file, ofrep_rate }
}

/// serin's own certificate and its key, which need each other, as the files of both.
fn identity(certificate: &Text, key: &Text, findings: &mut Findings<'_>) -> Option<(PathBuf, PathBuf)> {
    match (certificate, key) {
        (Some(alone), None) => {
            findings.problem(alone.span(), "a certificate needs its private key: name its file in `key_file`");
        }
        (None, Some(alone)) => {
            findings.problem(alone.span(), "a key needs its certificate: name its file in `certificate_file`");
        }
        _ => {}
    }
    file(certificate, findings).zip(file(key, findings))
}

/// The file that a key names.
fn file(raw: &Text, findings: &mut Findings<'_>) -> Option<PathBuf> {
    raw.as_ref().and_then(|raw| findings.read(raw, |text| values::path(text)))
}
