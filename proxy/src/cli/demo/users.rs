//! The load: a few hundred users who come by in turn, each with a cookie of its own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::shop;
use super::tally::{Seen, Tally};

/// How many users there are.
pub(super) const USERS: usize = 600;
/// How many requests they send in a second, together.
pub(super) const RATE: u32 = 200;
/// The networks of addresses that they come from, each user from one of its own: those that are
/// for documentation (RFC 5737), 254 addresses each.
const NETWORKS: [&str; 3] = ["192.0.2", "198.51.100", "203.0.113"];
/// Connections to serin: a user's next visit may come over any other's.
const CONNECTIONS: u32 = 20;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const LARGEST: usize = 64 * 1024;

/// All users, at home at first; they leave when dropped.
#[derive(Debug)]
pub(super) struct Users {
    tally: Arc<Mutex<Tally>>,
    walks: JoinSet<()>,
}

impl Users {
    pub(super) fn new() -> Self {
        Self { tally: Arc::new(Mutex::new(Tally::new(USERS))), walks: JoinSet::new() }
    }

    /// Lets the users come to serin.
    pub(super) fn come(&mut self, serin: SocketAddr) {
        let first = Instant::now();
        for (n, id) in (0..CONNECTIONS).zip(0..) {
            let users = (id..USERS).step_by(CONNECTIONS as usize).map(User::new).collect();
            let walk = Walk { serin, users, connection: None, driver: JoinSet::new(), tally: Arc::clone(&self.tally) };
            self.walks.spawn(walk.go(first + n * Duration::from_secs(1) / RATE));
        }
    }

    /// What they saw so far.
    pub(super) fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Begins counting anew. Users keep their cookies.
    pub(super) fn count_anew(&self) {
        *lock(&self.tally) = Tally::new(USERS);
    }

    /// Sends them home and waits until their connections are closed.
    pub(super) async fn leave(mut self) {
        self.walks.shutdown().await;
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct User {
    id: usize,
    address: HeaderValue,
    cookie: Option<HeaderValue>,
}

impl User {
    fn new(id: usize) -> Self {
        let address = format!("{}.{}", NETWORKS[id % NETWORKS.len()], 1 + id / NETWORKS.len() % 254);
        // Digits and dots are always a header value.
        Self { id, address: HeaderValue::from_str(&address).unwrap_or(HeaderValue::from_static("")), cookie: None }
    }

    fn keep_cookie(&mut self, headers: &HeaderMap) {
        let given = headers.get(SET_COOKIE).and_then(|line| line.to_str().ok());
        let pair = given.and_then(|line| line.split(';').next());
        self.cookie = pair.and_then(|pair| HeaderValue::from_str(pair).ok()).or(self.cookie.take());
    }
}

/// Users who come one after the other, over one connection.
struct Walk {
    serin: SocketAddr,
    users: Vec<User>,
    connection: Option<SendRequest<Empty<Bytes>>>,
    driver: JoinSet<()>,
    tally: Arc<Mutex<Tally>>,
}

/// Why a user got no answer: nothing that the demo's reader could use.
struct NoAnswer;

impl Walk {
    async fn go(mut self, first: Instant) {
        let mut turn = interval_at(first, Duration::from_secs(1) * CONNECTIONS / RATE);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for visit in 0.. {
            turn.tick().await;
            let user = visit % self.users.len();
            let path = shop::PATHS[visit % shop::PATHS.len()];
            let seen = match timeout(PATIENCE, self.visit(user, path)).await {
                Ok(Ok(seen)) => seen,
                Ok(Err(NoAnswer)) | Err(_) => {
                    self.connection = None;
                    None
                }
            };
            lock(&self.tally).note(self.users[user].id, seen);
        }
    }

    async fn visit(&mut self, user: usize, path: &str) -> Result<Option<Seen>, NoAnswer> {
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connect().await?,
        };
        let user = &mut self.users[user];
        let mut request = Request::get(path).header(HOST, "shop.example").header("x-forwarded-for", &user.address);
        if let Some(cookie) = &user.cookie {
            request = request.header(COOKIE, cookie);
        }
        let request = request.body(Empty::new()).map_err(|_| NoAnswer)?;
        connection.ready().await.map_err(|_| NoAnswer)?;
        let (head, body) = connection.send_request(request).await.map_err(|_| NoAnswer)?.into_parts();
        Limited::new(body, LARGEST).collect().await.map_err(|_| NoAnswer)?;
        user.keep_cookie(&head.headers);
        self.connection = Some(connection);
        Ok(Seen::of(&head))
    }

    async fn connect(&mut self) -> Result<SendRequest<Empty<Bytes>>, NoAnswer> {
        let stream = TcpStream::connect(self.serin).await.map_err(|_| NoAnswer)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| NoAnswer)?;
        self.driver.abort_all();
        self.driver.spawn(async {
            // How it ends is seen by the request on it.
            let _ = driver.await;
        });
        Ok(connection)
    }
}
