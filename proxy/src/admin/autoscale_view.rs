//! What the API sends about scaling: fields may be added, never renamed.

use serde::{Deserialize, Serialize};

use crate::live::ServiceView;
use crate::model::scaling::{Decision, Grant, ScalingSpec, Sizes, Stage};

/// How a pool is scaled, and what is done about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AutoscaleJson {
    /// The service.
    pub service: String,
    /// Its pool.
    pub pool: String,
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// `act`, or `plan` where nothing is done: a dry run, or no driver.
    pub mode: String,
    /// The instances, as this proxy sees them.
    pub sizes: Sizes,
    /// How many there should be, and why; null while another proxy leads.
    pub decision: Option<Decision>,
    /// The same in a sentence.
    pub why: Option<String>,
    /// What is done about it, or why nothing is.
    pub doing: String,
    /// Instances that were asked for and haven't all come.
    pub grants: Vec<GrantJson>,
    /// Endpoints that are being taken away.
    pub removing: Vec<String>,
    /// What a person ordered, while it holds.
    pub order: Option<OrderJson>,
    /// Failures of the driver in a row.
    pub failures: u32,
    /// Until when it is left alone after them, RFC 3339.
    pub retry_at: Option<String>,
    /// The service's revision; also the `ETag`.
    pub revision: u64,
    /// What the caller of a change should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Instances that were asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GrantJson {
    /// What names the wish to the driver.
    pub token: String,
    /// How many.
    pub count: u32,
    /// When, RFC 3339.
    pub at: String,
    /// `asked`, `started` or `undone`.
    pub stage: Stage,
}

/// What a person ordered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrderJson {
    /// The size to have; null = it stays as it is.
    pub size: Option<u32>,
    /// Until when, RFC 3339.
    pub until: String,
    /// Who.
    pub by: String,
    /// Why, if somebody said so.
    pub reason: Option<String>,
}

impl AutoscaleJson {
    /// How a service is scaled, by its rules.
    pub fn new(view: &ServiceView, spec: &ScalingSpec, now: crate::model::time::Timestamp) -> Self {
        let (status, scaling) = (view.live.scaling(), view.scaling.clone().unwrap_or_default());
        let acts = spec.driver.is_some() && !spec.dry_run;
        let order = scaling.order_at(now).map(|order| OrderJson {
            size: order.size,
            until: order.until.to_string(),
            by: order.by.clone(),
            reason: order.reason.clone(),
        });
        Self {
            service: view.spec.name.clone(),
            pool: "stable".to_owned(),
            min: spec.min,
            max: spec.max,
            mode: if acts { "act" } else { "plan" }.to_owned(),
            sizes: status.sizes,
            why: status.decision.as_ref().map(Decision::why),
            decision: status.decision.clone(),
            doing: status.note.clone(),
            grants: scaling.grants.iter().map(GrantJson::of).collect(),
            removing: scaling.removal.as_ref().map(|removal| removal.ids.clone()).unwrap_or_default(),
            order,
            failures: scaling.failures,
            retry_at: scaling.backs_off_until(now).map(|at| at.to_string()),
            revision: view.revision,
            note: None,
        }
    }
}

impl GrantJson {
    fn of(grant: &Grant) -> Self {
        Self { token: grant.token.clone(), count: grant.count, at: grant.at.to_string(), stage: grant.stage }
    }
}
