//! What the configuration asks for, parsed: the fixed part of serin's world.
//!
//! `config/` makes these from the file and every other room reads them. Nothing
//! here changes while serin runs, but by a reload, which replaces it whole.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;

use super::alert::RuleSpec;
use super::balance::BalanceSpec;
use super::flag::FlagFile;
use super::gate::GateSpec;
use super::limits::LimitsSpec;
use super::naming::NamingSpec;
use super::place::Place;
use super::proxy_protocol;
use super::redis::RedisSpec;
use super::rollout::plan::RolloutSpec;
use super::route::RouteSpec;
use super::scaling::ScalingSpec;
use super::secret::OverrideSecret;
use super::split::PerArm;
use super::tls::{EndpointTlsSpec, TlsSpec};
use super::weight::Weight;

mod verdict;

pub use self::verdict::{
    CodeSet, ErrorMatchers, HeaderMatch, SignalSpec, SlowThreshold, StatusSet, VerdictSpec, lists,
};
pub use super::health::{HealthSpec, ProbeAsk};

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Threads of the data plane; 0 = one per core.
    pub threads: usize,
    /// The admin API.
    pub admin: AdminSpec,
    /// Where changeable state lives.
    pub store: StoreSpec,
    /// Where serin accepts.
    pub listeners: Vec<ListenerSpec>,
    /// The services, by name.
    pub services: Vec<Arc<ServiceSpec>>,
    /// Where mail goes; none = nobody is told.
    pub email: Option<EmailSpec>,
    /// Where mail waits until it is sent.
    pub outbox: PathBuf,
    /// The share of leased members beyond which falling silent together is no fault of theirs.
    pub mass_expiry_share: f64,
    /// Flags that the store is given, as far as it never had them; none where no file is named.
    pub flag_file: Option<FlagFile>,
    /// How the names of endpoints are looked up.
    pub naming: NamingSpec,
    /// How long a drain may take before what is left is cut.
    pub drain: Duration,
    /// How long new connections are still taken on SIGTERM, once readiness fails.
    pub drain_grace: Duration,
}

/// The admin API.
#[derive(Clone, Debug)]
pub struct AdminSpec {
    /// Where it listens.
    pub listen: AdminAddress,
    /// Tokens, a line each: `name:role:sha256-hex`.
    pub tokens_file: Option<PathBuf>,
    /// Flag evaluations a second that OFREP gives; none = without limit.
    pub ofrep_rate: Option<NonZeroU32>,
}

/// An address of the admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket; its peers are known by their uid.
    Unix(PathBuf),
}

/// Where changeable state lives.
#[derive(Clone, Debug)]
pub struct StoreSpec {
    /// Which kind.
    pub kind: StoreKind,
    /// What parts this fleet's keys from others'.
    pub namespace: String,
    /// The last good state on disk (with the embedded store: the state itself).
    pub state_file: PathBuf,
}

/// Which kind of store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// In this process, kept in the state file.
    Embedded,
    /// A Redis server.
    Redis(Box<RedisSpec>),
}

/// An address where serin accepts.
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    /// Its name, for logs and metrics.
    pub name: String,
    /// Its address.
    pub address: SocketAddr,
    /// Peers whose `X-Forwarded-*` and `X-Request-Id` are believed.
    pub trusted: Vec<Cidr>,
    /// Peers whose connections begin with a PROXY header, and must.
    pub proxy_protocol: Vec<Cidr>,
    /// How long a client may take from the first byte of a request head to its last.
    pub header_timeout: Duration,
    /// How long a connection may stay open between requests.
    pub idle_timeout: Duration,
    /// The largest request head, in bytes.
    pub max_header_bytes: usize,
    /// Connections open at once, over all threads; more are refused.
    pub max_connections: usize,
    /// The same from one client; none = as many.
    pub max_connections_per_client: Option<NonZeroU32>,
    /// How slowly a client may send a body and take an answer.
    pub min_rate: MinRate,
    /// How connections are kept private; none = they aren't.
    pub tls: Option<TlsSpec>,
    /// How HTTP/2 is spoken; none = it isn't.
    pub http2: Option<Http2Spec>,
    /// The port to which all requests are sent on, by `https`; none = they are served here.
    pub redirect_to_https: Option<u16>,
}

/// How slowly bytes may come or go while serin waits for them: so many in each span of waiting, however it is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// Bytes in a second of waiting; zero = as slowly as they like.
    pub bytes: u64,
    /// The span over which it is looked at.
    pub over: Duration,
}

/// HTTP/2 of a listener: chosen by ALPN where there is TLS, known by its first bytes where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Spec {
    /// Requests at once on a connection.
    pub max_streams: u32,
    /// Requests that a connection may take back within ten seconds, beside one for each that was answered.
    pub max_resets: u32,
    /// How often a client is asked whether it is still there; zero = never.
    pub ping_interval: Duration,
    /// Whether clients may ask for WebSockets by it (RFC 8441).
    pub websocket: bool,
}

/// A range of addresses: `10.0.0.0/8`, `::1/128`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Any address inside it.
    pub address: std::net::IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

impl Cidr {
    /// Whether an address lies inside. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        use std::net::IpAddr::{V4, V6};
        let (one, other, bits) = match (self.address, address.to_canonical()) {
            (V4(a), V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
            (V6(a), V6(b)) => (a.to_bits(), b.to_bits(), 128),
            _ => return false,
        };
        let ignored = u32::from(bits - self.prefix.min(bits));
        (one ^ other).checked_shr(ignored).unwrap_or(0) == 0
    }
}

