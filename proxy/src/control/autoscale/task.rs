//! What is done about a decision: one thing at a time for each pool, each noted in the store before it is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::{Autoscaler, Called, Task, Wish, driver, name, serving};
use crate::live::ServiceView;
use crate::model::audit::Entry;
use crate::model::rollout::Fence;
use crate::model::scaling::{
    Act, Candidate, Decision, DriverSpec, Grant, Removal, Scaling, ScalingChange, ScalingSpec, Stage, victims,
};
use crate::model::split::Arm;
use crate::model::state::{Change, MemberSpec};
use crate::telemetry;

/// After so long what is still in flight with an instance that goes is left to it: a connection that stays open for
/// hours must not keep an instance for hours.
const DRAIN: Duration = Duration::from_secs(15 * 60);
/// The version of the driver's contract.
const CONTRACT: u32 = 1;

/// What came of a grant so far.
#[derive(Debug, Default)]
pub(super) struct Arrivals<'a> {
    /// The instances that are there.
    came: Vec<&'a str>,
    /// How many aren't.
    pub(super) missing: u32,
}

/// What came of each grant, by its token. Each instance that came counts for one grant, the oldest first.
pub(super) fn arrivals(service: &ServiceView) -> BTreeMap<&str, Arrivals<'_>> {
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    let mut arrivals = BTreeMap::new();
    for grant in service.scaling.iter().flat_map(|scaling| &scaling.grants) {
        let mut of_grant = Arrivals { came: Vec::new(), missing: grant.count };
        for id in serving(service).filter(|id| !grant.before.iter().any(|before| before == id)) {
            if of_grant.missing > 0 && taken.insert(id) {
                of_grant.missing -= 1;
                of_grant.came.push(id);
            }
        }
        arrivals.insert(grant.token.as_str(), of_grant);
    }
    arrivals
}

impl Autoscaler {
    /// Goes on with what is under way, or begins what was decided. Says what it did, or why it did nothing.
    pub(super) async fn act(
        &mut self,
        service: &ServiceView,
        spec: &ScalingSpec,
        fence: Fence,
        decision: &Decision,
    ) -> String {
        let scaling = service.scaling.clone().unwrap_or_default();
        let Some(driver) = spec.driver.as_ref().filter(|_| !spec.dry_run) else {
            let why = if spec.dry_run { "a dry run" } else { "there is no driver" };
            return format!("nothing is done: {why}");
        };
        if self.watched.get(name(service)).is_some_and(|watched| watched.calling) {
            return "the driver is at work".to_owned();
        }
        if self.watched.get(name(service)).is_some_and(|watched| watched.is_ahead_of(service.revision)) {
            return "what was done last isn't taken in yet".to_owned();
        }
        let now = telemetry::now();
        if let Some(until) = scaling.backs_off_until().filter(|until| *until > now) {
            return format!("the driver failed {} times in a row and is left alone until {until}", scaling.failures);
        }
        if let Some(note) = self.go_on(service, spec, driver, fence, &scaling, decision).await {
            return note;
        }
        if decision.grow() > 0 {
            self.grow(service, spec, fence, decision).await
        } else if decision.shrink() > 0 && scaling.grants.is_empty() {
            self.shrink(service, spec, fence, decision).await
        } else if decision.shrink() > 0 {
            "none is taken away while others start".to_owned()
        } else {
            String::new()
        }
    }

    /// Goes on with what is under way; none where nothing of it keeps anything else from being begun.
    async fn go_on(
        &mut self,
        service: &ServiceView,
        spec: &ScalingSpec,
        driver: &DriverSpec,
        fence: Fence,
        scaling: &Scaling,
        decision: &Decision,
    ) -> Option<String> {
        let (now, arrivals) = (telemetry::now(), arrivals(service));
        for grant in &scaling.grants {
            let Some(Arrivals { came, missing }) = arrivals.get(grant.token.as_str()) else { continue };
            let (token, count) = (&grant.token, grant.count);
            match grant.stage {
                // Also what an earlier leader asked for and never heard of.
                Stage::Asked => return Some(self.call(service, spec, fence, token, Task::Add { count }).await),
                Stage::Started | Stage::Undone if *missing == 0 => {
                    self.note(service, fence, Act::Settle { token: token.clone() }).await;
                    self.note(service, fence, Act::Succeed).await;
                }
                Stage::Undone => {
                    let came: Vec<String> = came.iter().map(|id| (*id).to_owned()).collect();
                    let task = Task::Undo { count: *missing, keep: instances(service, &came) };
                    return Some(self.call(service, spec, fence, token, task).await);
                }
                Stage::Started if now.since(grant.at) >= driver.ready_within => {
                    let why = format!("{missing} of {count} instances weren't ready in time");
                    self.fail(service, fence, token, &why).await;
                    return Some(why);
                }
                Stage::Started => {}
            }
        }
        match &scaling.removal {
            Some(removal) => Some(self.go_on_removing(service, spec, fence, removal, decision).await),
            None => None,
        }
    }

