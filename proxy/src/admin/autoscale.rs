//! `/v1/services/{service}/autoscale`: how many instances there should be and why; what a person orders instead.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::StatusCode;
use http::header::ETAG;
use serde::Deserialize;

use super::audit::Note;
use super::autoscale_view::AutoscaleJson;
use super::body::{JustReason, Reason, Wish};
use super::change::{self, Expected, NOT_TAKEN_IN};
use super::guard::Caller;
use super::problem::Problem;
use super::target::{self, OfService};
use super::{Admin, Shared};
use crate::live::ServiceView;
use crate::model::scaling::{Order, ScalingChange, ScalingSpec};
use crate::model::span;
use crate::model::state::Change;
use crate::telemetry;

/// The kind of change, for messages.
const WHAT: &str = "orders for scaling";
/// An order that is forgotten must not hold for ever.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What is ordered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderWish {
    /// The size to have; absent = it stays as it is.
    size: Option<u32>,
    /// How long the order holds.
    #[serde(rename = "for")]
    span: String,
    #[serde(default)]
    reason: Reason,
}

/// `GET …/autoscale`
pub(super) async fn get(State(admin): State<Admin>, OfService(service): OfService) -> Result<Response, Problem> {
    scaled(&service)?;
    answer(&admin, &service.spec.name, None)
}

/// `PUT …/autoscale`: a size by hand, or none at all, for a while.
pub(super) async fn put(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    OfService(service): OfService,
    Expected(expected): Expected,
    Wish(wish): Wish<OrderWish>,
) -> Result<Response, Problem> {
    let unprocessable = |why: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why);
    let spec = scaled(&service)?;
    let span = span::parse(&wish.span).map_err(|error| unprocessable(error.to_string()))?;
    if span.is_zero() || span > LONGEST {
        return Err(unprocessable("an order holds for more than nothing and at most 7d: give another one then".into()));
    }
    if let Some(size) = wish.size.filter(|size| !(spec.min..=spec.max).contains(size)) {
        let (min, max) = (spec.min, spec.max);
        return Err(unprocessable(format!("the pool has {min} to {max} instances, so it can't have {size}")));
    }
    let until = telemetry::now() + span;
    let order = Order { size: wish.size, until, by: caller.name.clone(), reason: wish.reason.given() };
    steer(&admin, &caller, &service, Some(order), expected).await
}

/// `DELETE …/autoscale`: the rules decide again.
pub(super) async fn delete(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    OfService(service): OfService,
    Expected(expected): Expected,
    Wish(JustReason { .. }): Wish<JustReason>,
) -> Result<Response, Problem> {
    scaled(&service)?;
    steer(&admin, &caller, &service, None, expected).await
}

async fn steer(
    admin: &Admin,
    caller: &Caller,
    service: &ServiceView,
    order: Option<Order>,
    expected: Option<u64>,
) -> Result<Response, Problem> {
    let name = service.spec.name.as_str();
    let before = service.scaling.as_ref().and_then(|scaling| scaling.order_at(telemetry::now()));
    let (from, to) = (told(before), told(order.as_ref()));
    let why = order.as_ref().and_then(|order| order.reason.clone());
    let change = Change::Scaling(ScalingChange::Order(order));
    let note = Note { what: "autoscale.order", service: name, endpoint: None, from, to, why };
    let entry = admin.audit.entry(caller, note);
    let (_, taken_in) = change::make(admin, name, WHAT, change, expected, |_| Some(entry)).await?;
    answer(admin, name, (!taken_in).then_some(NOT_TAKEN_IN))
}

fn told(order: Option<&Order>) -> String {
    match order {
        None => "by rules".to_owned(),
        Some(Order { size: Some(size), until, .. }) => format!("{size} until {until}"),
        Some(Order { size: None, until, .. }) => format!("paused until {until}"),
    }
}

fn scaled(service: &ServiceView) -> Result<&Arc<ScalingSpec>, Problem> {
    let name = &service.spec.name;
    service.spec.autoscale.as_ref().ok_or_else(|| {
        let detail = format!("{name} isn't scaled: give it a [service.{name}.autoscale] table, then reload");
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}

fn answer(admin: &Shared, name: &str, note: Option<&str>) -> Result<Response, Problem> {
    let view = target::service(admin, name)?;
    let mut body = AutoscaleJson::new(&view, scaled(&view)?, telemetry::now());
    body.note = note.map(str::to_owned);
    Ok(([(ETAG, change::etag(body.revision))], Json(body)).into_response())
}
