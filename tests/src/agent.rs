//! `serin agent` as a process that a test holds by a handle.

use std::fs;
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Build, Process, Signal, serin_binary};

/// How long an agent may take to drain and end.
const STOP: Duration = Duration::from_secs(40);

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    _dir: TempDir,
}

impl Agent {
    /// Starts an agent with this configuration. `@token@` in it stands for a file with this token.
    ///
    /// # Errors
    /// When it doesn't build or can't be started.
    pub fn start(config: &str, token: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("serin-agent-").tempdir()?;
        let (file, token_file) = (dir.path().join("agent.toml"), dir.path().join("token"));
        fs::write(&token_file, token)?;
        fs::write(&file, config.replace("@token@", &token_file.display().to_string()))?;
        let mut command = Command::new(serin_binary(Build::Dev)?);
        command.arg("agent").arg("--config").arg(file);
        Ok(Self { process: Process::start("agent", command)?, _dir: dir })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.signal(signal)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs long after.
    pub async fn ended(&self) -> anyhow::Result<ExitStatus> {
        self.process.wait(STOP).await
    }

    /// Asks it to drain its endpoint and end, and waits for that.
    ///
    /// # Errors
    /// When it still runs long after.
    pub async fn stop(&self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.ended().await
    }

    /// Ends it without giving it a chance to say so.
    ///
    /// # Errors
    /// When it can't be killed.
    pub async fn kill(&self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        self.ended().await
    }

    /// All that it logged.
    pub fn logs(&self) -> String {
        self.process.log()
    }
}
