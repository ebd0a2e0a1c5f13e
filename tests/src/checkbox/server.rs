//! Sockets of the application: connections, their end, and what becomes of each request.

use std::cell::Cell;
use std::future::{Future, pending};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::body::AppBody;
use super::form::Form;
use super::quirks::Fault;
use super::reply::{Outcome, Reply};
use super::routes::{Call, Route};
use super::{App, bump, site};

/// What the application takes at most, in bytes.
const MAX_BODY: usize = 20 * 1024 * 1024;
/// How long to wait when no more connections can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const POWERED_BY: HeaderName = HeaderName::from_static("x-powered-by");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const VERSION: HeaderName = HeaderName::from_static("x-checkbox-version");

/// The connection ends here, without an answer.
#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is reset on purpose")
    }
}

impl std::error::Error for Dropped {}

/// What a connection knows of itself.
#[derive(Debug)]
struct Connection {
    peer: IpAddr,
    busy: Cell<bool>,
    reset: Cell<bool>,
    idle_since: Cell<Instant>,
    answered: Notify,
}

/// Accepts connections until the process ends.
pub async fn serve(app: Rc<App>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::task::spawn_local(connection(Rc::clone(&app), stream, peer.ip()));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(app: Rc<App>, stream: TcpStream, peer: IpAddr) {
    // Only latency suffers if the option can't be set.
    let _ = stream.set_nodelay(true);
    let _open = Gauge::new(&app, |app| &app.connections);
    let state = Rc::new(Connection {
        peer,
        busy: Cell::new(false),
        reset: Cell::new(false),
        idle_since: Cell::new(Instant::now()),
        answered: Notify::new(),
    });
    let service = {
        let (app, state) = (Rc::clone(&app), Rc::clone(&state));
        service_fn(move |request| -> Pin<Box<dyn Future<Output = Result<Response<AppBody>, Dropped>>>> {
            Box::pin(request_on(Rc::clone(&app), Rc::clone(&state), request))
        })
    };
    let mut connection = http1::Builder::new().title_case_headers(true).serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = &mut connection => {}
        () = idle_for_too_long(&app, &state) => {
            Pin::new(&mut connection).graceful_shutdown();
            let _ = (&mut connection).await;
        }
    }
    if state.reset.get() {
        // With nothing to linger for, closing sends a reset.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

/// Ends when the connection has answered something and then been idle for the keep-alive time.
async fn idle_for_too_long(app: &App, state: &Connection) {
    loop {
        state.answered.notified().await;
        while !state.busy.get() {
            let keep_alive = if app.nginx { site::KEEP_ALIVE_MS } else { app.quirks.borrow().keep_alive_ms };
            let deadline = state.idle_since.get() + Duration::from_millis(keep_alive);
            if deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}

async fn request_on(
    app: Rc<App>,
    state: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<AppBody>, Dropped> {
    let _in_flight = Gauge::new(&app, |app| &app.in_flight);
    state.busy.set(true);
    let response = answer(&app, state.peer, request).await;
    state.reset.set(response.is_err());
    state.idle_since.set(Instant::now());
    state.busy.set(false);
    state.answered.notify_one();
    response
}

/// Answers a request, or doesn't.
async fn answer(app: &App, peer: IpAddr, request: Request<Incoming>) -> Result<Response<AppBody>, Dropped> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let route = Route::find(&parts.method, path);
    app.count(route.map_or("other", |route| route.name()));
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        let reply = Reply::new(StatusCode::PAYLOAD_TOO_LARGE, "text/html; charset=utf-8", "Request Entity Too Large\n");
        return Ok(stamp(app, reply.finish(&parts.method, &parts.headers)));
    };

    let user = user(&parts.headers, peer);
    let (latency, fault) = {
        let quirks = app.quirks.borrow();
        (quirks.latency_ms, quirks.draw(&mut app.dice.borrow_mut(), &user))
    };
    if latency > 0 {
        sleep(Duration::from_millis(latency)).await;
    }
    let reply = match fault {
        Some(Fault::Error) => Reply::stack_page("Error: injected"),
        Some(Fault::ErrorBody) => Reply::error_body("An error has occurred"),
        Some(Fault::Hang) => pending().await,
        Some(Fault::Reset) => return Err(Dropped),
        Some(Fault::Truncate) => reply_to(app, peer, route, &parts, body.to_bytes()).await.cut(),
        None => reply_to(app, peer, route, &parts, body.to_bytes()).await,
    };
    Ok(stamp(app, reply.finish(&parts.method, &parts.headers)))
}

/// The application's own answer, after the time it takes.
async fn reply_to(
    app: &App,
    peer: IpAddr,
    route: Option<Route<'_>>,
    parts: &http::request::Parts,
    body: Bytes,
) -> Reply {
    let path = parts.uri.path();
    let Some(route) = route else {
        if app.nginx && !path.starts_with("/api") && matches!(parts.method, Method::GET | Method::HEAD) {
            return site::serve(path);
        }
        return Reply::cannot(&parts.method, parts.uri.path_and_query().map_or(path, |whole| whole.as_str()));
    };
    let content_type = text(&parts.headers, &CONTENT_TYPE).unwrap_or_default();
    let Some(form) = Form::parse(content_type, &body) else {
        return Reply::stack_page("Error: malformed body").status(StatusCode::BAD_REQUEST);
    };
    let call = Call {
        method: parts.method.clone(),
        path: path.to_owned(),
        query: Form::urlencoded(parts.uri.query().unwrap_or_default()),
        form,
        voter: voter(&parts.headers, peer),
        headers: parts.headers.clone(),
    };
    if route.needs_database(&call) && app.quirks.borrow().db_down {
        return without_database(app).await;
    }
    if route == Route::Listing {
        let listing = app.quirks.borrow().listing_ms;
        sleep(Duration::from_millis(listing)).await;
    }
    match route.handle(app, &call) {
        Outcome::Reply(reply) => reply,
        Outcome::Hang => pending().await,
        Outcome::Die => die(),
    }
}

/// Waits for a database that isn't there. Node 10 then forgets the request; Node 20 ends.
async fn without_database(app: &App) -> Reply {
    let (timeout, node) = {
        let quirks = app.quirks.borrow();
        (quirks.db_timeout_ms, quirks.node)
    };
    sleep(Duration::from_millis(timeout)).await;
    if node == 20 { die() } else { pending().await }
}

/// Ends the process as an uncaught exception does: at once, without an answer to anyone.
#[expect(clippy::exit, reason = "the process dies of its fault: that is what is stood in for")]
fn die() -> ! {
    std::process::exit(1)
}

/// The headers every answer has.
fn stamp(app: &App, mut response: Response<AppBody>) -> Response<AppBody> {
    let headers = response.headers_mut();
    headers.insert(VERSION, app.version.clone());
    if !headers.contains_key(http::header::SERVER) {
        headers.insert(POWERED_BY, HeaderValue::from_static("Express"));
    }
    let quirks = app.quirks.borrow();
    if quirks.node == 20
        && !app.nginx
        && let Ok(seconds) = HeaderValue::from_str(&format!("timeout={}", quirks.keep_alive_ms / 1000))
    {
        headers.insert(KEEP_ALIVE, seconds);
    }
    response
}

/// Who votes, as the application sees it: the first of `X-Forwarded-For`, else the peer.
fn voter(headers: &HeaderMap, peer: IpAddr) -> String {
    let forwarded = text(headers, &FORWARDED_FOR).and_then(|list| list.split(',').next()).map(str::trim);
    forwarded.filter(|first| !first.is_empty()).map_or_else(|| peer.to_string(), str::to_owned)
}

/// Who asks, for faults that follow a user: the proxy's sticky cookie, else the voter.
fn user(headers: &HeaderMap, peer: IpAddr) -> String {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let key = cookies.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix("serin_key="));
    key.map_or_else(|| voter(headers, peer), str::to_owned)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Counts something for as long as it lives, also when it is dropped half-way.
struct Gauge<'a>(&'a Cell<u64>);

impl<'a> Gauge<'a> {
    fn new(app: &'a App, cell: fn(&App) -> &Cell<u64>) -> Self {
        let cell = cell(app);
        bump(cell, 1);
        Self(cell)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
