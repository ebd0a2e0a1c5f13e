//! What becomes of the definition of a flag on trial, in the store: each is one change, which alters nothing where the
//! flag isn't what it should be.
//! May know: model.

use std::sync::Arc;

use serde_json::Value;

use super::{Store, StoreError};
use crate::model::audit::Entry;
use crate::model::flag::{Definitions, FlagChange};
use crate::model::rollout::Rollout;
use crate::model::rollout::subject::{InForce, Trial};

/// Puts the new definition in force where the former one is. Returns which is then.
///
/// # Errors
/// When the store can't be reached.
pub async fn put_in_force(store: &dyn Store, trial: &Trial) -> Result<InForce, StoreError> {
    let after = store.change_flags(&trial.put_in_force(), None).await?;
    Ok(standing(trial, &after))
}

/// Puts the former definition in force again where the new one is. Says whether it was.
///
/// # Errors
/// When the store can't be reached.
pub async fn take_back(store: &dyn Store, trial: &Trial) -> Result<bool, StoreError> {
    Ok(taken_back(store, trial).await?.is_some())
}

/// The definitions after the new one was taken back; none where it wasn't in force.
async fn taken_back(store: &dyn Store, trial: &Trial) -> Result<Option<Arc<Definitions>>, StoreError> {
    // A change that changes nothing: what the store has is its answer.
    let look = FlagChange::Seed(Arc::default());
    if standing(trial, &*store.change_flags(&look, None).await?) != InForce::New {
        return Ok(None);
    }
    let after = store.change_flags(&trial.take_back(), None).await?;
    Ok(Some(after).filter(|after| standing(trial, after) == InForce::Former))
}

/// As [`take_back`], after the abort of a service's rollout: only what was promoted can have come into force. It is a
/// change of the flag like any other, noted for this proxy by whoever aborted.
///
/// # Errors
/// When the store can't be reached.
pub async fn take_back_aborted(
    store: &dyn Store,
    proxy: &str,
    service: &str,
    rollout: &Rollout,
) -> Result<bool, StoreError> {
    let Some(trial) = rollout.plan.subject.flag().filter(|_| rollout.was_promoted) else { return Ok(false) };
    let Some(definitions) = taken_back(store, trial).await? else { return Ok(false) };
    let summary = |definition: &Value| {
        let flag = definitions.compile_alone(&trial.key, &definition.to_string());
        flag.map_or_else(|_| String::new(), |flag| flag.summary())
    };
    store.note(Entry {
        // Whoever stores the abort and whoever answers for it may both have done it: it is one change.
        id: format!("taken-back-{service}-{}", rollout.plan.id),
        proxy: proxy.to_owned(),
        who: rollout.decided_by.clone().unwrap_or_else(|| proxy.to_owned()),
        what: "flag.put".to_owned(),
        service: Some(service.to_owned()),
        flag: Some(trial.key.clone()),
        from: summary(&trial.to),
        to: summary(&trial.from),
        why: Some(format!("taken back: the rollout {} in {service} was aborted", rollout.plan.id)),
        ..Entry::default()
    });
    Ok(true)
}

fn standing(trial: &Trial, definitions: &Definitions) -> InForce {
    trial.in_force(definitions.flags.get(&trial.key).map(|text| &**text))
}
