//! `[service.NAME.autoscale.driver]`: a command, or the containers of an Engine.

use std::net::IpAddr;
use std::time::Duration;

use http::uri::Authority;
use toml::Spanned;

use super::{file, identity};
use crate::config::findings::Findings;
use crate::config::raw::{RawDocker, RawDriver, Scalar};
use crate::config::units::{self, Reason};
use crate::config::values;
use crate::model::scaling::{DockerSpec, DriverKind, DriverSpec, EngineSpec};
use crate::model::tls::{CertificateSpec, EndpointTlsSpec, FileContent};

const TIMEOUT: Duration = Duration::from_secs(300);
const READY_WITHIN: Duration = Duration::from_secs(600);
/// Where the Engine listens, as its packages have it.
const ENGINE: &str = "/run/docker.sock";
/// The Engine's own network.
const NETWORK: &str = "bridge";
/// Whether this program has the driver; its own tests read what is for it either way.
const HAS_DOCKER: bool = cfg!(any(feature = "docker", test));

/// What starts and stops instances.
pub(super) fn driver(service: &str, raw: &Spanned<RawDriver>, findings: &mut Findings<'_>) -> Option<DriverSpec> {
    let (at, raw) = (raw.span(), raw.get_ref());
    let kind = match (&raw.exec, &raw.docker) {
        (Some(words), None) => {
            if words.get_ref().is_empty() {
                findings.problem(words.span(), "the command is missing: its path, and its arguments behind it");
            }
            let words = words.get_ref().iter();
            Some(DriverKind::Exec(words.filter_map(|word| findings.read(word, |text| values::path(text))).collect()))
        }
        (None, Some(docker)) => {
            if !HAS_DOCKER {
                let text = "this serin was built without the driver for Docker: take one that was built by \
                            `cargo build --release --features docker`, or name a command in `exec`";
                findings.problem(docker.span(), text);
            }
            self::docker(service, docker.get_ref(), findings).map(|docker| DriverKind::Docker(Box::new(docker)))
        }
        (None, None) => {
            findings.problem(at, "`exec` is missing here, or a table `docker`: what starts and stops instances");
            None
        }
        (Some(_), Some(docker)) => {
            findings.problem(docker.span(), "a driver is `exec` or `docker`, not both: which shall start instances?");
            None
        }
    };
    let timeout = findings.read_or(raw.timeout.as_ref(), TIMEOUT, units::positive_duration);
    let ready_within = findings.read_or(raw.ready_within.as_ref(), READY_WITHIN, units::positive_duration);
    Some(DriverSpec { kind: kind?, timeout, ready_within })
}

fn docker(service: &str, raw: &RawDocker, findings: &mut Findings<'_>) -> Option<DockerSpec> {
    let image = findings.read(&raw.image, |text| word(text, "an image has a name, such as \"shop:1.4\""));
    let port = findings.read(&raw.port, port);
    let engine = engine(service, raw, findings);
    Some(DockerSpec {
        command: raw.command.iter().map(|word| word.get_ref().clone()).collect(),
        network: findings.read_or(raw.network.as_ref(), NETWORK.to_owned(), |text| network(text)),
        publish: raw.publish.as_ref().and_then(|raw| findings.read(raw, |text| publish(text))),
        environment: file(&raw.env_file, findings).map(FileContent::unread),
        image: image?,
        port: port?,
        engine: engine?,
    })
}

fn port(value: &Scalar) -> Result<u16, Reason> {
    units::count(value, 1, u16::MAX.into()).map(|port| u16::try_from(port).unwrap_or(u16::MAX))
}

/// A text that the Engine takes as it is.
fn word(text: &str, reason: &str) -> Result<String, Reason> {
    let is_word = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    if is_word { Ok(text.to_owned()) } else { Err(reason.to_owned()) }
}

fn network(text: &str) -> Result<String, Reason> {
    match text {
        "host" | "none" => Err("there a container has no address of its own: name a network of the Engine".to_owned()),
        _ => word(text, "a network has a name, such as \"bridge\""),
    }
}

fn publish(text: &str) -> Result<IpAddr, Reason> {
    let address = text.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified());
    address
        .ok_or_else(|| "one address of the Engine's host, at which proxies reach it, such as \"10.0.0.5\"".to_owned())
}

fn engine(service: &str, raw: &RawDocker, findings: &mut Findings<'_>) -> Option<EngineSpec> {
    let read =
        findings.read_or(raw.engine.as_ref(), Some(EngineSpec::Unix(ENGINE.into())), |text| place(text).map(Some));
    let authorities = file(&raw.ca_file, findings);
    let own = identity(&raw.certificate_file, &raw.key_file, findings);
    match read? {
        EngineSpec::Unix(path) => {
            for file in [&raw.ca_file, &raw.certificate_file].into_iter().flatten() {
                findings.problem(file.span(), "TLS is for an `engine` at tcp://, and this one is a socket");
            }
            Some(EngineSpec::Unix(path))
        }
        EngineSpec::Tcp { address, .. } => {
            if let (None, Some(certificate)) = (&raw.ca_file, &raw.certificate_file) {
                findings
                    .problem(certificate.span(), "`ca_file` is missing: without it there is no TLS to show this in");
            }
            if let (None, Some(written)) = (&raw.ca_file, &raw.engine) {
                let text = format!(
                    "service `{service}` speaks to its Engine without TLS: whoever else reaches it there is root on \
                     its host. Name its CA in `ca_file`"
                );
                findings.note_at(&written.span(), text);
            }
            let host = address.parse::<Authority>().ok()?.host().trim_matches(['[', ']']).to_owned();
            let tls = authorities.map(|authorities| EndpointTlsSpec {
                server_name: Some(host),
                authorities: Some(FileContent::unread(authorities)),
                identity: own.map(|(chain, key)| CertificateSpec {
                    chain: FileContent::unread(chain),
                    key: FileContent::unread(key),
                    ocsp: None,
                }),
                verify: true,
            });
            Some(EngineSpec::Tcp { address, tls })
        }
    }
}

/// Where an Engine listens.
fn place(text: &str) -> Result<EngineSpec, Reason> {
    if let Some(path) = text.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
        return values::path(path).map(EngineSpec::Unix);
    }
    let address = text.strip_prefix("tcp://").and_then(|rest| rest.parse::<Authority>().ok());
    match address.filter(|address| address.port_u16().is_some() && !address.as_str().contains('@')) {
        Some(address) => Ok(EngineSpec::Tcp { address: address.to_string(), tls: None }),
        None => Err("an Engine is at \"unix:///run/docker.sock\", or at \"tcp://10.0.0.5:2376\"".to_owned()),
    }
}
