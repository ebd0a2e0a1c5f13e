//! What is said of containers: how one is made for a wish, and what the Engine tells of those that there are.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use bollard::models::{
    ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum as State, HostConfig, PortBinding,
};
use bollard::query_parameters::ListContainersOptions;

use super::super::driver::{Started, Wish};
use crate::model::scaling::DockerSpec;

/// The label that says whose pool a container is in.
const SERVICE: &str = "serin.service";
/// The label with the token of the wish that started it.
const TOKEN: &str = "serin.token";
/// What images say of their version, by the OCI's image specification (annotations).
const VERSION: &str = "org.opencontainers.image.version";
/// The longest version that a pool takes.
const LONGEST_VERSION: usize = 128;

/// A container of a service that this driver started.
#[derive(Clone, Debug)]
pub(super) struct Container {
    /// The Engine's name for it.
    pub(super) name: String,
    /// The wish that started it.
    pub(super) token: String,
    /// What it does.
    pub(super) life: Life,
    /// What the Engine says of that.
    pub(super) status: String,
    /// Where it listens, while it runs.
    pub(super) address: Option<SocketAddr>,
    version: Option<String>,
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Made, and not started.
    Made,
    /// Running, or paused by somebody.
    Runs,
    /// Over, or about to be.
    Ended,
}

impl Container {
    /// As a pool knows it; none while it listens nowhere.
    pub(super) fn started(&self) -> Option<Started> {
        Some(Started { address: self.address?, version: self.version.clone() })
    }
}

/// The name of a wish's container of this number: two who do the same at once can't make two of it.
pub(super) fn name(wish: &Wish, number: u32) -> String {
    format!("serin-{}-{}-{number}", wish.service, wish.token)
}

/// Asks for all containers of a service that this driver started, in whatever state.
pub(super) fn of_service(service: &str) -> ListContainersOptions {
    let labels = vec![format!("{SERVICE}={service}"), TOKEN.to_owned()];
    let filters = Some(HashMap::from([("label".to_owned(), labels)]));
    ListContainersOptions { all: true, filters, ..ListContainersOptions::default() }
}

/// What a wish's container is made of.
pub(super) fn body(spec: &DockerSpec, wish: &Wish, environment: Vec<String>) -> ContainerCreateBody {
    let port = format!("{}/tcp", spec.port);
    let labels = [(SERVICE, &wish.service), (TOKEN, &wish.token)];
    // The Engine picks a port of the host that is free.
    let binding = |address: IpAddr| PortBinding { host_ip: Some(address.to_string()), host_port: Some(String::new()) };
    let bindings = spec.publish.map(|address| HashMap::from([(port.clone(), Some(vec![binding(address)]))]));
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: (!spec.command.is_empty()).then(|| spec.command.clone()),
        env: Some(environment),
        exposed_ports: Some(vec![port]),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.clone())).into()),
        host_config: Some(HostConfig {
            network_mode: Some(spec.network.clone()),
            port_bindings: bindings,
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// What the Engine says of a container; none where it isn't one of this driver's.
pub(super) fn read(spec: &DockerSpec, told: ContainerSummary) -> Option<Container> {
    let labels = told.labels.as_ref()?;
    let token = labels.get(TOKEN)?.clone();
    let version = labels.get(VERSION).cloned();
    let version =
        version.filter(|text| !text.contains(char::is_control) && (1..=LONGEST_VERSION).contains(&text.len()));
    let life = match told.state {
        Some(State::CREATED) => Life::Made,
        Some(State::RUNNING | State::PAUSED | State::RESTARTING) => Life::Runs,
        _ => Life::Ended,
    };
    let address = (life == Life::Runs).then(|| address(spec, &told)).flatten();
    let name = told.names?.first()?.trim_start_matches('/').to_owned();
    Some(Container { name, token, life, status: told.status.unwrap_or_default(), address, version })
}

/// Where proxies reach a container.
fn address(spec: &DockerSpec, told: &ContainerSummary) -> Option<SocketAddr> {
    if let Some(host) = spec.publish {
        let ports = told.ports.iter().flatten();
        let given = ports.filter(|port| port.private_port == spec.port).find_map(|port| {
            let at = port.ip.as_ref()?.parse::<IpAddr>().ok()?;
            port.public_port.filter(|_| at == host)
        });
        return Some(SocketAddr::new(host, given?));
    }
    let networks = told.network_settings.as_ref()?.networks.as_ref()?;
    let joined = networks.get(&spec.network)?;
    let given = [&joined.ip_address, &joined.global_ipv6_address];
    let address = given.into_iter().flatten().find_map(|text| text.parse::<IpAddr>().ok())?;
    Some(SocketAddr::new(address, spec.port))
}
