//! The client commands: what each asks of the admin API, and what it prints.

use std::time::Duration;

use http::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{Client, ClientError, PATIENCE, segment};
use super::render::Page;
use super::{ClientCommand, CommandError, autoscale, endpoint, flag, rollout};
use crate::admin::Replaced;
use crate::admin::view::{AuditJson, ServiceJson, ServicesJson};

/// What a command prints, and its exit code.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) code: u8,
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        Self { text, code: 0 }
    }
}

/// How long a new process may take to take over, and to be given up.
const TAKEOVER: Duration = Duration::from_secs(75);

/// Asks what the command asks for; what comes back is what to print.
pub(super) async fn answer(client: &Client, command: ClientCommand, colour: bool) -> Result<Said, CommandError> {
    let page = Page::new(colour);
    let text = match command {
        ClientCommand::Flag(command) => return flag::flag(client, page, command).await,
        ClientCommand::Autoscale(command) => return Ok(autoscale::autoscale(client, page, command).await?),
        ClientCommand::Rollout(command) => return Ok(rollout::rollout(client, page, command).await?),
        ClientCommand::Status { service: None, json } => {
            show(client, "/v1/services", json, |all: ServicesJson| page.overview(&all)).await
        }
        ClientCommand::Status { service: Some(name), json } => {
            show(client, &service_path(&name), json, |service: ServiceJson| page.service(&service)).await
        }
        ClientCommand::Weight { service, percent, reason } => {
            let body = json!({ "percent": percent.percent(), "reason": reason });
            let path = format!("{}/canary/weight", service_path(&service));
            client.call(Method::PUT, &path, Some(&body), PATIENCE).await.map(|after: ServiceJson| page.changed(&after))
        }
        ClientCommand::Trip { service, reason } => circuit(client, &page, &service, "trip", &reason).await,
        ClientCommand::Reset { service, reason } => circuit(client, &page, &service, "reset", &reason).await,
        ClientCommand::Audit { last, json } => {
            show(client, "/v1/audit", json, |log: AuditJson| page.audit(&log, last)).await
        }
        ClientCommand::Endpoint(command) => endpoint::endpoint(client, page, command).await,
        ClientCommand::Upgrade { reason } => upgrade(client, reason.as_deref()).await,
    };
    Ok(text?.into())
}

async fn upgrade(client: &Client, reason: Option<&str>) -> Result<String, ClientError> {
    let body = json!({ "reason": reason });
    let Replaced { process, version } = client.call(Method::POST, "/v1/upgrade", Some(&body), TAKEOVER).await?;
    Ok(format!("process {process} (serin {version}) has taken over\n"))
}

pub(super) async fn show<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    as_json: bool,
    text: impl FnOnce(T) -> String,
) -> Result<String, ClientError> {
    if as_json {
        // As it came: a newer server's fields are shown too.
        let value: Value = client.call(Method::GET, path, None, PATIENCE).await?;
        return Ok(format!("{value:#}\n"));
    }
    Ok(text(client.call(Method::GET, path, None, PATIENCE).await?))
}

async fn circuit(client: &Client, page: &Page, service: &str, act: &str, reason: &str) -> Result<String, ClientError> {
    let path = format!("{}/circuit/{act}", service_path(service));
    let after: ServiceJson = client.call(Method::POST, &path, Some(&json!({ "reason": reason })), PATIENCE).await?;
    Ok(page.changed(&after))
}

pub(super) fn leave_out_nulls(body: &mut Value) {
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

pub(super) fn service_path(service: &str) -> String {
    format!("/v1/services/{}", segment(service))
}
