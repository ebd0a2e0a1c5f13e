//! `POST /v1/alerts`: Alertmanager's webhook. A firing alert that names a service trips its circuit.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::body::{Wish, one_line};
use super::guard::Caller;
use super::problem::Problem;
use super::{Admin, circuit, target};
use crate::model::circuit::Cause;

/// The version of the webhook that is understood.
const VERSION: &str = "4";
/// The largest webhook that is read, in bytes. A large outage fires many alerts at once, and Alertmanager sends what is
/// refused as too large to nobody again.
const MOST: usize = 1024 * 1024;
/// An alert's name and summary go into logs, mails and terminals.
const LONGEST: usize = 300;

/// What Alertmanager sends, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Webhook {
    version: String,
    alerts: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
struct Alert {
    status: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct AlertsJson {
    /// Services whose circuit this call opened.
    tripped: Vec<String>,
    /// Services whose circuit was open already.
    open: Vec<String>,
    /// Of both, those of which the store doesn't know yet: it is told when it can be.
    unstored: Vec<String>,
    /// Names that no service has.
    unknown: Vec<String>,
    /// Services that have no canary to stop.
    without_canary: Vec<String>,
    /// Firing alerts without a label `service`.
    unlabelled: usize,
    /// Alerts that fire no more: they do nothing, since only a person closes a circuit.
    resolved: usize,
}

/// Latches first, store or no store, as a person's trip does, and then tells the store.
pub(super) async fn receive(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Wish(webhook): Wish<Webhook, MOST>,
) -> Result<Json<AlertsJson>, Problem> {
    if webhook.version != VERSION {
        let detail = "only version 4 of Alertmanager's webhook is understood";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let mut told = AlertsJson::default();
    for alert in &webhook.alerts {
        if alert.status != "firing" {
            told.resolved += 1;
            continue;
        }
        let Some(name) = alert.labels.get("service") else {
            told.unlabelled += 1;
            continue;
        };
        let Ok(service) = target::service(&admin, name) else {
            told.unknown.push(one_line(name, LONGEST));
            continue;
        };
        if service.spec.split.is_none() {
            told.without_canary.push(name.clone());
        } else if circuit::open(&admin, &service, &caller, Cause::Alert, reason(alert)) {
            told.tripped.push(name.clone());
        } else {
            told.open.push(name.clone());
        }
    }
    told.unstored = circuit::tell_store(&admin, [&told.tripped[..], &told.open[..]].concat()).await;
    Ok(Json(told))
}

/// The alert's name, and its summary where it has one.
fn reason(alert: &Alert) -> String {
    let name = alert.labels.get("alertname").map_or("an alert without a name", String::as_str);
    let summary = alert.annotations.get("summary").map(|summary| format!(": {summary}")).unwrap_or_default();
    one_line(&format!("{name}{summary}"), LONGEST)
}
