//! One host: booted, reached by ssh, and gone when dropped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::process::Process;

/// How long a host may take until it can be logged in to. Ten that boot at once on a busy machine are slow.
const BOOT: Duration = Duration::from_secs(120);
/// The account that the base system has.
pub const USER: &str = "deploy";

/// What it takes to log in.
#[derive(Clone, Debug)]
pub struct Login {
    /// The private key's file; the public one's is beside it.
    pub key: PathBuf,
    /// The keys by which hosts are known.
    pub known_hosts: PathBuf,
}

impl Login {
    /// Options of ssh by which a login goes without questions, and only to hosts that are known.
    pub fn options(&self) -> Vec<String> {
        let known = format!("UserKnownHostsFile={}", self.known_hosts.display());
        let words = ["BatchMode=yes", "ConnectTimeout=5", "LogLevel=ERROR", "StrictHostKeyChecking=yes", &known];
        let options = words.iter().flat_map(|word| ["-o".to_owned(), (*word).to_owned()]);
        options.chain(["-i".to_owned(), self.key.display().to_string()]).collect()
    }
}

/// A running host.
#[derive(Debug)]
pub struct Machine {
    name: String,
    address: String,
    login: Login,
    process: Process,
}

impl Machine {
    /// Begins to boot a host over the base system; its own files are below `root`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn boot(base: &Path, root: &Path, name: &str, address: &str, login: &Login) -> anyhow::Result<Self> {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fleet/boot"));
        command.arg(base).arg(root).args([name, &format!("{address}/24")]).arg(login.key.with_extension("pub"));
        let process = Process::start(name, command)?;
        Ok(Self { name: name.to_owned(), address: address.to_owned(), login: login.clone(), process })
    }

    /// Waits until somebody can log in.
    ///
    /// # Errors
    /// When that takes too long, or it ended: with its console.
    pub async fn up(&self) -> anyhow::Result<()> {
        let end = Instant::now() + BOOT;
        while self.run("true").await.is_err() {
            if self.process.exited().is_some() || Instant::now() > end {
                bail!("{} doesn't come up; its console:\n{}", self.name, self.process.log_tail());
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Its name in the inventory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Runs a command on it, and returns what that said.
    ///
    /// # Errors
    /// When it can't be reached, or the command fails: with what it said.
    pub async fn run(&self, command: &str) -> anyhow::Result<String> {
        let output = Command::new("ssh")
            .args(self.login.options())
            .arg(format!("{USER}@{}", self.address))
            .arg(command)
            .kill_on_drop(true)
            .output()
            .await
            .context("can't run ssh")?;
        if !output.status.success() {
            bail!("`{command}` on {}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
