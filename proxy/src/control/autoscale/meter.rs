//! What this proxy measures of a pool, what it tells others of it, and what all of them measured together.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::live::counters::HistogramSum;
use crate::live::{EndpointView, ServiceView};
use crate::model::scaling::Metric;
use crate::model::split::Arm;

/// Over so long it averages.
const WINDOW: Duration = Duration::from_secs(15);
/// What a proxy told counts for so long: it tells anew every 5 s. By then a process that took its place isn't counted
/// yet, so that no request counts twice.
const LATE: Duration = Duration::from_secs(8);
/// A proxy that told nothing new for so long, by this one's clock, is gone.
const SILENT: Duration = Duration::from_secs(20);

/// One moment of a pool.
#[derive(Debug)]
struct Moment {
    at: Instant,
    requests: u64,
    latency: HistogramSum,
    waits: Option<HistogramSum>,
    in_flight: u64,
}

/// What one proxy measures of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Load {
    /// Rises with each report: one that doesn't is of a proxy that is gone.
    number: u64,
    /// The service's revision that it serves by.
    pub(super) revision: u64,
    /// Requests a second; none before it has measured for a while.
    requests: Option<f64>,
    /// Requests under way, on average.
    in_flight: Option<f64>,
    /// The 95th percentile of the time to the response head, in seconds; none without an answer.
    p95: Option<f64>,
    /// The 95th percentile of the time that requests waited for room, in seconds; none without a limit.
    queue_wait: Option<f64>,
    /// Requests that are still with endpoints that drain.
    pub(super) draining: BTreeMap<String, u64>,
}

/// The last moments of a pool.
#[derive(Debug, Default)]
pub(super) struct Meter {
    moments: VecDeque<Moment>,
    number: u64,
}

impl Meter {
    /// Takes a moment in.
    pub(super) fn note(&mut self, service: &ServiceView) {
        let totals = service.live.totals(Arm::Stable);
        let in_flight = service.pools.stable.iter().map(|endpoint| endpoint.live.in_flight()).sum();
        let at = Instant::now();
        let turnstile = service.limits.as_ref().and_then(|limits| limits.turnstile.as_ref());
        let waits = turnstile.map(|turnstile| turnstile.waits());
        let (requests, latency) = (totals.requests(), totals.latency);
        self.moments.push_back(Moment { at, requests, latency, waits, in_flight });
        // The first that stays is the last one that is a window old.
        while self.moments.get(1).is_some_and(|moment| at - moment.at >= WINDOW) {
            self.moments.pop_front();
        }
    }

    /// What there is to tell others.
    pub(super) fn load(&mut self, service: &ServiceView) -> Load {
        self.number += 1;
        let draining = service.pools.stable.iter().filter(|endpoint| endpoint.draining);
        // Who still gets the requests of its sessions isn't empty, whatever it has at the moment.
        let left =
            |endpoint: &EndpointView| endpoint.live.in_flight().max(u64::from(endpoint.serves_sessions(&service.spec)));
        let draining = draining.map(|endpoint| (endpoint.id.to_string(), left(endpoint))).collect();
        let mut load = Load { number: self.number, revision: service.revision, draining, ..Load::default() };
        if let (Some(first), Some(last)) = (self.moments.front(), self.moments.back())
            && last.at > first.at
        {
            let seconds = (last.at - first.at).as_secs_f64();
            let under_way: u64 = self.moments.iter().map(|moment| moment.in_flight).sum();
            load.requests = Some(last.requests.saturating_sub(first.requests) as f64 / seconds);
            load.in_flight = Some(under_way as f64 / self.moments.len() as f64);
            load.p95 = last.latency.since(&first.latency).quantile(0.95);
            // Where nobody asked nobody waited.
            let waits = last.waits.as_ref().zip(first.waits.as_ref()).map(|(last, first)| last.since(first));
            load.queue_wait = waits.map(|waits| waits.quantile(0.95).unwrap_or(0.0));
        }
        load
    }

    /// What there is to tell others where no more requests come: those that are still under way.
    pub(super) fn rest(&mut self, service: &ServiceView) -> Load {
        let under_way: u64 = service.pools.stable.iter().map(|endpoint| endpoint.live.in_flight()).sum();
        let (requests, in_flight) = (Some(0.0), Some(under_way as f64));
        Load { requests, in_flight, p95: None, queue_wait: None, ..self.load(service) }
    }
}

