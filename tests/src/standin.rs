//! The stand-in application as a process that a test holds by a handle.

use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::process::Command;

use crate::client::Client;
use crate::process::{Process, Signal, own_binary};

/// How a stand-in is started.
#[derive(Clone, Debug)]
pub struct Setup {
    version: String,
    listen: SocketAddr,
    nginx: bool,
    quirks: Vec<(String, Value)>,
}

impl Setup {
    /// A stand-in that says it is this version, on a free port.
    pub fn version(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            nginx: false,
            quirks: Vec::new(),
        }
    }

    /// With a quirk or fault from the start; see [`crate::checkbox::quirks::Quirks`].
    #[must_use]
    pub fn with(mut self, quirk: &str, value: impl Into<Value>) -> Self {
        self.quirks.push((quirk.to_owned(), value.into()));
        self
    }

    /// Answering as through the application's own nginx.
    #[must_use]
    pub const fn behind_nginx(mut self) -> Self {
        self.nginx = true;
        self
    }

    /// On this address: to come back where another was.
    #[must_use]
    pub const fn on(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }
}

/// A running stand-in.
#[derive(Debug)]
pub struct Checkbox {
    process: Process,
    address: SocketAddr,
    control: SocketAddr,
    /// Holds the port of one that was killed.
    grave: Mutex<Option<TcpSocket>>,
}

impl Checkbox {
    /// Starts a stand-in and waits until it listens.
    ///
    /// # Errors
    /// When it can't be started, with what it said.
    pub async fn start(setup: Setup) -> anyhow::Result<Self> {
        let mut command = Command::new(own_binary("checkbox")?);
        command.args(["--control", "127.0.0.1:0", "--version-name", &setup.version]);
        command.args(["--listen", &setup.listen.to_string()]);
        if setup.nginx {
            command.arg("--nginx");
        }
        for (quirk, value) in &setup.quirks {
            command.args(["--set", &format!("{quirk}={value}")]);
        }
        let process = Process::start("checkbox", command)?;
        let line = process.first_line().await?;
        let hello: Value = serde_json::from_str(&line).with_context(|| format!("checkbox says {line}"))?;
        let address = |field: &str| {
            let text = hello[field].as_str().with_context(|| format!("checkbox says no {field}: {hello}"))?;
            text.parse().with_context(|| format!("checkbox listens on {text}"))
        };
        Ok(Self { address: address("address")?, control: address("control")?, process, grave: Mutex::default() })
    }

    /// Where the application listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A user of it, without a proxy between.
    pub fn client(&self) -> Client {
        Client::to(self.address)
    }

    /// Changes quirks and faults; what isn't named stays.
    ///
    /// # Errors
    /// When the stand-in is gone, or doesn't know a name.
    pub async fn fault(&self, patch: Value) -> anyhow::Result<()> {
        let reply = Client::to(self.control).put_json("/fault", &patch).await?;
        if reply.status != 200 {
            bail!("the stand-in refuses {patch}: {}", reply.text());
        }
        Ok(())
    }

    /// Puts quirks and faults back to those it was started with.
    ///
    /// # Errors
    /// When the stand-in is gone.
    pub async fn heal(&self) -> anyhow::Result<()> {
        Client::to(self.control).delete("/fault").await?;
        Ok(())
    }

    /// The quirks and faults in force.
    ///
    /// # Errors
    /// When the stand-in is gone.
    pub async fn faults(&self) -> anyhow::Result<Value> {
        Client::to(self.control).get("/fault").await?.json()
    }

    /// Counts and gauges: `requests`, `last_request`, `routes`, `in_flight`, `connections`, `votes`, ….
    ///
    /// # Errors
    /// When the stand-in is gone.
    pub async fn state(&self) -> anyhow::Result<Value> {
        Client::to(self.control).get("/state").await?.json()
    }

    /// Requests it has seen, answered or not.
    ///
    /// # Errors
    /// When the stand-in is gone.
    pub async fn requests(&self) -> anyhow::Result<u64> {
        self.state().await?["requests"].as_u64().context("the stand-in counts no requests")
    }

    /// When the last request came to it, answered or not; none before the first.
    ///
    /// # Errors
    /// When the stand-in is gone.
    pub async fn last_request(&self) -> anyhow::Result<Option<Timestamp>> {
        let state = self.state().await?;
        state["last_request"].as_str().map(|at| at.parse().context("the stand-in tells no time")).transpose()
    }

    /// Whether the process runs.
    pub fn is_alive(&self) -> bool {
        self.process.exited().is_none()
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// When it still runs at the deadline.
    pub async fn wait(&self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.process.wait(deadline).await
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.signal(signal)
    }

    /// Kills it and waits until it is gone: its port refuses from here on.
    ///
    /// # Errors
    /// When it can't be killed.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(10)).await?;
        // Bound and not listening: it refuses, and no server of another test can come to be there.
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        *self.grave.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
        Ok(())
    }
}
