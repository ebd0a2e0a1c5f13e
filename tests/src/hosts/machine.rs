//! One host: booted, reached by ssh, and cut off from power or network where a story wants it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::artifact::run_to_end;

/// How long a host may take until it can be logged in to. Ten that boot at once on a busy machine are slow.
const BOOT: Duration = Duration::from_secs(120);
/// How long what is left of a host without power may take to go.
const END: Duration = Duration::from_secs(20);
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

/// A host. It runs until its power is cut, or the world that it was booted in ends.
#[derive(Debug)]
pub struct Machine {
    name: String,
    address: String,
    login: Login,
    root: PathBuf,
}

impl Machine {
    /// A host whose own files are below `root`, whether or not it runs.
    pub fn of(root: &Path, name: &str, address: &str, login: &Login) -> Self {
        Self { name: name.to_owned(), address: address.to_owned(), login: login.clone(), root: root.to_owned() }
    }

    /// Begins to boot it over the base system.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn boot(&self, base: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(&self.root)?;
        let console = File::options().create(true).append(true).open(self.console())?;
        Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fleet/boot"))
            .arg(base)
            .arg(&self.root)
            .args([&self.name, &format!("{}/24", self.address)])
            .arg(self.login.key.with_extension("pub"))
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .process_group(0)
            .spawn()
            .with_context(|| format!("can't boot {}", self.name))?;
        Ok(())
    }

    /// Waits until somebody can log in.
    ///
    /// # Errors
    /// When that takes too long: with its console.
    pub async fn up(&self) -> anyhow::Result<()> {
        let end = Instant::now() + BOOT;
        while self.run("true").await.is_err() {
            if Instant::now() > end {
                let said = fs::read(self.console()).unwrap_or_default();
                bail!("{} doesn't come up; its console:\n{}", self.name, String::from_utf8_lossy(&said));
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Whether it has power.
    pub fn runs(&self) -> bool {
        self.process().is_ok_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
    }

    /// Cuts its power. Its disk stays as it is.
    ///
    /// # Errors
    /// When it isn't running, or doesn't end.
    pub async fn cut(&self) -> anyhow::Result<()> {
        let pid = self.process()?;
        // Its first process is the child of what boots it; with that one all of its processes end.
        let first = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?.trim().parse()?;
        let first = Pid::from_raw(first).context("a process id")?;
        kill_process(first, Signal::KILL).with_context(|| format!("{} isn't running", self.name))?;
        let end = Instant::now() + END;
        while self.runs() {
            ensure!(Instant::now() < end, "{} is still there without power", self.name);
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn process(&self) -> anyhow::Result<i32> {
        Ok(fs::read_to_string(self.root.join("pid"))?.trim().parse()?)
    }

    /// Pulls its network cable, or plugs it in again.
    ///
    /// # Errors
    /// When there is no such cable.
    pub fn plug(&self, plugged: bool) -> anyhow::Result<()> {
        let state = if plugged { "up" } else { "down" };
        let cable = format!("vb-{}", self.name);
        run_to_end(std::process::Command::new("ip").args(["link", "set", &cable, state]))?;
        Ok(())
    }

    fn console(&self) -> PathBuf {
        self.root.join("console.log")
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
