//! `serin autoscale …`: how many instances there should be, and why; and rules tried on made-up loads.
//!
//! May know: config, model; the client commands only what the admin API says.

pub(super) mod simulate;

use std::time::Duration;

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientError, PATIENCE};
use super::commands::{Said, leave_out_nulls, service_path, show};
use super::render::{Page, Tone, clean, plain};
use crate::admin::autoscale_view::AutoscaleJson;
use crate::model::span;

pub(super) use simulate::simulate;

/// What a running daemon is asked about scaling.
#[derive(Debug, Subcommand)]
pub(super) enum Autoscale {
    /// Tries the rules of a configuration on a load: what they decide, what it costs, whom it hurts
    #[command(after_help = simulate::HELP)]
    Simulate(simulate::Options),
    #[command(flatten)]
    Client(ClientAutoscale),
}

/// What asks a running daemon.
#[derive(Debug, Subcommand)]
pub(super) enum ClientAutoscale {
    /// Shows what the rules would do now, and why, and what is done about it
    #[command(after_help = "\
The proxy that leads decides: ask it if this one says that another one does.
Examples:
  serin autoscale plan shop
  serin autoscale plan shop --json | jq .decision.cuts")]
    Plan {
        /// The service
        service: String,
        /// The API's JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Leaves the pool as it is for a while
    Pause {
        /// The service
        service: String,
        /// For how long, such as 2h; at most 7d
        #[arg(long = "for", value_name = "SPAN", value_parser = span::parse)]
        span: Duration,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Gives the pool a size for a while, whatever the rules want
    #[command(after_help = "\
Example:
  serin autoscale set shop 12 --for 3h --reason 'the sale begins at ten'")]
    Set {
        /// The service
        service: String,
        /// The size, within `min` and `max`
        size: u32,
        /// For how long, such as 2h; at most 7d
        #[arg(long = "for", value_name = "SPAN", value_parser = span::parse)]
        span: Duration,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Lets the rules decide again
    Resume {
        /// The service
        service: String,
    },
}

/// Asks what the command asks for.
pub(super) async fn autoscale(client: &Client, page: Page, command: ClientAutoscale) -> Result<Said, ClientError> {
    let path = |service: &str| format!("{}/autoscale", service_path(service));
    let text = match command {
        ClientAutoscale::Plan { service, json } => {
            return Ok(show(client, &path(&service), json, |plan| text(page, &plan)).await?.into());
        }
        ClientAutoscale::Pause { service, span, reason } => {
            order(client, page, &path(&service), None, span, reason).await
        }
        ClientAutoscale::Set { service, size, span, reason } => {
            order(client, page, &path(&service), Some(size), span, reason).await
        }
        ClientAutoscale::Resume { service } => {
            let after = client.call(Method::DELETE, &path(&service), None, PATIENCE).await;
            after.map(|after| text(page, &after))
        }
    };
    Ok(text?.into())
}

async fn order(
    client: &Client,
    page: Page,
    path: &str,
    size: Option<u32>,
    span: Duration,
    reason: Option<String>,
) -> Result<String, ClientError> {
    let mut body: Value = json!({ "size": size, "for": format!("{}ms", span.as_millis()), "reason": reason });
    leave_out_nulls(&mut body);
    let after: AutoscaleJson = client.call(Method::PUT, path, Some(&body), PATIENCE).await?;
    Ok(text(page, &after))
}

/// A plan for people.
fn text(page: Page, plan: &AutoscaleJson) -> String {
    let sizes = &plan.sizes;
    let mut rows = vec![
        vec![plain("service"), plain(format!("{}, {} pool, {} to {}", plan.service, plan.pool, plan.min, plan.max))],
        vec![plain("instances"), plain(format!("{} ready, {} pending", sizes.ready, sizes.pending))],
    ];
    if let Some(decision) = &plan.decision {
        rows.push(vec![plain("should be"), plain(decision.size.to_string())]);
    }
    rows.extend(plan.why.iter().map(|why| vec![plain("why"), plain(why.clone())]));
    if !plan.doing.is_empty() {
        rows.push(vec![plain("doing"), plain(plan.doing.clone())]);
    }
    rows.extend(plan.order.iter().map(|order| {
        let what = order.size.map_or("paused".to_owned(), |size| format!("{size} instances"));
        vec![plain("ordered"), (format!("{what} until {} by {}", order.until, order.by), Tone::Warn)]
    }));
    if plan.failures > 0 {
        let retry = plan.retry_at.as_deref().unwrap_or("soon");
        rows.push(vec![plain("driver"), (format!("failed {} times, again at {retry}", plan.failures), Tone::Bad)]);
    }
    rows.extend(plan.note.iter().map(|note| vec![plain("note"), (clean(note), Tone::Warn)]));
    page.table("", &rows)
}
