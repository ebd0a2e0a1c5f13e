//! `POST …/endpoints/{id}/drain` and `/ready`: taking an endpoint out of work without hurting anybody.
//!
//! The floor is kept by compare-and-set: two drains that both see enough ready endpoints can't
//! both be written, through whichever proxies they came.

use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Admin;
use super::audit::Note;
use super::body::{JustReason, Reason, Wish};
use super::change::{self, Expected, NOT_TAKEN_IN};
use super::endpoints::{WHAT, after};
use super::guard::Caller;
use super::problem::Problem;
use super::target::{self, OfEndpoint};
use super::view::EndpointJson;
use crate::live::ServiceView;
use crate::model::audit::Entry;
use crate::model::span;
use crate::model::split::Arm;
use crate::model::state::{Change, MemberSpec};
use crate::store::StoreError;

/// How often a drain looks whether it is done.
const LOOK: Duration = Duration::from_millis(20);
/// How long a drain waits unless told otherwise, and at most.
const WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// How much longer a drain waits for the end of tunnels that it cut.
const CUT: Duration = Duration::from_secs(2);
/// Endpoints that are named as those on which another drain has to wait.
const NAMED: usize = 5;
/// How often a drain tries anew when others change the same service at the same time.
const TRIES: u32 = 5;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainWish {
    wait: Option<String>,
    min_ready: Option<usize>,
    #[serde(default)]
    on_timeout: OnTimeout,
    #[serde(default)]
    reason: Reason,
}

/// What to do when requests are still in flight at the end of the wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum OnTimeout {
    /// Say so with a 504; the endpoint stays draining.
    #[default]
    Fail,
    /// Say so with a 200, and let the caller go on.
    Proceed,
    /// The same, once its tunnels are closed. What is left of requests has deadlines of its own.
    Kill,
}

/// `POST …/endpoints/{id}/drain`: answers when nothing is in flight any more.
pub(super) async fn drain(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    endpoint: OfEndpoint,
    Expected(expected): Expected,
    Wish(wish): Wish<DrainWish>,
) -> Result<Json<EndpointJson>, Problem> {
    let unprocessable = |why: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why);
    let wait = wish.wait.as_deref().map(span::parse).transpose().map_err(|error| unprocessable(error.to_string()))?;
    let wait = wait.unwrap_or(WAIT);
    if wait > LONGEST_WAIT {
        return Err(unprocessable("a wait is at most 1h".into()));
    }
    let was = endpoint.find()?.state().to_owned();
    // Before anything is changed: who is refused has drained nothing.
    let take_seat = || admin.waits.take("drain with `\"wait\":\"0s\"`, and look whether it is done");
    let _seat = (!wait.is_zero()).then(take_seat).transpose()?;
    let deadline = Instant::now() + wait;
    let is_new = was != "draining";
    let entry = is_new.then(|| entry(&admin, &caller, &endpoint, "endpoint.drain", was, "draining", wish.reason));
    let revision = begin(&admin, &endpoint, wish.min_ready, expected, entry).await?;
    finish(&admin, &endpoint, revision, deadline, wish.on_timeout).await
}

/// `POST …/endpoints/{id}/ready`: gives it work again, as far as its health allows.
pub(super) async fn ready(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    endpoint: OfEndpoint,
    Expected(expected): Expected,
    Wish(JustReason { reason }): Wish<JustReason>,
) -> Result<Json<EndpointJson>, Problem> {
    let known = endpoint.find()?;
    let (was, spec) = (known.state().to_owned(), MemberSpec::clone(&known.member));
    let (arm, id) = (endpoint.arm, endpoint.id.clone());
    let ready = Change::SetDraining { arm, id, spec: spec.clone(), draining: false };
    let drained = was == "draining";
    let entry = drained.then(|| entry(&admin, &caller, &endpoint, "endpoint.ready", was, "ready", reason));
    let (_, taken_in) = change::make(&admin, &endpoint.service.spec.name, WHAT, ready, expected, |_| entry).await?;
    Ok(Json(after(&admin, &endpoint, &spec, taken_in)?))
}

