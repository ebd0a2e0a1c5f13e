//! Tripping and resetting a circuit by hand.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::audit::Note;
use super::body::{JustReason, Wish};
use super::change::{self, Expected, NOT_TAKEN_IN};
use super::guard::Caller;
use super::problem::Problem;
use super::target::OfService;
use super::weight::no_canary;
use super::{Admin, Shared, services};
use crate::live::ServiceView;
use crate::model::circuit::{Cause, Circuit, Reset, Trip};
use crate::model::state::{Change, ServiceState};
use crate::store::{StoreError, fresh_episode};
use crate::telemetry;

/// How long an answer waits for the store to take trips.
const PATIENCE: Duration = Duration::from_secs(1);

/// `POST …/circuit/trip`: latches in this process at once, store or no store, then tells the store; where that takes
/// too long, control goes on. Nothing that the caller believes to know (`If-Match`) can hold it up.
pub(super) async fn trip(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    OfService(service): OfService,
    Wish(JustReason { reason }): Wish<JustReason>,
) -> Result<Response, Problem> {
    let name = service.spec.name.as_str();
    if service.spec.split.is_none() {
        return Err(no_canary(name));
    }
    let opened = open(&admin, &service, &caller, Cause::Person, reason.or("no reason given"));
    let told = tokio::time::timeout(PATIENCE, tell(&admin, name)).await;
    let stored = told.ok().and_then(Result::ok).map(|state| state.revision);
    let note = match (opened, stored.is_some()) {
        (_, false) => {
            Some("this proxy sends the canary nothing; the store doesn't know yet, and is told when it can be")
        }
        (false, true) => Some("it was open already: the first cause stands"),
        (true, true) => None,
    };
    services::answer(&admin, name, stored, note)
}

/// Opens a circuit here and now, and notes who did; control tells the rest. Whether it was closed before.
pub(super) fn open(admin: &Shared, service: &ServiceView, caller: &Caller, cause: Cause, reason: String) -> bool {
    let (name, why) = (service.spec.name.as_str(), Some(reason.clone()));
    let verdict = service.live.verdict();
    let episode = service.episode.as_ref().map(|episode| episode.id);
    let of_this_episode = episode.is_some() && verdict.episode == episode;
    let trip = Trip {
        cause,
        reason,
        by: caller.name.clone(),
        at: telemetry::now(),
        weight_before: service.effective(),
        evidence: of_this_episode.then(|| verdict.evidence.clone()),
    };
    let opened = admin.state.live.service(name).trip(episode, trip);
    if opened {
        let (from, to) = ("closed".into(), "open".into());
        admin.audit.note(caller, Note { what: "trip", service: name, endpoint: None, from, to, why });
    }
    opened
}

/// Tells the store of circuits that are open here, all in all for as long as an answer may wait. Returns those that it
/// doesn't know of: control tells it of these, again and again.
pub(super) async fn tell_store(admin: &Admin, mut opened: Vec<String>) -> Vec<String> {
    let telling = async {
        while let Some(name) = opened.last() {
            if tell(admin, name).await.is_err() {
                return;
            }
            opened.pop();
        }
    };
    // What is late isn't lost: it is among those that are left.
    let _ = tokio::time::timeout(PATIENCE, telling).await;
    opened
}

/// Tells the store of the circuit as it is here.
async fn tell(admin: &Admin, service: &str) -> Result<ServiceState, StoreError> {
    let circuit = admin.state.live.service(service).circuit();
    change::tell(admin, service, &Change::MergeCircuit { circuit }, None).await
}

/// `POST …/circuit/reset`: closes the circuit, in the store first, since only a record there
/// closes it for every proxy and for good.
pub(super) async fn reset(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    OfService(service): OfService,
    Expected(expected): Expected,
    Wish(JustReason { reason }): Wish<JustReason>,
) -> Result<Response, Problem> {
    const WHAT: &str = "resets";
    let name = service.spec.name.as_str();
    let reason = reason.given().ok_or_else(|| {
        let detail = "a reset needs a reason, for those who ask later: send {\"reason\":\"…\"}";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })?;
    let local = admin.state.live.service(name);
    let expected = bring(&admin, name, local.circuit(), expected).await.map_err(|e| Problem::store(WHAT, &e))?;
    let record = Reset { reason: reason.clone(), by: caller.name.clone(), at: telemetry::now() };
    let reset = Change::Reset { reset: record.clone(), fresh: fresh_episode() };
    let (from, to, why) = ("open".into(), "closed".into(), Some(reason));
    let entry = admin.audit.entry(&caller, Note { what: "reset", service: name, endpoint: None, from, to, why });
    // The store's word, and not what was known here: another proxy may have tripped a moment ago.
    let closes = move |state: &ServiceState| state.circuit.reset.as_ref() == Some(&record);
    let noting = closes.clone();
    let noting = move |state: &ServiceState| noting(state).then_some(entry);
    let state = change::record(&admin, name, reset, expected, noting).await.map_err(|e| Problem::store(WHAT, &e))?;
    local.merge_circuit(&state.circuit);
    let taken_in = change::taken_in(&admin, name, state.revision).await;
    let note = match (closes(&state), taken_in) {
        (false, _) => Some("it was closed already"),
        (true, false) => Some(NOT_TAKEN_IN),
        (true, true) => None,
    };
    services::answer(&admin, name, Some(state.revision), note)
}

/// Brings a trip that is latched here into the store, if the store doesn't know it yet: a reset
/// that the store records for a circuit it believes closed would close nothing here. Returns the
/// revision to expect next.
async fn bring(
    admin: &Admin,
    service: &str,
    circuit: Circuit,
    expected: Option<u64>,
) -> Result<Option<u64>, StoreError> {
    if !circuit.is_open() {
        return Ok(expected);
    }
    let state = change::tell(admin, service, &Change::MergeCircuit { circuit }, expected).await?;
    Ok(expected.map(|_| state.revision))
}
