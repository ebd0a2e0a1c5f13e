//! How requests are shared among the endpoints of a pool: what the file asks for, and the rules that need nothing
//! but numbers. Who is picked for a request is the data plane's.

pub mod ejection;
pub mod host;
pub mod rendezvous;
pub mod rota;
pub mod slow_start;

use http::header::HeaderName;

pub use self::ejection::EjectionSpec;
pub use self::host::StickinessSpec;
pub use self::slow_start::SlowStart;

/// How a service's requests are shared among the endpoints of a pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BalanceSpec {
    /// Who gets a request that is bound to nobody.
    pub policy: Policy,
    /// How an endpoint that is new or was away comes to its share.
    pub slow_start: SlowStart,
    /// Where fewer than this percent of a pool may get work, all of it does; 0 = never.
    pub panic_percent: u8,
    /// What becomes of requests while no endpoint of either arm may get work.
    pub all_down: AllDown,
    /// How who has a session stays with the endpoint that knows it; none = nobody does.
    pub stickiness: Option<StickinessSpec>,
    /// How endpoints that fail requests are left out for a while; none = none is.
    pub ejection: Option<EjectionSpec>,
}

/// Who gets a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Policy {
    /// Two drawn by weight; of these the one that will answer sooner, by what is in flight there and how soon it has
    /// answered lately.
    #[default]
    P2c,
    /// One after the other, by weight.
    RoundRobin,
    /// The one with the least in flight for its weight.
    LeastRequest,
    /// The one that a key of the request names, as long as that isn't too busy.
    ConsistentHash(HashSpec),
}

/// What a consistent hash is taken of, and its bound.
#[derive(Clone, Debug, PartialEq)]
pub struct HashSpec {
    /// The key.
    pub by: HashBy,
    /// How many times its fair share of what is in flight an endpoint may get: more than 1.
    pub bound: f64,
}

/// The key of a consistent hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// The sticky key of the split.
    Sticky,
    /// The value of a request header.
    Header(HeaderName),
    /// The client's address.
    ClientIp,
}

/// What becomes of requests while no endpoint may get work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllDown {
    /// They are answered with 503.
    #[default]
    Refuse,
    /// They go to endpoints that are down or ejected, as if they weren't.
    FailOpen,
}
