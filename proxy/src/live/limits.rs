//! What bounds the requests of one service, compiled; and the counts behind it, which outlive any snapshot.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::ServiceLive;
use super::counters::{self, Padded};
use super::rates::RateTable;
use super::turnstile::Turnstile;
use crate::model::limits::{RateSpec, canary_part};
use crate::model::spec::ServiceSpec;
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
    pub table: RateTable,
    refused: Box<[Padded<AtomicU64>]>,
}

impl RateLive {
    fn new(spec: &RateSpec, cores: usize) -> Self {
        let refused = (0..cores).map(|_| Padded::default()).collect();
        Self { spec: spec.clone(), table: RateTable::new(spec), refused }
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
