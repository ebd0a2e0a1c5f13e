//! Users who ask without a break while everything changes: the configuration, the endpoints, the program itself.
//! Counts what they lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::client::Client;
use crate::origin::{Origin, Played, ok};
use crate::process::Signal;
use crate::serin::Serin;
use crate::wire::Wire;

/// An offer of a WebSocket, and an agreement to it.
const OFFER: &str = "GET /chat HTTP/1.1\r\nHost: chat.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// Between two reloads.
const RELOAD: Duration = Duration::from_millis(100);
/// Between two messages on a WebSocket.
const CHAT: Duration = Duration::from_millis(5);
/// Failures that are told in full.
const TOLD: usize = 5;

/// What is to happen.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// For how long.
    pub time: Duration,
    /// Users who ask, each without a break, on connections that they keep.
    pub users: usize,
    /// WebSockets on a route that nobody changes.
    pub chats: usize,
    /// New processes, at equal intervals.
    pub upgrades: u32,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Requests that were answered as they should be.
    pub served: u64,
    /// What came of those that weren't.
    pub lost: Vec<String>,
    /// Messages that came back over WebSockets.
    pub messages: u64,
    /// What became of WebSockets that broke.
    pub broken: Vec<String>,
    /// Reloads.
    pub reloads: u64,
    /// New processes.
    pub upgrades: u32,
    /// Endpoints that came, were drained, and went.
    pub drained: u64,
}

impl Report {
    /// Whether everybody was served, and everything did change.
    ///
    /// # Errors
    /// With the first of what was lost, or what didn't happen.
    pub fn check(&self, plan: &Plan) -> anyhow::Result<()> {
        let first = |all: &[String]| all.iter().take(TOLD).cloned().collect::<Vec<_>>().join("\n");
        ensure!(self.lost.is_empty(), "{} of {} lost:\n{}", self.lost.len(), self.served, first(&self.lost));
        ensure!(self.broken.is_empty(), "{} WebSockets broke:\n{}", self.broken.len(), first(&self.broken));
        ensure!(self.upgrades == plan.upgrades, "{} upgrades", self.upgrades);
        let is_little = self.reloads < 5 || self.drained == 0 || self.messages == 0 || self.served < 100;
        ensure!(!is_little, "too little happened: {self:?}");
        Ok(())
    }
}

/// What all take part in.
#[derive(Debug, Default)]
struct Stage {
    over: AtomicBool,
    served: AtomicU64,
    messages: AtomicU64,
}

