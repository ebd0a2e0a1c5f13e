//! The configuration of `serin agent`: a small file of its own, read with the same care.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::build::{NAMESPACE, agents_store, health};
use super::findings::Findings;
use super::raw::{RawHealth, RawStore, Text, Texts, Value};
use super::source::Source;
use super::units::{self, Reason};
use super::{ConfigError, Note, explain, not_utf8, values};
use crate::model::agent::AgentSpec;
use crate::model::member::{MAX_WEIGHT, MemberError, is_id};
use crate::model::split::Arm;
use crate::model::state::MemberSpec;

const TTL: Duration = Duration::from_secs(15);
/// A lease is no shorter and no longer than this.
const LEASE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
const DRAIN_WAIT: Duration = Duration::from_secs(30);

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    agent: RawAgent,
    #[serde(default)]
    store: RawStore,
}

/// `[agent]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAgent {
    service: Spanned<String>,
    address: Spanned<String>,
    pool: Text,
    id: Text,
    weight: Value,
    version: Text,
    version_file: Text,
    zone: Text,
    control: Option<Spanned<bool>>,
    #[serde(default)]
    metadata: BTreeMap<Spanned<String>, Spanned<String>>,
    host: Text,
    health: Option<RawHealth>,
    ttl: Value,
    drain_wait: Value,
    #[serde(default)]
    admin: Texts,
    token_file: Text,
}

/// Reads an agent's configuration file.
///
/// # Errors
/// When the file can't be read, or isn't valid.
pub fn load_agent(path: &Path) -> Result<(AgentSpec, Vec<Note>), ConfigError> {
    let bytes = std::fs::read(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let name = path.display().to_string();
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(&error, &name))?;
    parse_agent(&text, &name)
}

/// Reads an agent's configuration from its text. The file's name is for error messages.
///
/// # Errors
/// As [`super::parse`].
pub fn parse_agent(text: &str, file_name: &str) -> Result<(AgentSpec, Vec<Note>), ConfigError> {
    let source = Source::new(text, file_name);
    let raw: RawFile =
        toml::from_str(text).map_err(|error| ConfigError::Invalid(source.report(vec![explain::explain(&error)])))?;
    let mut findings = Findings::new(&source);
    let spec = spec(&raw, &mut findings);
    let notes = findings.conclude()?;
    Ok((spec, notes))
}

/// The version that a file names in its first line; none where it can't be read or says none.
pub fn version_of(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().next().unwrap_or_default().trim();
    (!line.is_empty()).then(|| line.to_owned())
}

fn spec(raw: &RawFile, findings: &mut Findings<'_>) -> AgentSpec {
    let agent = &raw.agent;
    // What stands in where there is a problem is thrown away.
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let address = findings.read(&agent.address, |text| values::instance_address(text)).unwrap_or(nowhere);
    let arm = findings.read_or(agent.pool.as_ref(), Arm::Stable, |text| pool(text));
    if agent.health.is_none() {
        findings.note("there is no [agent.health]: the endpoint counts as well as long as the agent runs");
    }
    if agent.admin.is_empty() {
        findings.note("there is no `admin`: a drain takes all of `drain_wait`, nobody says when it is done");
    }
    AgentSpec {
        service: findings.read(&agent.service, |text| values::name(text)).unwrap_or_default(),
        arm,
        address,
        id: findings.read_or(agent.id.as_ref(), address.to_string(), |text| id(text)),
        member: member(agent, address, arm, findings),
        version_file: agent.version_file.as_ref().and_then(|raw| findings.read(raw, |text| values::path(text))),
        health: agent.health.as_ref().map(|raw| health(raw, findings)),
        host: findings.read_or(agent.host.as_ref(), address.to_string(), |text| values::host(text)),
        drain_wait: findings.read_or(agent.drain_wait.as_ref(), DRAIN_WAIT, units::duration),
        store: agents_store(&raw.store, findings),
        namespace: findings.read_or(raw.store.namespace.as_ref(), NAMESPACE.to_owned(), |text| values::name(text)),
        admin: findings.read_distinct(&agent.admin, admin).into_iter().map(|(_, url)| url).collect(),
        token_file: agent.token_file.as_ref().and_then(|raw| findings.read(raw, |text| values::path(text))),
    }
}

fn member(agent: &RawAgent, address: SocketAddr, arm: Arm, findings: &mut Findings<'_>) -> MemberSpec {
    let mut member = MemberSpec::new(address.into());
    let weight = findings.read_or(agent.weight.as_ref(), 1, |value| units::count(value, 1, u64::from(MAX_WEIGHT)));
    member.weight = u16::try_from(weight).unwrap_or(MAX_WEIGHT);
    let ttl = findings.read_or(agent.ttl.as_ref(), TTL, |value| match units::duration(value)? {
        ttl if LEASE.contains(&ttl) => Ok(ttl),
        _ => Err("a ttl is from 1s to 1d".to_owned()),
    });
    member.ttl_ms = u64::try_from(ttl.as_millis()).ok();
    if let Some(control) = &agent.control {
        member.control = *control.get_ref();
        if member.control && arm == Arm::Canary {
            findings.problem(control.span(), "only a member of stable serves the control: it runs stable's release");
        }
    }
    member.version = agent.version.as_ref().map(|raw| raw.get_ref().clone());
    member.zone = agent.zone.as_ref().map(|raw| raw.get_ref().clone());
    let entries = agent.metadata.iter().map(|(key, value)| (key.get_ref().clone(), value.get_ref().clone()));
    member.metadata = entries.collect();
    if let Err(error) = member.check() {
        findings.problem(place_of(error, agent), error.to_string());
    }
    member
}

/// What in the file makes a member impossible.
fn place_of(error: MemberError, agent: &RawAgent) -> std::ops::Range<usize> {
    let written = match error {
        MemberError::Version => agent.version.as_ref().map(Spanned::span),
        MemberError::Zone => agent.zone.as_ref().map(Spanned::span),
        MemberError::Metadata | MemberError::Key => agent.metadata.keys().next().map(Spanned::span),
        MemberError::Value => agent.metadata.values().next().map(Spanned::span),
        MemberError::Address | MemberError::Weight | MemberError::Ttl => None,
    };
    written.unwrap_or_else(|| agent.address.span())
}

fn pool(text: &str) -> Result<Arm, Reason> {
    Arm::BOTH.into_iter().find(|arm| arm.name() == text).ok_or_else(|| "`pool` is \"stable\" or \"canary\"".to_owned())
}

fn id(text: &str) -> Result<String, Reason> {
    if is_id(text) { Ok(text.to_owned()) } else { Err("an id is up to 128 letters, digits and `.:_-[]`".to_owned()) }
}

/// An admin API, as `serin --admin` takes it.
fn admin(text: &str) -> Result<String, Reason> {
    if text.starts_with("unix:") {
        return values::admin_address(text).map(|_| text.to_owned());
    }
    const HELP: &str = "an admin API is \"http://HOST:PORT\" or \"unix:/PATH\"";
    match text.strip_prefix("http://") {
        Some(authority) => values::authority(authority).map(|()| text.to_owned()).map_err(|_| HELP.to_owned()),
        None => Err(HELP.to_owned()),
    }
}
