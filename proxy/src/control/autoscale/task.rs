//! What is done about a decision: one thing at a time for each pool, each noted in the store before it is done.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::pool::{arrivals, serving};
use super::{Autoscaler, Called, Task, Wish, driver, name};
use crate::control::alert::{Alert, ScalingAlert, ScalingNews};
use crate::live::ServiceView;
use crate::model::audit::Entry;
use crate::model::rollout::Fence;
use crate::model::scaling::{Act, Decision, DriverSpec, Grant, Leaving, Scaling, ScalingChange, ScalingSpec, Stage};
use crate::model::split::Arm;
use crate::model::state::Change;
use crate::model::time::Timestamp;
use crate::telemetry;

/// The version of the driver's contract.
const CONTRACT: u32 = 1;

/// One look at one pool: by whom, and on what it acts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn<'a> {
    /// The pool.
    pub(super) service: &'a ServiceView,
    /// What the configuration asks for.
    pub(super) spec: &'a ScalingSpec,
    /// Which leader acts.
    pub(super) fence: Fence,
    /// What was decided.
    pub(super) decision: &'a Decision,
    /// Whether a canary, a freeze window or a pause wants the pool to stay as it is, and nobody ordered a size.
    pub(super) is_barred: bool,
}

impl<'a> Turn<'a> {
    /// What starts and stops instances, where anything does.
    pub(super) fn driver(&self) -> Option<&'a DriverSpec> {
        self.spec.driver.as_ref().filter(|_| !self.spec.dry_run)
    }
}

impl Autoscaler {
    /// Goes on with what is under way, or begins what was decided. Says what it did, or why it did nothing.
    pub(super) async fn act(&mut self, turn: &Turn<'_>) -> String {
        let Some(watched) = self.watched.get(name(turn.service)) else { return String::new() };
        if watched.calling {
            return "the driver is at work".to_owned();
        }
        if watched.is_ahead_of(turn.service.revision) {
            return "what was done last isn't taken in yet".to_owned();
        }
        let scaling = turn.service.scaling.clone().unwrap_or_default();
        if let Some(removal) = &scaling.removal
            && let Some(note) = self.settle_removal(turn, removal).await
        {
            return note;
        }
        let Some(driver) = turn.driver() else {
            let why = if turn.spec.dry_run { "a dry run" } else { "there is no driver" };
            return format!("nothing is done: {why}");
        };
        let now = telemetry::now();
        if let Some(until) = scaling.backs_off_until(now).filter(|until| *until > now) {
            return format!("the driver failed {} times in a row and is left alone until {until}", scaling.failures);
        }
        if let Some(note) = self.go_on(turn, driver, &scaling).await {
            return note;
        }
        self.begin(turn, &scaling).await
    }

    /// Begins what was decided.
    async fn begin(&mut self, turn: &Turn<'_>, scaling: &Scaling) -> String {
        let decision = turn.decision;
        if decision.grow() > 0 {
            return self.grow(turn).await;
        }
        match (decision.shrink() > 0, scaling.grants.is_empty()) {
            (true, true) => self.shrink(turn).await,
            (false, true) => self.replace(turn).await.unwrap_or_default(),
            (true, false) => "none is taken away while others start".to_owned(),
            (false, false) => String::new(),
        }
    }

    /// Goes on with what is under way; none where nothing of it keeps anything else from being begun.
    async fn go_on(&mut self, turn: &Turn<'_>, driver: &DriverSpec, scaling: &Scaling) -> Option<String> {
        let (service, fence, now) = (turn.service, turn.fence, telemetry::now());
        let arrivals = arrivals(service);
        for grant in &scaling.grants {
            let Some(arrived) = arrivals.get(grant.token.as_str()) else { continue };
            let (token, count) = (grant.token.clone(), grant.count);
            match grant.stage {
                // Whoever wrote it, and whatever was in force then.
                Stage::Asked if turn.decision.sizes.there() > turn.spec.max && arrived.unseen > 0 => {
                    self.note(service, fence, Act::Reach { token, stage: Stage::Undone }).await;
                    return Some("more were asked for than there may be: that is undone".to_owned());
                }
                // Also what an earlier leader asked for and never heard of.
                Stage::Asked => return Some(self.call(turn, &token, Task::Add { count }).await),
                Stage::Started | Stage::Undone if arrived.unseen == 0 => {
                    self.note(service, fence, Act::Settle { token }).await;
                    self.succeed(service, fence).await;
                }
                Stage::Undone => {
                    let serving: Vec<String> = serving(service).map(str::to_owned).collect();
                    let task = Task::Undo { count: arrived.unseen, keep: instances(service, &serving) };
                    return Some(self.call(turn, &token, task).await);
                }
                Stage::Started if apart(now, grant.at) >= driver.ready_within => {
                    return Some(self.come_late(turn, &token, arrived.missing, count).await);
                }
                Stage::Started => {}
            }
        }
        match &scaling.removal {
            Some(removal) => Some(self.go_on_removing(turn, removal).await),
            None => None,
        }
    }

