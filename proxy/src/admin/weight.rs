//! `PUT /v1/services/{service}/canary/weight`: how much of the traffic the canary gets.

use std::fmt;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};

use super::audit::Note;
use super::body::{Reason, Wish};
use super::change::{self, Expected, NOT_TAKEN_IN};
use super::guard::Caller;
use super::problem::Problem;
use super::target::OfService;
use super::{Admin, rollout, services};
use crate::model::state::Change;
use crate::model::weight::Weight;
use crate::store::fresh_episode;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WeightWish {
    percent: Percent,
    #[serde(default)]
    reason: Reason,
}

/// A number in JSON, of which [`Weight`] says whether it is a weight.
#[derive(Debug)]
struct Percent(f64);

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Percent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 0 to 100, without quotes")
            }

            fn visit_f64<E>(self, percent: f64) -> Result<Percent, E> {
                Ok(Percent(percent))
            }

            fn visit_u64<E>(self, percent: u64) -> Result<Percent, E> {
                Ok(Percent(percent as f64))
            }

            fn visit_i64<E>(self, percent: i64) -> Result<Percent, E> {
                Ok(Percent(percent as f64))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// Sets the weight, once the store has it.
pub(super) async fn put(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    OfService(service): OfService,
    Expected(expected): Expected,
    Wish(wish): Wish<WeightWish>,
) -> Result<Response, Problem> {
    let name = service.spec.name.as_str();
    if service.spec.split.is_none() {
        return Err(no_canary(name));
    }
    let weight = Weight::from_percent(wish.percent.0)
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    rollout::yields_to_people(&service, weight)?;
    let set = Change::SetWeight { weight, fresh: fresh_episode() };
    let (from, to, why) = (service.asked.to_string(), weight.to_string(), wish.reason.given());
    let entry = admin.audit.entry(&caller, Note { what: "weight", service: name, endpoint: None, from, to, why });
    let (state, taken_in) = change::make(&admin, name, "weight changes", set, expected, |_| Some(entry)).await?;
    let note = if !taken_in {
        Some(NOT_TAKEN_IN)
    } else if (state.circuit.is_open() || service.live.is_open()) && !weight.is_zero() {
        Some("the circuit is open: the canary gets nothing until a person resets it")
    } else {
        None
    };
    services::answer(&admin, name, Some(state.revision), note)
}

/// What is asked of a canary that doesn't exist.
pub(super) fn no_canary(service: &str) -> Problem {
    let detail = format!(
        "{service} has no canary: give it `canary = [\"HOST:PORT\"]` and a [service.{service}.split] table in the \
         configuration, then reload"
    );
    Problem::new(StatusCode::CONFLICT, detail)
}
