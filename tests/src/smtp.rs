//! A real mail server (aiosmtpd, in a process of its own) that can be told to misbehave.
//!
//! What it takes is read back as Python's own mail parser understands it: a second
//! opinion on what serin writes. See `tools/smtp_server.py`.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long the server may take to say its port.
const START: Duration = Duration::from_secs(30);

/// How the server protects its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    #[default]
    None,
    /// By STARTTLS, which it demands.
    StartTls,
    /// From the first byte.
    Implicit,
}

/// How the server behaves.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// How it protects its connections.
    pub tls: Tls,
    /// A name and a password that it demands.
    pub login: Option<(String, String)>,
    /// It answers so many mails with a 451 before it takes any.
    pub defer_first: u32,
    /// Receivers that it refuses with a 550.
    pub refuse: Vec<String>,
    /// How long it sits on a message before it takes it.
    pub tarpit: Duration,
    /// Where it listens, if not on 127.0.0.1.
    pub address: Option<IpAddr>,
    /// On which port; 0 is any that is free.
    pub port: u16,
}

/// A mail that the server took.
#[derive(Clone, Debug, Deserialize)]
pub struct Received {
    /// The sender in the envelope.
    pub from: String,
    /// The receivers in the envelope.
    pub to: Vec<String>,
    /// Whether the connection was encrypted.
    pub tls: bool,
    /// Whether the client logged in.
    pub authenticated: bool,
    /// The content type of the whole.
    pub content_type: String,
    /// The headers, decoded: names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The decoded parts by their content type.
    pub parts: BTreeMap<String, String>,
    /// What the parser found wrong with it.
    pub defects: Vec<String>,
}

impl Received {
    /// The first header of that name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A running server; gone when dropped.
#[derive(Debug)]
pub struct SmtpServer {
    behaviour: Behaviour,
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl SmtpServer {
    /// Starts a server, on a free port of 127.0.0.1 unless it is told another place.
    ///
    /// # Errors
    /// When it can't be started; without the test environment the error says how to make it.
    pub async fn start(behaviour: Behaviour) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("serin-smtp-").tempdir()?;
        fs::create_dir(dir.path().join("mails"))?;
        let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        fs::write(dir.path().join("cert.pem"), issued.cert.pem())?;
        fs::write(dir.path().join("key.pem"), issued.signing_key.serialize_pem())?;
        let port = behaviour.port;
        let mut server = Self { behaviour, dir, port, child: None };
        server.start_again().await?;
        Ok(server)
    }

    /// Ends the server. What it took stays.
    ///
    /// # Errors
    /// When it can't be killed.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Starts it again, on the same port.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let mut child = self.command()?.spawn().context("can't start the mail server")?;
        let stdout = child.stdout.take().context("its output is a pipe")?;
        let mut line = String::new();
        let read = timeout(START, BufReader::new(stdout).read_line(&mut line)).await;
        let said = read.context("the mail server doesn't start")?.map(|_| line.trim().parse());
        let Ok(Ok(port)) = said else {
            let log = fs::read_to_string(self.dir.path().join("stderr.log")).unwrap_or_default();
            bail!("the mail server ended at its start; it says:\n{log}");
        };
        self.port = port;
        self.child = Some(child);
        Ok(())
    }

    fn command(&self) -> anyhow::Result<Command> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = package.join("../target/test-env/bin/python");
        if !python.exists() {
            bail!("{} is missing: `tests/run` makes the test environment", python.display());
        }
        let mut command = Command::new(python);
        command.arg(package.join("tools/smtp_server.py"));
        command.arg("--folder").arg(self.dir.path().join("mails"));
        command.args(["--port", &self.port.to_string()]);
        if let Some(address) = self.behaviour.address {
            command.args(["--host", &address.to_string()]);
        }
        command.arg("--cert").arg(self.ca_file()).arg("--key").arg(self.dir.path().join("key.pem"));
        let tls = match self.behaviour.tls {
            Tls::None => "none",
            Tls::StartTls => "starttls",
            Tls::Implicit => "implicit",
        };
        command.args(["--tls", tls, "--defer-first", &self.behaviour.defer_first.to_string()]);
        command.args(["--tarpit", &self.behaviour.tarpit.as_secs_f64().to_string()]);
        if let Some((name, password)) = &self.behaviour.login {
            command.args(["--login", &format!("{name}:{password}")]);
        }
        for receiver in &self.behaviour.refuse {
            command.args(["--refuse-receiver", receiver]);
        }
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("stderr.log"))?;
        // It ends when its standard input does: also when this process is killed.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        Ok(command)
    }

    /// The port it listens on, or did before it was stopped.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its self-signed certificate, in PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// The mails it took, the first one first.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn mails(&self) -> anyhow::Result<Vec<Received>> {
        let mut paths: Vec<PathBuf> = fs::read_dir(self.dir.path().join("mails"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths.iter().map(|path| Ok(serde_json::from_slice(&fs::read(path)?)?)).collect()
    }
}
