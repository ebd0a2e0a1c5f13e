//! What a proxy tells of endpoints, by its own stream of events.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::wire::Wire;

/// Listens to a proxy, and keeps count of the endpoints of one pool that are ready there.
#[derive(Debug)]
pub struct Watch {
    stop: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<Seen>>,
}

/// What was heard.
#[derive(Debug)]
pub struct Seen {
    /// The fewest that were ready at any moment.
    pub fewest: usize,
    /// The changes: endpoint, from, to.
    pub changes: Vec<(String, String, String)>,
}

impl Watch {
    /// Begins to listen. The token is one that may read.
    ///
    /// # Errors
    /// When the proxy can't be reached, or doesn't know the service.
    pub async fn begin(proxy: SocketAddr, token: &str, service: &str, pool: &str) -> anyhow::Result<Self> {
        let mut wire = Wire::connect(proxy).await?;
        let head = format!("GET /v1/events HTTP/1.1\r\nHost: {proxy}\r\nAuthorization: Bearer {token}\r\n\r\n");
        wire.send(head).await?;
        let first = String::from_utf8_lossy(&wire.some().await?).into_owned();
        ensure!(first.starts_with("HTTP/1.1 200"), "{proxy} tells no events: {first}");
        let known = Client::to(proxy)
            .header("authorization", &format!("Bearer {token}"))
            .get(&format!("/v1/services/{service}"))
            .await?
            .json()?;
        let endpoints = known["pools"][pool]["endpoints"].as_array().context("a list of endpoints")?;
        let ready = endpoints.iter().filter(|one| one["state"] == "ready").filter_map(|one| one["id"].as_str());
        let tally = Tally {
            service: service.to_owned(),
            pool: format!("{pool}/"),
            ready: ready.map(str::to_owned).collect(),
            seen: Seen { fewest: usize::MAX, changes: Vec::new() },
        };
        let (stop, stopped) = watch::channel(false);
        Ok(Self { stop, task: tokio::spawn(listen(wire, tally, first, stopped)) })
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the proxy stopped telling before.
    pub async fn end(self) -> anyhow::Result<Seen> {
        self.stop.send_replace(true);
        self.task.await?
    }
}

struct Tally {
    service: String,
    pool: String,
    ready: BTreeSet<String>,
    seen: Seen,
}

impl Tally {
    fn hear(&mut self, event: &Value) {
        if event["service"] != self.service.as_str() {
            return;
        }
        let endpoint = event["endpoint"].as_str().and_then(|name| name.strip_prefix(self.pool.as_str()));
        let (Some(endpoint), Some(from), Some(to)) = (endpoint, event["from"].as_str(), event["to"].as_str()) else {
            return;
        };
        if to == "ready" {
            self.ready.insert(endpoint.to_owned());
        } else {
            self.ready.remove(endpoint);
        }
        self.seen.fewest = self.seen.fewest.min(self.ready.len());
        self.seen.changes.push((endpoint.to_owned(), from.to_owned(), to.to_owned()));
    }
}

/// Reads the stream until told to stop. Each event is a line of its own that begins with `data:`.
async fn listen(
    mut wire: Wire,
    mut tally: Tally,
    first: String,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<Seen> {
    tally.seen.fewest = tally.ready.len();
    let mut rest = first;
    loop {
        while let Some((line, more)) = rest.split_once('\n') {
            if let Some(data) = line.trim_end().strip_prefix("data:") {
                tally.hear(&serde_json::from_str(data).with_context(|| format!("no event: {line}"))?);
            }
            rest = more.to_owned();
        }
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return Ok(tally.seen),
            more = wire.some() => rest += &String::from_utf8_lossy(&more?),
        }
    }
}
