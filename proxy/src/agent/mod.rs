//! The agent: stands beside one instance of an application and speaks for it in the store.
//!
//! While the instance is well it beats the lease of its member; while it isn't, it is silent; told to stop, it drains
//! the member, waits for the proxies, and takes it out. A store that is away is tried again for ever.
//! May know: model, probe, store, telemetry. Never: planes, admin. What an agent needs of its host besides (a version
//! in a file, the proxies' word on a drain, systemd) comes through [`Host`].

mod pace;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::pace::Pace;
use crate::model::agent::AgentSpec;
use crate::model::health::Health;
use crate::model::state::MemberSpec;
use crate::probe::{self, Target};
use crate::store::StoreError;
use crate::store::registry::{Beat, Registry};
use crate::telemetry::panics::pass_on;

/// How often the proxies are asked whether a drain is done.
const LOOK: Duration = Duration::from_millis(100);
/// So long after it was told to the store a drain is known to every proxy, and no request that was routed before
/// is still unsent.
const SPREAD: Duration = Duration::from_secs(1);
/// How long the last word to the store is tried.
const FAREWELL: Duration = Duration::from_secs(5);

/// What an agent needs of the machine that it runs on.
pub trait Host: Send + Sync {
    /// The version that the instance runs, where a file says so.
    fn version(&self) -> Option<String>;

    /// Whether the proxies are done with the drained member; none where nobody can be asked.
    fn is_done(&self) -> impl Future<Output = Option<bool>> + Send;

    /// Says how the agent is doing to whoever supervises it: lines of `sd_notify`.
    fn notify(&self, state: &str);
}

/// Speaks for one member until it is told to stop, then takes it out. A second word to stop cuts the drain short.
pub async fn run<H: Host>(spec: AgentSpec, registry: Box<dyn Registry>, host: H, stop: mpsc::Receiver<()>) {
    let mut checks = JoinSet::new();
    let health = watch_health(&spec, &mut checks);
    speak(spec, registry, host, stop, (health, checks)).await;
}

/// As [`run`], by what these checks say. Without them nobody would know any more how the instance is: where they panic,
/// so does this, and its silence is heard.
async fn speak<H: Host>(
    spec: AgentSpec,
    registry: Box<dyn Registry>,
    host: H,
    mut stop: mpsc::Receiver<()>,
    (mut health, mut checks): (watch::Receiver<Health>, JoinSet<()>),
) {
    let pace = Pace::new(&spec.member);
    let mut agent = Agent { pace, registry, host, spec, said: Said::Nothing, status: "", beaten: false };
    agent.host.notify("READY=1\nSTATUS=Waiting for the first passing check");
    let mut next = Instant::now();
    loop {
        let now = *health.borrow_and_update();
        let due = async {
            sleep_until(next).await;
            agent.say(now).await
        };
        tokio::select! {
            _ = stop.recv() => break,
            Ok(()) = health.changed() => next = Instant::now(),
            Some(ended) = checks.join_next() => pass_on(ended),
            pause = due => next = Instant::now() + pause,
        }
    }
    agent.host.notify("STOPPING=1\nSTATUS=Draining");
    tokio::select! {
        () = agent.drain() => {}
        _ = stop.recv() => tracing::warn!("Told to stop twice: the drain is cut short"),
    }
    agent.leave().await;
}

/// What checks say of the instance; without checks it is well.
fn watch_health(spec: &AgentSpec, checks: &mut JoinSet<()>) -> watch::Receiver<Health> {
    let Some(how) = &spec.health else { return watch::channel(Health::Up).1 };
    let (tell, health) = watch::channel(Health::Unknown);
    let (address, host) = (spec.address, spec.host.clone());
    let target = Target { address, host, spec: how.clone(), proxy_protocol: None, tls: None };
    checks.spawn(probe::watch(target, Health::Unknown, move |health, found| {
        match &found {
            Ok(()) => tracing::info!("The instance is well"),
            Err(error) => tracing::warn!(error = error as &dyn std::error::Error, "The instance is not well"),
        }
        tell.send_replace(health);
    }));
    health
}

