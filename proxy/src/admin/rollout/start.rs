//! `POST …/rollout`: begins a rollout, if nothing stands against it.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::subject::{self, FlagWish};
use super::{WHAT, answer, conflict};
use crate::admin::audit::Note;
use crate::admin::body::{Reason, Wish};
use crate::admin::change::{self, Expected, NOT_TAKEN_IN};
use crate::admin::guard::Caller;
use crate::admin::problem::Problem;
use crate::admin::target::OfService;
use crate::admin::weight::no_canary;
use crate::admin::{Admin, Shared};
use crate::live::ServiceView;
use crate::model::rollout::RolloutIdError;
use crate::model::rollout::change::RolloutChange;
use crate::model::rollout::plan::{Gate, OnNoData, Plan, Step, StepError};
use crate::model::rollout::subject::Subject;
use crate::model::span;
use crate::model::state::{Change, ServiceState};
use crate::model::weight::Weight;
use crate::store::fresh_rollout_id;
use crate::telemetry;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct StartWish {
    version: Option<String>,
    flag: Option<FlagWish>,
    /// Each a text such as `10%:5m:manual`, or an object.
    steps: Option<Vec<Value>>,
    deadline: Option<String>,
    lease: Option<String>,
    /// Made by the caller, so that the same start twice is one.
    id: Option<String>,
    #[serde(default)]
    reason: Reason,
}

/// Begins a rollout.
pub(in crate::admin) async fn start(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    OfService(service): OfService,
    Expected(expected): Expected,
    Wish(wish): Wish<StartWish>,
) -> Result<Response, Problem> {
    let name = service.spec.name.as_str();
    if service.spec.split.is_none() {
        return Err(no_canary(name));
    }
    let plan = plan(&admin, &service, &caller, wish)?;
    let (id, subject, why) = (plan.id, plan.subject.clone(), plan.reason.clone());
    if service.live.is_open() {
        return Err(open(name));
    }
    let from = service.rollout.as_ref().map_or("none", |before| before.phase.name()).to_owned();
    let to = format!("{subject} ({id})");
    let note = Note { what: "rollout.start", service: name, endpoint: None, from, to, why };
    let (entry, before) = (admin.audit.entry(&caller, note), service.revision);
    let is_begun = move |state: &ServiceState| state.rollout.as_ref().is_some_and(|rollout| rollout.plan.id == id);
    let noting = move |state: &ServiceState| (is_begun(state) && state.revision != before).then_some(entry);
    let begin = Change::Rollout(RolloutChange::Start { plan });
    let state = change::record(&admin, name, begin, expected, noting).await;
    let state = state.map_err(|error| Problem::store(WHAT, &error))?;
    if !is_begun(&state) {
        return Err(refused(name, &state));
    }
    let taken_in = change::taken_in(&admin, name, state.revision).await;
    if state.revision == before {
        return answer(&admin, name, Some(&state), Some("it was begun already"));
    }
    answer(&admin, name, Some(&state), if taken_in { unseen(&service, &subject) } else { Some(NOT_TAKEN_IN) })
}

/// What is to be known of a flag of which no request through serin tells.
fn unseen(service: &ServiceView, subject: &Subject) -> Option<&'static str> {
    let key = &subject.flag()?.key;
    let is_seen = service.spec.told_flags.contains(key) || service.spec.gates.iter().any(|gate| gate.flag == *key);
    (!is_seen).then_some(
        "no gate of the service asks for the flag, and its header doesn't tell of it: it is seen by OFREP alone",
    )
}

/// Why the store's state didn't become the rollout's.
fn refused(name: &str, state: &ServiceState) -> Problem {
    match state.live_rollout() {
        Some(holds) => conflict(&format!(
            "a rollout of {} is going on, begun by {} at {} ({}): wait until it is over, or end it with `serin rollout \
             abort {name}`",
            holds.plan.subject, holds.plan.by, holds.plan.at, holds.phase
        )),
        None if state.circuit.is_open() => open(name),
        None => subject::has_canary(name),
    }
}

fn open(name: &str) -> Problem {
    conflict(&format!(
        "the circuit of {name} is open: when the cause is found, `serin reset {name} --reason …` closes it; then begin \
         again"
    ))
}

fn plan(admin: &Shared, service: &ServiceView, caller: &Caller, wish: StartWish) -> Result<Plan, Problem> {
    let unprocessable = |why: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why);
    let spec = &service.spec.rollout;
    let millis = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let read = |text: Option<String>| {
        let span = text.as_deref().map(span::parse).transpose();
        span.map_err(|error| unprocessable(error.to_string()))
    };
    let id = wish.id.map(|id| id.parse()).transpose();
    let steps = match wish.steps {
        None => spec.steps.clone(),
        Some(steps) => steps.iter().map(step).collect::<Result<_, _>>().map_err(unprocessable)?,
    };
    let plan = Plan {
        id: id.map_err(|error: RolloutIdError| unprocessable(error.to_string()))?.unwrap_or_else(fresh_rollout_id),
        subject: subject::read(admin, service, wish.version, wish.flag)?,
        steps,
        by: caller.name.clone(),
        at: telemetry::now(),
        reason: wish.reason.given(),
        deadline_ms: millis(read(wish.deadline)?.unwrap_or(spec.deadline)),
        lease_ms: read(wish.lease)?.or(spec.lease).map(millis),
        max_weight: spec.max_weight,
    };
    plan.check().map_err(|error| unprocessable(error.to_string()))?;
    Ok(plan)
}

/// A step, as text or as an object.
fn step(value: &Value) -> Result<Step, String> {
    if let Some(text) = value.as_str() {
        return text.parse().map_err(|error: StepError| error.to_string());
    }
    let step: StepWish = StepWish::deserialize(value).map_err(|error| format!("in a step: {error}"))?;
    let weight = Weight::from_percent(step.weight).map_err(|error| error.to_string())?;
    let hold = span::parse(&step.hold).map_err(|error| error.to_string())?;
    let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
    Ok(Step { weight, hold_ms, gate: step.gate, on_no_data: step.on_no_data })
}

/// A step as an object: what the API shows of it, with defaults.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepWish {
    weight: f64,
    #[serde(default = "no_time")]
    hold: String,
    #[serde(default)]
    gate: Gate,
    #[serde(default)]
    on_no_data: OnNoData,
}

fn no_time() -> String {
    "0s".to_owned()
}