/// What one proxy told.
#[derive(Debug)]
struct Teller {
    load: Load,
    /// When it was heard, by this proxy's clock.
    at: Instant,
    /// Whether it lives for sure: what is heard first may be the last word of a process that is gone.
    lives: bool,
}

impl Teller {
    fn counts(&self, now: Instant) -> bool {
        self.lives && now - self.at < LATE
    }
}

/// What all proxies told, by their names.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    told: HashMap<String, Teller>,
}

impl Fleet {
    /// Takes in what all told, this one included, and says who is gone.
    pub(super) fn hear(&mut self, told: &BTreeMap<String, String>, own: &str) -> Vec<String> {
        let now = Instant::now();
        for (teller, text) in told {
            let Ok(load) = serde_json::from_str::<Load>(text) else { continue };
            match self.told.get_mut(teller) {
                Some(known) if load.number <= known.load.number => {}
                Some(known) => *known = Teller { load, at: now, lives: true },
                None => drop(self.told.insert(teller.clone(), Teller { load, at: now, lives: teller == own })),
            }
        }
        self.told.retain(|teller, _| told.contains_key(teller));
        let silent = |teller: &String| self.told.get(teller).is_none_or(|known| now - known.at > SILENT);
        told.keys().filter(|teller| silent(teller)).cloned().collect()
    }

    /// Those that may be there.
    fn tellers(&self) -> impl Iterator<Item = &Teller> {
        let now = Instant::now();
        self.told.values().filter(move |teller| now - teller.at <= SILENT)
    }

    /// What those told whose word counts.
    fn loads(&self) -> impl Iterator<Item = &Load> {
        let now = Instant::now();
        self.tellers().filter(move |teller| teller.counts(now)).map(|teller| &teller.load)
    }

    /// Whether all that may be there are counted: if not, there may be more load than is measured.
    pub(super) fn is_heard(&self) -> bool {
        let now = Instant::now();
        self.tellers().all(|teller| teller.counts(now))
    }

    /// A metric over all proxies; none if one of them can't tell.
    pub(super) fn value(&self, metric: Metric, ready: u32) -> Option<f64> {
        let sum = |of: fn(&Load) -> Option<f64>| self.loads().map(of).sum::<Option<f64>>();
        // Nobody told anything: that is no load of zero.
        self.loads().next()?;
        match metric {
            Metric::Requests => sum(|load| load.requests).map(|sum| sum / f64::from(ready.max(1))),
            Metric::InFlight => sum(|load| load.in_flight).map(|sum| sum / f64::from(ready.max(1))),
            // The slowest proxy's: of percentiles there is no sum. Where nothing was asked nobody waits.
            Metric::P95 => Some(self.loads().filter_map(|load| load.p95).fold(0.0, f64::max)),
            Metric::QueueWait => self.loads().filter_map(|load| load.queue_wait).reduce(f64::max),
        }
    }