    /// Not all of a grant came in time.
    async fn come_late(&self, turn: &Turn<'_>, token: &str, missing: u32, count: u32) -> String {
        if missing > 0 {
            let why = format!("{missing} of {count} instances weren't ready in time");
            self.fail(turn.service, turn.fence, token, &why).await;
            return why;
        }
        let act = Act::Reach { token: token.to_owned(), stage: Stage::Undone };
        self.note(turn.service, turn.fence, act).await;
        "endpoints that were down came back: what else was started is undone".to_owned()
    }

    async fn grow(&mut self, turn: &Turn<'_>) -> String {
        let (service, decision) = (turn.service, turn.decision);
        // Once more at the door: whatever was decided, no more than that are asked for.
        let count = decision.grow().min(turn.spec.max.saturating_sub(decision.sizes.there()));
        if count == 0 {
            return String::new();
        }
        // What is still to come of a grant and more than that are one grant: see `Act::Grant`.
        let arrivals = arrivals(service);
        let is_open = |grant: &&Grant| arrivals.get(&*grant.token).is_some_and(|arrived| arrived.unseen > 0);
        let going = service.scaling.iter().flat_map(|scaling| &scaling.grants).find(is_open).cloned();
        let ids = |which: &dyn Fn(bool) -> bool| {
            let endpoints = service.pools.stable.iter().filter(|endpoint| which(endpoint.is_ready()));
            endpoints.map(|endpoint| endpoint.id.to_string()).collect()
        };
        let fresh = || Grant {
            token: fresh_token(),
            count: 0,
            at: telemetry::now(),
            stage: Stage::Asked,
            before: ids(&|_| true),
            down: ids(&|is_ready| !is_ready),
        };
        let going = going.unwrap_or_else(fresh);
        let count = going.count.saturating_add(count);
        let grant = Grant { count, at: telemetry::now(), stage: Stage::Asked, ..going };
        let token = grant.token.clone();
        let noted = self.note(service, turn.fence, Act::Grant(grant)).await;
        if noted.is_none_or(|scaling| scaling.grant(&token).is_none_or(|grant| grant.count != count)) {
            return OVERTAKEN.to_owned();
        }
        self.tell(turn, "autoscale.grow");
        self.call(turn, &token, Task::Add { count }).await
    }

    /// Has the driver do something, and comes back to it at a later look.
    pub(super) async fn call(&mut self, turn: &Turn<'_>, token: &str, task: Task) -> String {
        let Turn { service, spec, fence, .. } = *turn;
        // Whoever finds its fence in the store led a moment ago; what it asks for then carries its fence.
        if self.note(service, fence, Act::Hold).await.is_none() {
            return OVERTAKEN.to_owned();
        }
        let (Some(driver), Some(watched)) = ((self.make)(spec), self.watched.get_mut(name(service))) else {
            return String::new();
        };
        watched.calling = true;
        let said = format!("the driver is asked to {}", task.name());
        let wish = Wish {
            version: CONTRACT,
            service: name(service).to_owned(),
            pool: Arm::Stable.name(),
            token: token.to_owned(),
            fence: fence.0,
            min: spec.min,
            max: spec.max,
            task,
        };
        tracing::info!(service = name(service), token, action = wish.task.name(), "Asking the driver");
        self.calls.spawn(async move {
            let outcome = driver.perform(&wish).await;
            Called { service: wish.service.clone(), wish, outcome }
        });
        said
    }

    /// Takes the driver's word in: what it says that it did is noted, and still to be seen.
    pub(super) async fn called(&mut self, called: Called) {
        if let Some(watched) = self.watched.get_mut(&called.service) {
            watched.calling = false;
        }
        let snapshot = self.live.snapshot();
        let (Some(service), Some(fence)) = (snapshot.service(&called.service), self.lease.fence()) else { return };
        let token = called.wish.token.clone();
        let done = match called.outcome {
            Ok(done) => done,
            Err(error) => {
                let why = error.to_string();
                match called.wish.task {
                    Task::Add { .. } => self.fail(service, fence, &token, &why).await,
                    Task::Remove { .. } | Task::Undo { .. } => self.fail_again(service, fence, &why).await,
                }
                return;
            }
        };
        match called.wish.task {
            // What couldn't be put into the pool is asked for again, by the same token.
            Task::Add { .. } if !self.take_in(service, fence, &done.started).await => {}
            Task::Add { .. } => drop(self.note(service, fence, Act::Reach { token, stage: Stage::Started }).await),
            // The driver told of it once: what is stopped is heard again until the pool is without it.
            Task::Undo { .. } if !self.take_out(service, fence, &done.stopped).await => {
                self.hear_again(Called { outcome: Ok(done), ..called });
            }
            Task::Undo { .. } => {
                // That a driver undoes what it did is no sign that it works.
                self.note(service, fence, Act::Settle { token }).await;
            }
            Task::Remove { .. } => {
                let stage = Leaving::Stopped;
                let noted = self.note(service, fence, Act::Leave { token: token.clone(), stage }).await;
                let stopped = noted.and_then(|scaling| scaling.removal).filter(|removal| removal.token == token);
                if let Some(removal) = stopped {
                    self.strike_out(service, fence, &removal).await;
                }
            }
        }
    }

