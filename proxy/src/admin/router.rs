//! Every path, its method, who may use it, and what answers.

use axum::Router;
use axum::handler::Handler;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use tower_http::catch_panic::CatchPanicLayer;

use super::auth::Role;
use super::problem::{Problem, no_such_method, no_such_path};
use super::{
    Admin, alerts, audit, autoscale, circuit, drain, endpoints, events, flags, guard, ofrep, page, probes, rollout,
    services, upgrade, weight,
};

/// A path and method, and what answers there.
pub(super) struct Route {
    pub(super) verb: Verb,
    pub(super) path: &'static str,
    /// Who may use it; none = anybody.
    pub(super) role: Option<Role>,
    handler: MethodRouter<Admin>,
}

/// The methods that the API knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Delete,
    Get,
    Post,
    Put,
}

impl Verb {
    const fn filter(self) -> MethodFilter {
        match self {
            Self::Delete => MethodFilter::DELETE,
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
        }
    }
}

fn route<H: Handler<T, Admin>, T: 'static>(
    verb: Verb,
    path: &'static str,
    role: impl Into<Option<Role>>,
    handler: H,
) -> Route {
    Route { verb, path, role: role.into(), handler: on(verb.filter(), handler) }
}

const ENDPOINTS: &str = "/v1/services/{service}/pools/{pool}/endpoints";
const ENDPOINT: &str = "/v1/services/{service}/pools/{pool}/endpoints/{id}";
const DRAIN: &str = "/v1/services/{service}/pools/{pool}/endpoints/{id}/drain";
const READY: &str = "/v1/services/{service}/pools/{pool}/endpoints/{id}/ready";
const WEIGHT: &str = "/v1/services/{service}/canary/weight";
const TRIP: &str = "/v1/services/{service}/circuit/trip";
const RESET: &str = "/v1/services/{service}/circuit/reset";

const ROLLOUT: &str = "/v1/services/{service}/rollout";
const PAUSE: &str = "/v1/services/{service}/rollout/pause";
const RESUME: &str = "/v1/services/{service}/rollout/resume";
const PROMOTE: &str = "/v1/services/{service}/rollout/promote";
const ABORT: &str = "/v1/services/{service}/rollout/abort";
const RENEW: &str = "/v1/services/{service}/rollout/renew";

const AUTOSCALE: &str = "/v1/services/{service}/autoscale";

const FLAGS: &str = "/v1/flags";
const FLAG: &str = "/v1/flags/{key}";
const EVALUATE: &str = "/ofrep/v1/evaluate/flags/{key}";
const EVALUATE_ALL: &str = "/ofrep/v1/evaluate/flags";

/// The table of contents of the API.
pub(super) fn routes() -> Vec<Route> {
    use Role::{Deployer, Operator, Viewer};
    use Verb::{Delete, Get, Post, Put};
    vec![
        route(Get, "/", None, page::page),
        route(Get, "/healthz", None, probes::healthz),
        route(Get, "/readyz", None, probes::readyz),
        route(Get, "/metrics", None, probes::metrics),
        route(Get, "/openapi.json", None, page::openapi),
        route(Get, "/v1/services", Viewer, services::list),
        route(Get, "/v1/services/{service}", Viewer, services::get),
        route(Get, "/v1/audit", Viewer, audit::list),
        route(Get, "/v1/events", Viewer, events::listen),
        route(Post, "/v1/alerts", Deployer, alerts::receive),
        route(Post, "/v1/upgrade", Operator, upgrade::upgrade),
        route(Get, ENDPOINTS, Viewer, endpoints::list),
        route(Get, ENDPOINT, Viewer, endpoints::get),
        route(Put, ENDPOINT, Deployer, endpoints::put),
        route(Delete, ENDPOINT, Deployer, endpoints::delete),
        route(Post, DRAIN, Deployer, drain::drain),
        route(Post, READY, Deployer, drain::ready),
        route(Put, WEIGHT, Deployer, weight::put),
        route(Post, TRIP, Deployer, circuit::trip),
        route(Post, RESET, Operator, circuit::reset),
        route(Get, ROLLOUT, Viewer, rollout::get),
        route(Post, ROLLOUT, Deployer, rollout::start),
        route(Post, PAUSE, Deployer, rollout::pause),
        route(Post, RESUME, Deployer, rollout::resume),
        route(Post, PROMOTE, Deployer, rollout::promote),
        route(Post, ABORT, Deployer, rollout::abort),
        route(Post, RENEW, Deployer, rollout::renew),
        route(Get, AUTOSCALE, Viewer, autoscale::get),
        route(Put, AUTOSCALE, Deployer, autoscale::put),
        route(Delete, AUTOSCALE, Deployer, autoscale::delete),
        route(Get, FLAGS, Viewer, flags::list),
        route(Put, FLAGS, Deployer, flags::replace),
        route(Get, FLAG, Viewer, flags::get),
        route(Put, FLAG, Deployer, flags::put),
        route(Delete, FLAG, Deployer, flags::delete),
        route(Post, EVALUATE, Viewer, ofrep::one),
        route(Post, EVALUATE_ALL, Viewer, ofrep::all),
        route(Get, ofrep::STREAM, Viewer, ofrep::listen),
    ]
}

/// The router over all of them.
pub(super) fn router(admin: Admin) -> Router {
    let add = |router: Router<Admin>, route: Route| {
        let handler = match route.role {
            None => route.handler,
            Some(role) => {
                let door = guard::Door { admin: Admin::clone(&admin), role, acts: route.verb != Verb::Get };
                route.handler.route_layer(from_fn_with_state(door, guard::guard))
            }
        };
        router.route(route.path, handler)
    };
    routes()
        .into_iter()
        .fold(Router::new(), add)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(map_response(harden))
        .with_state(admin)
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a mistake in serin: the log says more").into_response()
}

/// Answers are of this moment, and are what their type says.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