    /// Whether every proxy knows of a revision and none has anything with these endpoints any more.
    pub(super) fn left(&self, ids: &[String], revision: u64) -> bool {
        // Who doesn't know an endpoint either hasn't heard yet that it drains, or has heard already that it is out.
        let left =
            |load: &Load, id: &String| load.draining.get(id).map_or(load.revision >= revision, |left| *left == 0);
        let quiet = |teller: &Teller| ids.iter().all(|id| left(&teller.load, id));
        self.tellers().next().is_some() && self.tellers().all(quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(loads: &[(&str, Load)]) -> BTreeMap<String, String> {
        let text = |load: &Load| serde_json::to_string(load).expect("JSON");
        loads.iter().map(|(teller, load)| ((*teller).to_owned(), text(load))).collect()
    }

    fn load(number: u64, requests: f64) -> Load {
        Load {
            number,
            revision: 5,
            requests: Some(requests),
            p95: Some(requests / 1e3),
            queue_wait: Some(requests / 1e3),
            ..Load::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fleet_measures_as_one_and_forgets_who_is_gone() {
        let mut fleet = Fleet::default();
        assert_eq!(fleet.value(Metric::Requests, 2), None, "nobody told anything");
        fleet.hear(&told(&[("a", load(1, 60.0)), ("b", load(1, 100.0))]), "a");
        let gone = fleet.hear(&told(&[("a", load(2, 60.0)), ("b", load(2, 100.0))]), "a");
        assert_eq!((gone, fleet.value(Metric::Requests, 2), fleet.is_heard()), (vec![], Some(80.0), true));
        assert_eq!(fleet.value(Metric::P95, 2), Some(0.1));
        assert_eq!(fleet.value(Metric::QueueWait, 2), Some(0.1), "the longest of all");
        // one that isn't heard for a while is no load any more, and may be there all the same
        tokio::time::advance(LATE + Duration::from_secs(1)).await;
        let gone = fleet.hear(&told(&[("a", load(3, 60.0)), ("b", load(2, 100.0))]), "a");
        assert_eq!((gone, fleet.value(Metric::Requests, 2), fleet.is_heard()), (vec![], Some(30.0), false));
        tokio::time::advance(SILENT - LATE).await;
        let gone = fleet.hear(&told(&[("a", load(4, 60.0)), ("b", load(2, 100.0))]), "a");
        assert_eq!(
            (gone, fleet.value(Metric::Requests, 2), fleet.is_heard()),
            (vec!["b".to_owned()], Some(30.0), true)
        );
        let silent = Load { requests: None, ..load(5, 0.0) };
        fleet.hear(&told(&[("a", silent)]), "a");
        assert_eq!(fleet.value(Metric::Requests, 2), None, "one that can't tell leaves the sum unknown");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_word_of_a_process_that_is_gone_is_no_load() {
        // given a process that took another one's place, whose field is still there
        let mut fleet = Fleet::default();
        fleet.hear(&told(&[("new", load(1, 80.0)), ("old", load(57, 80.0))]), "new");
        // then only its own load counts, and nobody is sure that it is all
        assert_eq!((fleet.value(Metric::Requests, 1), fleet.is_heard()), (Some(80.0), false));
        for number in 2..=5 {
            tokio::time::advance(Duration::from_secs(5)).await;
            fleet.hear(&told(&[("new", load(number, 80.0)), ("old", load(57, 80.0))]), "new");
            assert_eq!(fleet.value(Metric::Requests, 1), Some(80.0));
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        let gone = fleet.hear(&told(&[("new", load(6, 80.0)), ("old", load(57, 80.0))]), "new");
        assert_eq!((gone, fleet.is_heard()), (vec!["old".to_owned()], true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_dies_and_the_one_that_takes_its_place_never_count_together() {
        // given another proxy that hears both, the new one 3 s after the old one's last word
        let mut fleet = Fleet::default();
        let mut at_most: f64 = 0.0;
        for second in 0..60_u64 {
            let own = ("own", load(second / 5 + 1, 10.0));
            let old = ("old", load((second.min(20)) / 5 + 1, 80.0));
            let new = (second >= 23).then(|| ("new", load((second - 23) / 5 + 1, 80.0)));
            fleet.hear(&told(&[own, old].into_iter().chain(new).collect::<Vec<_>>()), "own");
            if second >= 5 {
                at_most = at_most.max(fleet.value(Metric::Requests, 1).expect("a load"));
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!((at_most - 90.0).abs() < 1e-9, "{at_most}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_is_left_when_every_proxy_has_nothing_with_it() {
        let busy = |number, revision, left| Load {
            revision,
            draining: BTreeMap::from([("x".to_owned(), left)]),
            ..load(number, 1.0)
        };
        let (mut fleet, ids) = (Fleet::default(), ["x".to_owned()]);
        assert!(!fleet.left(&ids, 6), "nobody told anything");
        for (number, left, is_left) in [(1, 3, false), (2, 0, true)] {
            fleet.hear(&told(&[("a", busy(9 + number, 6, 0)), ("b", busy(number, 6, left))]), "a");
            assert_eq!(fleet.left(&ids, 6), is_left);
        }
        // one that doesn't know the endpoint knows too little, or enough
        for (number, revision, is_left) in [(20, 5, false), (21, 6, true)] {
            fleet.hear(&told(&[("a", busy(number, 6, 0)), ("b", Load { revision, ..load(number, 1.0) })]), "a");
            assert_eq!(fleet.left(&ids, 6), is_left);
        }
    }
}