    async fn go_on_removing(
        &mut self,
        service: &ServiceView,
        spec: &ScalingSpec,
        fence: Fence,
        removal: &Removal,
        decision: &Decision,
    ) -> String {
        if removal.given {
            let wish = Task::Remove { instances: instances(service, &removal.ids) };
            return self.call(service, spec, fence, &removal.token, wish).await;
        }
        if decision.grow() > 0 {
            self.drain(service, fence, &removal.ids, false).await;
            self.note(service, fence, Act::Removed { token: removal.token.clone() }).await;
            return "what was to go serves again".to_owned();
        }
        let drains =
            |id: &String| service.pools.stable.iter().any(|endpoint| *endpoint.id == **id && !endpoint.draining);
        if removal.ids.iter().any(drains) {
            self.drain(service, fence, &removal.ids, true).await;
            return "instances drain".to_owned();
        }
        let left = self.watched.get(name(service)).is_some_and(|w| w.fleet.left(&removal.ids, service.revision));
        if !left && telemetry::now().since(removal.at) < DRAIN {
            return "instances that go still have requests".to_owned();
        }
        let given = Removal { given: true, ..removal.clone() };
        match self.note(service, fence, Act::Remove(given)).await {
            Some(_) => {
                let wish = Task::Remove { instances: instances(service, &removal.ids) };
                self.call(service, spec, fence, &removal.token, wish).await
            }
            None => OVERTAKEN.to_owned(),
        }
    }

    async fn grow(&mut self, service: &ServiceView, spec: &ScalingSpec, fence: Fence, decision: &Decision) -> String {
        // Once more at the door: whatever was decided, no more than that are asked for.
        let count = decision.grow().min(spec.max.saturating_sub(decision.sizes.total()));
        if count == 0 {
            return String::new();
        }
        // What is still to come of a grant and more than that are one grant: see `Act::Grant`.
        let going = service.scaling.as_ref().and_then(|scaling| scaling.grants.first()).cloned();
        let fresh = || Grant {
            token: fresh_token(),
            count: 0,
            at: telemetry::now(),
            stage: Stage::Asked,
            before: service.pools.stable.iter().map(|endpoint| endpoint.id.to_string()).collect(),
        };
        let going = going.unwrap_or_else(fresh);
        let count = going.count.saturating_add(count);
        let grant = Grant { count, at: telemetry::now(), stage: Stage::Asked, ..going };
        let token = grant.token.clone();
        let noted = self.note(service, fence, Act::Grant(grant)).await;
        if noted.is_none_or(|scaling| scaling.grant(&token).is_none_or(|grant| grant.count != count)) {
            return OVERTAKEN.to_owned();
        }
        self.tell(service, decision, "autoscale.grow");
        self.call(service, spec, fence, &token, Task::Add { count }).await
    }

    async fn shrink(&mut self, service: &ServiceView, spec: &ScalingSpec, fence: Fence, decision: &Decision) -> String {
        let count = decision.shrink().min(decision.sizes.ready.saturating_sub(spec.min));
        let ids = victims(self.candidates(service), count);
        if ids.is_empty() {
            return "none can be taken away".to_owned();
        }
        let (token, at) = (fresh_token(), telemetry::now());
        let removal = Removal { token: token.clone(), ids: ids.clone(), at, given: false };
        let noted = self.note(service, fence, Act::Remove(removal)).await;
        if noted.is_none_or(|scaling| scaling.removal.is_none_or(|going| going.token != token)) {
            return OVERTAKEN.to_owned();
        }
        self.tell(service, decision, "autoscale.shrink");
        self.drain(service, fence, &ids, true).await;
        "instances drain".to_owned()
    }

