//! What bounds the requests of one service, compiled; and the counts behind it, which outlive any snapshot.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::ServiceLive;
use super::counters::{self, Padded};
use super::rates::RateTable;
use super::turnstile::Turnstile;
use super::untold::Untold;
use crate::model::limits::{RateKey, RateSpec, canary_part};
use crate::model::spec::ServiceSpec;
use crate::model::spending::{Spent, client_key};
use crate::model::weight::Weight;

/// The limits of a service that has any.
#[derive(Debug)]
pub struct ServiceLimits {
    /// Where there is a limit on requests at once.
    pub turnstile: Option<Arc<Turnstile>>,
    /// Of the requests at once, those that the canary may have while stable serves.
    pub canary: Option<NonZeroU32>,
    /// The rates, in the order of the file.
    pub rates: Box<[Arc<RateLive>]>,
}

/// A rate, and what its clients owe.
#[derive(Debug)]
pub struct RateLive {
    /// What is asked for.
    pub spec: RateSpec,
    /// What clients owe.
    table: RateTable,
    /// What other proxies are still to be told of; none where each counts for itself.
    untold: Option<Untold>,
    proxies: AtomicU32,
    is_alone: AtomicBool,
    refused: Box<[Padded<AtomicU64>]>,
}

impl RateLive {
    fn new(spec: &RateSpec, cores: usize) -> Self {
        let refused = (0..cores).map(|_| Padded::default()).collect();
        let untold = spec.fleet.then(|| Untold::new(spec.clients));
        let (proxies, is_alone) = (AtomicU32::new(1), AtomicBool::default());
        Self { spec: spec.clone(), table: RateTable::new(spec), untold, proxies, is_alone, refused }
    }

    /// Counts a request of a client.
    ///
    /// # Errors
    /// When it comes too early: by so much.
    pub fn ask(&self, client: impl Hash, now: Instant) -> Result<(), Duration> {
        let Some(untold) = &self.untold else { return self.table.ask(client, now) };
        let client = client_key(client);
        self.table.ask(client, now)?;
        untold.note(client);
        Ok(())
    }

    /// What other proxies are to be told of, which they are with this. To be called by one task alone.
    pub fn take_untold(&self) -> Vec<Spent> {
        self.untold.as_ref().map(Untold::take).unwrap_or_default()
    }

    /// Has a client owe what another proxy let it through.
    pub fn charge(&self, client: u64, requests: u32, now: Instant) {
        self.table.charge(client, requests, now);
    }

    /// Says who counts. Where clients are counted, a proxy that counts alone may be the only one that a client comes to,
    /// so it has all of the rate; where all are counted together it has its part.
    pub fn count_by(&self, counting: Counting) {
        let Counting { proxies, is_alone } = counting;
        self.proxies.store(proxies, Ordering::Relaxed);
        self.is_alone.store(is_alone, Ordering::Relaxed);
        self.table.set_parts(if is_alone && self.spec.by == RateKey::All { proxies } else { 1 });
    }

    /// Who counts; none where each proxy counts for itself anyhow.
    pub fn counting(&self) -> Option<Counting> {
        let (proxies, is_alone) = (self.proxies.load(Ordering::Relaxed), self.is_alone.load(Ordering::Relaxed));
        self.spec.fleet.then_some(Counting { proxies, is_alone })
    }

    /// Counts on a core a request that came too early.
    pub fn count_refused(&self, core: usize) {
        counters::add(&self.refused[core].0, 1);
    }

    /// Requests that came too early.
    pub fn refused(&self) -> u64 {
        self.refused.iter().map(|core| core.0.load(Ordering::Relaxed)).sum()
    }
}

/// Who counts a rate of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counting {
    /// The proxies that have a part in it, or had when that was last known.
    pub proxies: u32,
    /// Whether this one counts alone, since it hears of no other.
    pub is_alone: bool,
}

/// The counts behind the limits of a service.
#[derive(Debug, Default)]
pub struct LimitCounts {
    turnstile: Mutex<Option<Arc<Turnstile>>>,
    /// By name.
    rates: Mutex<BTreeMap<String, Arc<RateLive>>>,
}

impl LimitCounts {
    fn turnstile(&self, cores: usize) -> Arc<Turnstile> {
        let mut turnstile = self.turnstile.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turnstile.get_or_insert_with(|| Arc::new(Turnstile::new(cores))))
    }

    /// The rates of a configuration: one that says what it said before goes on counting.
    fn rates(&self, specs: &[RateSpec], cores: usize) -> Box<[Arc<RateLive>]> {
        let mut known = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |spec: &RateSpec| known.get(&spec.name).filter(|rate| rate.spec == *spec).cloned();
        let rates: Box<[_]> =
            specs.iter().map(|spec| same(spec).unwrap_or_else(|| Arc::new(RateLive::new(spec, cores)))).collect();
        *known = rates.iter().map(|rate| (rate.spec.name.clone(), Arc::clone(rate))).collect();
        rates
    }
}

impl ServiceLimits {
    /// The limits of a service; none for a service without any, which is to pay nothing.
    pub(super) fn compile(facts: &ServiceLive, spec: &ServiceSpec, weight: Weight, cores: usize) -> Option<Box<Self>> {
        let limits = &spec.limits;
        let rates = facts.limits.rates(&limits.rates, cores);
        if !limits.bounds_requests() && rates.is_empty() {
            return None;
        }
        let turnstile = limits.bounds_requests().then(|| facts.limits.turnstile(cores));
        let canary = limits.max_in_flight.map(|limit| canary_part(limit, weight));
        Some(Box::new(Self { turnstile, canary, rates }))
    }
}
