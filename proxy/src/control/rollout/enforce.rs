//! How a flag on trial stands to what is in force, and what is done once its new definition is promoted: it is put
//! in force, in one change.

use super::Driver;
use crate::live::{Live, ServiceView};
use crate::model::audit::Entry;
use crate::model::flag::{Flag, FlagChange};
use crate::model::rollout::change::RolloutChange;
use crate::model::rollout::drive::Carried;
use crate::model::rollout::subject::{InForce, Trial};
use crate::model::rollout::{Phase, Rollout};
use crate::model::state::Change;

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
    /// Puts the new definition in force, if nobody changed a flag since this process looked. The next look sees that
    /// it is.
    pub(super) async fn enforce(&self, service: &ServiceView, rollout: &Rollout) {
        let Some(trial) = rollout.plan.subject.flag() else { return };
        let before = self.live.flag_facts().definitions.revision;
        if in_force(&self.live, trial) != InForce::Former {
            return;
        }
        let Some(after) = self.put(service, trial, &trial.to, before).await else { return };
        // A change that changes nothing: what the store has is its answer.
        let look = RolloutChange::Lead { id: rollout.plan.id, fence: rollout.fence };
        let stored = self.apply(service, Change::Rollout(look), None).await.and_then(|stored| stored.rollout);
        let was_aborted = |stored: Rollout| stored.plan.id == rollout.plan.id && stored.phase == Phase::Aborted;
        if stored.is_some_and(was_aborted) {
            tracing::warn!(service = service.spec.name, flag = trial.key, "Ended as it was put in force: taken back");
            self.put(service, trial, &trial.from, after).await;
        } else {
            self.note_in_force(service, rollout, trial);
        }
    }

    /// Sets a definition, if no flag was changed since this revision. Returns the revision after it.
    async fn put(
        &self,
        service: &ServiceView,
        trial: &Trial,
        definition: &serde_json::Value,
        revision: u64,
    ) -> Option<u64> {
        let put = FlagChange::Put { key: trial.key.clone(), definition: definition.to_string().into() };
        match self.store.change_flags(&put, Some(revision)).await {
            Ok(after) => Some(after.revision),
            Err(error) => {
                tracing::warn!(service = service.spec.name, flag = trial.key, %error, "A flag couldn't be put in force");
                None
            }
        }
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
