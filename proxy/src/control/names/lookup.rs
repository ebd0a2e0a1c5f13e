//! Asks DNS, as this machine is set up to: `/etc/hosts`, the servers of `/etc/resolv.conf` and its search domains, or
//! the servers that the configuration names.
//!
//! The search domains are gone through here and not by the resolver, which goes on after any error: a server that fails
//! for the name that is meant would end as "no such name" in the last of the domains, or as an address of a wildcard.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup as Found;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::time::Instant;

use super::Lookup;
use crate::model::naming::{Answer, NamingSpec};
use crate::model::spec::Spec;

/// The files of this machine are read anew so seldom: they are small, and change when somebody moves it.
const REREAD: Duration = Duration::from_secs(30);
/// A question is asked so often before it is given up: a lone datagram may be lost.
const ATTEMPTS: usize = 2;

/// Asks DNS.
pub struct SystemLookup {
    state: Mutex<State>,
}

/// What is said of a name that isn't there, and of one without addresses.
const NO_NAME: &str = "there is no such name";
const NO_ADDRESS: &str = "it has no address";

/// How this machine is set up.
struct Machine {
    hosts: Hosts,
    resolver: TokioResolver,
    /// The domains by which a name may be completed, in this order.
    search: Vec<Name>,
    /// A name with so many dots is asked for as it is written first, and any other last.
    dots: usize,
}

struct State {
    spec: NamingSpec,
    /// What was made last, and when.
    made: Option<(Arc<Machine>, Instant)>,
}

impl std::fmt::Debug for SystemLookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SystemLookup").finish_non_exhaustive()
    }
}

impl SystemLookup {
    /// One that asks as a configuration says.
    pub fn new(spec: &Spec) -> Self {
        Self { state: Mutex::new(State { spec: spec.naming.clone(), made: None }) }
    }

    /// Whom to ask. Made anew once in a while.
    fn machine(&self) -> Result<Arc<Machine>, NetError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((machine, made)) = &state.made
            && made.elapsed() < REREAD
        {
            return Ok(Arc::clone(machine));
        }
        // Without `/etc/hosts` there is nothing in it.
        let hosts = Hosts::from_system().unwrap_or_default();
        let machine = Arc::new(Machine::new(hosts, &state.spec)?);
        state.made = Some((Arc::clone(&machine), Instant::now()));
        Ok(machine)
    }
}

#[async_trait::async_trait]
impl Lookup for SystemLookup {
    async fn look_up(&self, host: &str) -> Answer {
        let machine = match self.machine() {
            Ok(machine) => machine,
            Err(error) => return Answer::Failed(format!("/etc/resolv.conf can't be used: {error}")),
        };
        machine.look_up(host).await
    }

    fn renew(&self, spec: &Spec) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { spec: spec.naming.clone(), made: None };
    }
}

impl Machine {
    fn new(hosts: Hosts, spec: &NamingSpec) -> Result<Self, NetError> {
        let (config, options) = if spec.servers.is_empty() {
            read_system_conf()?
        } else {
            let servers = spec.servers.iter().map(|server| name_server(*server)).collect();
            (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
        };
        Self::of(hosts, config, options, spec)
    }

    fn of(
        hosts: Hosts,
        config: ResolverConfig,
        mut options: ResolverOpts,
        spec: &NamingSpec,
    ) -> Result<Self, NetError> {
        // What is known and for how long is kept by whoever asks.
        options.cache_size = 0;
        options.timeout = spec.timeout;
        options.attempts = ATTEMPTS;
        let search = config.domain().into_iter().chain(config.search()).cloned().collect();
        let dots = options.ndots;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Self { hosts, resolver: builder.build()?, search, dots })
    }

    async fn look_up(&self, host: &str) -> Answer {
        let name = match Name::from_ascii(host) {
            Ok(name) => name,
            Err(error) => return Answer::Failed(format!("DNS can't have such a name: {error}")),
        };
        if let Some(addresses) = written(&self.hosts, &name) {
            return Answer::Addresses(addresses, Duration::MAX);
        }
        let mut why = NO_NAME;
        for name in self.full_names(name) {
            match self.either_kind(&name).await {
                // Only who is sure that there is none sends on to the next.
                Answer::Denied(said) if said == NO_ADDRESS => why = NO_ADDRESS,
                Answer::Denied(_) => {}
                Answer::Failed(why) => return Answer::Failed(format!("{why} (asked for {name})")),
                answer @ Answer::Addresses(..) => return answer,
            }
        }
        Answer::Denied(why.to_owned())
    }

    /// What a name may stand for, in the order of resolv.conf(5). One with a dot at its end is all of itself.
    fn full_names(&self, name: Name) -> Vec<Name> {
        if name.is_fqdn() {
            return vec![name];
        }
        let mut names: Vec<Name> = Vec::new();
        for completed in self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()) {
            if !names.contains(&completed) {
                names.push(completed);
            }
        }
        let is_first = usize::from(name.num_labels()) > self.dots || name.is_localhost();
        let mut as_written = name;
        as_written.set_fqdn(true);
        names.insert(if is_first { 0 } else { names.len() }, as_written);
        names
    }

    /// IPv6 only where there is surely no IPv4: most hosts that have both are one endpoint, not two.
    async fn either_kind(&self, name: &Name) -> Answer {
        match ask(&self.resolver, name, RecordType::A).await {
            Answer::Denied(_) => ask(&self.resolver, name, RecordType::AAAA).await,
            answer => answer,
        }
    }
}

/// What `/etc/hosts` has of a name.
fn written(hosts: &Hosts, name: &Name) -> Option<Vec<IpAddr>> {
    let of_kind = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)).map(|found| addresses(&found));
    [RecordType::A, RecordType::AAAA].into_iter().filter_map(of_kind).find(|addresses| !addresses.is_empty())
}

/// By UDP, and by TCP where an answer is too long for that.
fn name_server(server: SocketAddr) -> NameServerConfig {
    let at_its_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_its_port).into();
    NameServerConfig::new(server.ip(), true, connections)
}

/// Asks for a full name.
async fn ask(resolver: &TokioResolver, name: &Name, kind: RecordType) -> Answer {
    let found = match resolver.lookup(name.clone(), kind).await {
        Ok(found) => found,
        Err(error) => return explain(&error),
    };
    let addresses = addresses(&found);
    if addresses.is_empty() {
        return Answer::Denied(NO_ADDRESS.to_owned());
    }
    // An alias on the way may count for less than what it leads to.
    let least = found.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
    Answer::Addresses(addresses, Duration::from_secs(least.into()))
}

fn addresses(found: &Found) -> Vec<IpAddr> {
    found.answers().iter().filter_map(|record| record.data.ip_addr()).collect()
}

fn explain(error: &NetError) -> Answer {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Answer::Denied(NO_NAME.to_owned()),
            ResponseCode::NoError => Answer::Denied(NO_ADDRESS.to_owned()),
            code => Answer::Failed(format!("the DNS server says {code}")),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => Answer::Failed(format!("the DNS server says {code}")),
        NetError::Timeout => Answer::Failed("no DNS server answered in time".to_owned()),
        error => Answer::Failed(format!("no DNS server could be asked: {error}")),
    }
}

#[cfg(test)]
mod tests;