impl Stage {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Starts a daemon and its users, and changes everything for the time of the plan.
///
/// # Errors
/// When it can't be played: what users lose is in the report.
pub async fn play(plan: Plan) -> anyhow::Result<Report> {
    let pool = [named("one").await?, named("two").await?, named("three").await?];
    let (chat, stage) = (Origin::bind().await?, Arc::<Stage>::default());
    let serin = Serin::start(&config(&pool, &chat, 0)).await?;
    let mut broken = JoinSet::new();
    for number in 0..plan.chats {
        let ends = connect(&serin, &chat).await?;
        broken.spawn(talk(ends, number, Arc::clone(&stage)));
    }
    let mut lost = JoinSet::new();
    for _ in 0..plan.users {
        lost.spawn(ask(serin.client(), Arc::clone(&stage)));
    }
    let (mut report, drained) = tokio::try_join!(
        change(&serin, &plan, |turn| config(&pool, &chat, turn), &stage),
        move_about(&serin, &pool[2], &stage)
    )?;
    report.drained = drained;
    report.lost = lost.join_all().await.into_iter().flatten().collect();
    report.broken = broken.join_all().await.into_iter().flatten().collect();
    report.served = stage.served.load(Ordering::Relaxed);
    report.messages = stage.messages.load(Ordering::Relaxed);
    Ok(report)
}

async fn named(name: &'static str) -> anyhow::Result<Played> {
    Ok(Origin::bind().await?.play(move |_| ok(name)))
}

/// The configuration of a turn: each has other words for what doesn't touch the chat.
fn config(pool: &[Played; 3], chat: &Origin, turn: u64) -> String {
    format!(
        "[runtime]\nthreads = 2\ndrain = \"300s\"\n\
         [service.web]\nhosts = [\"*\"]\nstable = [\"{}\", \"{}\"]\n\
         [service.chat]\nhosts = [\"chat.example\"]\nstable = [\"{}\"]\n\
         [service.extra{}]\nhosts = [\"extra{turn}.example\"]\nstable = [\"{}\"]\n",
        pool[0].address(),
        pool[1].address(),
        chat.address(),
        turn % 3,
        pool[0].address(),
    )
}

/// Reloads all the time, and now and then replaces the process.
async fn change(serin: &Serin, plan: &Plan, config: impl Fn(u64) -> String, stage: &Stage) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let start = Instant::now();
    let mut tick = interval(RELOAD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while start.elapsed() < plan.time || report.upgrades < plan.upgrades {
        tick.tick().await;
        report.reloads += 1;
        serin.rewrite(&config(report.reloads))?;
        serin.send_to_serving(Signal::HUP)?;
        let due = plan.time * (2 * report.upgrades + 1) / (2 * plan.upgrades.max(1));
        if report.upgrades < plan.upgrades && start.elapsed() >= due {
            serin.upgrade().await.with_context(|| format!("upgrade {}", report.upgrades + 1))?;
            report.upgrades += 1;
        }
    }
    stage.over.store(true, Ordering::Relaxed);
    Ok(report)
}

/// Has an endpoint come, drain and go, again and again. While a process takes over, the API may have to be asked again.
async fn move_about(serin: &Serin, endpoint: &Played, stage: &Stage) -> anyhow::Result<u64> {
    let path = format!("/v1/services/web/pools/stable/endpoints/{}", endpoint.address());
    let (drain, nothing) = (format!("{path}/drain"), json!({}));
    let mut drained = 0;
    while !stage.is_over() {
        let steps = [(Method::PUT, &path), (Method::POST, &drain), (Method::DELETE, &path)];
        for (method, path) in steps {
            let asks = Instant::now();
            loop {
                let body = Bytes::from(nothing.to_string());
                let asked = serin.operator().send(method.clone(), path, Some("application/json"), body).await;
                match asked {
                    Ok(reply) if reply.status == 200 => break,
                    Ok(reply) => ensure!(reply.status == 503, "{method} {path}: {} {}", reply.status, reply.text()),
                    Err(error) => ensure!(asks.elapsed() < Duration::from_secs(20), "{method} {path}: {error}"),
                }
                sleep(Duration::from_millis(5)).await;
            }
        }
        drained += 1;
    }
    Ok(drained)
}

/// A user who asks until it is over. Returns what was lost.
async fn ask(mut user: Client, stage: Arc<Stage>) -> Vec<String> {
    let mut lost = Vec::new();
    let mut turn = 0_u64;
    while !stage.is_over() {
        turn += 1;
        // What may not be sent twice must not be lost either.
        let (method, body) = if turn.is_multiple_of(3) { (Method::POST, "words") } else { (Method::GET, "") };
        match user.send(method.clone(), "/", None, Bytes::from(body)).await {
            Ok(reply) if reply.status == 200 => drop(stage.served.fetch_add(1, Ordering::Relaxed)),
            Ok(reply) => lost.push(format!("{method}: {} {}", reply.status, reply.text())),
            Err(error) => lost.push(format!("{method}: {error}")),
        }
    }
    lost
}

/// Both ends of a WebSocket.
async fn connect(serin: &Serin, chat: &Origin) -> anyhow::Result<(Wire, Wire)> {
    let mut user = Wire::connect(serin.http()).await?;
    user.send(OFFER).await?;
    let (mut endpoint, _) = chat.request().await?;
    endpoint.send(SWITCH).await?;
    ensure!(user.head().await?.status() == 101, "no WebSocket");
    Ok((user, endpoint))
}

/// Talks over a WebSocket until it is over. Returns what became of it if it broke.
async fn talk((mut user, mut endpoint): (Wire, Wire), number: usize, stage: Arc<Stage>) -> Option<String> {
    let mut said = 0_u64;
    while !stage.is_over() {
        let word = format!("{said:08}");
        said += 1;
        let exchange = async {
            user.send(&word).await?;
            let heard = endpoint.take(word.len()).await?;
            endpoint.send(heard).await?;
            let back = user.take(word.len()).await?;
            ensure!(back == word.as_bytes(), "something else came back");
            Ok(())
        };
        if let Err(error) = exchange.await {
            return Some(format!("WebSocket {number} after {said} messages: {error:#}"));
        }
        stage.messages.fetch_add(1, Ordering::Relaxed);
        sleep(CHAT).await;
    }
    None
}