/// A service.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// Hosts it answers for, in lower case and without port; `*.` in front = all below; `*` = any other.
    pub hosts: Vec<String>,
    /// The requests of its hosts that it takes; none = all, but what routes of other services take.
    pub routes: Vec<Arc<RouteSpec>>,
    /// The file's members of each pool.
    pub seeds: PerArm<Vec<Place>>,
    /// The stable seeds that serve the control.
    pub control: Vec<Place>,
    /// The split; none where the service has no canary at all.
    pub split: Option<SplitSpec>,
    /// How the canary is judged.
    pub verdict: VerdictSpec,
    /// What rollouts may do, and what they do unless they say so.
    pub rollout: RolloutSpec,
    /// How endpoints are probed; none = ready at start, no probe sent.
    pub health: Option<HealthSpec>,
    /// How its requests are shared among the endpoints of a pool.
    pub balance: BalanceSpec,
    /// What its endpoints speak.
    pub protocol: Protocol,
    /// How connections to endpoints say whose they are; none where they don't.
    pub proxy_protocol: Option<proxy_protocol::Version>,
    /// How connections to its endpoints are kept private; none where they aren't.
    pub tls: Option<Box<EndpointTlsSpec>>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// The largest request body, in bytes.
    pub max_body_bytes: u64,
    /// Predefined alert rules.
    pub alerts: Vec<RuleSpec>,
    /// Routes that a flag switches off.
    pub gates: Vec<GateSpec>,
    /// How much it takes at once, and from one client.
    pub limits: LimitsSpec,
    /// Flags that the application is told of by `X-Serin-Flags`.
    pub told_flags: Vec<String>,
    /// How the size of the stable pool follows its load; none = it is what others make it.
    pub autoscale: Option<Arc<ScalingSpec>>,
}

impl ServiceSpec {
    /// The longest that any of its requests may wait for the head of an answer; zero = without limit.
    pub fn longest_header_timeout(&self) -> Duration {
        let routes = self.routes.iter().map(|route| route.policy.timeouts.header);
        let of_all = routes.chain([self.timeouts.header]);
        of_all
            .reduce(|one, other| if one.is_zero() || other.is_zero() { Duration::ZERO } else { one.max(other) })
            .unwrap_or_default()
    }
}

/// What the endpoints of a service speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 inside of TLS, agreed on in the handshake.
    H2,
    /// HTTP/2 without TLS, from the first byte on.
    H2c,
}

impl Protocol {
    /// Whether it is HTTP/2.
    pub const fn is_http2(self) -> bool {
        matches!(self, Self::H2 | Self::H2c)
    }
}

/// The split of a service.
#[derive(Clone, Debug)]
pub struct SplitSpec {
    /// The weight until the store holds one.
    pub weight: Weight,
    /// The most keys that the control gets; zero = there is none.
    pub control: Weight,
    /// What the sticky key is.
    pub sticky: Sticky,
    /// What a tester must know to choose the arm; none = nobody may.
    pub override_secret: Option<OverrideSecret>,
}

/// What the sticky key of a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// The `serin_key` cookie, issued by serin.
    Cookie,
    /// The value of a request header.
    Header(HeaderName),
    /// The client's address.
    ClientIp,
    /// None: each request draws by itself.
    None,
}

/// How long things may take; zero = no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect to an endpoint.
    pub connect: Duration,
    /// From the end of the request to the response head.
    pub header: Duration,
    /// Without a byte in either direction, while a body is on its way.
    pub idle: Duration,
    /// The whole exchange.
    pub total: Duration,
    /// An unused upstream connection is kept no longer than this.
    pub keep_alive: Duration,
    /// Without a byte in either direction through a tunnel.
    pub tunnel_idle: Duration,
}

/// Where mail goes.
#[derive(Clone, Debug)]
pub struct EmailSpec {
    /// The server.
    pub server: SmtpServer,
    /// The sender.
    pub from: String,
    /// The receivers.
    pub to: Vec<String>,
    /// A file that holds the user name.
    pub username_file: Option<PathBuf>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// A PEM file of CAs to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Where the admin API is reached by the readers of a mail, for its links.
    pub admin_url: Option<String>,
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpServer {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
}

/// How a connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// Not at all: `smtp://`.
    None,
    /// By STARTTLS, required: `smtp+starttls://`.
    StartTls,
    /// From the first byte: `smtps://`.
    Implicit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_the_addresses_below_its_prefix() {
        let range = |address: &str, prefix| Cidr { address: address.parse().expect(address), prefix };
        let holds = |range: Cidr, address: &str| range.contains(address.parse().expect(address));
        assert!(holds(range("10.1.2.3", 8), "10.200.0.1"));
        assert!(!holds(range("10.0.0.0", 8), "11.0.0.1"));
        assert!(holds(range("10.0.0.0", 8), "::ffff:10.0.0.9"));
        assert!(holds(range("0.0.0.0", 0), "203.0.113.9"));
        assert!(holds(range("::", 0), "2001:db8::1"));
        assert!(!holds(range("::1", 128), "::2"));
        assert!(!holds(range("0.0.0.0", 0), "::1"));
    }
}
