//! The client commands: what each asks of the admin API, and what it prints.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{Client, ClientError, PATIENCE, segment};
use super::render::Page;
use super::{ClientCommand, CommandError, Endpoint, Spot, autoscale, flag, rollout};
use crate::admin::Replaced;
use crate::admin::view::{AuditJson, EndpointJson, ServiceJson, ServicesJson};
use crate::model::span;
use crate::model::split::Arm;

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
        ClientCommand::Endpoint(command) => endpoint(client, &page, command).await,
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

async fn endpoint(client: &Client, page: &Page, command: Endpoint) -> Result<String, ClientError> {
    match command {
        Endpoint::List { service, json } => {
            show(client, &service_path(&service), json, |service: ServiceJson| page.endpoints(&service)).await
        }
        Endpoint::Add { spot, address, weight, version, zone, metadata, ttl, control, reason } => {
            let mut body = json!({ "address": address, "weight": weight, "version": version, "zone": zone });
            body["ttl"] = ttl.into();
            body["reason"] = reason.into();
            if !metadata.is_empty() {
                body["metadata"] = BTreeMap::from_iter(metadata).into_iter().collect();
            }
            if control {
                body["control"] = true.into();
            }
            leave_out_nulls(&mut body);
            let after: EndpointJson = client.call(Method::PUT, &spot_path(&spot), Some(&body), PATIENCE).await?;
            Ok(page.endpoint(&after))
        }
        Endpoint::Remove { spot, reason } => {
            let mut body = json!({ "reason": reason });
            leave_out_nulls(&mut body);
            let _: Value = client.call(Method::DELETE, &spot_path(&spot), Some(&body), PATIENCE).await?;
            Ok(format!("{} removed\n", spot.id))
        }
        Endpoint::Drain { spot, wait, min_ready, on_timeout, reason } => {
            // A span that makes no sense is the server's to refuse, in its own words.
            let waits = wait.as_deref().and_then(|wait| span::parse(wait).ok()).unwrap_or(Duration::from_secs(60));
            let on_timeout = on_timeout.name();
            let mut body = json!({ "wait": wait, "min_ready": min_ready, "on_timeout": on_timeout, "reason": reason });
            leave_out_nulls(&mut body);
            let path = format!("{}/drain", spot_path(&spot));
            let after: EndpointJson =
                client.call(Method::POST, &path, Some(&body), waits.saturating_add(PATIENCE)).await?;
            Ok(page.endpoint(&after))
        }
        Endpoint::Ready { spot, reason } => {
            let mut body = json!({ "reason": reason });
            leave_out_nulls(&mut body);
            let path = format!("{}/ready", spot_path(&spot));
            let after: EndpointJson = client.call(Method::POST, &path, Some(&body), PATIENCE).await?;
            Ok(page.endpoint(&after))
        }
    }
}

/// `KEY=VALUE`, as metadata is given.
pub(super) fn entry(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, such as rack=r7")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn leave_out_nulls(body: &mut Value) {
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

pub(super) fn service_path(service: &str) -> String {
    format!("/v1/services/{}", segment(service))
}

fn spot_path(spot: &Spot) -> String {
    let pool = Arm::from(spot.pool);
    format!("{}/pools/{pool}/endpoints/{}", service_path(&spot.service), segment(&spot.id))
}