    /// Has the driver's word come again at the next look; until then nothing else is begun.
    fn hear_again(&mut self, called: Called) {
        if let Some(watched) = self.watched.get_mut(&called.service) {
            watched.calling = true;
        }
        self.calls.spawn(std::future::ready(called));
    }

    /// A grant came to nothing: the driver is to undo what there may be of it.
    async fn fail(&self, service: &ServiceView, fence: Fence, token: &str, why: &str) {
        self.note(service, fence, Act::Reach { token: token.to_owned(), stage: Stage::Undone }).await;
        self.fail_again(service, fence, why).await;
    }

    async fn fail_again(&self, service: &ServiceView, fence: Fence, why: &str) {
        let at = telemetry::now();
        let Some(noted) = self.note(service, fence, Act::Fail { at }).await else { return };
        let failures = noted.failures;
        tracing::error!(service = name(service), why, failures, "Scaling failed");
        self.audit(service, "autoscale.fail", String::new(), failures.to_string(), why.to_owned());
        // One that fails for ever is told less and less often.
        if failures.is_power_of_two() {
            let retry_at = noted.backs_off_until(at).unwrap_or(at);
            self.alert(service, at, ScalingNews::Fails { why: why.to_owned(), failures, retry_at });
        }
    }

    /// The driver did as asked.
    pub(super) async fn succeed(&self, service: &ServiceView, fence: Fence) {
        let failed = service.scaling.as_ref().map_or(0, |scaling| scaling.failures);
        if self.note(service, fence, Act::Succeed).await.is_some() && failed > 0 {
            self.alert(service, telemetry::now(), ScalingNews::Works { failures: failed });
        }
    }

    fn alert(&self, service: &ServiceView, at: Timestamp, news: ScalingNews) {
        let (service, proxy) = (name(service).to_owned(), self.proxy_name.clone());
        self.mailer.send(Alert::Scaling(ScalingAlert { service, proxy, at, news }));
    }

    pub(super) fn tell(&self, turn: &Turn<'_>, what: &str) {
        let Turn { service, decision, .. } = *turn;
        let (from, to, why) = (decision.sizes.total(), decision.size, decision.why());
        tracing::info!(service = name(service), what, from, to, why, "Scaling");
        self.audit(service, what, from.to_string(), to.to_string(), why);
    }

    fn audit(&self, service: &ServiceView, what: &str, from: String, to: String, why: String) {
        self.store.note(Entry {
            proxy: self.proxy_name.clone(),
            who: self.proxy_name.clone(),
            what: what.to_owned(),
            service: Some(name(service).to_owned()),
            from,
            to,
            why: Some(why),
            ..Entry::default()
        });
    }

    /// Notes an act under this leader's fence. None where another one leads by now, or nobody knows.
    pub(super) async fn note(&self, service: &ServiceView, fence: Fence, act: Act) -> Option<Scaling> {
        let change = Change::Scaling(ScalingChange::Lead { fence, act });
        let scaling = self.apply(service, change).await?;
        (scaling.fence <= fence).then_some(scaling)
    }

    pub(super) async fn apply(&self, service: &ServiceView, change: Change) -> Option<Scaling> {
        let stored = self.store.apply(name(service), &change, None).await;
        let stored = stored.map_err(|error| {
            tracing::warn!(service = name(service), %error, "What scaling does couldn't be noted, and isn't done");
        });
        let state = stored.ok()?;
        if let Some(watched) = self.watched.get(name(service)) {
            *watched.noted.lock().unwrap_or_else(PoisonError::into_inner) = Some((state.revision, Instant::now()));
        }
        Some(state.scaling.unwrap_or_default())
    }
}

pub(super) const OVERTAKEN: &str = "another proxy leads by now, or the store doesn't answer: nothing is done";

/// The instances of these ids, for the driver.
pub(super) fn instances(service: &ServiceView, ids: &[String]) -> Vec<driver::Instance> {
    let known = |id: &String| service.pools.stable.iter().find(|endpoint| *endpoint.id == **id);
    let instance = |id: &String| driver::Instance {
        id: id.clone(),
        address: known(id).map_or_else(|| id.clone(), |endpoint| endpoint.address.to_string()),
        zone: known(id).and_then(|endpoint| endpoint.member.zone.clone()),
    };
    ids.iter().map(instance).collect()
}

/// A name for a wish that nobody used before.
pub(super) fn fresh_token() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// How far two moments are apart, whichever is the later one: what lies far ahead was noted by a clock that was wrong.
pub(super) fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}