struct Agent<H> {
    spec: AgentSpec,
    registry: Box<dyn Registry>,
    host: H,
    pace: Pace,
    said: Said,
    /// What the supervisor was told of that.
    status: &'static str,
    /// Whether it ever beat: the first beat brings back what was taken out.
    beaten: bool,
}

/// What was said to the store last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Beat(Beat),
    Silence,
}

impl<H: Host> Agent<H> {
    /// Tells the store how the instance is. Returns when to do so again.
    async fn say(&mut self, health: Health) -> Duration {
        let outcome = match health {
            Health::Unknown => return self.pace.beat(),
            Health::Up => self.registry.beat(&self.member(), !self.beaten).await.map(Said::Beat),
            Health::Down if self.said == Said::Silence => return self.pace.beat(),
            Health::Down => self.registry.fall_silent().await.map(|()| Said::Silence),
        };
        match outcome {
            Ok(said) => {
                self.beaten |= matches!(said, Said::Beat(_));
                self.note(said);
                self.pace.succeeded()
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Logs what is news, and tells the supervisor.
    fn note(&mut self, said: Said) {
        let status = match said {
            Said::Beat(Beat::Registered | Beat::Renewed) => "Registered",
            Said::Beat(Beat::Draining) => "Registered, and drained by somebody: it gets no new work",
            Said::Beat(Beat::TakenOut) => "Taken out by somebody: start the agent again to bring it back",
            Said::Silence | Said::Nothing => "Silent: the instance is not well",
        };
        // Registered once more means that the lease had run out, or the store had lost it.
        if status != self.status || said == Said::Beat(Beat::Registered) || self.pace.is_failing() {
            tracing::info!(service = self.spec.service, endpoint = self.spec.id, "{status}");
            self.host.notify(&format!("STATUS={status}"));
        }
        (self.said, self.status) = (said, status);
    }

    fn failed(&mut self, error: &StoreError) -> Duration {
        if !self.pace.is_failing() {
            tracing::warn!(%error, "The store can't be told: tried again until it can");
            self.host.notify("STATUS=The store is away");
        }
        self.pace.failed()
    }

    /// What the instance is now.
    fn member(&self) -> MemberSpec {
        let version = self.host.version();
        let mut member = self.spec.member.clone();
        if version.is_some() {
            member.version = version;
        }
        if member.check().is_err() {
            member.version.clone_from(&self.spec.member.version);
        }
        member
    }

    /// Gives the member no new work, and waits until the proxies are done with it, or for as long as it may take.
    async fn drain(&mut self) {
        if !matches!(self.said, Said::Beat(Beat::Registered | Beat::Renewed | Beat::Draining)) {
            return;
        }
        let waited = timeout(self.spec.drain_wait, async {
            self.say_draining().await;
            let told = Instant::now();
            let mut beat = told + self.pace.beat();
            loop {
                let done = self.host.is_done().await;
                if told.elapsed() >= SPREAD && done == Some(true) {
                    return;
                }
                if Instant::now() >= beat {
                    self.say_draining().await;
                    beat = Instant::now() + self.pace.beat();
                }
                sleep(LOOK).await;
            }
        });
        match waited.await {
            Ok(()) => tracing::info!("Drained"),
            Err(_) => tracing::info!("The time to drain is over"),
        }
    }

    async fn say_draining(&mut self) {
        let member = self.member();
        while let Err(error) = self.registry.drain(&member).await {
            let pause = self.failed(&error);
            sleep(pause).await;
        }
        self.pace.succeeded();
    }

    /// The last word. Where it can't be said, the lease says it later.
    async fn leave(&mut self) {
        if self.said == Said::Nothing {
            return;
        }
        let member = self.member();
        let farewell = timeout(FAREWELL, async {
            while let Err(error) = self.registry.leave(&member).await {
                let pause = self.failed(&error);
                sleep(pause).await;
            }
        });
        match farewell.await {
            Ok(()) => tracing::info!("Taken out"),
            Err(_) => tracing::warn!("The store can't be told of the end: the lease runs out"),
        }
    }
}
