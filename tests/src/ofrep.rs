//! Applications that ask for flags, as processes: through OpenFeature's own providers, or by the middleware that the manual
//! shows. See `tests/ofrep/`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// How long an application may take to start, or to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// By which provider an application asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Node.js on a server: a call for each question.
    Node,
    /// Python on a server: a call for each question.
    Python,
    /// A page: all answers for one user at once, and again now and then.
    PollingPage,
    /// A page: all answers for one user at once, and again when it is told.
    ListeningPage,
}

/// What an application got to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// The value that it goes on with.
    pub value: Value,
    /// The variant, if serin said one.
    #[serde(default)]
    pub variant: Option<String>,
    /// Why it is this value.
    #[serde(default)]
    pub reason: Option<String>,
    /// What went wrong, if anything.
    #[serde(default)]
    pub error_code: Option<String>,
    /// What the definition says about itself.
    #[serde(default)]
    pub flag_metadata: Map<String, Value>,
}

/// An application that runs; gone when dropped.
#[derive(Debug)]
pub struct Application {
    _child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    log: TempDir,
}

impl Application {
    /// Starts one that asks the admin API there with this token.
    ///
    /// # Errors
    /// When it can't be started; without what it needs the error says how to get that.
    pub async fn start(provider: Provider, admin: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let mut command = command(provider)?;
        command.arg(format!("http://{admin}")).arg(token);
        Self::begin(command).await
    }

    /// Starts one with the middleware of docs/flags.md, which reads the flags of a namespace from this Redis.
    ///
    /// # Errors
    /// As [`Application::start`].
    pub async fn with_middleware(redis: &str, namespace: &str) -> anyhow::Result<Self> {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/flags.md");
        let mut command = node("ofrep/middleware.mjs")?;
        command.arg(page).arg(redis).arg(namespace);
        Self::begin(command).await
    }

    async fn begin(mut command: Command) -> anyhow::Result<Self> {
        let log = tempfile::Builder::new().prefix("serin-ofrep-").tempdir()?;
        let stderr = std::fs::File::create(log.path().join("stderr.log"))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("can't start {:?}", command.as_std()))?;
        let questions = child.stdin.take().context("its input is a pipe")?;
        let answers = BufReader::new(child.stdout.take().context("its output is a pipe")?).lines();
        let mut application = Self { _child: child, questions, answers, log };
        match application.line().await?.as_str() {
            "ready" => Ok(application),
            other => bail!("the application begins with {other}"),
        }
    }

    /// What a flag is for whom the context describes; a page goes on about the one it was told of last.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub async fn ask(&mut self, kind: &str, key: &str, otherwise: Value, context: Value) -> anyhow::Result<Details> {
        let question = json!({ "type": kind, "key": key, "otherwise": otherwise, "context": context });
        self.questions.write_all(format!("{question}\n").as_bytes()).await?;
        let line = self.line().await?;
        serde_json::from_str(&line).with_context(|| format!("the application answers {line}"))
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let line = timeout(PATIENCE, self.answers.next_line()).await.context("the application says nothing")??;
        line.with_context(|| {
            let log = std::fs::read_to_string(self.log.path().join("stderr.log")).unwrap_or_default();
            format!("the application ended; it says:\n{log}")
        })
    }
}

fn command(provider: Provider) -> anyhow::Result<Command> {
    let mode = match provider {
        Provider::Python => return python(),
        Provider::Node => "server",
        Provider::PollingPage => "polls",
        Provider::ListeningPage => "listens",
    };
    let mut command = node("ofrep/client.mjs")?;
    command.arg(mode);
    Ok(command)
}

fn python() -> anyhow::Result<Command> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = package.join("../target/test-env/bin/python");
    check(&python)?;
    let mut command = Command::new(python);
    command.arg(package.join("ofrep/client.py"));
    Ok(command)
}

/// A script for Node.js, whose first argument is where its packages are.
fn node(script: &str) -> anyhow::Result<Command> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = package.join("../target/ofrep-env");
    check(&modules.join("done"))?;
    let mut command = Command::new("node");
    command.arg(package.join(script)).arg(modules.canonicalize()?);
    Ok(command)
}

fn check(needed: &Path) -> anyhow::Result<()> {
    if !needed.exists() {
        bail!("{} is missing: `tests/run` makes what the applications need", needed.display());
    }
    Ok(())
}
