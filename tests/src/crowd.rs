//! Very many users at little cost: they share a few kept connections, as behind a load balancer that
//! says in `X-Forwarded-For` who each of them is. Serin must trust it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::client::{Client, Failure, Reply};

/// Connections of a crowd.
const CONNECTIONS: usize = 32;
/// The cookie by which serin knows a user.
const KEY: &str = "serin_key";
/// By what a body with status 200 tells of an error.
const ERROR: &[u8] = b"\"error\":";

/// Fewer visits are no load.
const ENOUGH: usize = 50;

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// When it was answered, or failed.
    pub at: Instant,
    /// The status; none without a whole answer.
    pub status: Option<u16>,
    /// The version of the stand-in that answered.
    pub version: Option<String>,
    /// How long the whole answer took; zero without one.
    pub took: Duration,
    /// Whether the body tells of an error.
    pub tells_error: bool,
    /// What kind of failure it was.
    pub failure: Option<&'static str>,
}

impl Visit {
    fn of(reply: &Result<Reply, Failure>) -> Self {
        let at = Instant::now();
        match reply {
            Ok(reply) => {
                let version = reply.version().map(str::to_owned);
                let tells_error = reply.body.windows(ERROR.len()).any(|text| text == ERROR);
                Self { at, status: Some(reply.status), version, took: reply.took, tells_error, failure: None }
            }
            Err(failure) => Self {
                at,
                status: None,
                version: None,
                took: Duration::ZERO,
                tells_error: false,
                failure: Some(failure.kind()),
            },
        }
    }

    /// Whether the user got no answer, or one that is an error by its status or by its body.
    pub fn erred(&self) -> bool {
        self.status != Some(200) || self.tells_error
    }

    /// Whether it was answered by this version.
    pub fn is_by(&self, version: &str) -> bool {
        self.version.as_deref() == Some(version)
    }
}

/// The address from which a user claims to come.
pub fn address_of(user: usize) -> Ipv4Addr {
    #[expect(clippy::cast_possible_truncation, reason = "16 million users have addresses of their own")]
    Ipv4Addr::from_bits(0x0a00_0000 | (user as u32 & 0x00ff_ffff))
}

/// Users who come again: each keeps the key that serin gave it.
#[derive(Clone, Debug)]
pub struct Crowd {
    keys: Vec<Option<String>>,
    /// Where they mean to be; none = at the address that they ask.
    host: Option<String>,
}

impl Crowd {
    /// So many users, whom serin doesn't know yet.
    pub fn of(count: usize) -> Self {
        Self { keys: vec![None; count], host: None }
    }

    /// The same, who ask for this host name.
    #[must_use]
    pub fn at(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// The first of them, with their keys.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        Self { keys: self.keys[..count].to_vec(), host: self.host.clone() }
    }

    /// Each user asks once for one of these paths, as fast as answers come, and tells which version
    /// answered.
    ///
    /// # Errors
    /// When a user gets no answer, or one that no stand-in gave.
    pub async fn ask(&mut self, to: SocketAddr, paths: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut met = vec![String::new(); self.keys.len()];
        let keys = std::mem::replace(&mut self.keys, vec![None; met.len()]);
        for (user, key, visit) in everyone(to, self.host.as_deref(), paths, keys).await {
            let problem = visit.failure.map_or_else(|| format!("{:?}", visit.status), str::to_owned);
            met[user] = visit.version.with_context(|| format!("no stand-in answered user {user}: {problem}"))?;
            self.keys[user] = key;
        }
        Ok(met)
    }
}

/// Sends so many requests, each from a user never seen before, as fast as answers come, and counts
/// them by version and status; a request that nobody answered counts as status 0.
pub async fn rush(to: SocketAddr, path: &str, count: usize) -> BTreeMap<(String, u16), usize> {
    let mut counts = BTreeMap::new();
    for (_, _, visit) in everyone(to, None, &[path], vec![None; count]).await {
        *counts.entry((visit.version.unwrap_or_default(), visit.status.unwrap_or_default())).or_default() += 1;
    }
    counts
}