/// Sets the endpoint draining if the floor allows it. Returns the service's revision then.
async fn begin(
    admin: &Admin,
    endpoint: &OfEndpoint,
    min_ready: Option<usize>,
    expected: Option<u64>,
    entry: Option<Entry>,
) -> Result<u64, Problem> {
    let name = &endpoint.service.spec.name;
    for _ in 0..TRIES {
        let service = target::service(admin, name)?;
        let known = target::find(&service, endpoint.arm, &endpoint.id)?;
        if known.is_ready() {
            keep_floor(&service, endpoint.arm, min_ready)?;
        }
        let spec = MemberSpec::clone(&known.member);
        let drain = Change::SetDraining { arm: endpoint.arm, id: endpoint.id.clone(), spec, draining: true };
        let (entry, expects) = (entry.clone(), Some(expected.unwrap_or(service.revision)));
        match change::record(admin, name, drain, expects, |_| entry).await {
            Ok(state) => return Ok(state.revision),
            // Somebody else changed the service: look at the floor again as it is now.
            Err(StoreError::Conflict { actual, .. }) if expected.is_none() => {
                change::taken_in(admin, name, actual).await;
            }
            Err(error) => return Err(Problem::store(WHAT, &error)),
        }
    }
    let detail = format!("{name} is being changed by others faster than this drain can look: try again");
    Err(Problem::new(StatusCode::CONFLICT, detail))
}

fn keep_floor(service: &ServiceView, arm: Arm, min_ready: Option<usize>) -> Result<(), Problem> {
    // A canary pool that gets no traffic may be emptied; any other keeps one endpoint.
    let serves = arm == Arm::Stable || (service.trial.is_none() && !service.effective().is_zero());
    let floor = min_ready.unwrap_or(usize::from(serves));
    let left = service.ready(arm).saturating_sub(1);
    if left >= floor {
        return Ok(());
    }
    let detail = format!(
        "draining it would leave {left} ready in the {arm} pool of {}, and {floor} must stay (min_ready){}: wait until \
         others are ready, or ask with a lower min_ready",
        service.spec.name,
        holders(service, arm)
    );
    Err(Problem::new(StatusCode::CONFLICT, detail))
}

/// Who is out of work already, in words: because of these the floor would break.
fn holders(service: &ServiceView, arm: Arm) -> String {
    let out: Vec<String> = service
        .pools
        .get(arm)
        .iter()
        .filter(|endpoint| !endpoint.is_ready())
        .map(|endpoint| format!("{} is {}", endpoint.id, endpoint.state()))
        .take(NAMED)
        .collect();
    if out.is_empty() { String::new() } else { format!("; {}", out.join(", ")) }
}

/// Waits until no data-plane core may pick the endpoint any more and what it has is done.
async fn finish(
    admin: &Admin,
    endpoint: &OfEndpoint,
    revision: u64,
    mut deadline: Instant,
    on_timeout: OnTimeout,
) -> Result<Json<EndpointJson>, Problem> {
    // A request may have loaded the last snapshot and not picked yet: one quiet look isn't enough.
    let mut quiet = 0;
    let mut to_cut = on_timeout == OnTimeout::Kill;
    loop {
        let service = target::service(admin, &endpoint.service.spec.name)?;
        let taken_in = service.revision >= revision;
        let known = target::find(&service, endpoint.arm, &endpoint.id)?;
        let keeps_sessions = known.serves_sessions(&service.spec);
        quiet = if taken_in && known.live.in_flight() == 0 && !keeps_sessions { quiet + 1 } else { 0 };
        if quiet == 2 {
            return Ok(Json(EndpointJson::of(known)));
        }
        if Instant::now() >= deadline && std::mem::take(&mut to_cut) {
            known.live.end_sessions();
            service.live.cut_tunnels(&known.live);
            deadline += CUT;
        } else if Instant::now() >= deadline {
            let mut body = EndpointJson::of(known);
            let sessions = if keeps_sessions { ", and its sessions are still served" } else { "" };
            let left = match (taken_in, body.tunnels) {
                (false, _) => NOT_TAKEN_IN.to_owned(),
                (true, 0) => format!("{} still in flight{sessions}", body.in_flight),
                (true, tunnels) => format!("{} still in flight, {tunnels} of them tunnels{sessions}", body.in_flight),
            };
            if on_timeout != OnTimeout::Fail {
                known.live.end_sessions();
                body.note = Some(left);
                return Ok(Json(body));
            }
            let detail = format!(
                "{} is draining, but not empty yet: {left}. It gets no new work; ask again to wait longer, ask with \
                 \"on_timeout\":\"proceed\" to go on or \"kill\" to close its tunnels, or POST …/ready to take it back",
                endpoint.path()
            );
            return Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, detail));
        }
        tokio::time::sleep_until(deadline.min(Instant::now() + LOOK)).await;
    }
}

/// What is to be noted of an endpoint that drains, or is given work again.
fn entry(
    admin: &Admin,
    caller: &Caller,
    endpoint: &OfEndpoint,
    what: &'static str,
    from: String,
    to: &str,
    reason: Reason,
) -> Entry {
    let (service, path) = (endpoint.service.spec.name.as_str(), Some(endpoint.path()));
    admin.audit.entry(caller, Note { what, service, endpoint: path, from, to: to.to_owned(), why: reason.given() })
}
