//! A stand-in for the application: a little shop of studies that answers in JSON,
//! errs a little as real ones do, and breaks when told to.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, mem};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::model::time::Timestamp;
use crate::telemetry;

/// Says which version answered.
pub(super) const VERSION: &str = "x-shop-version";
/// Paths that users ask for.
pub(super) const PATHS: [&str; 3] = ["/", "/api/study/listing", "/api/study/7"];
/// POST these to the shop itself, and not by way of serin, to break and repair it.
pub(super) const BREAK: &str = "/demo/break";
/// See [`BREAK`].
pub(super) const REPAIR: &str = "/demo/repair";

/// The share of requests that fail on every version, broken or not.
pub(super) const HICCUPS: f64 = 0.005;
/// The latest arrivals that are remembered.
const ARRIVALS: usize = 4_096;

/// A running shop; gone when dropped.
#[derive(Debug)]
pub(super) struct Shop {
    address: SocketAddr,
    counter: Arc<Counter>,
    _server: JoinSet<()>,
}

/// What a shop knows of itself.
#[derive(Debug)]
struct Counter {
    version: u8,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    broken: bool,
    /// The first bad answer since it broke.
    first_failure: Option<Timestamp>,
    arrivals: VecDeque<Timestamp>,
}

impl Shop {
    /// Opens a shop of this version on a free port.
    pub(super) async fn open(version: u8) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let counter = Arc::new(Counter { version, book: Mutex::default() });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::clone(&counter)));
        Ok(Self { address, counter, _server: server })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it answers 500 to everything.
    pub(super) fn break_down(&self) {
        self.counter.set_broken(true);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.counter.book().broken
    }

    /// When it sent its first bad answer since it broke.
    pub(super) fn first_failure(&self) -> Option<Timestamp> {
        self.counter.book().first_failure
    }

    /// How many requests came after that moment.
    pub(super) fn arrived_after(&self, moment: Timestamp) -> usize {
        self.counter.book().arrivals.iter().filter(|at| **at > moment).count()
    }
}

impl Counter {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_broken(&self, broken: bool) {
        let mut book = self.book();
        if mem::replace(&mut book.broken, broken) != broken {
            book.first_failure = None;
        }
    }

    /// Notes an arrival, and says whether the shop is broken.
    fn arrive(&self) -> bool {
        let now = telemetry::now();
        let mut book = self.book();
        if book.arrivals.len() == ARRIVALS {
            book.arrivals.pop_front();
        }
        book.arrivals.push_back(now);
        if book.broken {
            book.first_failure.get_or_insert(now);
        }
        book.broken
    }

    fn answer(&self, request: &Request<Incoming>) -> (StatusCode, Value) {
        // What comes by way of serin has an id: users mustn't break the shop.
        let is_direct = !request.headers().contains_key("x-request-id");
        match (request.method(), request.uri().path()) {
            (&Method::POST, path @ (BREAK | REPAIR)) if is_direct => {
                self.set_broken(path == BREAK);
                (StatusCode::OK, json!({ "version": self.version, "broken": path == BREAK }))
            }
            (_, path) => self.serve(path),
        }
    }

    fn serve(&self, path: &str) -> (StatusCode, Value) {
        if self.arrive() {
            return (
                StatusCode::INTERNAL_SERVER_ERROR,
                json!({ "error": "cannot read property 'price' of undefined" }),
            );
        }
        if rand::random::<f64>() < HICCUPS {
            return (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": "busy, try again" }));
        }
        let study = |id: u32| json!({ "id": id, "name": format!("Study {id}"), "price": 5 });
        match path.strip_prefix("/api/study/") {
            Some("listing") => (StatusCode::OK, json!({ "studies": [study(7), study(8), study(9)] })),
            Some(id) => match id.parse() {
                Ok(id) => (StatusCode::OK, study(id)),
                Err(_) => (StatusCode::NOT_FOUND, json!({ "error": "no such study" })),
            },
            None => (StatusCode::OK, json!({ "shop": "studies", "version": self.version })),
        }
    }
}

async fn serve(listener: TcpListener, counter: Arc<Counter>) {
    let mut connections = JoinSet::new();
    // An accept fails when there are no descriptors left: then the demo is over, and says so.
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let counter = Arc::clone(&counter);
        connections.spawn(async move {
            let answer = service_fn(|request| {
                let (status, body) = counter.answer(&request);
                let response = Response::builder()
                    .status(status)
                    .header(VERSION, u16::from(counter.version))
                    .header(CONTENT_TYPE, "application/json")
                    .body(Full::new(Bytes::from(format!("{body}\n"))));
                std::future::ready(Ok::<_, Infallible>(response.unwrap_or_default()))
            });
            // A connection that breaks is the other side's affair.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