/// A user, its key afterwards, and what became of its request.
type Met = (usize, Option<String>, Visit);

/// One request of each user, over [`CONNECTIONS`] connections.
async fn everyone(to: SocketAddr, host: Option<&str>, paths: &[&str], keys: Vec<Option<String>>) -> Vec<Met> {
    let host = host.map_or_else(|| to.to_string(), str::to_owned);
    let keys = Arc::new(keys);
    let paths: Arc<[String]> = paths.iter().map(|path| (*path).to_owned()).collect();
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (keys, paths, next) = (Arc::clone(&keys), Arc::clone(&paths), Arc::clone(&next));
        let mut client = Client::to(to).header("host", &host);
        running.spawn(async move {
            let mut met = Vec::new();
            loop {
                let user = next.fetch_add(1, Ordering::Relaxed);
                let Some(key) = keys.get(user) else { return met };
                client.become_another(address_of(user));
                if let Some(key) = key {
                    client.set_cookie(KEY, key);
                }
                let visit = Visit::of(&client.get(&paths[user % paths.len()]).await);
                met.push((user, client.cookie(KEY).map(str::to_owned), visit));
            }
        });
    }
    running.join_all().await.into_iter().flatten().collect()
}

/// Users who each ask once and never come again, at a steady rate until they are told to leave.
#[derive(Debug)]
pub struct Strangers {
    stop: watch::Sender<bool>,
    task: JoinHandle<Vec<Visit>>,
}

impl Strangers {
    /// So many a second, asking for this path, whether or not earlier ones were answered.
    pub fn come(to: SocketAddr, rate: f64, path: &str) -> Self {
        Self::come_for(&to.to_string(), to, rate, path)
    }

    /// As [`Strangers::come`], to what this host name stands for there.
    pub fn come_for(host: &str, to: SocketAddr, rate: f64, path: &str) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(send(host.to_owned(), to, rate, path.to_owned(), stopped));
        Self { stop, task }
    }

    /// Ends it. Returns every visit in the order of the answers.
    ///
    /// # Errors
    /// When the task that sends them panicked.
    pub async fn leave(self) -> anyhow::Result<Vec<Visit>> {
        self.stop.send_replace(true);
        Ok(self.task.await?)
    }
}

/// Holds that every visit got its answer, and that there were enough of them to say so.
///
/// # Panics
/// With the first visit that didn't.
pub fn all_were_served(visits: &[Visit]) {
    let unserved: Vec<_> = visits.iter().filter(|visit| visit.status != Some(200)).collect();
    assert!(unserved.is_empty(), "{} of {}: {:?}", unserved.len(), visits.len(), &unserved[..1]);
    assert!(visits.len() > ENOUGH, "{} visits are no load", visits.len());
}

async fn send(host: String, to: SocketAddr, rate: f64, path: String, mut stopped: watch::Receiver<bool>) -> Vec<Visit> {
    let start = Instant::now();
    let mut running = JoinSet::new();
    let mut idle: Vec<Client> = Vec::new();
    let mut visits = Vec::new();
    for number in 0.. {
        let due = start + Duration::from_secs_f64(number as f64 / rate);
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            () = sleep_until(due) => {}
        }
        while let Some(Ok((client, visit))) = running.try_join_next() {
            idle.push(client);
            visits.push(visit);
        }
        let mut client = idle.pop().unwrap_or_else(|| Client::to(to).header("host", &host));
        client.become_another(address_of(number));
        let path = path.clone();
        running.spawn(async move {
            let visit = Visit::of(&client.get(&path).await);
            (client, visit)
        });
    }
    visits.extend(running.join_all().await.into_iter().map(|(_, visit)| visit));
    visits.sort_by_key(|visit| visit.at);
    visits
}
