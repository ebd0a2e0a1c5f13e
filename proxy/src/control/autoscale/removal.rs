//! How instances go: chosen, drained, given to the driver once no proxy has anything with them, and taken out of the pool.
//!
//! Until the driver is told there is a way back, and it is gone whenever the reason for going is gone. A removal is over
//! only once a snapshot shows that it is: a write that was lost is made again at the next look.

use std::time::Duration;

use super::pool::{candidate, count, is_among, is_down, of_ids, serving};
use super::task::{OVERTAKEN, Turn, apart, fresh_token, instances};
use super::{Autoscaler, Task, name};
use crate::live::{EndpointView, Health, ServiceView};
use crate::model::rollout::Fence;
use crate::model::scaling::{Act, Candidate, Leaving, Removal, victims};
use crate::model::split::Arm;
use crate::model::state::{Change, MemberSpec};
use crate::telemetry;

/// After so long what is still in flight with an instance that goes is left to it: a connection that stays open for
/// hours must not keep an instance for hours.
const DRAIN: Duration = Duration::from_secs(15 * 60);
/// An endpoint that is down for so long goes before one that serves.
const DOWN: Duration = Duration::from_secs(60);

impl Autoscaler {
    /// Goes on with what of a removal needs no driver: the way back, and the way out of the pool. None where it waits for
    /// the driver, or for what is in flight.
    pub(super) async fn settle_removal(&self, turn: &Turn<'_>, removal: &Removal) -> Option<String> {
        match removal.stage {
            Leaving::Returning => Some(self.give_back(turn, removal).await),
            Leaving::Stopped => Some(self.strike_out(turn.service, turn.fence, removal).await),
            Leaving::Draining | Leaving::Given => {
                let why = way_back(turn, removal)?;
                if !self.leave(turn, removal, Leaving::Returning).await {
                    return Some(OVERTAKEN.to_owned());
                }
                self.give_back(turn, removal).await;
                Some(format!("what was to go serves again: {why}"))
            }
        }
    }

    /// Goes on with what drains, or was given to the driver.
    pub(super) async fn go_on_removing(&mut self, turn: &Turn<'_>, removal: &Removal) -> String {
        let service = turn.service;
        let wish = Task::Remove { instances: instances(service, &removal.ids) };
        if removal.stage == Leaving::Given {
            return self.call(turn, &removal.token, wish).await;
        }
        if of_ids(service, &removal.ids).any(|endpoint| !endpoint.draining) {
            self.drain(service, turn.fence, &removal.ids, true).await;
            return "instances drain".to_owned();
        }
        let left = self.watched.get(name(service)).is_some_and(|w| w.fleet.left(&removal.ids, service.revision));
        if !left && apart(telemetry::now(), removal.at) < DRAIN {
            return "instances that go still have requests".to_owned();
        }
        if !self.leave(turn, removal, Leaving::Given).await {
            return OVERTAKEN.to_owned();
        }
        self.call(turn, &removal.token, wish).await
    }

    /// Takes as many away as was decided: those that are down first.
    pub(super) async fn shrink(&mut self, turn: &Turn<'_>) -> String {
        let (decision, service) = (turn.decision, turn.service);
        let mut ids = victims(self.down_for(service, DOWN), decision.shrink());
        let left = decision.shrink() - count(ids.len());
        let ready = service.pools.stable.iter().filter(|endpoint| endpoint.is_ready() && !endpoint.control);
        let since = |id: &str| self.watched.get(name(service))?.ready_since.get(id).copied();
        let ready = ready.map(|endpoint| candidate(service, endpoint, since(&endpoint.id))).collect();
        ids.extend(victims(ready, left.min(decision.sizes.ready.saturating_sub(turn.spec.min))));
        if ids.is_empty() {
            return "none can be taken away".to_owned();
        }
        self.remove(turn, ids, "autoscale.shrink").await
    }

    /// Takes away what is down for longer than an instance may take to come: nobody knows that it will. None where
    /// there is nothing of the kind. Those in the configuration file stay unless they stand in the way of others.
    pub(super) async fn replace(&mut self, turn: &Turn<'_>) -> Option<String> {
        let driver = turn.driver()?;
        // Where none serves, it may as well be this proxy that sees none.
        if turn.is_barred || turn.decision.sizes.ready == 0 {
            return None;
        }
        let mut wedged = self.down_for(turn.service, driver.ready_within.max(DOWN));
        let held_up = turn.decision.held_up_by_down();
        if held_up == 0 {
            wedged.retain(|candidate| !candidate.is_seed);
        }
        let most = turn.spec.pace.max_shrink.of(turn.decision.sizes.ready);
        let ids = victims(wedged, if held_up == 0 { most } else { most.min(held_up) });
        if ids.is_empty() { None } else { Some(self.remove(turn, ids, "autoscale.replace").await) }
    }