    /// The instances that may go. Those of the control stay: the canary is compared with them.
    fn candidates(&self, service: &ServiceView) -> Vec<Candidate> {
        let since = |id: &str| self.watched.get(name(service))?.ready_since.get(id).copied();
        let ready = service.pools.stable.iter().filter(|endpoint| endpoint.is_ready() && !endpoint.control);
        let candidate = |endpoint: &crate::live::EndpointView| Candidate {
            id: endpoint.id.to_string(),
            zone: endpoint.member.zone.clone(),
            since: since(&endpoint.id).unwrap_or_default(),
            is_seed: service.spec.seeds.stable.contains(&endpoint.address),
        };
        ready.map(candidate).collect()
    }

    /// Has endpoints drain, or serve again.
    async fn drain(&self, service: &ServiceView, fence: Fence, ids: &[String], draining: bool) {
        for endpoint in service.pools.stable.iter().filter(|endpoint| ids.iter().any(|id| **id == *endpoint.id)) {
            // Who was overtaken meanwhile touches no endpoint.
            if self.note(service, fence, Act::Hold).await.is_none() {
                return;
            }
            let (id, spec) = (endpoint.id.to_string(), MemberSpec::clone(&endpoint.member));
            self.apply(service, Change::SetDraining { arm: Arm::Stable, id, spec, draining }).await;
        }
    }

    /// Has the driver do something, and comes back to it at a later look.
    async fn call(
        &mut self,
        service: &ServiceView,
        spec: &ScalingSpec,
        fence: Fence,
        token: &str,
        task: Task,
    ) -> String {
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
        let (Some(service), Some(fence)) = (snapshot.service(&called.service), self.fence) else { return };
        let token = called.wish.token;
        if let Err(error) = &called.outcome {
            let why = error.to_string();
            match called.wish.task {
                Task::Add { .. } => self.fail(service, fence, &token, &why).await,
                Task::Remove { .. } | Task::Undo { .. } => self.fail_again(service, fence, &why).await,
            }
            return;
        }
        match called.wish.task {
            Task::Add { .. } => drop(self.note(service, fence, Act::Reach { token, stage: Stage::Started }).await),
            // That a driver undoes what it did is no sign that it works.
            Task::Undo { .. } => drop(self.note(service, fence, Act::Settle { token }).await),
            Task::Remove { instances } => {
                for driver::Instance { id, .. } in instances {
                    self.apply(service, Change::RemoveMember { arm: Arm::Stable, id }).await;
                }
                self.note(service, fence, Act::Removed { token }).await;
                self.note(service, fence, Act::Succeed).await;
            }
        }
    }

    /// A grant came to nothing: the driver is to undo what there may be of it.
    async fn fail(&self, service: &ServiceView, fence: Fence, token: &str, why: &str) {
        self.note(service, fence, Act::Reach { token: token.to_owned(), stage: Stage::Undone }).await;
        self.fail_again(service, fence, why).await;
    }

    async fn fail_again(&self, service: &ServiceView, fence: Fence, why: &str) {
        let noted = self.note(service, fence, Act::Fail { at: telemetry::now() }).await;
        let failures = noted.map_or(0, |scaling| scaling.failures);
        tracing::error!(service = name(service), why, failures, "Scaling failed");
        self.audit(service, "autoscale.fail", String::new(), failures.to_string(), why.to_owned());
    }

    fn tell(&self, service: &ServiceView, decision: &Decision, what: &str) {
        let (from, to, why) = (decision.sizes.total(), decision.size, decision.why());
        tracing::info!(service = name(service), from, to, why, "Scaling");
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
    async fn note(&self, service: &ServiceView, fence: Fence, act: Act) -> Option<Scaling> {
        let change = Change::Scaling(ScalingChange::Lead { fence, act });
        let scaling = self.apply(service, change).await?;
        (scaling.fence <= fence).then_some(scaling)
    }

    async fn apply(&self, service: &ServiceView, change: Change) -> Option<Scaling> {
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

const OVERTAKEN: &str = "another proxy leads by now, or the store doesn't answer: nothing is done";

fn instances(service: &ServiceView, ids: &[String]) -> Vec<driver::Instance> {
    let known = |id: &String| service.pools.stable.iter().find(|endpoint| *endpoint.id == **id);
    let instance = |id: &String| driver::Instance {
        id: id.clone(),
        address: known(id).map_or_else(|| id.clone(), |endpoint| endpoint.address.to_string()),
        zone: known(id).and_then(|endpoint| endpoint.member.zone.clone()),
    };
    ids.iter().map(instance).collect()
}

fn fresh_token() -> String {
    format!("{:016x}", rand::random::<u64>())
}
