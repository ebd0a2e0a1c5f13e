//! `serin flag rollout …`: a new definition of a flag as a canary of a service.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::text_of;
use crate::cli::CommandError;
use crate::cli::client::Client;
use crate::cli::commands::{Said, leave_out_nulls};
use crate::cli::render::Page;
use crate::cli::rollout::{self, Pace};
use crate::model::rollout::plan::{Gate, OnNoData, Step};
use crate::model::span;
use crate::model::weight::Weight;

#[derive(Debug, Args)]
pub(in crate::cli) struct FlagRollout {
    /// The flag
    key: String,
    /// The service whose users see the new definition first
    #[arg(long)]
    service: String,
    #[command(flatten)]
    to: To,
    /// One step: so many percent of the users, until the verdict passes
    #[arg(long, value_name = "PERCENT", conflicts_with = "steps")]
    percent: Option<Weight>,
    /// How long that step holds at least
    #[arg(long, value_name = "SPAN", requires = "percent", default_value = "10m", value_parser = span::parse)]
    hold: Duration,
    #[command(flatten)]
    pace: Pace,
}

/// The new definition.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct To {
    /// A file with the new definition; - for the standard input
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Or the variant that everybody shall get, with no rule any more
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
}

/// Begins it.
pub(super) async fn begin(client: &Client, page: Page, wish: FlagRollout) -> Result<Said, CommandError> {
    let FlagRollout { key, service, to, percent, hold, mut pace } = wish;
    let definition: Option<Value> = to.to.map(definition).transpose()?;
    let mut flag = json!({ "key": key, "definition": definition, "variant": to.variant });
    leave_out_nulls(&mut flag);
    if let Some(weight) = percent {
        let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
        pace.steps = vec![Step { weight, hold_ms, gate: Gate::default(), on_no_data: OnNoData::default() }];
    }
    Ok(rollout::begin(client, page, &service, ("flag", flag), pace).await?)
}

fn definition(file: PathBuf) -> Result<Value, CommandError> {
    let text = text_of(&file)?;
    serde_json::from_slice(&text).map_err(|source| CommandError::Definition { file, source })
}
