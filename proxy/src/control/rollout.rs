//! Rollouts: every proxy watches them and says what they wait for; the one that leads moves them.
//!
//! Nothing is changed here but through the store, and each change names the step and the leader that
//! it was decided for: what came too late does nothing. Pulls don't come from here.
//!
//! `enforce` puts the definition of a flag in force.

mod enforce;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::alert::{Alert, Mailer, RolloutAlert};
use crate::live::{Live, ServiceView};
use crate::model::audit::Entry;
use crate::model::rollout::change::{Deed, Lead, RolloutChange};
use crate::model::rollout::drive::{self, Clock, Move, Observed};
use crate::model::rollout::subject::Subject;
use crate::model::rollout::{Fence, Phase, Rollout, RolloutId};
use crate::model::split::Arm;
use crate::model::state::{Change, ServiceState};
use crate::model::time::Timestamp;
use crate::model::verdict::Decision;
use crate::store::{Store, fresh_episode};
use crate::telemetry;

/// How often rollouts are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// For how long a leader leads without renewing: so long rollouts stand still when it dies.
const TERM: Duration = Duration::from_secs(3);

/// Watches and moves the rollouts of all services.
#[derive(Debug)]
pub struct Driver {
    live: Arc<Live>,
    store: Arc<dyn Store>,
    mailer: Mailer,
    proxy_name: String,
    /// What names this process to the store: no two are the same.
    holder: String,
    watches: HashMap<String, Watch>,
}

/// What this process saw of a rollout, by its own clock.
#[derive(Clone, Copy, Debug)]
struct Watch {
    id: RolloutId,
    met: Instant,
    /// The step in force and when it began by the store, and since when it is seen here.
    step: (usize, Timestamp),
    step_since: Instant,
    /// The canary's requests through this proxy when the step was first seen.
    requests: u64,
    renewed: Timestamp,
    renewed_since: Instant,
}

impl Watch {
    fn new(rollout: &Rollout, requests: u64) -> Self {
        let now = Instant::now();
        Self {
            id: rollout.plan.id,
            met: now,
            step: (rollout.step, rollout.entered),
            step_since: now,
            requests,
            renewed: rollout.renewed,
            renewed_since: now,
        }
    }

    fn follow(&mut self, rollout: &Rollout, requests: u64) {
        let step = (rollout.step, rollout.entered);
        if self.step != step {
            (self.step, self.step_since, self.requests) = (step, Instant::now(), requests);
        }
        if self.renewed != rollout.renewed {
            (self.renewed, self.renewed_since) = (rollout.renewed, Instant::now());
        }
    }

    /// Wall clocks jump and processes restart: of what the stored times and this process' own say, the
    /// more careful counts. A lease counts by own observation alone, since proxies' clocks differ.
    fn clock(&self, rollout: &Rollout) -> Clock {
        let now = telemetry::now();
        Clock {
            now,
            held: now.since(rollout.entered).min(self.step_since.elapsed()),
            age: now.since(rollout.plan.at).max(self.met.elapsed()),
            silent: self.renewed_since.elapsed(),
        }
    }
}

impl Driver {
    /// A driver that has seen nothing yet.
    pub fn new(live: Arc<Live>, store: Arc<dyn Store>, mailer: Mailer, proxy_name: String) -> Self {
        let holder = format!("{proxy_name} {:016x}", rand::random::<u64>());
        Self { live, store, mailer, proxy_name, holder, watches: HashMap::new() }
    }

