//! Rates of the whole fleet: tells the other proxies now and then what was let through here, and has what they let through
//! owed here as well. What it means is `model::spending`'s to say. No request waits for any of this.
//!
//! While the store is away each proxy counts alone. A rate that counts everybody together is then shared out: each takes the
//! part that it has if all are asked alike. One that counts clients is not, since a client may well come to one proxy only.
//! May know: model, live, store, telemetry.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::live::limits::Counting;
use crate::live::{Live, RateLive};
use crate::model::spending::{Batch, Exchange, INTERVAL};
use crate::store::{About, Store, Word};

/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Without an answer for so long this proxy counts alone.
const ALONE_AFTER: Duration = Duration::from_secs(2);

/// One proxy's part in rates of the fleet.
#[derive(Debug)]
pub struct FleetRates {
    live: Arc<Live>,
    store: Arc<dyn Store>,
    own: String,
    exchange: Exchange,
    start: Instant,
    heard_at: Instant,
    /// How many take part, as it was last known.
    proxies: u32,
    is_alone: bool,
}

impl FleetRates {
    /// One that told nothing yet. The run parts this process from others of the same proxy.
    pub fn new(live: Arc<Live>, store: Arc<dyn Store>, proxy_name: &str, run: u64) -> Self {
        let (own, start) = (format!("{proxy_name}-{run:016x}"), Instant::now());
        Self { live, store, own, exchange: Exchange::default(), start, heard_at: start, proxies: 1, is_alone: false }
    }

    /// Goes on for ever.
    pub async fn run(mut self) {
        let mut words = interval(INTERVAL);
        words.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            words.tick().await;
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let rates = self.rates();
        if rates.is_empty() {
            self.heard_at = Instant::now();
            return;
        }
        let untold = rates.iter().map(|(name, rate)| (name.clone(), rate.take_untold()));
        let batch: Batch = untold.filter(|(_, spent)| !spent.is_empty()).collect();
        let said = self.exchange.say(batch);
        let word = Word { about: About::Rates, teller: &self.own, said: &said, gone: &[] };
        match timeout(PATIENCE, self.store.share(word)).await {
            Ok(Ok(told)) => {
                let gone = self.take_in(&rates, &told);
                if !gone.is_empty() {
                    let word = Word { about: About::Rates, teller: &self.own, said: &said, gone: &gone };
                    let _tried_again_later = timeout(PATIENCE, self.store.share(word)).await;
                }
            }
            _ if self.heard_at.elapsed() >= ALONE_AFTER && !self.is_alone => {
                self.is_alone = true;
                let next = "requests go on being served; this ends by itself when the store can be reached again";
                tracing::warn!(proxies = self.proxies, next, "Rates of the fleet are counted by this proxy alone");
            }
            _ => {}
        }
        let counting = Counting { proxies: self.proxies, is_alone: self.is_alone };
        rates.values().for_each(|rate| rate.count_by(counting));
    }

    /// Has what others let through owed here. Gives those of them that are to be forgotten.
    fn take_in(&mut self, rates: &HashMap<String, Arc<RateLive>>, told: &BTreeMap<String, String>) -> Vec<String> {
        let now = Instant::now();
        let at = now.saturating_duration_since(self.start);
        let news = self.exchange.hear(at, &self.own, told);
        for teller in &news.unreadable {
            let next = "its requests count for nothing here until it says something else; is it of another version?";
            tracing::warn!(proxy = teller, next, "What a proxy let through by rates of the fleet can't be read");
        }
        for (name, spent) in news.batches.iter().flatten() {
            // Of a rate that this proxy doesn't have yet, or any more, nothing is owed here.
            let Some(rate) = rates.get(name) else { continue };
            spent.iter().for_each(|(client, requests)| rate.charge(*client, *requests, now));
        }
        self.heard_at = now;
        self.proxies = self.exchange.proxies(at);
        if std::mem::take(&mut self.is_alone) {
            tracing::info!(proxies = self.proxies, "Rates of the fleet are counted by all again");
        }
        news.gone
    }

    /// The rates of the fleet, by the name under which proxies tell of them.
    fn rates(&self) -> HashMap<String, Arc<RateLive>> {
        let snapshot = self.live.snapshot();
        let services = snapshot.services().iter().filter_map(|view| Some((&view.spec.name, view.limits.as_ref()?)));
        let all = services.flat_map(|(service, limits)| limits.rates.iter().map(move |rate| (service, rate)));
        let fleet = all.filter(|(_, rate)| rate.spec.fleet);
        fleet.map(|(service, rate)| (format!("{service}/{}", rate.spec.name), Arc::clone(rate))).collect()
    }
}
