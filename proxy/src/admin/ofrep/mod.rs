//! OpenFeature's Remote Evaluation Protocol, version 0.3: what flags are for whom an application asks about.
//!
//! Answers come from the snapshot in force, at no store call. Whatever is asked, an answer ends: a body
//! has a limit, an evaluation a number of steps, and all evaluations together a rate.

mod answer;
mod bucket;
pub(super) mod group;
mod question;
mod stream;

use std::num::NonZeroU32;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;

use super::problem::Problem;
use super::target::OfFlag;
use super::{Admin, Shared};
use crate::live::AskedFlag;
use crate::model::flag::{Context, Evaluation, Fault};
use crate::model::time::Timestamp;
use crate::telemetry;
use answer::{All, Answer, EventStream, Failed};
use bucket::Bucket;
use group::Group;
use question::Question;
pub(super) use stream::{STREAM, listen};

/// After so many evaluations in a row others get their turn.
const TURN: usize = 32;

/// What the protocol's handlers share.
#[derive(Debug)]
pub(super) struct Ofrep {
    bucket: Bucket,
    closed: watch::Sender<bool>,
}

impl Ofrep {
    /// With so many evaluations a second; none = without limit.
    pub(super) fn new(rate: Option<NonZeroU32>) -> Self {
        Self { bucket: Bucket::new(rate), closed: watch::Sender::new(false) }
    }

    /// Lets every client that listens go: the daemon ends.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Pays for so many evaluations.
    fn admit(&self, evaluations: usize) -> Result<(), Problem> {
        self.bucket.take(evaluations).map_err(|wait| {
            let detail = "more evaluations are asked for than `ofrep_rate` in [admin] allows; \
                          ask for all flags at once, keep the answers, and send If-None-Match";
            Problem::too_often(detail, wait)
        })
    }
}

/// `POST /ofrep/v1/evaluate/flags/{key}`
pub(super) async fn one(State(admin): State<Admin>, OfFlag(key): OfFlag, question: Question) -> Response {
    let now = telemetry::now();
    let context = match question.context(now) {
        Ok(context) => context,
        Err(wrong) => return Failed::of(Some(&key), &wrong).into_response(),
    };
    let snapshot = admin.state.live.snapshot();
    let evaluation = match Group::of(&snapshot, &context).get(&key) {
        Some(tried) => evaluate_tried(tried, &context, now),
        None => {
            let evaluation = snapshot.flags().evaluate(&key, &context);
            count(&admin, &key, &evaluation, now);
            evaluation
        }
    };
    Answer::of(&key, &evaluation).into_response()
}

/// `POST /ofrep/v1/evaluate/flags`
pub(super) async fn all(
    State(admin): State<Admin>,
    headers: HeaderMap,
    question: Question,
) -> Result<Response, Problem> {
    let now = telemetry::now();
    let context = match question.context(now) {
        Ok(context) => context,
        Err(wrong) => return Ok(Failed::of(None, &wrong).into_response()),
    };
    let snapshot = admin.state.live.snapshot();
    let set = snapshot.flags();
    let group = Group::of(&snapshot, &context);
    let tag = group.tag(set, &context);
    let etag = [(ETAG, group::header(&tag))];
    if knows(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, etag).into_response());
    }
    admin.ofrep.admit(set.len().saturating_sub(1))?;
    let mut flags = Vec::with_capacity(set.len());
    for (nth, (flag, evaluation)) in set.evaluate_all(&context).enumerate() {
        if nth % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        let evaluation = match group.get(flag.key()) {
            Some(tried) => evaluate_tried(tried, &context, now),
            None => {
                count(&admin, flag.key(), &evaluation, now);
                evaluation
            }
        };
        flags.push(Answer::of(flag.key(), &evaluation));
    }
    let refused = Evaluation::failed(Fault::NoGoodDefinition, None);
    flags.extend(set.refused().map(|key| Answer::of(key, &refused)));
    let all = All { flags, event_streams: [EventStream::sse(STREAM)], metadata: set.metadata() };
    Ok((etag, Json(all)).into_response())
}

/// What a new definition on trial says, counted as its own.
fn evaluate_tried<'t>(tried: &'t AskedFlag, context: &Context<'_>, now: Timestamp) -> Evaluation<'t> {
    let evaluation = tried.flag().evaluate(context);
    tried.usage().count_elsewhere(evaluation.variant, now);
    evaluation
}

/// Counts an answer that was given. Who asks for all flags uses all of them.
fn count(admin: &Shared, key: &str, evaluation: &Evaluation<'_>, now: Timestamp) {
    if let Some(usage) = admin.state.live.flag_usage(key) {
        usage.count_elsewhere(evaluation.variant, now);
    }
}

/// Whether the client holds the answer of this tag.
fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let given = headers.get_all(IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    given
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|held| held == "*" || held.trim_start_matches("W/") == tag)
}
