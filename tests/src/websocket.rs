//! WebSockets by a library that nobody here wrote, as processes: see `tests/websocket/`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::process::Command;

use crate::process::Process;

/// An application that echoes; gone when dropped.
#[derive(Debug)]
pub struct Echo {
    _process: Process,
    address: SocketAddr,
}

impl Echo {
    /// Starts one that says this is its name.
    ///
    /// # Errors
    /// When Python or the library is missing.
    pub async fn start(name: &str) -> anyhow::Result<Self> {
        let mut command = python("server.py")?;
        command.arg(name);
        let process = Process::start("websocket", command)?;
        let port: u16 = process.first_line().await?.parse().context("the first line is a port")?;
        Ok(Self { _process: process, address: ([127, 0, 0, 1], port).into() })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Has a user play a part at this URL: what came of it.
///
/// # Errors
/// When the user isn't content: with what it says.
pub async fn user(url: &str, part: &str, ca: Option<&Path>) -> anyhow::Result<Value> {
    let mut command = python("client.py")?;
    command.args([url, part]);
    if let Some(ca) = ca {
        command.env("CA_FILE", ca);
    }
    told(command).await.with_context(|| format!("{part} at {url}"))
}

/// Has a user of HTTP/2 open WebSockets on one connection to this URL: what came of it.
///
/// # Errors
/// When the user isn't content: with what it says.
pub async fn http2_user(url: &str, ca: &Path) -> anyhow::Result<Value> {
    let mut command = python("http2.py")?;
    command.arg(url).env("CA_FILE", ca);
    told(command).await.with_context(|| format!("HTTP/2 at {url}"))
}

/// Has a page at this URL, in Chromium, talk by a WebSocket to where it came from: what came of it.
///
/// # Errors
/// When Chromium is missing, or the page isn't content.
pub async fn page(url: &str) -> anyhow::Result<Value> {
    let mut command = python("browser.py")?;
    command.arg(url);
    told(command).await.with_context(|| format!("the page at {url}"))
}

/// What a script says, in JSON.
async fn told(mut script: Command) -> anyhow::Result<Value> {
    let output = script.kill_on_drop(true).output().await?;
    if !output.status.success() {
        bail!("failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The interpreter with the suite's packages, about to run a script of `tests/websocket/`.
fn python(script: &str) -> anyhow::Result<Command> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python: PathBuf = package.join("../target/test-env/bin/python");
    if !python.exists() {
        bail!("{} is missing: `tests/run` makes it", python.display());
    }
    let mut command = Command::new(python);
    command.arg(package.join("websocket").join(script));
    Ok(command)
}
