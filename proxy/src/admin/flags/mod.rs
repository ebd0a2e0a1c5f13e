//! `/v1/flags`: reading, setting and removing definitions of feature flags.
//!
//! A body is a definition in flagd's format and nothing else, so the reason of a change stands in
//! the query. What can't be compiled is refused before the store hears of it. `on_trial` says what holds for a flag that
//! a rollout tries.

mod on_trial;

use std::sync::Arc;

use axum::extract::rejection::{ExtensionRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::StatusCode;
use http::header::ETAG;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::audit::FlagNote;
use super::body::{self, Reason};
use super::change::{self, Expected, NOT_TAKEN_IN};
use super::flag_view::{self, FlagJson, Flags, FlagsJson};
use super::guard::Caller;
use super::problem::Problem;
use super::target::OfFlag;
use super::{Admin, Shared};
use crate::model::flag::{Definitions, Flag, FlagChange, FlagSet, Refusal, limits};

pub(super) use on_trial::trials;

/// The kind of change, for messages.
const WHAT: &str = "flag changes";
/// So many refusals of a document are told at once.
const TOLD: usize = 5;

/// Who changes flags, at which revision, and why: `?reason=…`, as everywhere one line.
pub(super) struct Edit {
    caller: Caller,
    expected: Option<u64>,
    why: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhyQuery {
    #[serde(default)]
    reason: Reason,
}

impl FromRequestParts<Admin> for Edit {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        let unguarded = |error: ExtensionRejection| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.body_text());
        let Extension(caller) = Extension::from_request_parts(parts, admin).await.map_err(unguarded)?;
        let Expected(expected) = Expected::from_request_parts(parts, admin).await?;
        let query = Query::<WhyQuery>::from_request_parts(parts, admin).await;
        let wrong = |rejection: QueryRejection| {
            let detail = format!("the only parameter is reason=TEXT: {}", rejection.body_text());
            Problem::new(StatusCode::BAD_REQUEST, detail)
        };
        Ok(Self { caller, expected, why: query.map_err(wrong)?.0.reason.given() })
    }
}

/// The bytes of a body; how many there may be is for the definition's limits to say.
pub(super) struct Text(axum::body::Bytes);

impl FromRequest<Admin> for Text {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Admin) -> Result<Self, Problem> {
        body::read(request, limits::DOCUMENT_BYTES).await.map(Self)
    }
}

/// `GET /v1/flags`
pub(super) async fn list(State(admin): State<Admin>) -> Response {
    all(&admin, None)
}

/// `GET /v1/flags/{key}`
pub(super) async fn get(State(admin): State<Admin>, OfFlag(key): OfFlag) -> Result<Response, Problem> {
    one(&admin, &key)
}

/// `PUT /v1/flags/{key}`: sets a definition, once it is known to compile.
pub(super) async fn put(
    State(admin): State<Admin>,
    OfFlag(key): OfFlag,
    Edit { caller, expected, why }: Edit,
    Text(text): Text,
) -> Result<Response, Problem> {
    let snapshot = admin.state.live.snapshot();
    // The same content is the same text.
    let definition: Arc<str> = value(&text)?.to_string().into();
    let known = admin.state.live.flag_facts();
    let flag = known.definitions.compile_alone(&key, &definition).map_err(|refusals| refused(&refusals))?;
    on_trial::may_change(&snapshot, &key, Some(&flag))?;
    let (from, to) = (describe(snapshot.flags().get(&key)), flag.summary());
    let is_new = from != to;
    let note = FlagNote { what: "flag.put", flag: Some(&key), from, to, why: why.clone() };
    let entry = is_new.then(|| admin.audit.flag_entry(&caller, note));
    let put = FlagChange::Put { key: key.clone(), definition: Arc::clone(&definition) };
    fits(&known.definitions.apply(&put))?;
    let ended = on_trial::end(&admin, &caller, &snapshot, &flag, why.as_deref()).await;
    let (revision, taken_in) = change::make_flags(&admin, WHAT, put, expected, entry).await?;
    if taken_in {
        return Ok(answer(FlagJson { note: ended, ..find(&admin, &key)? }));
    }
    let told = FlagJson::of(&key, revision, flag_view::definition(&definition), Some(&flag));
    Ok(answer(FlagJson { note: Some(NOT_TAKEN_IN.to_owned()), ..told }))
}

