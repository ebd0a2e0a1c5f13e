//! What the API sends about the limits of a service that are in force, and whom they refused.
//! May know: model, live.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::live::{RateLive, Refusal, ServiceLimits, ServiceView, Turnstile};
use crate::model::limits::{LimitsSpec, RateKey};
use crate::model::span;
use crate::model::split::{Arm, PerArm};

/// The limits of a service that has any.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitsJson {
    /// How many requests there may be at once, and are; null where nothing says.
    pub at_once: Option<AtOnceJson>,
    /// How often clients may ask.
    pub rates: Vec<RateJson>,
}

/// Requests at once, through this proxy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AtOnceJson {
    /// Requests that are inside; null where they may be any number, since then they aren't counted.
    pub in_flight: Option<u32>,
    /// So many there may be; null = any number.
    pub max_in_flight: Option<u32>,
    /// So many of these may be with the canary while stable serves.
    pub max_in_flight_canary: Option<u32>,
    /// So many each endpoint may have; null = any number.
    pub max_in_flight_per_endpoint: Option<u32>,
    /// Requests that wait to come in.
    pub waiting: PerArm<u32>,
    /// So many of each arm may wait.
    pub queue_length: u32,
    /// And so long.
    pub queue_timeout: String,
    /// Requests that found no room since this process started, by reason.
    pub refused: PerArm<BTreeMap<String, u64>>,
}

/// A rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RateJson {
    /// Its name.
    pub name: String,
    /// So many requests.
    pub requests: u32,
    /// In so long a time.
    pub per: String,
    /// So many at once.
    pub burst: u32,
    /// Whose requests are counted together: `address`, `header:NAME`, `cookie`, `all`.
    pub by: String,
    /// Who counts together: `proxy` or `fleet`.
    pub scope: String,
    /// The proxies that count together; null unless those of the fleet do.
    pub proxies: Option<u32>,
    /// Whether this proxy counts a rate of the fleet alone for now, since it hears of no other.
    pub alone: bool,
    /// Requests that came too early since this process started, through this proxy.
    pub refused: u64,
}

impl LimitsJson {
    /// The limits of a service as they are now; none where it has none.
    pub(super) fn of(view: &ServiceView) -> Option<Self> {
        let limits = view.limits.as_deref()?;
        Some(Self {
            at_once: limits.turnstile.as_deref().map(|turnstile| AtOnceJson::of(turnstile, limits, &view.spec.limits)),
            rates: limits.rates.iter().map(|rate| RateJson::of(rate)).collect(),
        })
    }
}

impl AtOnceJson {
    fn of(turnstile: &Turnstile, limits: &ServiceLimits, spec: &LimitsSpec) -> Self {
        let refused = |arm| {
            let named = |refusal: Refusal| (refusal.name().to_owned(), turnstile.refused(arm, refusal));
            Refusal::ALL.map(named).into()
        };
        Self {
            in_flight: spec.max_in_flight.map(|_| turnstile.inside()),
            max_in_flight: spec.max_in_flight.map(Into::into),
            max_in_flight_canary: limits.canary.map(Into::into),
            max_in_flight_per_endpoint: spec.max_in_flight_per_endpoint.map(Into::into),
            waiting: PerArm::from_fn(|arm| turnstile.waiting_for(arm)),
            queue_length: spec.queue.length,
            queue_timeout: span::show(spec.queue.timeout),
            refused: PerArm::from_fn(refused),
        }
    }

    /// Requests that found no room, of both arms and for all reasons.
    pub fn refused(&self) -> u64 {
        Arm::BOTH.into_iter().flat_map(|arm| self.refused.get(arm).values()).sum()
    }
}

impl RateJson {
    fn of(rate: &RateLive) -> Self {
        let (spec, counting) = (&rate.spec, rate.counting());
        let by = match &spec.by {
            RateKey::Address => "address".to_owned(),
            RateKey::Header(name) => format!("header:{name}"),
            RateKey::Cookie => "cookie".to_owned(),
            RateKey::All => "all".to_owned(),
        };
        Self {
            name: spec.name.clone(),
            requests: spec.requests.into(),
            per: span::show(spec.per),
            burst: spec.burst.into(),
            by,
            scope: if spec.fleet { "fleet" } else { "proxy" }.to_owned(),
            proxies: counting.map(|counting| counting.proxies),
            alone: counting.is_some_and(|counting| counting.is_alone),
            refused: rate.refused(),
        }
    }
}
