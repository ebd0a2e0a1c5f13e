//! Active health checks: one small task for each endpoint of each service that has a
//! `[health]` table.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::live::{EndpointLive, Health, Live};
use crate::model::split::Arm;
use crate::probe::{self, Target};

/// What one task probes, and what it tells. A change of any of it ends the task and starts another.
struct Watched {
    target: Target,
    endpoint: Arc<EndpointLive>,
}

impl Watched {
    fn is(&self, other: &Self) -> bool {
        // One that went and came back is known anew: what its old self hears, nobody reads.
        self.target == other.target && Arc::ptr_eq(&self.endpoint, &other.endpoint)
    }
}

type Key = (String, Arm, Arc<str>);

/// Probes whatever the snapshots name, for ever.
pub async fn run(live: Arc<Live>, mut published: watch::Receiver<u64>) {
    let mut running: HashMap<Key, (Watched, tokio::task::AbortHandle)> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let wanted = wanted(&live);
        running.retain(|key, (watched, task)| {
            let keep = wanted.get(key).is_some_and(|wanted| watched.is(wanted));
            if !keep {
                task.abort();
            }
            keep
        });
        for (key, watched) in wanted {
            let name = format!("{}/{}/{}", key.0, key.1, key.2);
            running.entry(key).or_insert_with(|| {
                let task = tasks.spawn(watch_endpoint(name, watched.target.clone(), Arc::clone(&watched.endpoint)));
                (watched, task)
            });
        }
        while tasks.try_join_next().is_some() {}
        if published.changed().await.is_err() {
            return;
        }
    }
}

fn wanted(live: &Live) -> HashMap<Key, Watched> {
    let mut all = HashMap::new();
    for service in live.snapshot().services() {
        let Some(spec) = &service.spec.health else { continue };
        let host = service.spec.hosts.iter().find(|host| !host.contains('*')).cloned();
        for arm in Arm::BOTH {
            for endpoint in service.pools.get(arm) {
                let host = host.clone().unwrap_or_else(|| endpoint.address.to_string());
                let (address, proxy_protocol) = (endpoint.address, service.spec.proxy_protocol);
                let target = Target { address, host, spec: spec.clone(), proxy_protocol };
                let key = (service.spec.name.clone(), arm, Arc::clone(&endpoint.id));
                all.insert(key, Watched { target, endpoint: Arc::clone(&endpoint.live) });
            }
        }
    }
    all
}

async fn watch_endpoint(name: String, target: Target, endpoint: Arc<EndpointLive>) {
    let before = endpoint.health();
    probe::watch(target, before, |health, found| {
        endpoint.set_health(health);
        match (health, found) {
            (Health::Up, _) => tracing::info!(endpoint = name, "Endpoint is up"),
            (_, Err(error)) => {
                tracing::warn!(endpoint = name, error = &error as &dyn std::error::Error, "Endpoint is down");
            }
            (_, Ok(())) => {}
        }
    })
    .await;
}
