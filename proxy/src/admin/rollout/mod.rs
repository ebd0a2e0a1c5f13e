//! `/v1/services/{service}/rollout`: beginning, watching, steering and ending rollouts.

mod abort;
mod start;
mod subject;
mod swap;

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::StatusCode;
use http::header::ETAG;
use serde::Deserialize;
use tokio::time::Instant;

use super::audit::Note;
use super::auth::Role;
use super::body::{JustReason, Reason, Wish};
use super::change::{self, Expected, NOT_TAKEN_IN};
use super::guard::Caller;
use super::problem::Problem;
use super::rollout_view::RolloutJson;
use super::target::{self, OfService};
use super::{Admin, Shared};
use crate::live::ServiceView;
use crate::model::audit::Entry;
use crate::model::rollout::change::{Deed, RolloutChange};
use crate::model::rollout::{Phase, Rollout};
use crate::model::span;
use crate::model::state::{Change, ServiceState};
use crate::model::weight::Weight;
use crate::telemetry;

pub(super) use abort::{abort, end};
pub(super) use start::start;

/// The kind of change, for messages.
const WHAT: &str = "rollout changes";
/// The longest that one call waits for a decision.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// How often a call that waits looks.
const LOOK: Duration = Duration::from_millis(50);

/// What a call that reads may wait for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GetQuery {
    wait: Option<String>,
}

/// `GET …/rollout`: the latest rollout; with `wait`, once it is decided or the time is over.
pub(super) async fn get(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    OfService(service): OfService,
    query: Result<Query<GetQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the only parameter is wait=300s"))?;
    let Some(wait) = query.wait else { return answer(&admin, &service.spec.name, None, None) };
    let unprocessable = |why: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why);
    let wait = span::parse(&wait).map_err(|error| unprocessable(error.to_string()))?;
    if wait > LONGEST_WAIT {
        return Err(unprocessable("a wait is at most 1h: ask again to wait longer".into()));
    }
    let _seat = admin.waits.take("ask without `wait`")?;
    let deadline = Instant::now() + wait;
    let drives = caller.may(Role::Deployer);
    loop {
        let view = target::service(&admin, &service.spec.name)?;
        let decided = latest(&view)?.phase.is_decided();
        if decided || Instant::now() >= deadline {
            return answer(&admin, &service.spec.name, None, None);
        }
        if drives {
            renew_in_time(&admin, &view).await;
        }
        tokio::time::sleep_until(deadline.min(Instant::now() + LOOK)).await;
    }
}

/// Renews a lease of which a quarter is over.
async fn renew_in_time(admin: &Shared, view: &ServiceView) {
    let Some(rollout) = view.live_rollout() else { return };
    let (now, Some(lease)) = (telemetry::now(), rollout.lease()) else { return };
    if now.since(rollout.renewed) >= lease / 4 {
        let renew = Change::Rollout(RolloutChange::Renew { id: rollout.plan.id, at: now });
        // If the store is away the rollout is frozen too; the next look tries again.
        if let Ok(state) = change::tell(admin, &view.spec.name, &renew, None).await {
            change::taken_in(admin, &view.spec.name, state.revision).await;
        }
    }
}

/// `POST …/rollout/renew`: whoever drives it is there.
pub(super) async fn renew(
    State(admin): State<Admin>,
    OfService(service): OfService,
    Wish(JustReason { .. }): Wish<JustReason>,
) -> Result<Response, Problem> {
    let id = going(&service)?.plan.id;
    let renew = RolloutChange::Renew { id, at: telemetry::now() };
    let (name, renew) = (&service.spec.name, Change::Rollout(renew));
    let (state, taken_in) = change::make(&admin, name, WHAT, renew, None, |_| None).await?;
    answer(&admin, &service.spec.name, Some(&state), (!taken_in).then_some(NOT_TAKEN_IN))
}

/// `POST …/rollout/pause`: the weight stays, nothing goes on.
pub(super) async fn pause(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    OfService(service): OfService,
    Expected(expected): Expected,
    Wish(JustReason { reason }): Wish<JustReason>,
) -> Result<Response, Problem> {
    let rollout = going(&service)?;
    if rollout.phase == Phase::Promoted {
        return Err(conflict("it is promoted already, so there is nothing to pause; abort it to take its users back"));
    }
    let deed = deed(&caller, reason);
    let pause = RolloutChange::Pause { id: rollout.plan.id, deed: deed.clone() };
    steer(&admin, &caller, &service, "rollout.pause", pause, deed, expected).await
}

/// `POST …/rollout/resume`: goes on after a pause, or passes the manual gate of the step in force.
pub(super) async fn resume(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    OfService(service): OfService,
    Expected(expected): Expected,
    Wish(JustReason { reason }): Wish<JustReason>,
) -> Result<Response, Problem> {
    let rollout = going(&service)?;
    if rollout.phase == Phase::Promoted {
        return Err(conflict("it is promoted already, so there is nothing to resume"));
    }
    let deed = deed(&caller, reason);
    let resume = RolloutChange::Resume { id: rollout.plan.id, step: rollout.step, deed: deed.clone() };
    steer(&admin, &caller, &service, "rollout.resume", resume, deed, expected).await
}

