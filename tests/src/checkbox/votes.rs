//! Voting, also from other sites' pages. Nothing stops the same vote from counting twice.

use http::header::{ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE, ORIGIN, VARY};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::App;
use super::reply::{Outcome, Reply};
use super::routes::Call;
use super::store::{Vote, is_object_id};

/// Sites whose pages may vote.
const SITES: [&str; 4] =
    ["http://chrisparnin.me", "http://pythontutor.com", "http://happyface.io", "http://happyface.io:8003"];

/// `GET /api/study/vote/status?studyId=&fingerprint=`: depends on who asks, so must not be cached.
pub fn status(app: &App, call: &Call) -> Outcome {
    let id = call.query.get("studyId").unwrap_or_default();
    if !is_object_id(id) {
        return Reply::stack_page("Error: Argument passed in must be a string of 24 hex characters").into();
    }
    let fingerprint = call.query.get("fingerprint").unwrap_or_default();
    let store = app.store.borrow();
    let votes = store.by_id(id).map_or(&[][..], |study| &study.votes);
    let own = votes.iter().filter(|vote| vote.ip == call.voter && vote.fingerprint == fingerprint);
    let items: Vec<Value> = own.map(|vote| json!({ "answers": vote.answers })).collect();
    if items.is_empty() {
        return Reply::json(&json!({ "status": "ok" })).into();
    }
    Reply::json(&json!({ "status": "voted", "items": items })).into()
}

/// `POST /api/study/vote/submit/`: form-encoded, or multipart with files.
pub fn submit(app: &App, call: &Call) -> Outcome {
    allow(call, vote(app, call)).into()
}

fn vote(app: &App, call: &Call) -> Reply {
    let content_type = call.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if app.quirks.borrow().node == 20 && content_type.starts_with("multipart/") {
        return Reply::stack_page("TypeError: os.tmpDir is not a function");
    }
    let form = &call.form;
    let (Some(id), Some(Ok(answers))) =
        (form.get("studyId").filter(|id| is_object_id(id)), form.get("answers").map(serde_json::from_str::<Value>))
    else {
        return Reply::error_body("An error has occurred");
    };
    let vote = Vote {
        ip: call.voter.clone(),
        fingerprint: form.text("fingerprint"),
        answers,
        email: form.text("email"),
        contact: form.text("contact"),
        files: form.files.iter().map(|file| (file.name.clone(), file.content.clone())).collect(),
    };
    if app.store.borrow_mut().vote(id, vote) {
        Reply::json(&json!({ "done": true }))
    } else {
        Reply::error_body("An error has occurred")
    }
}

/// The answer to a browser that asks before it votes; none if its site isn't allowed.
pub fn preflight(call: &Call) -> Option<Reply> {
    allowed_origin(call)?;
    let reply = Reply::empty()
        .status(StatusCode::NO_CONTENT)
        .with(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE"));
    Some(allow(call, reply))
}

/// Lets an allowed site read the answer.
fn allow(call: &Call, reply: Reply) -> Reply {
    match allowed_origin(call) {
        Some(origin) => {
            reply.with(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()).with(VARY, HeaderValue::from_static("Origin"))
        }
        None => reply,
    }
}

fn allowed_origin(call: &Call) -> Option<&HeaderValue> {
    call.headers.get(ORIGIN).filter(|origin| SITES.iter().any(|site| site.as_bytes() == origin.as_bytes()))
}