    /// What names this process to the store: who else in it leads must lead by the same name.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Goes on for ever: at each look, and at each snapshot.
    pub async fn run(mut self, mut published: watch::Receiver<u64>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                changed = published.changed() => if changed.is_err() { return },
            }
            self.look().await;
        }
    }

    /// Looks at every rollout, and moves those that may move.
    pub(super) async fn look(&mut self) {
        let snapshot = self.live.snapshot();
        let going: Vec<_> = snapshot.services().iter().filter(|service| service.live_rollout().is_some()).collect();
        self.watches.retain(|name, _| going.iter().any(|service| service.spec.name == *name));
        let fence = if going.is_empty() { None } else { self.lead().await };
        for service in going {
            self.look_at(service, fence).await;
        }
    }

    /// The fence of this process, while it leads.
    async fn lead(&self) -> Option<Fence> {
        if !self.live.store_health().reachable {
            return None;
        }
        let asked = self.store.lead(&self.holder, TERM).await;
        asked.map_err(|error| tracing::warn!(%error, "Rollouts stand still: nobody can be sure to lead")).ok()?
    }

    async fn look_at(&mut self, service: &ServiceView, fence: Option<Fence>) {
        let Some(rollout) = service.live_rollout() else { return };
        let requests = service.live.totals(Arm::Canary).requests();
        let fresh = || Watch::new(rollout, requests);
        let watch = self.watches.entry(service.spec.name.clone()).or_insert_with(fresh);
        if watch.id != rollout.plan.id {
            *watch = fresh();
        }
        watch.follow(rollout, requests);
        let seen = observe(&self.live, service, rollout, requests > watch.requests);
        let next = drive::next(rollout, &service.spec.rollout, &seen, &watch.clock(rollout));
        service.live.set_rollout_waits(next.why.clone());
        let Some(fence) = fence else { return };
        if rollout.fence < fence {
            // Before anything is decided: from here on those who led before are not listened to.
            let change = RolloutChange::Lead { id: rollout.plan.id, fence };
            self.apply(service, Change::Rollout(change), None).await;
            return;
        }
        self.act(service, rollout, fence, next).await;
    }

    async fn act(&self, service: &ServiceView, rollout: &Rollout, fence: Fence, next: drive::Next) {
        let (id, at) = (rollout.plan.id, telemetry::now());
        let lead = Lead { id, step: rollout.step, fence, at };
        let deed = |reason| Deed { by: self.proxy_name.clone(), at, reason: Some(reason) };
        let change = match next.step {
            Move::Wait => return,
            Move::Advance => RolloutChange::Advance { lead, fresh: fresh_episode() },
            Move::Promote => RolloutChange::Promote { id, lead: Some(lead), deed: deed(next.why.clone()), swap: None },
            Move::Enforce => return self.enforce(service, rollout, fence).await,
            Move::Finish => RolloutChange::Finish { lead },
            Move::Abort(reason) => RolloutChange::Abort { id, deed: deed(reason) },
            Move::Yield(weight) => {
                let set = Change::SetWeight { weight, fresh: fresh_episode() };
                self.apply(service, set, Some(service.revision)).await;
                return;
            }
        };
        if let Some(stored) = self.apply(service, Change::Rollout(change), None).await {
            self.tell(&service.spec.name, rollout, &stored, at);
        }
    }

    async fn apply(&self, service: &ServiceView, change: Change, expected: Option<u64>) -> Option<ServiceState> {
        let name = &service.spec.name;
        let stored = self.store.apply(name, &change, expected).await;
        stored.map_err(|error| tracing::warn!(service = name, %error, "A rollout couldn't be moved")).ok()
    }

    /// Logs what this process did, and mails an end that no person decided.
    fn tell(&self, service: &str, before: &Rollout, stored: &ServiceState, at: Timestamp) {
        let Some(rollout) = stored.rollout.as_ref().filter(|after| after.plan.id == before.plan.id) else { return };
        if rollout.phase == before.phase && rollout.step == before.step && rollout.finished == before.finished {
            return;
        }
        tracing::info!(service, rollout = %rollout.plan.id, phase = %rollout.phase, why = rollout.why, "Rollout moved");
        let stands =
            |rollout: &Rollout| format!("{}, step {} of {}", rollout.phase, rollout.step, rollout.plan.steps.len());
        self.store.note(Entry {
            proxy: self.proxy_name.clone(),
            who: self.proxy_name.clone(),
            what: "rollout.move".to_owned(),
            service: Some(service.to_owned()),
            from: stands(before),
            to: stands(rollout),
            why: Some(rollout.why.clone()),
            ..Entry::default()
        });
        let decided_here = rollout.decided_by.as_deref() == Some(&self.proxy_name) && rollout.decided_at == Some(at);
        if decided_here && matches!(rollout.phase, Phase::Promoted | Phase::Aborted) {
            let alert = RolloutAlert { service: service.to_owned(), rollout: rollout.clone(), at };
            self.mailer.send(Alert::Rollout(Box::new(alert)));
        }
    }
}

/// What this proxy sees of a service: the one place where the verdict's status becomes a rollout's.
fn observe(live: &Live, service: &ServiceView, rollout: &Rollout, canary_was_asked: bool) -> Observed {
    let verdict = service.live.verdict();
    let of_this_episode = service.episode.as_ref().is_some_and(|episode| verdict.episode == Some(episode.id));
    // A status of the step before must not let this one pass.
    let of_this_step =
        of_this_episode && (verdict.decision != Decision::Pass || verdict.pass.weight == rollout.weight());
    let subject = &rollout.plan.subject;
    let (carried, overtaken) = match subject {
        Subject::Flag(trial) => enforce::standing(live, service, trial),
        Subject::Version(version) => (service.stable_carries(version), None),
    };
    Observed {
        decision: if of_this_step { verdict.decision } else { Decision::Hold },
        why: verdict.why.clone(),
        canary_was_asked,
        stable_failing: of_this_episode && verdict.stable_failing,
        ratio_broken: of_this_episode && verdict.sample_ratio.off,
        circuit_open: service.live.is_open(),
        store_reachable: live.store_health().reachable,
        canary_unready: service.unready(subject),
        carried,
        overtaken,
        asked: service.asked,
    }
}

#[cfg(test)]
mod tests;