/// What is asked of a promotion.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PromoteWish {
    #[serde(default)]
    swap: bool,
    #[serde(default)]
    reason: Reason,
}

/// `POST …/rollout/promote`: approves the version, whatever step it is at.
pub(super) async fn promote(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    OfService(service): OfService,
    Expected(expected): Expected,
    Wish(wish): Wish<PromoteWish>,
) -> Result<Response, Problem> {
    let rollout = going(&service)?;
    if rollout.step == 0 {
        return Err(conflict("it hasn't begun yet, so no user has seen what it tries: wait for its first step"));
    }
    if let Some(why) = service.unready(&rollout.plan.subject) {
        return Err(conflict(&format!("the canary isn't ready: {why}")));
    }
    if wish.swap && rollout.plan.subject.flag().is_some() {
        return Err(conflict("a flag is on trial, and no version: there are no pools to exchange"));
    }
    let deed = deed(&caller, wish.reason);
    let swap = if wish.swap { Some(swap::seeds(&service)?) } else { None };
    // What was looked at must still be so when the pools change places.
    let expected = expected.or(wish.swap.then_some(service.revision));
    let promote = RolloutChange::Promote { id: rollout.plan.id, lead: None, deed: deed.clone(), swap };
    steer(&admin, &caller, &service, "rollout.promote", promote, deed, expected).await
}

/// Refuses a weight by hand while a rollout sets it: two hands on one wheel.
pub(super) fn yields_to_people(service: &ServiceView, weight: Weight) -> Result<(), Problem> {
    let Some(rollout) = service.live_rollout() else { return Ok(()) };
    if rollout.phase == Phase::Promoted && weight.is_zero() {
        return Ok(());
    }
    let (name, subject) = (&service.spec.name, &rollout.plan.subject);
    Err(conflict(&format!(
        "the rollout of {subject} sets the weight of {name}: end it with `serin rollout abort {name}`, or keep the \
         weight where it is with `serin rollout pause {name}`"
    )))
}

pub(super) fn conflict(detail: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, detail)
}

fn deed(caller: &Caller, reason: Reason) -> Deed {
    Deed { by: caller.name.clone(), at: telemetry::now(), reason: reason.given() }
}

fn latest(service: &ServiceView) -> Result<&Rollout, Problem> {
    service.rollout.as_ref().ok_or_else(|| {
        let name = &service.spec.name;
        let detail = format!("{name} never had a rollout: `serin rollout start {name} --version …` begins one");
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}

/// The rollout that is going on.
fn going(service: &ServiceView) -> Result<&Rollout, Problem> {
    let known = latest(service)?;
    if known.is_live() {
        return Ok(known);
    }
    Err(conflict(&format!("no rollout is going on: the latest, of {}, is over ({})", known.plan.subject, known.why)))
}

/// Makes a change that a person asked for, notes it, and answers.
async fn steer(
    admin: &Admin,
    caller: &Caller,
    service: &ServiceView,
    what: &'static str,
    wish: RolloutChange,
    deed: Deed,
    expected: Option<u64>,
) -> Result<Response, Problem> {
    let (name, before, why) = (service.spec.name.as_str(), service.revision, deed.reason);
    let phase = |rollout: Option<&Rollout>| rollout.map(|rollout| rollout.phase.to_string()).unwrap_or_default();
    let (from, to) = (phase(service.rollout.as_ref()), String::new());
    let entry = admin.audit.entry(caller, Note { what, service: name, endpoint: None, from, to, why });
    let noting = move |state: &ServiceState| {
        (state.revision != before).then(|| Entry { to: phase(state.rollout.as_ref()), ..entry })
    };
    let (state, taken_in) = change::make(admin, name, WHAT, Change::Rollout(wish), expected, noting).await?;
    let note = match (state.revision != before, taken_in) {
        (false, _) => Some("nothing was to be done"),
        (true, false) => Some(NOT_TAKEN_IN),
        (true, true) => None,
    };
    answer(admin, name, Some(&state), note)
}

/// The rollout as it now is: as this proxy sees it, or as the store answered where that is newer.
fn answer(admin: &Shared, name: &str, stored: Option<&ServiceState>, note: Option<&str>) -> Result<Response, Problem> {
    let view = target::service(admin, name)?;
    let newer = stored
        .filter(|stored| stored.revision > view.revision)
        .and_then(|stored| Some(RolloutJson::new(name, stored.rollout.as_ref()?, stored.revision, "")));
    let mut body = match newer {
        Some(body) => body,
        None => RolloutJson::new(name, latest(&view)?, view.revision, &view.live.rollout_waits()),
    };
    body.note = note.map(str::to_owned);
    Ok(([(ETAG, change::etag(body.revision))], Json(body)).into_response())
}
