//! A flag that is on trial in some service: who may change it, and the kill switch, which always wins.

use serde_json::Value;

use crate::admin::guard::Caller;
use crate::admin::problem::Problem;
use crate::admin::{Shared, rollout};
use crate::live::{ServiceView, Snapshot};
use crate::model::flag::Flag;
use crate::model::rollout::Rollout;

/// The services in which a flag is on trial, each with the rollout that tries it.
pub(in crate::admin) fn trials<'s>(
    snapshot: &'s Snapshot,
    key: &str,
) -> impl Iterator<Item = (&'s ServiceView, &'s Rollout)> {
    let going = snapshot.services().iter().filter_map(|service| Some((&**service, service.live_rollout()?)));
    going.filter(move |(_, rollout)| rollout.plan.subject.flag().is_some_and(|trial| trial.key == key))
}

/// Refuses a change of a flag that is on trial to what it shall be; none = it is taken out. What gives everybody
/// `false` is no such change: see [`end`].
pub(super) fn may_change(snapshot: &Snapshot, key: &str, to: Option<&Flag>) -> Result<(), Problem> {
    let Some((service, _)) = trials(snapshot, key).next() else { return Ok(()) };
    let is_same = || to.map(Flag::digest) == snapshot.flags().get(key).map(Flag::digest);
    if to.is_some_and(is_off) || is_same() {
        return Ok(());
    }
    let name = &service.spec.name;
    Err(rollout::conflict(&format!(
        "{key} is on trial in {name}: end that first, with `serin rollout abort {name}` or `serin rollout promote {name}`; \
         `serin flag off {key}` works at any time"
    )))
}

/// Ends the trials of a flag that shall be off for everybody, in this process at once, store or no store.
/// Returns what the caller should know of it.
pub(super) async fn end(
    admin: &Shared,
    caller: &Caller,
    snapshot: &Snapshot,
    to: &Flag,
    why: Option<&str>,
) -> Option<String> {
    if !is_off(to) {
        return None;
    }
    let mut ended = None;
    for (service, going) in trials(snapshot, to.key()) {
        // What is promoted and is just that needs no end: taking it back would undo the switch.
        let candidate = service.trial.as_ref().and_then(|trial| trial.candidate());
        if going.is_settled() && candidate.is_some_and(|candidate| candidate.flag().digest() == to.digest()) {
            continue;
        }
        let reason = why.map_or_else(|| format!("{} is switched off", to.key()), str::to_owned);
        // What the store doesn't know it is told when it is back.
        drop(rollout::end(admin, caller, service, going, Some(reason)).await);
        ended = Some(format!("its trial in {} was ended", service.spec.name));
    }
    ended
}

fn is_off(flag: &Flag) -> bool {
    flag.fixed().and_then(Value::as_bool) == Some(false)
}
