//! The verdict loop: bad outcomes in, the pull out. Nothing remote is waited for between
//! a bad outcome and the latch that stops the canary.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::live::{EpisodeView, Live, Report, ServiceView, VerdictStatus};
use crate::model::circuit::{Cause, Trip};
use crate::model::outcome::BadOutcome;
use crate::model::split::{Arm, EpisodeId, PerArm};
use crate::model::verdict::{Judge, Ruling};
use crate::telemetry;

/// How often the status is brought up to date where no outcome does so, and hard rules that
/// wait for no outcome are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// For how long a pull waits for answers of stable that might yet refute the evidence. Where stable
/// answers none of them for so long, as a service of long polls may, the canary goes without.
const WAIT: Duration = Duration::from_millis(600);
/// Outcomes taken in before the status is brought up to date.
const BATCH: usize = 256;

/// The judges of all running episodes.
#[derive(Debug)]
pub struct Court {
    live: Arc<Live>,
    proxy_name: String,
    judges: HashMap<String, (EpisodeId, Judge)>,
    /// Episodes in which the canary had a ready endpoint.
    had_ready: HashSet<EpisodeId>,
    /// Episodes whose pull waits for stable's answers, and since when.
    waiting: HashMap<EpisodeId, Instant>,
}

impl Court {
    /// A court without judges.
    pub fn new(live: Arc<Live>, proxy_name: String) -> Self {
        Self { live, proxy_name, judges: HashMap::new(), had_ready: HashSet::new(), waiting: HashMap::new() }
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

    fn hear(&mut self, reports: impl Iterator<Item = Report>) {
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
        let addresses = episode.live.addresses();
        let ruling = self.judge(service, episode.id).observe(outcome, addresses);
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
        let judge = self.judge(service, episode);
        if judge.stands_if_stable_errs(awaited) {
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

    fn judge(&mut self, service: &ServiceView, episode: EpisodeId) -> &mut Judge {
        let fresh = || (episode, Judge::new(&service.spec.verdict));
        let entry = self.judges.entry(service.spec.name.clone()).or_insert_with(fresh);
        if entry.0 != episode {
            *entry = fresh();
        }
        &mut entry.1
    }

    /// Stops the canary in this process, at once. The rest of the world is told by `sync`.
    fn pull(&mut self, service: &Arc<ServiceView>, episode: &EpisodeView, cause: Cause) {
        let evidence = self.judges.get(&service.spec.name).map(|(_, judge)| judge.evidence(units(episode)));
        service.live.trip(
            Some(episode.id),
            Trip {
                cause,
                reason: cause.sentence().to_owned(),
                by: self.proxy_name.clone(),
                at: telemetry::now(),
                weight_before: service.asked,
                evidence,
            },
        );
    }

    /// Looks at every running episode: its status, and the rules that wait for no outcome.
    fn look(&mut self) {
        let snapshot = self.live.snapshot();
        let mut running = HashSet::new();
        for service in snapshot.services() {
            if let Some(episode) = &service.episode {
                running.insert(episode.id);
                self.look_at_ruling(service, episode);
                self.look_at_readiness(service, episode);
            }
            self.update_status(service);
        }
        self.had_ready.retain(|episode| running.contains(episode));
        self.waiting.retain(|episode, _| running.contains(episode));
    }

    /// A pull that waits for stable must not wait for another bad outcome too.
    fn look_at_ruling(&mut self, service: &Arc<ServiceView>, episode: &EpisodeView) {
        let ruling = self.judge(service, episode.id).ruling();
        if !service.live.is_open() {
            self.follow(ruling, service, episode);
        }
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
        let status = match (&service.episode, self.judges.get(&service.spec.name)) {
            (Some(episode), Some((id, judge))) if *id == episode.id => VerdictStatus {
                episode: Some(*id),
                pull: service.live.is_open(),
                why: judge.why(),
                errors: judge.evidence(units(episode)),
            },
            // What led to a pull stays to be seen until the circuit is reset.
            _ if service.live.is_open() => return,
            _ => {
                VerdictStatus { why: "no episode runs: the canary gets nothing".to_owned(), ..VerdictStatus::default() }
            }
        };
        service.live.set_verdict(status);
    }
}

fn units(episode: &EpisodeView) -> PerArm<u64> {
    PerArm::from_fn(|arm| episode.live.units(arm))
}
