//! A real DNS server of the test's own, dnsmasq: it knows what a test says of names below `internal.`, and nobody else.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::process::{Process, Signal};
use crate::redis::free_port;

const PROGRAM: &str = "/usr/sbin/dnsmasq";
/// How long it may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A DNS server on a free port of this machine, by UDP and TCP. Its answers have a TTL of zero. Killed when dropped.
#[derive(Debug)]
pub struct Dns {
    folder: TempDir,
    port: u16,
    process: Option<Process>,
}

impl Dns {
    /// One that knows no name. What isn't below `internal.` it refuses to answer; of what is, it says that there is no
    /// such name.
    ///
    /// # Errors
    /// When dnsmasq is missing, or doesn't start: with its log.
    pub async fn start() -> anyhow::Result<Self> {
        let mut server = Self::gone()?;
        server.restart().await?;
        Ok(server)
    }

    /// One that doesn't run yet: its port refuses.
    ///
    /// # Errors
    /// When there is no folder, or no port.
    pub fn gone() -> anyhow::Result<Self> {
        let server = Self { folder: tempfile::tempdir()?, port: free_port()?, process: None };
        fs::write(server.folder.path().join("hosts"), "")?;
        Ok(server)
    }

    /// Its address, as a configuration names it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Says which addresses each name has from now on; other names there are none.
    ///
    /// # Errors
    /// When it can't be told.
    pub fn set(&self, names: &[(&str, &[IpAddr])]) -> anyhow::Result<()> {
        let mut text = String::new();
        for (name, addresses) in names {
            for address in *addresses {
                writeln!(text, "{address} {name}")?;
            }
        }
        let (file, fresh) = (self.folder.path().join("hosts"), self.folder.path().join("fresh"));
        fs::write(&fresh, text)?;
        fs::rename(fresh, file)?;
        self.signal(Signal::HUP)
    }

    /// STOP makes it hang, CONT lets it go on. Nothing happens where it doesn't run.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal(signal))
    }

    /// Ends it. Its port refuses from then on.
    ///
    /// # Errors
    /// When it doesn't end.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.signal(Signal::KILL)?;
            process.wait(PATIENCE).await?;
        }
        Ok(())
    }

    /// Starts it, again where it runs, on the port that it always had.
    ///
    /// # Errors
    /// As [`Dns::start`].
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        let mut command = Command::new(PROGRAM);
        let hosts = format!("--addn-hosts={}", self.folder.path().join("hosts").display());
        let port = format!("--port={}", self.port);
        // It would give up root, and then can't read the folder.
        let who = "--user=root";
        let alone = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file", who];
        let place = ["--listen-address=127.0.0.1", "--bind-interfaces", "--log-facility=-", "--local=/internal/"];
        command.args(alone).args(place).args([hosts, port]);
        let process = Process::start("dnsmasq", command)
            .context("the suite needs dnsmasq, and there is none: install it (`apt-get install dnsmasq-base`)")?;
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            if process.exited().is_some() || Instant::now() > end {
                bail!("dnsmasq doesn't start:\n{}", process.log_tail());
            }
            sleep(Duration::from_millis(10)).await;
        }
        self.process = Some(process);
        Ok(())
    }
}
