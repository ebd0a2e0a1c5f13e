//! The control listener: faults in, state out. No application traffic comes this way.

use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::App;
use super::quirks::Quirks;

/// Serves `GET /state`, and `GET`, `PUT` and `DELETE /fault`, until the process ends.
pub async fn serve(app: Rc<App>, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let app = Rc::clone(&app);
        let service = service_fn(move |request| {
            let app = Rc::clone(&app);
            async move { Ok::<_, Infallible>(answer(&app, request).await) }
        });
        tokio::task::spawn_local(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(app: &App, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let (status, value) = match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/state") => (StatusCode::OK, state(app)),
        (&Method::GET, "/fault") => (StatusCode::OK, json!(*app.quirks.borrow())),
        (&Method::DELETE, "/fault") => set(app, Ok(app.initial.clone())),
        (&Method::PUT, "/fault") => match body.collect().await {
            Ok(body) => set(app, patched(app, &body.to_bytes())),
            Err(error) => (StatusCode::BAD_REQUEST, json!({ "error": error.to_string() })),
        },
        _ => (StatusCode::NOT_FOUND, json!({ "error": "there are GET /state, and GET, PUT and DELETE /fault" })),
    };
    let mut response = Response::new(Full::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn patched(app: &App, body: &[u8]) -> Result<Quirks, String> {
    let patch: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    app.quirks.borrow().with(&patch)
}

fn set(app: &App, quirks: Result<Quirks, String>) -> (StatusCode, Value) {
    match quirks {
        Ok(quirks) => {
            app.set_quirks(quirks);
            (StatusCode::OK, json!(*app.quirks.borrow()))
        }
        Err(problem) => (StatusCode::BAD_REQUEST, json!({ "error": problem })),
    }
}

fn state(app: &App) -> Value {
    json!({
        "version": app.version.to_str().unwrap_or_default(),
        "requests": app.requests.get(),
        "last_request": app.last_request.get().map(|at| at.to_string()),
        "routes": *app.by_route.borrow(),
        "in_flight": app.in_flight.get(),
        "connections": app.connections.get(),
        "leaked_database_connections": app.leaked.get(),
        "studies": app.store.borrow().studies().len(),
        "votes": app.store.borrow().votes(),
    })
}
