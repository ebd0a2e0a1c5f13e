//! The driver that is Docker's Engine, or what speaks its API: instances are containers of one image.
//!
//! A container carries the token that started it as a label and in its name, so the Engine itself remembers what was
//! done: any proxy can go on where another one ended. Its instances need nothing of serin's: where they listen is told
//! to the autoscaler, which puts them into the pool.

mod container;
mod engine;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{
    CreateContainerOptions, LogsOptions, RemoveContainerOptions, StartContainerOptions, StopContainerOptions,
};
use futures_util::TryStreamExt as _;
use tokio::task::JoinSet;

use self::container::{Container, Life};
use self::engine::{refusal, why};
use super::driver::{Done, Driver, DriverError, Instance, Task, Wish};
use crate::model::scaling::DockerSpec;

/// What ends within so long of its start has ended at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Containers of an Engine.
#[derive(Debug)]
pub(super) struct DockerDriver {
    spec: DockerSpec,
    timeout: Duration,
}

impl DockerDriver {
    /// Of which Engine, and how long a call may take.
    pub(super) const fn new(spec: DockerSpec, timeout: Duration) -> Self {
        Self { spec, timeout }
    }
}

#[async_trait]
impl Driver for DockerDriver {
    async fn perform(&self, wish: &Wish) -> Result<Done, DriverError> {
        let call = async {
            let engine = engine::engine(&wish.service, &self.spec.engine, self.timeout)?;
            let call = Call { spec: &self.spec, engine, wish };
            match &wish.task {
                Task::Add { count } => call.add(*count).await,
                Task::Remove { instances } => call.remove(instances).await,
                Task::Undo { keep, .. } => call.undo(keep).await,
            }
        };
        tokio::time::timeout(self.timeout, call).await.map_err(|_| DriverError::Timeout(self.timeout))?
    }
}

/// One call.
struct Call<'a> {
    spec: &'a DockerSpec,
    engine: Docker,
    wish: &'a Wish,
}

