//! The verdict loop: bad outcomes in, the pull out. Nothing remote is waited for between
//! a bad outcome and the latch that stops the canary.
//!
//! Proxies of a fleet tell each other what goes bad (`exchange`), and each judges all of it (`case`).

mod case;
mod exchange;
mod heard;
mod pending;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use self::case::{Case, Found};
use self::exchange::{Exchange, News};
use self::pending::Pending;
use super::alert::{Alert, Mailer, RatioAlert};
use crate::live::{EpisodeView, Live, Report, ServiceView, VerdictStatus};
use crate::model::circuit::{Cause, Trip};
use crate::model::outcome::BadOutcome;
use crate::model::split::{Arm, EpisodeId};
use crate::model::verdict::Ruling;
use crate::model::verdict::pace::LOOK;
use crate::store::Store;
use crate::telemetry;
use crate::telemetry::panics::pass_on;

/// Outcomes taken in before the status is brought up to date.
const BATCH: usize = 256;
/// Pieces of news from other proxies that may wait.
const NEWS: usize = 16;

/// A court that sits, and its exchange with those of other proxies.
#[derive(Debug)]
pub struct Session {
    court: Court,
    exchange: Exchange,
}

impl Session {
    /// Judges outcomes until there can be no more.
    pub async fn run(self, reports: mpsc::Receiver<Report>) {
        let (sender, news) = mpsc::channel(NEWS);
        // A task of its own: a court that has much to do keeps nobody from being told.
        let mut beside = JoinSet::new();
        beside.spawn(self.exchange.run(sender));
        tokio::select! {
            () = self.court.run(reports, news) => {}
            Some(ended) = beside.join_next() => pass_on(ended),
        }
    }
}

/// All running episodes, each before its judge.
#[derive(Debug)]
pub struct Court {
    live: Arc<Live>,
    proxy_name: String,
    mailer: Mailer,
    cases: HashMap<String, Case>,
    /// Episodes in which the canary had a ready endpoint.
    had_ready: HashSet<EpisodeId>,
    /// What other proxies must be told.
    pending: Arc<Pending>,
}

impl Court {
    /// A court that knows what was known of the episodes that run: from before a restart, and from other proxies
    /// if they can be asked. To be called when a snapshot is in force, and before there is traffic.
    pub async fn convene(live: Arc<Live>, store: Arc<dyn Store>, mailer: Mailer, proxy_name: String) -> Session {
        let pending = Arc::<Pending>::default();
        let mut exchange = Exchange::new(Arc::clone(&live), store, Arc::clone(&pending));
        let mut court = Self::new(live, mailer, proxy_name, pending);
        for news in exchange.recall().await {
            court.hear_news(&news);
        }
        Session { court, exchange }
    }

    fn new(live: Arc<Live>, mailer: Mailer, proxy_name: String, pending: Arc<Pending>) -> Self {
        Self { live, proxy_name, mailer, cases: HashMap::new(), had_ready: HashSet::new(), pending }
    }

    /// A court that hears of no other.
    #[cfg(test)]
    pub(super) fn alone(live: Arc<Live>, mailer: Mailer, proxy_name: String) -> Self {
        Self::new(live, mailer, proxy_name, Arc::default())
    }

