//! `serin agent`: the agent, from its configuration to its farewell.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use http::Method;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::LogFormat;
use super::client::{AdminUrl, Client, segment};
use super::commands::service_path;
use crate::admin::view::EndpointJson;
use crate::agent::{self, Host};
use crate::config;
use crate::model::agent::AgentSpec;
use crate::store::registry::{Entry, registry};
use crate::telemetry::log;
use crate::telemetry::supervisor::Supervisor;

/// The exit code of a configuration that is refused; `serin check` has the same.
const REFUSED: u8 = 2;
/// How long a proxy may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Examples and exit codes.
pub(super) const HELP: &str = "\
While the instance is well, the agent beats the lease of its endpoint in Redis. On SIGTERM it drains the endpoint,
waits until the proxies are done with it, and takes it out. It never ends because Redis is away.
Exit codes: 0 = ended, 1 = could not start, 2 = the configuration is refused.
Examples:
  serin agent --config /etc/serin/agent.toml
  serin agent --config agent.toml --check                    only says whether the file is valid
  serin agent --config agent.toml --version-name 1.5.1       instead of the file's version";

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration: see docs/agent.md
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The version that the instance runs, instead of what the file says
    #[arg(long, value_name = "VERSION")]
    version_name: Option<String>,
    /// Reads the configuration, says whether it is valid, and ends
    #[arg(long)]
    check: bool,
    /// What is logged on stderr: a level, or levels by target
    #[arg(long, value_name = "FILTER", env = "SERIN_LOG", default_value = "info")]
    log: String,
    /// How a log line looks
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

/// Runs the agent until it is told to stop.
pub(super) fn agent(options: &Options) -> ExitCode {
    let (spec, notes) = match load(options) {
        Ok(loaded) => loaded,
        Err(error) => return failed(&error, REFUSED),
    };
    if options.check {
        println!("{} is valid: {}/{}/{}", options.config.display(), spec.service, spec.arm, spec.id);
        notes.iter().for_each(|note| println!("note: {note}"));
        return ExitCode::SUCCESS;
    }
    let log = match log::init(options.log_format.into(), &options.log) {
        Ok(log) => log,
        Err(error) => return failed(&error.into(), REFUSED),
    };
    for note in notes {
        tracing::warn!("{}: {note}", options.config.display());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(spec))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn load(options: &Options) -> anyhow::Result<(AgentSpec, Vec<config::Note>)> {
    let (mut spec, notes) = config::load_agent(&options.config)?;
    if let Some(version) = &options.version_name {
        spec.member.version = Some(version.clone());
        spec.version_file = None;
        spec.member.check()?;
    }
    Ok((spec, notes))
}

async fn run(spec: AgentSpec) -> anyhow::Result<()> {
    let entry = Entry { service: spec.service.clone(), arm: spec.arm, id: spec.id.clone() };
    let registry = registry(&spec.store, &spec.namespace, entry)?;
    let machine = Machine::new(&spec)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, stopped) = mpsc::channel(2);
    let signals = async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // A third word says nothing new.
            let _ = stop.try_send(());
        }
    };
    tokio::select! {
        () = agent::run(spec, registry, machine, stopped) => Ok(()),
        () = signals => Ok(()),
    }
}

/// The machine that the agent runs on, and the way from it to the proxies.
struct Machine {
    proxies: Vec<Client>,
    /// Whether a proxy's silence was logged.
    complained: AtomicBool,
    path: String,
    version_file: Option<PathBuf>,
    supervisor: Supervisor,
}

impl Machine {
    fn new(spec: &AgentSpec) -> anyhow::Result<Self> {
        let client = |url: &String| -> anyhow::Result<Client> {
            Ok(Client::new(url.parse::<AdminUrl>()?, spec.token_file.as_deref())?)
        };
        let path = format!("{}/pools/{}/endpoints/{}", service_path(&spec.service), spec.arm, segment(&spec.id));
        Ok(Self {
            proxies: spec.admin.iter().map(client).collect::<anyhow::Result<_>>()?,
            complained: AtomicBool::new(false),
            path,
            version_file: spec.version_file.clone(),
            supervisor: Supervisor::at(config::notify_socket().as_deref()),
        })
    }
}

impl Host for Machine {
    fn version(&self) -> Option<String> {
        self.version_file.as_deref().and_then(config::version_of)
    }

    async fn is_done(&self) -> Option<bool> {
        let mut done = None;
        for proxy in &self.proxies {
            let asked = proxy.call::<EndpointJson>(Method::GET, &self.path, None, PATIENCE).await;
            match asked {
                Ok(endpoint) if endpoint.state == "draining" && endpoint.in_flight == 0 => done = Some(true),
                Ok(_) => return Some(false),
                Err(error) => {
                    if !self.complained.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%error, "A proxy doesn't say whether it is done: the drain takes its full time");
                    }
                    return Some(false);
                }
            }
        }
        done
    }

    fn notify(&self, state: &str) {
        self.supervisor.tell(state);
    }
}

fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(code)
}
