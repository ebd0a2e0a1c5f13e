//! Studies as visitors, voters and new researchers meet them.

use serde::Serialize;
use serde_json::json;

use super::reply::{Outcome, Reply};
use super::routes::Call;
use super::store::{Draft, Kind, Status, Study, is_object_id};
use super::{App, bump, preview as markdown};

/// The code that lets a researcher in.
const INVITECODE: &str = "RESEARCH";
/// Votes wanted, if the researcher doesn't say.
const GOAL: u32 = 100;
/// Connections that one look at a study's status leaves open.
const LEAKED_PER_STATUS: u64 = 2;

/// `POST /api/design/survey`: pure, and the one POST that may be sent twice.
pub fn preview(call: &Call) -> Outcome {
    match call.form.get("markdown").and_then(markdown::render) {
        Some(html) => Reply::json(&json!({ "preview": html })).into(),
        None => Reply::stack_page("TypeError: Cannot read property 'split' of undefined").into(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    id: &'a str,
    votes: usize,
    name: &'a str,
    status: Status,
    goal: u32,
    awards: &'a [String],
    study_kind: Kind,
    link: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<String>,
    description: &'a str,
}

impl<'a> Line<'a> {
    fn of(study: &'a Study) -> Self {
        Self {
            id: &study.id,
            votes: study.votes.len(),
            name: &study.name,
            status: study.status,
            goal: study.goal,
            awards: &study.awards,
            study_kind: study.study_kind,
            link: format!("/studies/?id={}", study.id),
            results: (study.status == Status::Closed).then(|| format!("/studies/results/?id={}", study.id)),
            description: &study.description,
        }
    }
}

/// `GET /api/study/listing`: open before awarded before closed.
pub fn listing(app: &App) -> Outcome {
    let store = app.store.borrow();
    let mut lines: Vec<Line<'_>> = store.studies().iter().filter(|study| !study.skip_listing).map(Line::of).collect();
    lines.sort_by_key(|line| line.status);

    #[derive(Serialize)]
    struct Listing<'a> {
        studies: Vec<Line<'a>>,
    }
    Reply::json(&Listing { studies: lines }).into()
}

/// `GET /api/study/load/:id`: an unknown id is the query of death.
pub fn load(app: &App, id: &str) -> Outcome {
    let quirks = app.quirks.borrow();
    if !is_object_id(id) {
        return match (quirks.hanging_routes, quirks.node) {
            (false, _) => Reply::stack_page("Error: Argument passed in must be a string of 24 hex characters").into(),
            (true, 20) => Outcome::Die,
            (true, _) => Outcome::Hang,
        };
    }
    let store = app.store.borrow();
    let Some(study) = store.by_id(id) else {
        return if quirks.query_of_death { Outcome::Die } else { Reply::error_body("Unknown study").into() };
    };
    let mut shown = json!(study);
    if let Some(fields) = shown.as_object_mut() {
        fields.remove("token");
        fields.remove("invitecode");
    }
    Reply::json(&shown).into()
}

/// `GET /api/study/status/:id`: never gives its database connections back.
pub fn status(app: &App, id: &str) -> Outcome {
    bump(&app.leaked, LEAKED_PER_STATUS);
    if !is_object_id(id) {
        return Reply::stack_page("Error: Argument passed in must be a string of 24 hex characters").into();
    }
    let votes = app.store.borrow().by_id(id).map_or(0, |study| study.votes.len());
    Reply::json(&json!({ "votes": votes })).into()
}

/// Whether a request to create a study gets as far as the database.
pub fn may_create(call: &Call) -> bool {
    call.form.get("invitecode") == Some(INVITECODE) && call.form.get("studyKind").and_then(Kind::by_name).is_some()
}

/// `POST /api/study/create`: a wrong code is answered 200, an unknown kind never.
pub fn create(app: &App, call: &Call) -> Outcome {
    let form = &call.form;
    if form.get("invitecode") != Some(INVITECODE) {
        return Reply::error_body("Invalid invitecode").into();
    }
    let Some(kind) = form.get("studyKind").and_then(Kind::by_name) else {
        return if app.quirks.borrow().hanging_routes {
            Outcome::Hang
        } else {
            Reply::stack_page("TypeError: Cannot read property 'create' of undefined").into()
        };
    };
    let draft = Draft {
        name: form.text("name"),
        description: form.text("description"),
        kind,
        researcher_name: form.text("researcherName"),
        contact: form.text("contact"),
        awards: form.all("awards").map(str::to_owned).collect(),
        goal: form.get("goal").and_then(|goal| goal.parse().ok()).unwrap_or(GOAL),
        invitecode: form.text("invitecode"),
        markdown: form.text("markdown"),
    };
    let link = app.store.borrow_mut().create(draft);
    Reply::json(&json!({ "admin_url": link })).into()
}
