//! Asks DNS, as this machine is set up to: `/etc/hosts`, the servers of `/etc/resolv.conf` and its search domains, or
//! the servers that the configuration names.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup as Found;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
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

/// How this machine is set up.
struct Machine {
    hosts: Hosts,
    resolver: TokioResolver,
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
        let machine = Arc::new(Machine { hosts, resolver: resolver(&state.spec)? });
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
        let Machine { hosts, resolver } = &*machine;
        if let Some(addresses) = written(hosts, host) {
            return Answer::Addresses(addresses, Duration::MAX);
        }
        // IPv6 only where there is surely no IPv4: most hosts that have both are one endpoint, not two.
        match ask(resolver, host, RecordType::A).await {
            Answer::Denied(_) => ask(resolver, host, RecordType::AAAA).await,
            answer => answer,
        }
    }

    fn renew(&self, spec: &Spec) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { spec: spec.naming.clone(), made: None };
    }
}

/// What `/etc/hosts` has of a name.
fn written(hosts: &Hosts, host: &str) -> Option<Vec<IpAddr>> {
    let name = Name::from_ascii(host).ok()?;
    let of_kind = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)).map(|found| addresses(&found));
    [RecordType::A, RecordType::AAAA].into_iter().filter_map(of_kind).find(|addresses| !addresses.is_empty())
}

fn resolver(spec: &NamingSpec) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = if spec.servers.is_empty() {
        TokioResolver::builder(provider)?
    } else {
        let servers = spec.servers.iter().map(|server| name_server(*server)).collect();
        TokioResolver::builder_with_config(ResolverConfig::from_name_servers(servers), provider)
    };
    let options: &mut ResolverOpts = builder.options_mut();
    // What is known and for how long is kept by whoever asks.
    options.cache_size = 0;
    options.timeout = spec.timeout;
    options.attempts = ATTEMPTS;
    builder.build()
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

async fn ask(resolver: &TokioResolver, host: &str, kind: RecordType) -> Answer {
    let found = match resolver.lookup(host, kind).await {
        Ok(found) => found,
        Err(error) => return explain(&error),
    };
    let addresses = addresses(&found);
    if addresses.is_empty() {
        return Answer::Denied("it has no address".to_owned());
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
            ResponseCode::NXDomain => Answer::Denied("there is no such name".to_owned()),
            ResponseCode::NoError => Answer::Denied("it has no address".to_owned()),
            code => Answer::Failed(format!("the DNS server says {code}")),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => Answer::Failed(format!("the DNS server says {code}")),
        NetError::Timeout => Answer::Failed("no DNS server answered in time".to_owned()),
        error => Answer::Failed(format!("no DNS server could be asked: {error}")),
    }
}
