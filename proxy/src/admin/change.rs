//! How a change is made: told to the store, noted, then awaited until this proxy serves by it.
//!
//! Who asks for a change may hang up at any moment, and the server drops what it does for them then. What the store took
//! took effect all the same, so between it and the audit log nothing is dropped.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::header::IF_MATCH;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use tokio::task::JoinError;
use tokio::time::Instant;

use super::problem::Problem;
use super::{Admin, Shared};
use crate::live::Snapshot;
use crate::model::audit::Entry;
use crate::model::flag::FlagChange;
use crate::model::state::{Change, ServiceState};
use crate::store::StoreError;

/// How long an answer waits for control to take a stored change in.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// What an answer says when control was slower than [`PATIENCE`].
pub(super) const NOT_TAKEN_IN: &str = "stored, but this proxy hasn't taken it in yet";

/// The revision at which the caller believes what it changes to be, from `If-Match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected(pub(super) Option<u64>);

impl FromRequestParts<Admin> for Expected {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Admin) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(IF_MATCH) else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let revision = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|n| n.parse().ok());
        let detail = "If-Match must be an ETag of what is to be changed, such as \"42\"";
        revision.map(|revision| Self(Some(revision))).ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, detail))
    }
}

/// A revision as an `ETag`.
pub(super) fn etag(revision: u64) -> HeaderValue {
    // Digits between quotes are always a header value.
    HeaderValue::from_str(&format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// As [`record`], and then waits until this proxy has taken the change in. `what` is its kind, for
/// messages, in the plural. Returns the new state, and whether it was taken in.
pub(super) async fn make(
    admin: &Admin,
    service: &str,
    what: &str,
    change: Change,
    expected: Option<u64>,
    noting: impl FnOnce(&ServiceState) -> Option<Entry> + Send + 'static,
) -> Result<(ServiceState, bool), Problem> {
    let recorded = record(admin, service, change, expected, noting).await;
    let state = recorded.map_err(|error| Problem::store(what, &error))?;
    let taken_in = taken_in(admin, service, state.revision).await;
    Ok((state, taken_in))
}

/// Tells the store, and notes what `noting` has to say of the state that came of it; both or nothing, whoever hangs up.
pub(super) async fn record(
    admin: &Admin,
    service: &str,
    change: Change,
    expected: Option<u64>,
    noting: impl FnOnce(&ServiceState) -> Option<Entry> + Send + 'static,
) -> Result<ServiceState, StoreError> {
    let (admin, service) = (Admin::clone(admin), service.to_owned());
    to_its_end(async move {
        let state = tell(&admin, &service, &change, expected).await?;
        if let Some(entry) = noting(&state) {
            admin.audit.keep(entry);
        }
        Ok(state)
    })
    .await
}

/// Does something whether or not somebody goes on waiting for it.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        // As it would have without a task of its own.
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // Nobody ends it but the end of the process, which waits for no answer.
        Err(Err(_)) => std::future::pending().await,
    }
}

/// Tells the store.
pub(super) async fn tell(
    admin: &Shared,
    service: &str,
    change: &Change,
    expected: Option<u64>,
) -> Result<ServiceState, StoreError> {
    let told = admin.state.store.apply(service, change, expected).await;
    if let Err(error) = &told {
        tracing::warn!(service, error = %error, "The store didn't take a change");
    }
    told
}

/// Changes flags, notes this, and waits until this proxy has taken the change in. Returns the revision of what
/// is now, and whether it was taken in.
pub(super) async fn make_flags(
    admin: &Admin,
    what: &str,
    change: FlagChange,
    expected: Option<u64>,
    entry: Option<Entry>,
) -> Result<(u64, bool), Problem> {
    let teller = Admin::clone(admin);
    let told = to_its_end(async move {
        let told = teller.state.store.change_flags(&change, expected).await?;
        entry.into_iter().for_each(|entry| teller.audit.keep(entry));
        Ok(told)
    });
    let told = told.await.map_err(|error: StoreError| {
        tracing::warn!(error = %error, "The store didn't take a change of flags");
        Problem::store(what, &error)
    })?;
    let taken_in = in_force(admin, |snapshot| {
        let facts = admin.state.live.flag_facts();
        facts.definitions.revision >= told.revision && Arc::ptr_eq(&facts.set, snapshot.flags())
    });
    let taken_in = taken_in.await;
    Ok((told.revision, taken_in))
}

/// Waits until the snapshot in force holds at least this revision of a service. Says whether it does.
pub(super) async fn taken_in(admin: &Shared, service: &str, revision: u64) -> bool {
    in_force(admin, |snapshot| snapshot.service(service).is_some_and(|view| view.revision >= revision)).await
}

/// Waits for a while until this is so of the snapshot in force. Says whether it is.
async fn in_force(admin: &Shared, is_so: impl Fn(&Snapshot) -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if is_so(&admin.state.live.snapshot()) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
}
