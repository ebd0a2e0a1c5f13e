//! Active health checks: one small task for each endpoint of each service that has a
//! `[health]` table.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::live::{EndpointLive, Health, Live, ServiceView};
use crate::model::split::Arm;
use crate::probe::{self, Target};
use crate::telemetry::panics::pass_on;

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

type Key = (Arm, Arc<str>);

/// The checks of a service.
#[derive(Default)]
struct Checked {
    /// What they follow from.
    view: Option<Arc<ServiceView>>,
    running: HashMap<Key, (Watched, AbortHandle)>,
}

/// Probes whatever the snapshots name, for ever.
pub async fn run(live: Arc<Live>, mut published: watch::Receiver<u64>) {
    let mut services: HashMap<String, Checked> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let snapshot = live.snapshot();
        services.retain(|name, checked| {
            let keep = snapshot.service(name).is_some();
            if !keep {
                checked.follow(HashMap::new(), name, &mut tasks);
            }
            keep
        });
        for view in snapshot.services() {
            let name = &view.spec.name;
            let is_same = |checked: &Checked| checked.view.as_ref().is_some_and(|before| Arc::ptr_eq(before, view));
            if !services.get(name).is_some_and(is_same) {
                let checked = services.entry(name.clone()).or_default();
                checked.follow(wanted(view), name, &mut tasks);
                checked.view = Some(Arc::clone(view));
            }
        }
        loop {
            tokio::select! {
                Some(ended) = tasks.join_next() => {
                    pass_on(ended);
                    while let Some(ended) = tasks.try_join_next() {
                        pass_on(ended);
                    }
                    take_for_well(&live);
                }
                changed = published.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
        }
    }
}

/// Who isn't checked any more is well, whatever its last check concluded while it was called off.
fn take_for_well(live: &Live) {
    let snapshot = live.snapshot();
    for view in snapshot.services().iter().filter(|view| view.spec.health.is_none()) {
        let endpoints = Arm::BOTH.into_iter().flat_map(|arm| view.pools.get(arm));
        endpoints.for_each(|endpoint| endpoint.live.set_health(Health::Up));
    }
}

impl Checked {
    /// Ends what isn't wanted any more, and begins what is.
    fn follow(&mut self, wanted: HashMap<Key, Watched>, service: &str, tasks: &mut JoinSet<()>) {
        self.running.retain(|key, (watched, task)| {
            let keep = wanted.get(key).is_some_and(|wanted| watched.is(wanted));
            if !keep {
                task.abort();
            }
            keep
        });
        for (key, watched) in wanted {
            let name = format!("{service}/{}/{}", key.0, key.1);
            self.running.entry(key).or_insert_with(|| {
                let task = tasks.spawn(watch_endpoint(name, watched.target.clone(), Arc::clone(&watched.endpoint)));
                (watched, task)
            });
        }
    }
}

fn wanted(service: &ServiceView) -> HashMap<Key, Watched> {
    let mut all = HashMap::new();
    let Some(spec) = &service.spec.health else { return all };
    let host = service.spec.hosts.iter().find(|host| !host.contains('*')).cloned();
    for arm in Arm::BOTH {
        for endpoint in service.pools.get(arm) {
            let host = host.clone().unwrap_or_else(|| endpoint.authority());
            let (address, proxy_protocol) = (endpoint.address, service.spec.proxy_protocol);
            let (spec, tls) = (spec.clone(), service.tls.clone());
            let target = Target { address, host, spec, proxy_protocol, tls };
            let watched = Watched { target, endpoint: Arc::clone(&endpoint.live) };
            all.insert((arm, Arc::clone(&endpoint.id)), watched);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::live::sample::{self, publish};
    use crate::model::spec::ServiceSpec;
    use crate::model::state::State;

    #[tokio::test]
    async fn who_is_not_checked_any_more_is_well_whatever_its_last_check_concludes() {
        let (live, _reports) = Live::new(1);
        let checked = ServiceSpec { health: Some(sample::health()), ..sample::service("shop") };
        publish(&live, &[Arc::new(checked)], &State::default());
        let (tell, published) = watch::channel(0);
        let running = tokio::spawn(run(Arc::clone(&live), published));
        tokio::task::yield_now().await;
        // when a reload drops the checks, and one of them concludes in that moment
        publish(&live, &[Arc::new(sample::service("shop"))], &State::default());
        let endpoint = Arc::clone(&live.snapshot().service("shop").expect("it is there").pools.stable[0].live);
        endpoint.set_health(Health::Down);
        tell.send_replace(1);
        // then nothing that nobody would ever take back keeps it down
        let is_up = async {
            while endpoint.health() != Health::Up {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), is_up).await.expect("it stays down");
        running.abort();
    }
}
