//! The verdict loop: bad outcomes in, the pull out. Nothing remote is waited for between
//! a bad outcome and the latch that stops the canary.

mod case;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use self::case::{Case, Found};
use super::alert::{Alert, Mailer, RatioAlert};
use crate::live::{EpisodeView, Live, Report, ServiceView, VerdictStatus};
use crate::model::circuit::{Cause, Trip};
use crate::model::outcome::BadOutcome;
use crate::model::split::{Arm, EpisodeId};
use crate::model::verdict::Ruling;
use crate::telemetry;

/// How often the status is brought up to date where no outcome does so, and hard rules that
/// wait for no outcome are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// For how long a pull waits for answers of stable that might yet refute the evidence. Where stable
/// answers none of them for so long, as a service of long polls may, the canary goes without.
const WAIT: Duration = Duration::from_millis(600);
/// Outcomes taken in before the status is brought up to date.
const BATCH: usize = 256;

/// All running episodes, each before its judge.
#[derive(Debug)]
pub struct Court {
    live: Arc<Live>,
    proxy_name: String,
    mailer: Mailer,
    cases: HashMap<String, Case>,
    /// Episodes in which the canary had a ready endpoint.
    had_ready: HashSet<EpisodeId>,
    /// Episodes whose pull waits for stable's answers, and since when.
    waiting: HashMap<EpisodeId, Instant>,
}

impl Court {
    /// A court with nothing to judge yet.
    pub fn new(live: Arc<Live>, mailer: Mailer, proxy_name: String) -> Self {
        let (cases, had_ready, waiting) = (HashMap::new(), HashSet::new(), HashMap::new());
        Self { live, proxy_name, mailer, cases, had_ready, waiting }
    }

    /// Judges outcomes until there can be no more.
    pub async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
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
                _ = look.tick() => self.look(),
            }
        }
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
        let ruling = self.case(service, episode.id).observe(outcome, &episode, Instant::now());
        self.follow(ruling, service, &episode);
    }

    /// Does as the judge says, once stable had its chance to speak.
    fn follow(&mut self, ruling: Ruling, service: &Arc<ServiceView>, episode: &EpisodeView) {
        match ruling {
            Ruling::Hold => drop(self.waiting.remove(&episode.id)),
            Ruling::Pull(Cause::Evidence) if self.must_wait(service, episode.id) => {}
            Ruling::Pull(cause) => self.pull(service, episode, cause),
        }
    }

    /// Whether stable's answers that are awaited could refute the evidence, and have not been awaited
    /// for long. An arm that is faster to fail isn't worse.
    fn must_wait(&mut self, service: &ServiceView, episode: EpisodeId) -> bool {
        let awaited = service.pools.stable.iter().map(|endpoint| endpoint.live.in_flight()).sum();
        if self.case(service, episode).judge.stands_if_stable_errs(awaited) {
            return false;
        }
        self.waiting.entry(episode).or_insert_with(Instant::now).elapsed() < WAIT
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
        self.waiting.retain(|episode, _| running.contains(episode));
    }

    /// Looks at the traffic, and at a pull that waits for stable: it must not wait for another bad
    /// outcome too.
    fn look_at_case(&mut self, service: &Arc<ServiceView>, episode: &EpisodeView) {
        let case = self.case(service, episode.id);
        let found = case.look(service, episode, Instant::now());
        let ruling = case.judge.ruling();
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
