//! The members of a pool: reading, registering, taking out.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::audit::Note;
use super::body::{JustReason, Reason, Wish};
use super::change::{self, Expected, NOT_TAKEN_IN};
use super::guard::Caller;
use super::problem::Problem;
use super::target::{self, OfEndpoint, OfPool};
use super::view::{EndpointJson, PoolJson};
use crate::model::member::is_id;
use crate::model::place::{PlaceError, member_of};
use crate::model::span;
use crate::model::split::Arm;
use crate::model::state::{Change, MemberSpec};

/// The kind of change, for messages.
pub(super) const WHAT: &str = "endpoint changes";
/// A lease is no shorter and no longer than this.
const LEASE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointWish {
    address: Option<String>,
    weight: Option<u16>,
    version: Option<String>,
    zone: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    ttl: Option<String>,
    #[serde(default)]
    control: bool,
    #[serde(default)]
    reason: Reason,
}

/// `GET …/endpoints`
pub(super) async fn list(pool: OfPool) -> Json<PoolJson> {
    Json(PoolJson::of(&pool.service, pool.arm))
}

/// `GET …/endpoints/{id}`
pub(super) async fn get(endpoint: OfEndpoint) -> Result<Json<EndpointJson>, Problem> {
    match target::name(&endpoint.service, endpoint.arm, &endpoint.id) {
        Some(name) => Ok(Json(EndpointJson::of_name(name))),
        None => Ok(Json(EndpointJson::of(endpoint.find()?))),
    }
}

/// `PUT …/endpoints/{id}`: registers an endpoint, changes it, or beats its lease.
pub(super) async fn put(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    endpoint: OfEndpoint,
    Expected(expected): Expected,
    Wish(wish): Wish<EndpointWish>,
) -> Result<Json<EndpointJson>, Problem> {
    let spec = member(&endpoint.id, &wish).map_err(|why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why))?;
    if spec.control && endpoint.arm == Arm::Canary {
        let why = "only a member of stable serves the control: it runs stable's release";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    let before = endpoint.registered();
    let from = before.map_or_else(|| "absent".to_owned(), describe);
    let is_beat = spec.ttl_ms.is_some() && before.is_some_and(|known| describe(known) == describe(&spec));
    let to = describe(&spec);
    let name = endpoint.service.spec.name.as_str();
    let put = Change::PutMember { arm: endpoint.arm, id: endpoint.id.clone(), spec: spec.clone() };
    let (path, why) = (Some(endpoint.path()), wish.reason.given());
    let entry = admin.audit.entry(&caller, Note { what: "endpoint.put", service: name, endpoint: path, from, to, why });
    // A heartbeat that alters nothing is no change; it comes every few seconds.
    let entry = (!is_beat).then_some(entry);
    let (_, taken_in) = change::make(&admin, name, WHAT, put, expected, |_| entry).await?;
    Ok(Json(after(&admin, &endpoint, &spec, taken_in)?))
}

/// `DELETE …/endpoints/{id}`: takes an endpoint out, for good even if the file names it.
pub(super) async fn delete(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    endpoint: OfEndpoint,
    Expected(expected): Expected,
    Wish(JustReason { reason }): Wish<JustReason>,
) -> Result<Json<RemovedJson>, Problem> {
    let from = match endpoint.registered() {
        Some(known) => describe(known),
        None => describe(&endpoint.find()?.member),
    };
    if let Some((name, _)) = member_of(&endpoint.id) {
        let why = format!(
            "this endpoint is at an address of {name}, and there as long as the name has it: drain it, or remove {name}"
        );
        return Err(Problem::new(StatusCode::CONFLICT, why));
    }
    let remove = Change::RemoveMember { arm: endpoint.arm, id: endpoint.id.clone() };
    let name = &endpoint.service.spec.name;
    let (to, why) = ("removed".to_owned(), reason.given());
    let path = Some(endpoint.path());
    let note = Note { what: "endpoint.remove", service: name, endpoint: path, from, to, why };
    let entry = admin.audit.entry(&caller, note);
    let (_, taken_in) = change::make(&admin, name, WHAT, remove, expected, |_| Some(entry)).await?;
    Ok(Json(RemovedJson { id: endpoint.id, state: "removed", note: (!taken_in).then_some(NOT_TAKEN_IN) }))
}

/// An endpoint that was taken out.
#[derive(Debug, Serialize)]
pub(super) struct RemovedJson {
    id: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

/// The endpoint after a change: as this proxy now knows it, or as it was told to be.
pub(super) fn after(
    admin: &Admin,
    endpoint: &OfEndpoint,
    spec: &MemberSpec,
    taken_in: bool,
) -> Result<EndpointJson, Problem> {
    let service = target::service(admin, &endpoint.service.spec.name)?;
    if let (true, Some(name)) = (taken_in, target::name(&service, endpoint.arm, &endpoint.id)) {
        return Ok(EndpointJson::of_name(name));
    }
    if let (true, Ok(known)) = (taken_in, target::find(&service, endpoint.arm, &endpoint.id)) {
        return Ok(EndpointJson::of(known));
    }
    let note = Some(NOT_TAKEN_IN.to_owned());
    Ok(EndpointJson { note, ..EndpointJson::of_member(&endpoint.id, spec, "checking") })
}

fn member(id: &str, wish: &EndpointWish) -> Result<MemberSpec, String> {
    if !is_id(id) {
        return Err("an endpoint's id is up to 128 letters, digits and `.:_-[]`, such as 10.0.0.11:3002".into());
    }
    if let Some((name, _)) = member_of(id) {
        return Err(format!("such an id is that of an address of {name}: these come and go with what DNS says"));
    }
    let address = wish.address.as_deref().unwrap_or(id);
    let place = address.parse().map_err(|why: PlaceError| {
        let whose = if wish.address.is_some() { "the address" } else { "without an `address` the id is it, but" };
        format!("{whose} `{address}` can't be used: {why}")
    })?;
    let ttl = wish.ttl.as_deref().map(span::parse).transpose().map_err(|error| error.to_string())?;
    if ttl.is_some_and(|ttl| !LEASE.contains(&ttl)) {
        return Err("a ttl is from 1s to 1d".into());
    }
    let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    let spec = MemberSpec {
        address: place,
        weight: wish.weight.unwrap_or(1),
        version: wish.version.clone(),
        zone: wish.zone.clone(),
        metadata: wish.metadata.clone(),
        ttl_ms,
        control: wish.control,
    };
    spec.check().map_err(|error| error.to_string())?;
    Ok(spec)
}

/// What a registration says, for the audit log.
fn describe(spec: &MemberSpec) -> String {
    let version = spec.version.as_deref().map(|version| format!(" version {version}")).unwrap_or_default();
    let control = if spec.control { " control" } else { "" };
    let zone = spec.zone.as_deref().map(|zone| format!(" zone {zone}")).unwrap_or_default();
    let metadata: String = spec.metadata.iter().map(|(key, value)| format!(" {key}={value}")).collect();
    format!("{} weight {}{version}{zone}{control}{metadata}", spec.address, spec.weight)
}
