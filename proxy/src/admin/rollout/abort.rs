//! Ending a rollout: in this process first, then in the store, and what was promoted meanwhile is taken back.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;

use super::{answer, conflict, latest};
use crate::admin::audit::Note;
use crate::admin::body::{JustReason, Wish};
use crate::admin::change::{self, NOT_TAKEN_IN};
use crate::admin::guard::Caller;
use crate::admin::problem::Problem;
use crate::admin::target::OfService;
use crate::admin::{Admin, Shared};
use crate::live::{Halt, ServiceView};
use crate::model::rollout::change::{Deed, RolloutChange};
use crate::model::rollout::{Phase, Rollout};
use crate::model::state::{Change, ServiceState};
use crate::store::{StoreError, trial};
use crate::telemetry;

/// `POST …/rollout/abort`: latches in this process at once, store or no store; nothing that the caller
/// believes to know (`If-Match`) can hold it up.
pub(in crate::admin) async fn abort(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    OfService(service): OfService,
    Wish(JustReason { reason }): Wish<JustReason>,
) -> Result<Response, Problem> {
    let name = service.spec.name.as_str();
    let known = latest(&service)?;
    if !known.is_live() {
        return match known.phase {
            Phase::Promoted => Err(conflict("it is promoted and the canary is empty: there is nothing left to abort")),
            _ => answer(&admin, name, None, Some("it was over already")),
        };
    }
    if known.is_settled() && service.trial.as_ref().is_some_and(|trial| trial.is_in_force()) {
        return Err(conflict(
            "the new definition is in force: there is nothing left to abort; `serin flag set` changes it",
        ));
    }
    match end(&admin, &caller, &service, known, reason.given()).await {
        Ok(state) => {
            let note = take_back(&admin, name, &state).await;
            let taken_in = change::taken_in(&admin, name, state.revision).await;
            answer(&admin, name, Some(&state), note.as_deref().or((!taken_in).then_some(NOT_TAKEN_IN)))
        }
        Err(_) => {
            let note = "this proxy sends the canary nothing; the store is unreachable, and is told when it is back";
            answer(&admin, name, None, Some(note))
        }
    }
}

/// Ends a rollout in this process at once, then tells the store, which may be away.
pub(in crate::admin) async fn end(
    admin: &Shared,
    caller: &Caller,
    service: &ServiceView,
    rollout: &Rollout,
    reason: Option<String>,
) -> Result<ServiceState, StoreError> {
    let (id, name) = (rollout.plan.id, service.spec.name.as_str());
    let deed = Deed { by: caller.name.clone(), at: telemetry::now(), reason };
    service.live.halt(Halt { id, deed: deed.clone() });
    let (from, to, why) = (rollout.phase.to_string(), "aborted".into(), deed.reason.clone());
    // Before the store is told, in the course of which the caller may hang up.
    admin.audit.note(caller, Note { what: "rollout.abort", service: name, endpoint: None, from, to, why });
    change::tell(admin, name, &Change::Rollout(RolloutChange::Abort { id, deed }), None).await
}

/// Puts the former definition of a flag in force again that was promoted before this abort reached the store, maybe
/// unknown to this proxy. Returns what the caller should know of it.
async fn take_back(admin: &Shared, name: &str, state: &ServiceState) -> Option<String> {
    let rollout = state.rollout.as_ref()?;
    let key = &rollout.plan.subject.flag()?.key;
    match trial::take_back_aborted(&*admin.state.store, &admin.state.proxy_name, name, rollout).await {
        Ok(false) => None,
        Ok(true) => Some(format!("the new definition of {key} was in force already, and was taken back")),
        Err(_) => Some(format!(
            "the store didn't say whether the new definition of {key} is in force: look with `serin flag get {key}`"
        )),
    }
}