    /// Judges outcomes until there can be no more.
    async fn run(mut self, mut reports: mpsc::Receiver<Report>, mut news: mpsc::Receiver<News>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                taken = reports.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return;
                    }
                    self.hear(batch.drain(..));
                }
                Some(news) = news.recv() => self.hear_news(&news),
                _ = look.tick() => {
                    self.look();
                    self.live.pulse().verdict_goes_on();
                }
            }
        }
    }

    /// Takes in what other proxies know, and does what follows: the same as of an outcome here.
    fn hear_news(&mut self, news: &News) {
        let snapshot = self.live.snapshot();
        let Some(service) = snapshot.service(&news.service) else { return };
        let Some(episode) = self.running_episode(service).filter(|episode| episode.id == news.episode) else { return };
        let case = self.case(service, episode.id);
        case.take_in(&news.posts, news.is_recall, &episode, Instant::now());
        let ruling = case.judge.ruling();
        self.follow(ruling, service, &episode);
        self.update_status(service);
    }

    pub(super) fn hear(&mut self, reports: impl Iterator<Item = Report>) {
        let mut touched: Vec<Arc<ServiceView>> = Vec::new();
        for Report { service, outcome } in reports {
            self.observe(&service, &outcome);
            if !touched.iter().any(|known| Arc::ptr_eq(known, &service)) {
                touched.push(service);
            }
        }
        for service in touched {
            self.update_status(&service);
        }
    }

    fn observe(&mut self, service: &Arc<ServiceView>, outcome: &BadOutcome) {
        // A late outcome of an episode that is over, or of a canary already pulled, is no news.
        let Some(episode) = self.running_episode(service) else { return };
        let case = self.case(service, episode.id);
        let post = case.observe(outcome, &episode, Instant::now());
        let ruling = case.judge.ruling();
        if let Some(post) = post {
            self.pending.push(episode.id, post);
        }
        self.follow(ruling, service, &episode);
    }

    /// Does as the judge says, once stable had its chance to speak.
    fn follow(&mut self, ruling: Ruling, service: &Arc<ServiceView>, episode: &EpisodeView) {
        match ruling {
            Ruling::Hold => {}
            Ruling::Pull(Cause::Evidence) if self.must_wait(service, episode.id) => {}
            Ruling::Pull(cause) => self.pull(service, episode, cause),
        }
    }

    /// Whether stable's answers that are awaited, and not for long, could refute the evidence. An arm that
    /// is faster to fail isn't worse. Of a flag's canary, whose own requests are with stable too, all are taken for
    /// stable's: that is the careful way.
    fn must_wait(&mut self, service: &ServiceView, episode: EpisodeId) -> bool {
        let awaited = service.compared().iter().map(|endpoint| endpoint.live.awaited()).sum();
        !self.case(service, episode).stands(awaited, Instant::now())
    }

    /// The episode of an outcome's service, if it still runs.
    fn running_episode(&self, service: &ServiceView) -> Option<EpisodeView> {
        let episode = service.episode.clone()?;
        let snapshot = self.live.snapshot();
        let now = snapshot.service(&service.spec.name)?.episode.as_ref()?.id;
        (now == episode.id && !service.live.is_open()).then_some(episode)
    }

    fn case(&mut self, service: &ServiceView, episode: EpisodeId) -> &mut Case {
        let fresh = || Case::new(episode, &service.spec);
        let case = self.cases.entry(service.spec.name.clone()).or_insert_with(fresh);
        if case.episode != episode {
            *case = fresh();
        }
        case
    }

    /// Stops the canary in this process, at once. The rest of the world is told by `sync`.
    fn pull(&mut self, service: &Arc<ServiceView>, episode: &EpisodeView, cause: Cause) {
        let status = self.cases.get(&service.spec.name).map(Case::status);
        let reason = match (cause, &status) {
            (Cause::Evidence, Some(status)) => status.why.clone(),
            _ => cause.sentence().to_owned(),
        };
        service.live.trip(
            Some(episode.id),
            Trip {
                cause,
                reason,
                by: self.proxy_name.clone(),
                at: telemetry::now(),
                weight_before: service.asked,
                evidence: status.map(|status| status.evidence),
            },
        );
    }

    /// Looks at every running episode: its status, and the rules that wait for no outcome.
    pub(super) fn look(&mut self) {
        let snapshot = self.live.snapshot();
        let mut running = HashSet::new();
        for service in snapshot.services() {
            if let Some(episode) = &service.episode {
                running.insert(episode.id);
                self.look_at_case(service, episode);
                self.look_at_readiness(service, episode);
            }
            self.update_status(service);
        }
        self.had_ready.retain(|episode| running.contains(episode));
        if self.cases.len() > snapshot.services().len() {
            self.cases.retain(|name, _| snapshot.service(name).is_some());
        }
    }

    /// Looks at the traffic, and at a pull that waits for stable: it must not wait for another bad
    /// outcome too.
    fn look_at_case(&mut self, service: &Arc<ServiceView>, episode: &EpisodeView) {
        let case = self.case(service, episode.id);
        let found = case.look(service, episode, Instant::now());
        let (ruling, post) = (case.judge.ruling(), case.tell());
        if let Some(post) = post {
            self.pending.push(episode.id, post);
        }
        if found == Found::BrokenSplit {
            self.tell_of_split(service, episode);
        }
        if !service.live.is_open() {
            self.follow(ruling, service, episode);
        }
    }

    fn tell_of_split(&self, service: &ServiceView, episode: &EpisodeView) {
        let returned = episode.step.units().returned();
        let (service, weight) = (service.spec.name.clone(), episode.step.weight());
        tracing::error!(service, %weight, "The split itself is broken: nothing passes in this episode");
        let alert = RatioAlert { service, episode: episode.id, weight, returned: returned.units, at: telemetry::now() };
        self.mailer.send(Alert::Ratio(alert));
    }

    fn look_at_readiness(&mut self, service: &Arc<ServiceView>, episode: &EpisodeView) {
        // A flag on trial has no pool that could fail it.
        if service.trial.is_some() {
            return;
        }
        // Asked of the endpoints themselves: one may come and go between two looks.
        if service.pools.canary.iter().any(|endpoint| endpoint.live.was_up_since(episode.live.known_since())) {
            self.had_ready.insert(episode.id);
        }
        if service.ready(Arm::Canary) > 0 {
            return;
        }
        let lost = self.had_ready.contains(&episode.id)
            && !service.effective().is_zero()
            && !service.canary_withdrawn
            && self.live.store_health().reachable;
        if lost {
            self.pull(service, episode, Cause::NoReadyCanary);
        }
    }

    fn update_status(&self, service: &ServiceView) {
        let status = match (&service.episode, self.cases.get(&service.spec.name)) {
            (Some(episode), Some(case)) if case.episode == episode.id => case.status(),
            // What led to a pull stays to be seen until the circuit is reset.
            _ if service.live.is_open() => return,
            _ => {
                VerdictStatus { why: "no episode runs: the canary gets nothing".to_owned(), ..VerdictStatus::default() }
            }
        };
        service.live.set_verdict(status);
    }
}
