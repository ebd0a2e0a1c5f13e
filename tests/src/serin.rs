//! The daemon as a process that a test holds by a handle.
//!
//! A test says in its configuration what matters to it; the harness adds what is about place: the
//! listener, the admin address with an operator's token, the state file. `@http@`, `@admin@` and
//! `@dir@` in the text stand for the two addresses and a folder of the test's own.

mod place;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::client::{Client, Reply};
use crate::process::{Build, Heir, Process, Signal, serin_binary};
use place::{Place, Program};

/// How long the daemon may take to be ready.
const READY: Duration = Duration::from_secs(60);
/// How long it may take to drain after SIGTERM.
const STOP: Duration = Duration::from_secs(40);
/// The token that the harness calls the admin API with. What it opens is gone with the test.
const TOKEN: &str = "the-suites-own";
/// How often other ports are tried when someone took a free one first.
const TRIES: usize = 5;

/// A running daemon.
#[derive(Debug)]
pub struct Serin {
    process: Process,
    /// The processes that have taken over, the one that serves last.
    heirs: Mutex<Vec<Heir>>,
    program: Program,
    place: Place,
}

impl Serin {
    /// Starts the daemon with this configuration and waits until it is ready.
    ///
    /// # Errors
    /// When it doesn't build, doesn't start or isn't ready in time: with its log.
    pub async fn start(config: &str) -> anyhow::Result<Self> {
        Self::start_under(config, Build::Dev, &[]).await
    }

    /// Starts the optimised build: for figures of time.
    ///
    /// # Errors
    /// As [`Serin::start`].
    pub async fn start_release(config: &str) -> anyhow::Result<Self> {
        Self::start_under(config, Build::Release, &[]).await
    }

    /// Starts a build in the hands of a tool, which runs it in a process of the same id. `@dir@` in
    /// the tool's arguments stands for [`Serin::dir`].
    ///
    /// # Errors
    /// As [`Serin::start`].
    pub async fn start_under(config: &str, build: Build, under: &[&str]) -> anyhow::Result<Self> {
        let program = Program { build, under: under.iter().map(|&word| word.to_owned()).collect() };
        let mut tries = 0;
        loop {
            tries += 1;
            let place = Place::reserve()?;
            place.write(config)?;
            let process = place.launch(&program)?;
            let serin = Self { process, heirs: Mutex::default(), program: program.clone(), place };
            match serin.wait_ready().await {
                Ok(()) => return Ok(serin),
                Err(_) if tries < TRIES && serin.lost_its_port() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where users connect.
    pub const fn http(&self) -> SocketAddr {
        self.place.http
    }

    /// Where the admin API listens.
    pub const fn admin(&self) -> SocketAddr {
        self.place.admin
    }

    /// The folder with its configuration and state.
    pub fn dir(&self) -> &Path {
        self.place.dir.path()
    }

    /// A new user of it.
    pub fn client(&self) -> Client {
        Client::to(self.http())
    }

    /// The answer of the admin API to a GET.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ask(&self, path: &str) -> anyhow::Result<Reply> {
        Ok(self.operator().get(path).await?)
    }

    /// The token of an operator.
    pub const fn token(&self) -> &'static str {
        TOKEN
    }

    /// A caller of the admin API who may do everything.
    pub fn operator(&self) -> Client {
        Client::to(self.admin()).header("authorization", &format!("Bearer {TOKEN}"))
    }

    /// Runs a client command of the same program, as an operator of this daemon.
    ///
    /// # Errors
    /// When it doesn't run. How it ended is in the answer.
    pub async fn command(&self, words: &[&str]) -> anyhow::Result<Output> {
        let token = self.dir().join("token");
        fs::write(&token, TOKEN)?;
        let mut command = Command::new(serin_binary(self.program.build)?);
        command.args(words).arg("--admin").arg(format!("http://{}", self.admin())).arg("--token-file").arg(token);
        Ok(command.output().await?)
    }

    /// Sets the canary weight of a service.
    ///
    /// # Errors
    /// When that is refused, with the reason.
    pub async fn set_weight(&self, service: &str, percent: f64) -> anyhow::Result<()> {
        let path = format!("/v1/services/{service}/canary/weight");
        accepted(&self.operator().put_json(&path, &json!({ "percent": percent })).await?)
    }

    /// Opens the circuit of a service.
    ///
    /// # Errors
    /// When that is refused, with the reason.
    pub async fn trip(&self, service: &str, reason: &str) -> anyhow::Result<()> {
        let path = format!("/v1/services/{service}/circuit/trip");
        accepted(&self.operator().post_json(&path, &json!({ "reason": reason })).await?)
    }

    /// Closes the circuit of a service.
    ///
    /// # Errors
    /// When that is refused, with the reason.
    pub async fn reset(&self, service: &str, reason: &str) -> anyhow::Result<()> {
        let path = format!("/v1/services/{service}/circuit/reset");
        accepted(&self.operator().post_json(&path, &json!({ "reason": reason })).await?)
    }

    /// The value of a metric; `series` is its name with its labels, as Prometheus writes them.
    ///
    /// # Errors
    /// When there is no such series.
    pub async fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let text = self.ask("/metrics").await?.text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no {series} in:\n{text}"))?.parse()?)
    }