    /// Endpoints that are down for so long, as far as this process saw. Those of the control stay: the canary is compared
    /// with them.
    fn down_for(&self, service: &ServiceView, span: Duration) -> Vec<Candidate> {
        let since = |endpoint: &EndpointView| self.watched.get(name(service))?.down_since.get(&*endpoint.id).copied();
        let now = telemetry::now();
        let long = |endpoint: &&EndpointView| since(endpoint).is_some_and(|since| now.since(since) >= span);
        let down = service.pools.stable.iter().filter(|endpoint| is_down(endpoint) && !endpoint.control);
        down.filter(long).map(|endpoint| candidate(service, endpoint, since(endpoint))).collect()
    }

    async fn remove(&self, turn: &Turn<'_>, ids: Vec<String>, what: &str) -> String {
        let (token, at) = (fresh_token(), telemetry::now());
        let removal = Removal { token: token.clone(), ids: ids.clone(), at, stage: Leaving::Draining };
        let noted = self.note(turn.service, turn.fence, Act::Remove(removal)).await;
        if noted.is_none_or(|scaling| scaling.removal.is_none_or(|going| going.token != token)) {
            return OVERTAKEN.to_owned();
        }
        self.tell(turn, what);
        self.drain(turn.service, turn.fence, &ids, true).await;
        "instances drain".to_owned()
    }

    /// Notes how far a removal is, and says whether that counts.
    async fn leave(&self, turn: &Turn<'_>, removal: &Removal, stage: Leaving) -> bool {
        let noted = self.note(turn.service, turn.fence, Act::Leave { token: removal.token.clone(), stage }).await;
        let going = noted.and_then(|scaling| scaling.removal);
        going.is_some_and(|going| going.token == removal.token && going.stage == stage)
    }

    async fn give_back(&self, turn: &Turn<'_>, removal: &Removal) -> String {
        if of_ids(turn.service, &removal.ids).any(|endpoint| endpoint.draining) {
            self.drain(turn.service, turn.fence, &removal.ids, false).await;
        } else {
            self.note(turn.service, turn.fence, Act::Removed { token: removal.token.clone() }).await;
        }
        "what was to go serves again".to_owned()
    }

    /// Takes out of the pool what the driver stopped. What doesn't drain was never given to it.
    pub(super) async fn strike_out(&self, service: &ServiceView, fence: Fence, removal: &Removal) -> String {
        let stopped: Vec<_> = of_ids(service, &removal.ids).filter(|endpoint| endpoint.draining).collect();
        if !self.strike(service, fence, stopped.iter().copied()).await {
            return OVERTAKEN.to_owned();
        }
        if stopped.is_empty() {
            self.note(service, fence, Act::Removed { token: removal.token.clone() }).await;
            self.succeed(service, fence).await;
        }
        "what was stopped leaves the pool".to_owned()
    }

    /// Has endpoints drain, or serve again.
    async fn drain(&self, service: &ServiceView, fence: Fence, ids: &[String], draining: bool) {
        for endpoint in of_ids(service, ids).filter(|endpoint| endpoint.draining != draining) {
            // Who was overtaken meanwhile touches no endpoint.
            if self.note(service, fence, Act::Hold).await.is_none() {
                return;
            }
            let (id, spec) = (endpoint.id.to_string(), MemberSpec::clone(&endpoint.member));
            self.apply(service, Change::SetDraining { arm: Arm::Stable, id, spec, draining }).await;
        }
    }
}

/// Why what is to go serves again after all, if it does. Anybody may have written the removal into the store, so what
/// would cost the pool too much isn't done whoever wished it.
fn way_back(turn: &Turn<'_>, removal: &Removal) -> Option<&'static str> {
    let rest = serving(turn.service).filter(|id| !is_among(&removal.ids, id)).count();
    let would_serve = of_ids(turn.service, &removal.ids).any(|endpoint| endpoint.live.health() != Health::Down);
    if would_serve && count(rest) < turn.spec.min {
        return Some("without them there are fewer than `min`");
    }
    if removal.stage == Leaving::Given {
        // It is given only once it drains.
        let serves = of_ids(turn.service, &removal.ids).any(|endpoint| !endpoint.draining);
        return serves.then_some("somebody has it serve");
    }
    if turn.driver().is_none() {
        Some("nobody would stop them")
    } else if turn.is_barred {
        Some("the pool is to stay as it is")
    } else if turn.decision.grow() > 0 && would_serve {
        Some("they are needed")
    } else {
        None
    }
}
