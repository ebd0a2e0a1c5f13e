//! Active health checks: one small task for each endpoint of each service that has a
//! `[health]` table.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::live::{EndpointLive, Health, Live};
use crate::model::spec::HealthSpec;
use crate::model::split::Arm;

/// The most of a body that is looked at.
const MAX_BODY: usize = 64 * 1024;

/// Why a probe found an endpoint unhealthy.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    #[error("no answer")]
    Exchange(#[source] hyper::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("the body doesn't hold the expected text")]
    Body,
}

/// What one task probes. A change of any of it ends the task and starts another.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    address: SocketAddr,
    host: String,
    spec: HealthSpec,
}

type Key = (String, Arm, Arc<str>);

/// Probes whatever the snapshots name, for ever.
pub async fn run(live: Arc<Live>, mut published: watch::Receiver<u64>) {
    let mut running: HashMap<Key, (Target, tokio::task::AbortHandle)> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let wanted = targets(&live);
        running.retain(|key, (target, task)| {
            let keep = wanted.get(key).is_some_and(|(wanted, _)| wanted == target);
            if !keep {
                task.abort();
            }
            keep
        });
        for (key, (target, endpoint)) in wanted {
            let name = format!("{}/{}/{}", key.0, key.1, key.2);
            running.entry(key).or_insert_with(|| {
                let task = tasks.spawn(watch_endpoint(name, target.clone(), endpoint));
                (target, task)
            });
        }
        while tasks.try_join_next().is_some() {}
        if published.changed().await.is_err() {
            return;
        }
    }
}

fn targets(live: &Live) -> HashMap<Key, (Target, Arc<EndpointLive>)> {
    let mut targets = HashMap::new();
    for service in live.snapshot().services() {
        let Some(spec) = &service.spec.health else { continue };
        let host = service.spec.hosts.iter().find(|host| !host.contains('*')).cloned();
        for arm in Arm::BOTH {
            for endpoint in service.pools.get(arm) {
                let host = host.clone().unwrap_or_else(|| endpoint.address.to_string());
                let target = Target { address: endpoint.address, host, spec: spec.clone() };
                let key = (service.spec.name.clone(), arm, Arc::clone(&endpoint.id));
                targets.insert(key, (target, Arc::clone(&endpoint.live)));
            }
        }
    }
    targets
}

async fn watch_endpoint(name: String, target: Target, endpoint: Arc<EndpointLive>) {
    let mut streak = Streak::default();
    loop {
        let spec = &target.spec;
        let found = match tokio::time::timeout(spec.timeout, probe(&target)).await {
            Ok(found) => found,
            Err(_) => Err(ProbeError::Timeout(spec.timeout)),
        };
        let before = endpoint.health();
        let after = streak.after(before, found.is_ok(), spec);
        if after != before {
            endpoint.set_health(after);
            match found {
                Ok(()) => tracing::info!(endpoint = name, "Endpoint is up"),
                Err(error) => {
                    tracing::warn!(endpoint = name, error = &error as &dyn std::error::Error, "Endpoint is down");
                }
            }
        }
        // A tenth of jitter, so that many proxies don't probe in step.
        let jitter = rand::rng().random_range(0.9..1.1);
        tokio::time::sleep(spec.interval.mul_f64(jitter)).await;
    }
}

/// Equal findings in a row.
#[derive(Debug, Default)]
struct Streak {
    good: u32,
    bad: u32,
}

impl Streak {
    /// The health after one more finding. The first good one of an unknown endpoint is enough.
    fn after(&mut self, before: Health, good: bool, spec: &HealthSpec) -> Health {
        (self.good, self.bad) = if good { (self.good + 1, 0) } else { (0, self.bad + 1) };
        match before {
            Health::Unknown | Health::Down if good && (before == Health::Unknown || self.good >= spec.rise) => {
                Health::Up
            }
            Health::Unknown | Health::Up if self.bad >= spec.fall => Health::Down,
            other => other,
        }
    }
}

/// One probe over a connection of its own, so that a stuck one can't hide a live endpoint.
async fn probe(target: &Target) -> Result<(), ProbeError> {
    let stream = TcpStream::connect(target.address).await.map_err(ProbeError::Connect)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(ProbeError::Exchange)?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::get(target.spec.path.as_str())
        .header(header::HOST, target.host.as_str())
        .header(header::USER_AGENT, "serin-health")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    // The configuration has checked path and host.
    let Ok(request) = request else { return Err(ProbeError::Status(0)) };
    let response = sender.send_request(request).await.map_err(ProbeError::Exchange)?;
    let status = response.status().as_u16();
    if !target.spec.expect_status.contains(status) {
        return Err(ProbeError::Status(status));
    }
    let Some(text) = &target.spec.expect_body else { return Ok(()) };
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(|_| ProbeError::Body)?.to_bytes();
    match memchr::memmem::find(&body, text.as_bytes()) {
        Some(_) => Ok(()),
        None => Err(ProbeError::Body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::StatusSet;

    #[test]
    fn an_endpoint_rises_and_falls_by_findings_in_a_row() {
        let spec = HealthSpec {
            path: "/".into(),
            expect_status: StatusSet::EMPTY,
            expect_body: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        };
        let mut streak = Streak::default();
        let mut health = Health::Unknown;
        let mut seen = String::new();
        for good in "+--+---+-++".chars().map(|mark| mark == '+') {
            health = streak.after(health, good, &spec);
            seen.push(if health == Health::Up { 'u' } else { 'd' });
        }
        assert_eq!(seen, "uuuuuuddddu");
    }
}
