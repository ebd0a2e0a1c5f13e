//! `POST /v1/upgrade`: has the program on disk take over from this process.

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Admin;
use super::body::{JustReason, Wish};
use super::guard::Caller;
use super::problem::Problem;

/// A wish for a new process, and where to say what came of it: the new process, or why there is none.
pub type Replacing = oneshot::Sender<Result<Replaced, String>>;

/// The process that has taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Its id.
    pub process: u32,
    /// Its version.
    pub version: String,
}

/// `POST /v1/upgrade`: answers when the new process serves, or when it is certain that this one goes on.
pub(super) async fn upgrade(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Wish(JustReason { reason }): Wish<JustReason>,
) -> Result<Json<Replaced>, Problem> {
    let conflict = |why: &str| Problem::new(StatusCode::CONFLICT, why);
    let (answer, answered) = oneshot::channel();
    if admin.state.upgrades.try_send(answer).is_err() {
        return Err(conflict("this process can't be replaced now: it is being replaced, or ends, or is a demo"));
    }
    // Before the audit log may be another process' to write.
    admin.audit.note_upgrade(&caller, env!("CARGO_PKG_VERSION").to_owned(), reason.given());
    match answered.await {
        Ok(Ok(replaced)) => Ok(Json(replaced)),
        Ok(Err(why)) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why)),
        Err(_) => Err(conflict("this process ends")),
    }
}
