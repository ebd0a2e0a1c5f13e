//! What a researcher does with the token: look, download, draw a winner, mail awards.

use bytes::Bytes;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use super::App;
use super::reply::{Outcome, Reply};
use super::routes::Call;
use super::store::{Kind, Study, Vote};
use super::zip;

/// `GET /api/study/admin/:token`: an unknown token is answered 200, with nothing.
pub fn study(app: &App, token: &str) -> Outcome {
    app.store.borrow().by_token(token).map_or_else(Reply::empty, Reply::json).into()
}

/// `GET /api/study/admin/download/:token`: votes as JSON, or as a zip with the files.
pub fn download(app: &App, token: &str) -> Outcome {
    let store = app.store.borrow();
    let Some(study) = store.by_token(token) else { return Reply::error_body("Unknown token").into() };
    match study.study_kind {
        Kind::Survey => Reply::download(
            "application/json; charset=utf-8",
            "attachment; filename=\"download.json\"",
            vec![votes_as_json(study)],
        ),
        Kind::DataStudy => {
            Reply::download("application/zip", "attachment; filename=\"download.zip\"", zip::archive(&files_of(study)))
        }
    }
    .into()
}

/// All votes, without the addresses to mail.
fn votes_as_json(study: &Study) -> Bytes {
    let votes: Vec<Value> = study.votes.iter().map(vote_as_json).collect();
    serde_json::to_vec_pretty(&json!({ "votes": votes })).unwrap_or_default().into()
}

fn vote_as_json(vote: &Vote) -> Value {
    let files: Vec<&str> = vote.files.iter().map(|(name, _)| name.as_str()).collect();
    json!({ "fingerprint": vote.fingerprint, "ip": vote.ip, "answers": vote.answers, "contact": vote.contact, "files": files })
}

fn files_of(study: &Study) -> Vec<(String, Bytes)> {
    let mut files = vec![("votes.json".to_owned(), votes_as_json(study))];
    for (number, vote) in study.votes.iter().enumerate() {
        files.extend(vote.files.iter().map(|(name, content)| (format!("{number}/{name}"), content.clone())));
    }
    files
}

/// `GET /api/study/admin/assign/:token`: draws anew on each call, though it is a GET.
pub fn assign(app: &App, token: &str) -> Outcome {
    let quirks = app.quirks.borrow();
    let store = app.store.borrow();
    let Some(study) = store.by_token(token) else {
        return if quirks.hanging_routes { Outcome::Hang } else { Reply::error_body("Unknown token").into() };
    };
    let valid = |address: &&str| quirks.valid_emails && address.contains('@');
    let addresses: Vec<&str> = study.votes.iter().map(|vote| vote.email.as_str()).filter(valid).collect();
    let winner = addresses.choose(&mut *app.dice.borrow_mut()).copied().unwrap_or("Error: No valid emails");
    Reply::json(&json!({ "winner": winner })).into()
}

/// `POST /api/study/admin/open/` and `close/`: says ok, but the connection is closed before the
/// change is made. Node 20 ends over that; an unknown token ends either.
pub fn set_status(app: &App, call: &Call) -> Outcome {
    let known = call.form.get("token").is_some_and(|token| app.store.borrow().by_token(token).is_some());
    if !known || app.quirks.borrow().node == 20 {
        return Outcome::Die;
    }
    Reply::json(&json!({ "status": "ok" })).into()
}

/// `POST /api/study/admin/notify/`: mails an award.
pub fn notify(app: &App, call: &Call) -> Outcome {
    let award = match call.form.get("kind") {
        Some("AMZN") => "a gift card",
        Some("SURFACE") => "a Surface",
        Some("IPADMINI") => "an iPad mini",
        Some("GITHUB") => "a GitHub plan",
        Some("BROWSERSTACK") => "a BrowserStack plan",
        _ => return mail_error(1, "unknown kind of award").into(),
    };
    match call.form.get("email") {
        _ if app.quirks.borrow().mail_down => mail_error(7, "connect ECONNREFUSED 127.0.0.1:465").into(),
        Some(address) => Reply::json(&json!({ "message": format!("Told {address} of {award}") })).into(),
        None => mail_error(2, "no recipient").into(),
    }
}

/// A mail that wasn't sent is still answered 200.
fn mail_error(code: u8, previous: &str) -> Reply {
    Reply::json(&json!({ "error": { "code": code, "previous": previous } }))
}
