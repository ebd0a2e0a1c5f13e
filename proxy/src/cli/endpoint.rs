//! `serin endpoint …`: listing, registering, draining and removing endpoints.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientError, PATIENCE, segment};
use super::commands::{leave_out_nulls, service_path, show};
use super::render::Page;
use crate::admin::view::{EndpointJson, ServiceJson};
use crate::model::span;
use crate::model::split::Arm;

#[derive(Debug, Subcommand)]
pub(super) enum Endpoint {
    /// Lists the endpoints of a service
    List {
        /// The service
        service: String,
        /// The API's JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Registers an endpoint, or changes it
    #[command(after_help = "\
Examples:
  serin endpoint add checkbox 10.0.0.21:3002 --pool canary --version 1.5
  serin endpoint add checkbox web-7 --address 10.0.0.27:3002 --ttl 15s   (beat it every 5 s)")]
    Add {
        #[command(flatten)]
        spot: Spot,
        /// IP:PORT, if the id isn't that
        #[arg(long, value_name = "IP:PORT")]
        address: Option<String>,
        /// Its share inside the pool, 1 to 1000
        #[arg(long)]
        weight: Option<u16>,
        /// The version it runs
        #[arg(long)]
        version: Option<String>,
        /// Where it stands: a data centre, a rack, a host
        #[arg(long)]
        zone: Option<String>,
        /// What else is to be known of it; may be given several times
        #[arg(long, value_name = "KEY=VALUE", value_parser = entry)]
        metadata: Vec<(String, String)>,
        /// How long this registration lasts without another one, such as 15s
        #[arg(long, value_name = "SPAN")]
        ttl: Option<String>,
        /// Whether it serves the control, restarted together with the canary: of stable only
        #[arg(long)]
        control: bool,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Takes an endpoint out, also if the configuration names it
    Remove {
        #[command(flatten)]
        spot: Spot,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Gives an endpoint no new work, and waits until what it has is done
    #[command(after_help = "\
Example, for a rolling update:
  serin endpoint drain checkbox 10.0.0.11:3002 --wait 120s --min-ready 4")]
    Drain {
        #[command(flatten)]
        spot: Spot,
        /// How long to wait, such as 120s [default: 60s]
        #[arg(long, value_name = "SPAN")]
        wait: Option<String>,
        /// Refuse if fewer endpoints of the pool would stay ready [default: 1 while the pool gets traffic]
        #[arg(long, value_name = "N")]
        min_ready: Option<usize>,
        /// What to do when requests are left at the end of the wait
        #[arg(long, value_enum, default_value_t)]
        on_timeout: OnTimeout,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Gives a drained endpoint work again
    Ready {
        #[command(flatten)]
        spot: Spot,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

/// Which endpoint.
#[derive(Debug, Args)]
pub(super) struct Spot {
    /// The service
    service: String,
    /// The endpoint: IP:PORT, unless it was registered by another name
    id: String,
    /// Its pool
    #[arg(long, value_enum, default_value_t)]
    pool: Pool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Pool {
    #[default]
    Stable,
    Canary,
}

impl From<Pool> for Arm {
    fn from(pool: Pool) -> Self {
        match pool {
            Pool::Stable => Self::Stable,
            Pool::Canary => Self::Canary,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum OnTimeout {
    /// Exit with 1; the endpoint stays draining
    #[default]
    Fail,
    /// Exit with 0 all the same
    Proceed,
    /// The same, once its tunnels (WebSockets) are closed
    Kill,
}

impl OnTimeout {
    const fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Proceed => "proceed",
            Self::Kill => "kill",
        }
    }
}

/// Asks what the command asks for; what comes back is what to print.
pub(super) async fn endpoint(client: &Client, page: Page, command: Endpoint) -> Result<String, ClientError> {
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
fn entry(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, such as rack=r7")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn spot_path(spot: &Spot) -> String {
    let pool = Arm::from(spot.pool);
    format!("{}/pools/{pool}/endpoints/{}", service_path(&spot.service), segment(&spot.id))
}
