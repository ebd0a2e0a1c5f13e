//! How a flag on trial stands to what is in force, and what is done once its new definition is promoted: it is put
//! in force, in one change.

use super::Driver;
use crate::live::{Live, ServiceView};
use crate::model::audit::Entry;
use crate::model::flag::Flag;
use crate::model::rollout::change::RolloutChange;
use crate::model::rollout::drive::Carried;
use crate::model::rollout::subject::{InForce, Trial};
use crate::model::rollout::{Fence, Phase, Rollout};
use crate::model::state::Change;
use crate::store;

/// Whether the new definition is in force, and what somebody did past the trial.
pub(super) fn standing(live: &Live, service: &ServiceView, trial: &Trial) -> (Carried, Option<String>) {
    let fault = service.trial.as_ref().and_then(|trial| trial.fault()).map(str::to_owned);
    match in_force(live, trial) {
        InForce::New => (Carried::ByAll, None),
        InForce::Former => (Carried::NotInForce, fault),
        InForce::Other => {
            (Carried::NotInForce, Some(format!("the definition of {} was changed meanwhile, or removed", trial.key)))
        }
    }
}

fn in_force(live: &Live, trial: &Trial) -> InForce {
    trial.in_force(live.flag_facts().definitions.flags.get(&trial.key).map(|text| &**text))
}

impl Driver {
    /// Puts the new definition in force, if nobody changed the flag. The next look sees that it is.
    ///
    /// Flags and rollouts change apart from each other, so the store is asked for the rollout before and after: this
    /// process may have slept since it looked, and others may end a rollout at any time.
    pub(super) async fn enforce(&self, service: &ServiceView, rollout: &Rollout, fence: Fence) {
        let Some(trial) = rollout.plan.subject.flag() else { return };
        let leads_on = |stored: &Rollout| stored.is_live() && stored.fence == fence;
        if !self.promoted(service, rollout, fence).await.is_some_and(|stored| leads_on(&stored)) {
            return;
        }
        let (name, flag) = (&service.spec.name, &trial.key);
        let put = store::trial::put_in_force(&*self.store, trial).await;
        match &put {
            Ok(InForce::New) => {}
            Ok(InForce::Former | InForce::Other) => return,
            // It may have arrived all the same: then the next look finds it there.
            Err(error) => tracing::warn!(service = name, flag, %error, "A flag couldn't be put in force"),
        }
        if self.promoted(service, rollout, fence).await.is_some() {
            if put.is_ok() {
                self.note_in_force(service, rollout, trial);
            }
            return;
        }
        match store::trial::take_back(&*self.store, trial).await {
            Ok(_) => tracing::warn!(service = name, flag, "Ended as it was put in force: taken back"),
            Err(error) => tracing::error!(service = name, flag, %error, "Ended as it was put in force: it still is"),
        }
    }

    /// The rollout as the store has it, while it is this one and promoted.
    async fn promoted(&self, service: &ServiceView, rollout: &Rollout, fence: Fence) -> Option<Rollout> {
        // A change that changes nothing: what the store has is its answer.
        let look = RolloutChange::Lead { id: rollout.plan.id, fence };
        let stored = self.apply(service, Change::Rollout(look), None).await?.rollout?;
        (stored.plan.id == rollout.plan.id && stored.phase == Phase::Promoted).then_some(stored)
    }

    /// It is a change of the flag like any other, by whoever promoted it.
    fn note_in_force(&self, service: &ServiceView, rollout: &Rollout, trial: &Trial) {
        let (name, snapshot) = (&service.spec.name, self.live.snapshot());
        let candidate = service.trial.as_ref().and_then(|trial| trial.candidate());
        let summary = |flag: Option<&Flag>| flag.map(Flag::summary).unwrap_or_default();
        self.store.note(Entry {
            proxy: self.proxy_name.clone(),
            who: rollout.decided_by.clone().unwrap_or_else(|| self.proxy_name.clone()),
            what: "flag.put".to_owned(),
            service: Some(name.clone()),
            flag: Some(trial.key.clone()),
            from: summary(snapshot.flags().get(&trial.key)),
            to: summary(candidate.map(|candidate| candidate.flag())),
            why: Some(format!("promoted in {name} by the rollout {}", rollout.plan.id)),
            ..Entry::default()
        });
    }
}