    /// A service as the admin API shows it.
    ///
    /// # Errors
    /// When there is no such service, or no answer.
    pub async fn service(&self, name: &str) -> anyhow::Result<Value> {
        let reply = self.ask(&format!("/v1/services/{name}")).await?;
        if reply.status != 200 {
            bail!("service {name}: {} {}", reply.status, reply.text());
        }
        reply.json()
    }

    /// Writes another configuration, for a reload or a restart to find.
    ///
    /// # Errors
    /// When it isn't TOML.
    pub fn rewrite(&self, config: &str) -> anyhow::Result<()> {
        self.place.write(config)
    }

    /// Sends a signal to the process that the test started, also if another one has taken over.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.signal(signal)
    }

    /// Has the program on disk take over. From then on signals go to the new process.
    ///
    /// # Errors
    /// When none takes over: with the reason.
    pub async fn upgrade(&self) -> anyhow::Result<u32> {
        let reply = self.operator().deadline(READY).post_json("/v1/upgrade", &json!({})).await?;
        accepted(&reply)?;
        let id = reply.json()?["process"].as_u64().and_then(|id| u32::try_from(id).ok()).context("a process")?;
        self.heirs().push(Heir::of(id)?);
        Ok(id)
    }

    /// As [`Serin::upgrade`], by a signal.
    ///
    /// # Errors
    /// When nobody has taken over after a while.
    pub async fn upgrade_by_signal(&self) -> anyhow::Result<u32> {
        let before = self.serving();
        self.send_to_serving(Signal::USR2)?;
        let end = Instant::now() + READY;
        let id = loop {
            let state: Option<Value> = match self.ask("/readyz").await {
                Ok(reply) if reply.status == 200 => reply.json().ok(),
                _ => None,
            };
            match state.and_then(|state| state["process"].as_u64()).and_then(|id| u32::try_from(id).ok()) {
                Some(id) if id != before => break id,
                _ if Instant::now() > end => bail!("nobody has taken over:\n{}", self.process.log_tail()),
                _ => sleep(Duration::from_millis(5)).await,
            }
        };
        self.heirs().push(Heir::of(id)?);
        Ok(id)
    }

    /// The id of the process that serves.
    pub fn serving(&self) -> u32 {
        self.heirs().last().map_or_else(|| self.process.id(), Heir::id)
    }

    /// Sends a signal to the process that serves: HUP reloads, USR2 upgrades.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn send_to_serving(&self, signal: Signal) -> anyhow::Result<()> {
        match self.heirs().last() {
            Some(heir) => heir.signal(signal),
            None => self.process.signal(signal)?,
        }
        Ok(())
    }

    /// How many processes of it run: the one that serves, and those that still end what they have.
    pub fn processes(&self) -> usize {
        let heirs = self.heirs().iter().filter(|heir| heir.is_alive()).count();
        heirs + usize::from(self.process.exited().is_none())
    }

    fn heirs(&self) -> MutexGuard<'_, Vec<Heir>> {
        self.heirs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks it to drain and end, and waits for that.
    ///
    /// # Errors
    /// When it still runs long after.
    pub async fn stop(&self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.ended().await
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs long after.
    pub async fn ended(&self) -> anyhow::Result<ExitStatus> {
        self.process.wait(STOP).await
    }

    /// Ends it without giving it a chance to tidy up.
    ///
    /// # Errors
    /// When it can't be killed.
    pub async fn kill(&self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        self.process.wait(STOP).await
    }

    /// Starts it again where it was, with its state, after [`Serin::stop`] or [`Serin::kill`].
    ///
    /// # Errors
    /// When it still runs, or doesn't come up.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        if self.process.exited().is_none() {
            bail!("serin still runs: stop or kill it first");
        }
        self.process = self.place.launch(&self.program)?;
        self.wait_ready().await
    }

    /// Whether the process runs.
    pub fn is_alive(&self) -> bool {
        self.process.exited().is_none()
    }

    /// The most memory that the process ever held, in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn peak_memory(&self) -> anyhow::Result<u64> {
        self.process.peak_memory()
    }

    /// Whether its state file holds this text.
    pub fn has_on_disk(&self, text: &str) -> bool {
        fs::read_to_string(self.dir().join("state.json")).is_ok_and(|file| file.contains(text))
    }

    /// All that it logged, restarts included.
    pub fn logs(&self) -> String {
        self.process.log()
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        let end = Instant::now() + READY;
        loop {
            if let Ok(reply) = Client::to(self.admin()).get("/readyz").await
                && reply.status == 200
            {
                return Ok(());
            }
            if let Some(status) = self.process.exited() {
                bail!("serin ended at its start with {status}:\n{}", self.process.log_tail());
            }
            if Instant::now() > end {
                bail!("serin isn't ready after {READY:?}:\n{}", self.process.log_tail());
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn lost_its_port(&self) -> bool {
        self.logs().contains("Address already in use")
    }
}

impl Drop for Serin {
    #[expect(clippy::print_stderr, reason = "a failing test tells where to look")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.place.dir.disable_cleanup(true);
            eprintln!("serin's files are kept in {}", self.place.dir.path().display());
        }
    }
}

/// Whether the admin API did as asked.
fn accepted(reply: &Reply) -> anyhow::Result<()> {
    if reply.status != 200 {
        bail!("refused with {}: {}", reply.status, reply.text());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_daemon_that_ends_at_its_start_is_not_waited_for() {
        let problem = Serin::start("[no_such_table]\n").await.unwrap_err().to_string();
        assert!(problem.contains("ended at its start"), "{problem}");
    }
}
