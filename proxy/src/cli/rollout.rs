//! `serin rollout …`: beginning, watching, steering and ending rollouts.

use std::time::Duration;

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{Client, ClientError, PATIENCE};
use super::commands::{Said, leave_out_nulls, service_path};
use super::render::Page;
use crate::admin::rollout_view::RolloutJson;
use crate::model::rollout::plan::Step;
use crate::model::span;

/// One call waits for no longer; `status --wait` asks again.
const ONE_WAIT: Duration = Duration::from_secs(60);
/// For how long `status --wait` bears a daemon that doesn't answer: a restart takes a while.
const BEARS: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);
/// Exit codes of `status --wait`.
const ENDED_BADLY: u8 = 3;
const UNDECIDED: u8 = 4;

#[derive(Debug, Subcommand)]
pub(super) enum Rollout {
    /// Begins a rollout: the canary weight goes up step by step, as long as the canary holds
    #[command(after_help = "\
A step is WEIGHT:HOLD, and may end in :verdict (the default), :time or :manual for what lets it end,
and in :hold (the default) or :advance for what to do when the canary got no request at all.
Examples:
  serin rollout start checkbox --version 1.5
  serin rollout start checkbox --version 1.5 --steps '1%:5m,10%:10m,50%:10m:manual,100%:0s'
  serin rollout start checkbox --version 1.5 --lease 2m && serin rollout status checkbox --wait")]
    Start {
        /// The service
        service: String,
        /// The version that the canary carries
        #[arg(long)]
        version: String,
        #[command(flatten)]
        pace: Pace,
    },
    /// Shows the latest rollout, or waits until it is decided
    #[command(after_help = "\
Exit codes: 0 = shown, or promoted (with --wait), 1 = failed, 2 = wrong usage,
            3 = pulled or aborted (with --wait), 4 = not decided in time (with --timeout).
Example:
  serin rollout status checkbox --wait --timeout 2h")]
    Status {
        /// The service
        service: String,
        /// Returns once it is promoted, pulled or aborted; renews the lease meanwhile
        #[arg(long)]
        wait: bool,
        /// Waits no longer than this, such as 2h
        #[arg(long, value_name = "SPAN", requires = "wait", value_parser = span::parse)]
        timeout: Option<Duration>,
        /// The API's JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Stops going on; the weight stays where it is
    Pause {
        #[command(flatten)]
        of: Of,
    },
    /// Goes on after a pause, or passes the manual gate of the step in force
    Resume {
        #[command(flatten)]
        of: Of,
    },
    /// Approves the version: the canary keeps its users until stable carries it too
    #[command(after_help = "\
Examples:
  serin rollout promote checkbox           then roll the stable pool; the canary empties by itself
  serin rollout promote checkbox --swap    exchanges the pools at once, if the canary can carry all")]
    Promote {
        #[command(flatten)]
        of: Of,
        /// Exchanges the pools at once
        #[arg(long)]
        swap: bool,
    },
    /// Ends it: everybody goes back to stable at once
    #[command(after_help = "\
Works with the store gone too.
Example:
  serin rollout abort checkbox --reason 'the new page confuses users'")]
    Abort {
        #[command(flatten)]
        of: Of,
    },
}

/// How a rollout goes, and why.
#[derive(Debug, clap::Args)]
pub(super) struct Pace {
    /// The steps, with commas between them [default: those of the configuration]
    #[arg(long, value_name = "STEPS", value_delimiter = ',')]
    pub(super) steps: Vec<Step>,
    /// Aborted when it isn't decided by then, such as 24h
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    deadline: Option<Duration>,
    /// Aborted when nobody waits for it or renews it for so long, such as 2m
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    lease: Option<Duration>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Which rollout, and why.
#[derive(Debug, clap::Args)]
pub(super) struct Of {
    /// The service
    service: String,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Does what the command says.
pub(super) async fn rollout(client: &Client, page: Page, command: Rollout) -> Result<Said, ClientError> {
    match command {
        Rollout::Start { service, version, pace } => {
            begin(client, page, &service, ("version", version.into()), pace).await
        }
        Rollout::Status { service, wait: true, timeout, json } => wait(client, page, &service, timeout, json).await,
        Rollout::Status { service, wait: false, json, .. } => {
            let value = client.call(Method::GET, &path(&service), None, PATIENCE).await?;
            Ok(show(page, value, json)?.0)
        }
        Rollout::Pause { of } => act(client, page, of, "/pause", json!({})).await,
        Rollout::Resume { of } => act(client, page, of, "/resume", json!({})).await,
        Rollout::Promote { of, swap } => act(client, page, of, "/promote", json!({ "swap": swap })).await,
        Rollout::Abort { of } => act(client, page, of, "/abort", json!({})).await,
    }
}

/// Begins a rollout of what the field of the body names.
pub(super) async fn begin(
    client: &Client,
    page: Page,
    service: &str,
    (field, subject): (&str, Value),
    pace: Pace,
) -> Result<Said, ClientError> {
    let Pace { steps, deadline, lease, reason } = pace;
    let steps = (!steps.is_empty()).then(|| steps.iter().map(ToString::to_string).collect::<Vec<_>>());
    let span = |span: Option<Duration>| span.map(|span| format!("{}ms", span.as_millis()));
    // Named here, so that a start whose answer was lost can be repeated.
    let id = crate::store::fresh_rollout_id();
    let mut body =
        json!({ "id": id, "steps": steps, "deadline": span(deadline), "lease": span(lease), "reason": reason });
    body[field] = subject;
    post(client, page, service, "", body).await
}

async fn act(client: &Client, page: Page, of: Of, verb: &str, mut body: Value) -> Result<Said, ClientError> {
    body["reason"] = of.reason.into();
    post(client, page, &of.service, verb, body).await
}

async fn post(client: &Client, page: Page, service: &str, verb: &str, mut body: Value) -> Result<Said, ClientError> {
    leave_out_nulls(&mut body);
    let path = format!("{}{verb}", path(service));
    let after: RolloutJson = client.call(Method::POST, &path, Some(&body), PATIENCE).await?;
    Ok(page.rollout(&after).into())
}

/// Asks again and again until it is decided. A daemon that is gone for a while may come back.
async fn wait(
    client: &Client,
    page: Page,
    service: &str,
    timeout: Option<Duration>,
    as_json: bool,
) -> Result<Said, ClientError> {
    let end = timeout.map(|timeout| Instant::now() + timeout);
    let mut answered = Instant::now();
    loop {
        let left = end.map_or(ONE_WAIT, |end| end.saturating_duration_since(Instant::now()).min(ONE_WAIT));
        let path = format!("{}?wait={}ms", path(service), left.as_millis());
        match client.call(Method::GET, &path, None, left + PATIENCE).await {
            Ok(value) => {
                answered = Instant::now();
                let (mut said, rollout) = show(page, value, as_json)?;
                said.code = match rollout.phase.as_str() {
                    "promoted" => 0,
                    "pulled" | "aborted" => ENDED_BADLY,
                    _ => UNDECIDED,
                };
                if said.code != UNDECIDED || end.is_some_and(|end| Instant::now() >= end) {
                    return Ok(said);
                }
            }
            Err(gone @ (ClientError::Unreachable { .. } | ClientError::Broken { .. } | ClientError::Slow { .. })) => {
                let late = end.is_some_and(|end| Instant::now() >= end);
                if late || answered.elapsed() > BEARS + left {
                    return Err(gone);
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(refused) => return Err(refused),
        }
    }
}

fn show(page: Page, value: Value, as_json: bool) -> Result<(Said, RolloutJson), ClientError> {
    let text = format!("{value:#}\n");
    let rollout: RolloutJson = serde_json::from_value(value).map_err(ClientError::Unknown)?;
    let text = if as_json { text } else { page.rollout(&rollout) };
    Ok((text.into(), rollout))
}

fn path(service: &str) -> String {
    format!("{}/rollout", service_path(service))
}
