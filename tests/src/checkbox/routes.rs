//! The table of routes: which handler a request gets, and whether it needs the database.

use http::header::ALLOW;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::form::Form;
use super::reply::{Outcome, Reply};
use super::{App, admin, studies, votes};

/// A request as handlers see it, its body read.
#[derive(Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query.
    pub query: Form,
    /// The body.
    pub form: Form,
    /// Where it comes from, as far as the application can tell.
    pub voter: String,
    /// The headers.
    pub headers: HeaderMap,
}

/// A route of the application, with what its path carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// The researcher's page.
    Admin(&'a str),
    /// Draws a winner.
    Assign(&'a str),
    /// Closes a study.
    Close,
    /// Creates a study.
    Create,
    /// All votes.
    Download(&'a str),
    /// Is the process there.
    Healthz,
    /// All studies.
    Listing,
    /// A study, for its voters.
    Load(&'a str),
    /// Mails an award.
    Notify,
    /// Opens a study.
    Open,
    /// Which methods a path knows.
    Options(&'static str),
    /// A survey's preview.
    Preview,
    /// Is the database there.
    Readyz,
    /// How many votes.
    Status(&'a str),
    /// Votes.
    Submit,
    /// Which version this is.
    Version,
    /// Whether this voter voted.
    VoteStatus,
}

impl<'a> Route<'a> {
    /// The route of a request, if there is one. Paths follow Express: a slash at the end may be
    /// there or not, unless the route ends with one: then it must.
    pub fn find(method: &Method, path: &'a str) -> Option<Self> {
        match *method {
            Method::GET | Method::HEAD => Self::find_get(path),
            Method::POST => Self::find_post(path),
            Method::OPTIONS if Self::find_post(path).is_some() => Some(Self::Options("POST")),
            Method::OPTIONS if Self::find_get(path).is_some() => Some(Self::Options("GET")),
            _ => None,
        }
    }

    fn find_get(path: &'a str) -> Option<Self> {
        let path = path.strip_suffix('/').unwrap_or(path);
        match path {
            "/healthz" => return Some(Self::Healthz),
            "/readyz" => return Some(Self::Readyz),
            "/version" => return Some(Self::Version),
            _ => {}
        }
        let mut words = path.strip_prefix("/api/study/")?.split('/');
        let words = [words.next(), words.next(), words.next(), words.next()].map(|word| word.filter(|w| !w.is_empty()));
        match words {
            [Some("listing"), None, ..] => Some(Self::Listing),
            [Some("load"), Some(id), None, _] => Some(Self::Load(id)),
            [Some("status"), Some(id), None, _] => Some(Self::Status(id)),
            [Some("vote"), Some("status"), None, _] => Some(Self::VoteStatus),
            [Some("admin"), Some(token), None, _] => Some(Self::Admin(token)),
            [Some("admin"), Some("download"), Some(token), None] => Some(Self::Download(token)),
            [Some("admin"), Some("assign"), Some(token), None] => Some(Self::Assign(token)),
            _ => None,
        }
    }

    fn find_post(path: &str) -> Option<Self> {
        match path {
            "/api/study/vote/submit/" => Some(Self::Submit),
            "/api/study/admin/open/" => Some(Self::Open),
            "/api/study/admin/close/" => Some(Self::Close),
            "/api/study/admin/notify/" => Some(Self::Notify),
            _ => match path.strip_suffix('/').unwrap_or(path) {
                "/api/design/survey" => Some(Self::Preview),
                "/api/study/create" => Some(Self::Create),
                _ => None,
            },
        }
    }

    /// The route's name, for counts.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Admin(_) => "GET /api/study/admin/:token",
            Self::Assign(_) => "GET /api/study/admin/assign/:token",
            Self::Close => "POST /api/study/admin/close/",
            Self::Create => "POST /api/study/create",
            Self::Download(_) => "GET /api/study/admin/download/:token",
            Self::Healthz => "GET /healthz",
            Self::Listing => "GET /api/study/listing",
            Self::Load(_) => "GET /api/study/load/:id",
            Self::Notify => "POST /api/study/admin/notify/",
            Self::Open => "POST /api/study/admin/open/",
            Self::Options(_) => "OPTIONS",
            Self::Preview => "POST /api/design/survey",
            Self::Readyz => "GET /readyz",
            Self::Status(_) => "GET /api/study/status/:id",
            Self::Submit => "POST /api/study/vote/submit/",
            Self::Version => "GET /version",
            Self::VoteStatus => "GET /api/study/vote/status",
        }
    }

    /// Whether the handler opens a database connection before it answers.
    pub fn needs_database(&self, call: &Call) -> bool {
        match self {
            Self::Create => studies::may_create(call),
            Self::Healthz | Self::Notify | Self::Options(_) | Self::Preview | Self::Readyz | Self::Version => false,
            Self::Admin(_)
            | Self::Assign(_)
            | Self::Close
            | Self::Download(_)
            | Self::Listing
            | Self::Load(_)
            | Self::Open
            | Self::Status(_)
            | Self::Submit
            | Self::VoteStatus => true,
        }
    }

    /// Handles a request.
    pub fn handle(&self, app: &App, call: &Call) -> Outcome {
        match *self {
            Self::Admin(token) => admin::study(app, token),
            Self::Assign(token) => admin::assign(app, token),
            Self::Close | Self::Open => admin::set_status(app, call),
            Self::Create => studies::create(app, call),
            Self::Download(token) => admin::download(app, token),
            Self::Healthz => Reply::json(&serde_json::json!({ "status": "ok" })).into(),
            Self::Listing => studies::listing(app),
            Self::Load(id) => studies::load(app, id),
            Self::Notify => admin::notify(app, call),
            Self::Options(methods) => options(call, methods),
            Self::Preview => studies::preview(call),
            Self::Readyz => ready(app),
            Self::Status(id) => studies::status(app, id),
            Self::Submit => votes::submit(app, call),
            Self::Version => {
                Reply::json(&serde_json::json!({ "version": app.version.to_str().unwrap_or_default() })).into()
            }
            Self::VoteStatus => votes::status(app, call),
        }
    }
}

/// Readiness: the last known state of the database, without asking it.
fn ready(app: &App) -> Outcome {
    if app.quirks.borrow().db_down {
        return Reply::json(&serde_json::json!({ "status": "no database" }))
            .status(StatusCode::SERVICE_UNAVAILABLE)
            .into();
    }
    Reply::json(&serde_json::json!({ "status": "ok" })).into()
}

/// What Express answers by itself, except where votes come from other sites.
fn options(call: &Call, methods: &'static str) -> Outcome {
    if call.path == "/api/study/vote/submit/"
        && let Some(preflight) = votes::preflight(call)
    {
        return preflight.into();
    }
    Reply::new(StatusCode::OK, "text/html; charset=utf-8", methods)
        .with(ALLOW, HeaderValue::from_static(methods))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slash_at_the_end_matters_only_where_the_route_ends_with_one() {
        assert_eq!(Route::find(&Method::GET, "/api/study/listing/"), Some(Route::Listing));
        assert_eq!(Route::find(&Method::POST, "/api/study/create/"), Some(Route::Create));
        assert_eq!(Route::find(&Method::POST, "/api/study/vote/submit/"), Some(Route::Submit));
        assert_eq!(Route::find(&Method::POST, "/api/study/vote/submit"), None);
        assert_eq!(Route::find(&Method::POST, "/api/study/admin/open"), None);
    }

    #[test]
    fn the_researchers_page_takes_one_word_only() {
        assert_eq!(Route::find(&Method::GET, "/api/study/admin/download"), Some(Route::Admin("download")));
        assert_eq!(Route::find(&Method::GET, "/api/study/admin/download/x"), Some(Route::Download("x")));
        assert_eq!(Route::find(&Method::GET, "/api/study/admin/download/x/y"), None);
        assert_eq!(Route::find(&Method::GET, "/api/study/admin/"), None);
    }

    #[test]
    fn a_method_that_a_path_lacks_finds_nothing() {
        assert_eq!(Route::find(&Method::POST, "/api/study/listing"), None);
        assert_eq!(Route::find(&Method::GET, "/api/design/survey"), None);
        assert_eq!(Route::find(&Method::DELETE, "/api/study/create"), None);
        assert_eq!(Route::find(&Method::GET, "/api"), None);
    }
}