/// `DELETE /v1/flags/{key}`
pub(super) async fn delete(
    State(admin): State<Admin>,
    OfFlag(key): OfFlag,
    Edit { caller, expected, why }: Edit,
) -> Result<Json<RemovedJson>, Problem> {
    find(&admin, &key)?;
    let snapshot = admin.state.live.snapshot();
    on_trial::may_change(&snapshot, &key, None)?;
    let from = describe(snapshot.flags().get(&key));
    let remove = FlagChange::Remove { key: key.clone() };
    let note = FlagNote { what: "flag.remove", flag: Some(&key), from, to: describe(None), why };
    let entry = Some(admin.audit.flag_entry(&caller, note));
    let (_, taken_in) = change::make_flags(&admin, WHAT, remove, expected, entry).await?;
    Ok(Json(RemovedJson { key, state: "removed", note: (!taken_in).then_some(NOT_TAKEN_IN) }))
}

/// A flag that was taken out.
#[derive(Debug, Serialize)]
pub(super) struct RemovedJson {
    key: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

/// `PUT /v1/flags`: sets all definitions at once; what the document doesn't name is gone.
pub(super) async fn replace(
    State(admin): State<Admin>,
    Edit { caller, expected, why }: Edit,
    Text(text): Text,
) -> Result<Response, Problem> {
    let definitions = Definitions::parse(&text).map_err(|refusal| refused(&[refusal]))?;
    let (set, refusals) = definitions.compile(&FlagSet::default());
    refuse(refusals)?;
    let before = admin.state.live.snapshot();
    let on_trial = before.services().iter().filter_map(|service| service.live_rollout()?.plan.subject.flag());
    let on_trial: Vec<&str> = on_trial.map(|trial| trial.key.as_str()).collect();
    on_trial.iter().try_for_each(|key| on_trial::may_change(&before, key, set.get(key)))?;
    for flag in on_trial.iter().filter_map(|key| set.get(key)) {
        on_trial::end(&admin, &caller, &before, flag, why.as_deref()).await;
    }
    let (from, to) = (describe_set(before.flags()), describe_set(&set));
    let replace = FlagChange::Replace(definitions);
    let is_new = from != to;
    let note = FlagNote { what: "flags.replace", flag: None, from, to, why };
    let entry = is_new.then(|| admin.audit.flag_entry(&caller, note));
    let (_, taken_in) = change::make_flags(&admin, WHAT, replace, expected, entry).await?;
    Ok(all(&admin, (!taken_in).then_some(NOT_TAKEN_IN)))
}

fn refuse(refusals: Vec<Refusal>) -> Result<(), Problem> {
    if refusals.is_empty() { Ok(()) } else { Err(refused(&refusals)) }
}

/// What is wrong, place by place.
pub(super) fn refused(refusals: &[Refusal]) -> Problem {
    let mut told: Vec<String> = refusals.iter().take(TOLD).map(ToString::to_string).collect();
    if refusals.len() > TOLD {
        told.push(format!("and {} more", refusals.len() - TOLD));
    }
    Problem::new(StatusCode::BAD_REQUEST, told.join("; "))
}

/// A definition, read.
pub(super) fn value(text: &[u8]) -> Result<Value, Problem> {
    let wrong =
        |error: serde_json::Error| Problem::new(StatusCode::BAD_REQUEST, format!("the definition is no JSON: {error}"));
    serde_json::from_slice(text).map_err(wrong)
}

/// Refuses what no document could hold, and so nobody could read and write again as a whole.
fn fits(definitions: &Definitions) -> Result<(), Problem> {
    let texts = definitions.flags.iter().chain(&definitions.evaluators);
    let size: usize = texts.map(|(name, text)| name.len() + text.len()).sum();
    if size <= limits::DOCUMENT_BYTES {
        return Ok(());
    }
    let detail = format!("all definitions together would be {size} bytes, more than {}", limits::DOCUMENT_BYTES);
    Err(Problem::new(StatusCode::BAD_REQUEST, detail))
}

/// A flag as this proxy knows it.
fn find(admin: &Shared, key: &str) -> Result<FlagJson, Problem> {
    let known = || admin.state.live.flag_facts().definitions.flags.keys().cloned().collect();
    Flags::now(&admin.state.live).one(key).ok_or_else(|| Problem::unknown("flag", key, known()))
}

fn one(admin: &Shared, key: &str) -> Result<Response, Problem> {
    Ok(answer(find(admin, key)?))
}

fn answer(flag: FlagJson) -> Response {
    ([(ETAG, change::etag(flag.revision))], Json(flag)).into_response()
}

fn all(admin: &Shared, note: Option<&str>) -> Response {
    let live = &admin.state.live;
    let flags = Flags::now(live).all(live, &admin.state.proxy_name);
    let flags = FlagsJson { note: note.map(str::to_owned), ..flags };
    ([(ETAG, change::etag(flags.revision))], Json(flags)).into_response()
}

/// What decides who gets what, for the audit log.
fn describe(flag: Option<&Flag>) -> String {
    flag.map_or_else(|| "absent".to_owned(), Flag::summary)
}

fn describe_set(set: &FlagSet) -> String {
    format!("{} flags ({:.8})", set.len(), set.digest().to_string())
}
