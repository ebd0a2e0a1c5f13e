//! How much a service takes at once and from one client: what the configuration asks for, and the arithmetic of a rate.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use http::Method;
use http::header::HeaderName;

use super::gate::{GatePath, NormalPath};
use super::spec::Cidr;
use super::weight::Weight;

/// What a service takes; by default anything.
#[derive(Clone, Debug, Default)]
pub struct LimitsSpec {
    /// Requests at once, over all endpoints; none = any number.
    pub max_in_flight: Option<NonZeroU32>,
    /// Requests at once on each endpoint; none = any number.
    pub max_in_flight_per_endpoint: Option<NonZeroU32>,
    /// Where those wait that are too many for the moment.
    pub queue: QueueSpec,
    /// How often clients may ask.
    pub rates: Vec<RateSpec>,
}

impl LimitsSpec {
    /// Whether it says how many requests there may be at once.
    pub const fn bounds_requests(&self) -> bool {
        self.max_in_flight.is_some() || self.max_in_flight_per_endpoint.is_some()
    }
}

/// Where requests wait that are too many for the moment. Each arm has such a queue of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// How many may wait, over all cores.
    pub length: u32,
    /// For how long; zero = without end.
    pub timeout: Duration,
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self { length: 100, timeout: Duration::from_secs(1) }
    }
}

/// How many of so many requests at once the canary may have while stable serves: twice what its weight says, and never
/// less than a tenth. A canary that hangs must not take the room of stable's users.
pub fn canary_part(limit: NonZeroU32, weight: Weight) -> NonZeroU32 {
    let (whole, tenth) = (u64::from(Weight::FULL.hundredths()), u64::from(Weight::FULL.hundredths()) / 10);
    let part = (2 * u64::from(weight.hundredths())).clamp(tenth, whole);
    let slots = (u64::from(limit.get()) * part).div_ceil(whole);
    u32::try_from(slots).ok().and_then(NonZeroU32::new).unwrap_or(limit)
}

/// How often clients may ask for something.
#[derive(Clone, Debug, PartialEq)]
pub struct RateSpec {
    /// Its name, for metrics and clients.
    pub name: String,
    /// So many requests.
    pub requests: NonZeroU32,
    /// In so long a time.
    pub per: Duration,
    /// So many at once.
    pub burst: NonZeroU32,
    /// Whose requests are counted together.
    pub by: RateKey,
    /// The methods that it is about; empty = all. `GET` includes `HEAD`.
    pub methods: Vec<Method>,
    /// The paths that it is about; empty = all.
    pub paths: Vec<GatePath>,
    /// Clients that it isn't about.
    pub exempt: Vec<Cidr>,
    /// Clients that are remembered at once.
    pub clients: usize,
    /// Whether all proxies of the store count together.
    pub fleet: bool,
}

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateKey {
    /// Those of a client's address.
    Address,
    /// Those with the same value of this header; without it, those of an address.
    Header(HeaderName),
    /// Those with the same `serin_key` cookie; without it, those of an address.
    Cookie,
    /// All.
    All,
}

impl RateSpec {
    /// Whether it is about a request, as far as its head says.
    pub fn is_about(&self, method: &Method, path: &NormalPath<'_>) -> bool {
        let is_listed = |method: &Method| self.methods.contains(method);
        let method =
            self.methods.is_empty() || is_listed(method) || (*method == Method::HEAD && is_listed(&Method::GET));
        method && (self.paths.is_empty() || self.paths.iter().any(|own| own.holds(path)))
    }

    /// The time between two requests of a client that asks as often as it may.
    pub fn interval(&self) -> Duration {
        self.per / self.requests.get()
    }

    /// Its arithmetic, in ticks of so many nanoseconds: as many as make it exact.
    pub fn gcra(&self) -> (Gcra, u64) {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let interval = nanos(self.interval()).max(1);
        let capacity = interval.saturating_mul(self.burst.get().into());
        let tick = (capacity >> CAPACITY_BITS).max(1);
        let interval = (interval + tick / 2) / tick;
        (Gcra { interval, tolerance: interval * u64::from(self.burst.get() - 1) }, tick)
    }
}

/// The ticks of a full burst are at most so many, in bits: rounding costs a rate with bursts of up to 100,000 requests
/// at most 0.3 %.
const CAPACITY_BITS: u32 = 24;

/// The generic cell rate algorithm (ITU-T I.371, Annex A): a token bucket of which only the debt has to be remembered,
/// in time. Whoever owes nothing needs not to be remembered at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gcra {
    /// What one request owes.
    interval: u64,
    /// What may be owed and still be asked.
    tolerance: u64,
}

impl Gcra {
    /// What is owed after a request by one who owes so much.
    ///
    /// # Errors
    /// When it comes too early: by so much.
    pub const fn ask(self, debt: u64) -> Result<u64, u64> {
        if debt <= self.tolerance { Ok(debt + self.interval) } else { Err(debt - self.tolerance) }
    }