impl Call<'_> {
    async fn add(&self, count: u32) -> Result<Done, DriverError> {
        let there = self.containers().await?;
        let (mut made, mut begun) = (0, false);
        for number in 1..=count {
            let name = container::name(self.wish, number);
            match there.get(&name).map(|container| container.life) {
                Some(Life::Runs) => continue,
                // Who began this came to its end between two words.
                Some(Life::Made) => {}
                Some(Life::Ended) => return Err(self.ended(&there[&name]).await),
                None => {
                    self.has_room(&there, made)?;
                    self.make(&name).await?;
                    made += 1;
                }
            }
            self.start(&name).await?;
            begun = true;
        }
        if begun {
            tokio::time::sleep(AT_ONCE).await;
        }
        self.those_that_run(count).await
    }

    /// The wish's containers, all of which run by now.
    async fn those_that_run(&self, count: u32) -> Result<Done, DriverError> {
        let there = self.containers().await?;
        let mut done = Done::default();
        for number in 1..=count {
            let name = container::name(self.wish, number);
            let Some(container) = there.get(&name) else {
                return Err(DriverError::failed(&format!("the container {name} was started, and is gone")));
            };
            if container.life != Life::Runs {
                return Err(self.ended(container).await);
            }
            let Some(started) = container.started() else {
                let network = &self.spec.network;
                let text =
                    format!("the container {name} has no address in the network `{network}` for proxies to reach");
                return Err(DriverError::failed(&text));
            };
            done.started.push(started);
        }
        Ok(done)
    }

    async fn remove(&self, instances: &[Instance]) -> Result<Done, DriverError> {
        let named = |address: SocketAddr| instances.iter().any(|one| one.address == address.to_string());
        let there = self.containers().await?;
        // One that ended has no address any more, and is of no use to anybody.
        let goes = |container: &&Container| container.life == Life::Ended || container.address.is_some_and(named);
        let go: Vec<Container> = there.values().filter(goes).cloned().collect();
        for instance in instances {
            let is_known =
                go.iter().any(|container| container.address.is_some_and(|at| at.to_string() == instance.address));
            if !is_known {
                let (service, address) = (&self.wish.service, &instance.address);
                tracing::warn!(service, address, "No container of this driver listens there: nothing is stopped");
            }
        }
        self.dismiss(go).await?;
        Ok(Done::default())
    }

    async fn undo(&self, keep: &[Instance]) -> Result<Done, DriverError> {
        let kept = |address: SocketAddr| keep.iter().any(|one| one.address == address.to_string());
        let there = self.containers().await?.into_values();
        let of_token = there.filter(|container| container.token == self.wish.token);
        let go: Vec<Container> = of_token.filter(|container| !container.address.is_some_and(kept)).collect();
        let stopped = go.iter().filter_map(|container| container.address).collect();
        self.dismiss(go).await?;
        Ok(Done { stopped, ..Done::default() })
    }

    /// All containers of this service that this driver ever started and that the Engine still has, by name.
    async fn containers(&self) -> Result<BTreeMap<String, Container>, DriverError> {
        let listed = self.engine.list_containers(Some(container::of_service(&self.wish.service))).await;
        let told = listed.map_err(|error| self.why(&error))?;
        let read = told.into_iter().filter_map(|told| container::read(self.spec, told));
        Ok(read.map(|container| (container.name.clone(), container)).collect())
    }

    /// Whatever went wrong before: the Engine runs no more of a service than there may be.
    fn has_room(&self, there: &BTreeMap<String, Container>, made: usize) -> Result<(), DriverError> {
        let running = made + there.values().filter(|container| container.life != Life::Ended).count();
        if running < usize::try_from(self.wish.max).unwrap_or(usize::MAX) {
            return Ok(());
        }
        let service = &self.wish.service;
        Err(DriverError::failed(&format!(
            "{running} containers of {service} run already, and `max` is {}: look for one that isn't in the pool by \
             `docker ps --filter label=serin.service={service}`",
            self.wish.max
        )))
    }

    async fn make(&self, name: &str) -> Result<(), DriverError> {
        let environment = self.spec.environment().map_err(|error| DriverError::failed(&error.to_string()))?;
        let body = container::body(self.spec, self.wish, environment);
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..CreateContainerOptions::default() };
        let Err(error) = self.engine.create_container(Some(options), body).await else { return Ok(()) };
        let image = &self.spec.image;
        match refusal(&error) {
            Some(404) if error.to_string().to_lowercase().contains("image") => {
                let text = format!("the Engine has no image `{image}`: pull it there, serin doesn't");
                Err(DriverError::failed(&text))
            }
            Some(409) if self.containers().await?.contains_key(name) => Ok(()),
            Some(409) => {
                let text = format!("a container named {name} is there that isn't serin's: rename or remove it");
                Err(DriverError::failed(&text))
            }
            _ => Err(self.why(&error)),
        }
    }

    async fn start(&self, name: &str) -> Result<(), DriverError> {
        let started = self.engine.start_container(name, None::<StartContainerOptions>).await;
        started.map_err(|error| self.why(&error))
    }

    /// Stops these, giving each the time that its image asks for, and removes them with their own volumes.
    async fn dismiss(&self, containers: Vec<Container>) -> Result<(), DriverError> {
        let mut going = JoinSet::new();
        for container in containers {
            let engine = self.engine.clone();
            going.spawn(async move { dismiss(&engine, &container.name).await });
        }
        // All are tried, whatever becomes of one.
        let mut result = Ok(());
        while let Some(gone) = going.join_next().await {
            match gone {
                Ok(Ok(())) => {}
                Ok(Err(error)) => result = Err(self.why(&error)),
                Err(error) => result = Err(DriverError::failed(&error.to_string())),
            }
        }
        result
    }

    /// What a container that ended said last.
    async fn ended(&self, container: &Container) -> DriverError {
        let (name, status) = (&container.name, container.status.to_lowercase());
        let options = LogsOptions { stdout: true, stderr: true, tail: "1".to_owned(), ..LogsOptions::default() };
        let lines: Result<Vec<_>, Error> = self.engine.logs(name, Some(options)).try_collect().await;
        let last = lines.ok().and_then(|mut lines| lines.pop()).map(|line| line.to_string()).unwrap_or_default();
        DriverError::failed(&format!("the container {name} has {status}: {}", last.trim()))
    }

    fn why(&self, error: &Error) -> DriverError {
        why(&self.spec.engine, error)
    }
}

/// Stops and removes one. What is gone already is gone.
async fn dismiss(engine: &Docker, name: &str) -> Result<(), Error> {
    let gone = |error: &Error| matches!(refusal(error), Some(404 | 409));
    match engine.stop_container(name, None::<StopContainerOptions>).await {
        Err(error) if gone(&error) => {}
        other => other?,
    }
    let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
    match engine.remove_container(name, Some(options)).await {
        Err(error) if refusal(&error) == Some(404) => Ok(()),
        other => other,
    }
}