    /// The same for one who has one of so many parts of the rate and of the burst, but one request at least.
    #[must_use]
    pub const fn part(self, parts: u64) -> Self {
        let interval = self.interval.saturating_mul(parts);
        Self { interval, tolerance: self.capacity().saturating_sub(interval) }
    }

    /// What is owed after so many requests that somebody let through elsewhere.
    pub const fn charge(self, debt: u64, requests: u32) -> u64 {
        debt.saturating_add(self.interval.saturating_mul(requests as u64))
    }

    /// The most that is ever owed.
    pub const fn capacity(self) -> u64 {
        self.tolerance + self.interval
    }
}

/// Who counts as one client: an IPv4 address, or an IPv6 /64, which is what one host has at least (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientKey {
    /// An IPv4 address.
    V4(u32),
    /// The first 64 bits of an IPv6 address.
    V6(u64),
}

impl From<IpAddr> for ClientKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    fn rate(requests: u32, per: Duration, burst: u32) -> RateSpec {
        let count = |n| NonZeroU32::new(n).expect("a count");
        RateSpec {
            name: "test".into(),
            requests: count(requests),
            per,
            burst: count(burst),
            by: RateKey::Address,
            methods: vec![],
            paths: vec![],
            exempt: vec![],
            clients: 8,
            fleet: false,
        }
    }

    /// A token bucket as books have it.
    struct Bucket {
        tokens: f64,
        at: f64,
    }

    impl Bucket {
        fn ask(&mut self, now: f64, rate: f64, burst: f64) -> (bool, f64) {
            self.tokens = (self.tokens + (now - self.at) * rate).min(burst);
            self.at = now;
            let had = self.tokens;
            if had >= 1.0 {
                self.tokens -= 1.0;
            }
            (had >= 1.0, had)
        }
    }

    #[test]
    fn the_rate_is_that_of_a_token_bucket() {
        for seed in 0..200 {
            let mut dice = StdRng::seed_from_u64(seed);
            let (requests, burst) = (dice.random_range(1..5_000), dice.random_range(1..500));
            let per = Duration::from_millis(dice.random_range(100..100_000));
            let (gcra, tick) = rate(requests, per, burst).gcra();
            let a_second = f64::from(requests) / per.as_secs_f64();
            let mut bucket = Bucket { tokens: burst.into(), at: 0.0 };
            let (mut now, mut owed_until) = (0u64, 0u64);
            for step in 0..2_000 {
                now += dice.random_range(0..3 * gcra.interval);
                let asked = gcra.ask(owed_until.saturating_sub(now));
                let seconds = (now * tick) as f64 / 1e9;
                let (granted, tokens) = bucket.ask(seconds, a_second, burst.into());
                // Where the two differ by less than their rounding, either is right.
                if (tokens - 1.0).abs() < 0.02 {
                    bucket = Bucket { tokens: tokens - f64::from(u8::from(asked.is_ok())), at: seconds };
                } else {
                    assert_eq!(asked.is_ok(), granted, "seed {seed}, step {step}: {tokens} tokens");
                }
                if let Ok(debt) = asked {
                    owed_until = now + debt;
                }
            }
        }
    }

    #[test]
    fn who_comes_too_early_is_told_when_to_come() {
        let (gcra, _) = rate(10, Duration::from_secs(1), 5).gcra();
        let mut debt = 0;
        for _ in 0..5 {
            debt = gcra.ask(debt).expect("a burst of five");
        }
        let early = gcra.ask(debt).expect_err("the sixth");
        assert!(gcra.ask(debt - early).is_ok() && gcra.ask(debt - early + 1).is_err());
    }

    #[test]
    fn rounding_costs_a_rate_almost_nothing() {
        for (requests, per, burst) in [(1, 86_400, 1), (100_000, 1, 100_000), (1_000_000, 1, 1), (7, 60, 20)] {
            let rate = rate(requests, Duration::from_secs(per), burst);
            let (gcra, tick) = rate.gcra();
            let exact = rate.interval().as_nanos() as f64;
            let off = ((gcra.interval * tick) as f64 - exact).abs() / exact;
            assert!(off <= 0.004, "{requests} in {per} s: {off}");
        }
    }

    #[test]
    fn a_host_of_ipv6_is_one_client_however_many_addresses_it_has() {
        let key = |text: &str| ClientKey::from(text.parse::<IpAddr>().expect(text));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("203.0.113.9"), key("::ffff:203.0.113.9"));
        assert_ne!(key("203.0.113.9"), key("203.0.113.10"));
        assert_ne!(key("0.0.0.1"), key("0:0:0:1::"));
    }

    #[test]
    fn a_canary_may_have_twice_its_share() {
        let of = |limit, percent| {
            let weight = Weight::from_percent(percent).expect("a weight");
            canary_part(NonZeroU32::new(limit).expect("a limit"), weight).get()
        };
        assert_eq!((of(100, 10.0), of(100, 50.0), of(100, 100.0)), (20, 100, 100));
        assert_eq!((of(100, 0.0), of(100, 1.0), of(1, 1.0), of(15, 1.0)), (10, 10, 1, 2));
    }
}
