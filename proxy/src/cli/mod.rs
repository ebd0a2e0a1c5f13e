//! The commands of the binary: what they are called, and what their exit codes say.
//!
//! Client commands talk to a running daemon through its admin API and nothing else.
//! May know all rooms.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer goes to the terminal")]

mod agent;
mod autoscale;
pub mod backtest;
pub mod check;
pub mod client;
mod commands;
pub mod demo;
mod endpoint;
mod flag;
mod render;
mod rollout;
pub mod serve;
mod token;

use std::error::Error;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::model::flag::switch::SwitchError;
use crate::model::weight::Weight;
use crate::telemetry::log;
use client::{AdminUrl, Client, ClientError};
use token::{Token, TokenError};

const EXIT_CODES: &str = "\
Exit codes: 0 = done, 1 = failed (the server said no, or can't be reached), 2 = wrong usage.";

/// A proxy that judges canaries by evidence and pulls the bad ones.
#[derive(Debug, Parser)]
#[command(name = "serin", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    reach: Reach,
    #[command(subcommand)]
    command: Command,
}

/// How the admin API is reached.
#[derive(Debug, Args)]
struct Reach {
    /// The admin API: http://HOST:PORT or unix:/PATH
    #[arg(long, global = true, value_name = "URL", env = "SERIN_ADMIN", default_value = "http://127.0.0.1:9901")]
    admin: AdminUrl,
    /// A file that holds the token to show; not needed over the daemon's own unix socket
    #[arg(long, global = true, value_name = "FILE", env = "SERIN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the daemon
    #[command(after_help = "\
SIGHUP reads the configuration again, SIGUSR2 has the program on disk take over, SIGTERM and SIGINT drain and end.
Exit codes: 0 = ended, 1 = could not start, 2 = the configuration is refused.
Examples:
  serin serve --config /etc/serin/serin.toml
  SERIN_LOG=info,access=info serin serve --config serin.toml     with the access log")]
    Serve {
        /// The configuration: see config/serin.toml
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// What is logged on stderr: a level, or levels by target
        #[arg(long, value_name = "FILTER", env = "SERIN_LOG", default_value = "info,access=off")]
        log: String,
        /// How a log line looks
        #[arg(long, value_enum, default_value_t)]
        log_format: LogFormat,
    },
    /// Shows all of it in half a minute, with nothing installed
    #[command(after_help = "\
Two pools, users, a canary that breaks, the pull and the mail: in this process, on loopback.
Exit codes: 0 = done, 1 = the story did not come true, 130 = interrupted (with --once).
Examples:
  serin demo                stays up to play with, until Ctrl-C
  serin demo --once         ends by itself, with a summary")]
    Demo {
        /// Ends after the mail instead of staying up
        #[arg(long)]
        once: bool,
    },
    /// Says whether a configuration is valid, and what it means
    #[command(after_help = "\
Reads files only: no daemon, no network.
Exit codes: 0 = valid, 2 = refused, with line and caret.
Example:
  serin check config/serin.toml")]
    Check {
        /// The configuration
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
    /// Stands beside an instance and keeps it registered with the proxies
    #[command(after_help = agent::HELP)]
    Agent(agent::Options),
    /// Replays access logs through the verdict: when would the canary have been pulled, and on what
    #[command(after_help = backtest::HELP)]
    Backtest(backtest::Options),
    /// Scales a service by rules: what they would do and why, and how they would fare
    #[command(subcommand)]
    Autoscale(autoscale::Autoscale),
    #[command(flatten)]
    Client(ClientCommand),
    /// Makes tokens for the admin API
    #[command(subcommand)]
    Token(Token),
}

/// What asks a running daemon.
#[derive(Debug, Subcommand)]
enum ClientCommand {
    /// Shows services: weight, circuit, evidence, endpoints
    #[command(after_help = "\
Examples:
  serin status                     all services, a line each
  serin status checkbox            one service in full
  serin status checkbox --json     the same for programs")]
    Status {
        /// One service in full; all of them in short if absent
        service: Option<String>,
        /// The API's JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Has the program on disk take over from the daemon, without losing a request
    #[command(after_help = "\
Starts the program again as the daemon was started, and waits until the new process serves. If it can't, the old one
serves on. SIGUSR2 to the daemon does the same.
Exit codes: 0 = a new process has taken over, 1 = the old one serves on.
Example:
  serin upgrade --admin unix:/run/serin/admin.sock --reason '0.2.1'")]
    Upgrade {
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Sets the percent of users that the canary gets
    #[command(after_help = "\
Examples:
  serin weight checkbox 10 --reason 'first users of 1.5'
  serin weight checkbox 0.5        two decimals at most
  serin weight checkbox 0          sends everybody to stable and ends the episode")]
    Weight {
        /// The service
        service: String,
        /// 0 to 100, with at most two decimals
        percent: Weight,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Opens the circuit: the canary gets nothing until a person resets it
    #[command(after_help = "\
Works with the store gone too.
Example:
  serin trip checkbox --reason 'users report lost answers'")]
    Trip {
        /// The service
        service: String,
        /// Why: shown to everybody who looks
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Closes the circuit: the canary gets its weight again
    #[command(after_help = "\
Needs the role operator.
Example:
  serin reset checkbox --reason 'fixed in 1.5.1'")]
    Reset {
        /// The service
        service: String,
        /// Why: kept with the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Moves a new version from its first users to all, step by step
    #[command(subcommand)]
    Rollout(rollout::Rollout),
    /// Lists, adds, removes, drains and readies endpoints
    #[command(subcommand)]
    Endpoint(endpoint::Endpoint),
    /// Shows who changed what, and why: the newest last
    #[command(after_help = "\
Examples:
  serin audit                      of all proxies that share the store
  serin audit --json | jq '.entries[] | select(.flag == \"new-editor\")'")]
    Audit {
        /// Shows so many entries
        #[arg(long, value_name = "N", default_value_t = 50)]
        last: usize,
        /// The API's JSON instead of text, all of it
        #[arg(long)]
        json: bool,
    },
    /// Lists, reads, sets, switches and removes feature flags
    #[command(subcommand)]
    Flag(flag::Flag),
    /// What asks about scaling: `serin autoscale` is above, since one of its commands asks nobody
    #[command(skip)]
    Autoscale(autoscale::ClientAutoscale),
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

impl From<LogFormat> for log::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Switch(#[from] SwitchError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("cannot read {}", file.display())]
    Input { file: PathBuf, source: std::io::Error },
    #[error("{} is no JSON", file.display())]
    Definition { file: PathBuf, source: serde_json::Error },
    #[error("cannot start")]
    Runtime(#[source] std::io::Error),
}

/// Runs the command that the arguments ask for.
pub fn run() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => dispatch(cli).unwrap_or_else(|error| {
            eprintln!("error: {}", with_causes(&error));
            ExitCode::FAILURE
        }),
        Err(usage) => {
            // Help and version come this way too; a closed pipe is nobody's loss.
            let _ = usage.print();
            if usage.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
        }
    }
}

/// From a command to what does it. Commands that run the daemon itself belong here too.
fn dispatch(cli: Cli) -> Result<ExitCode, CommandError> {
    match cli.command {
        Command::Serve { config, log, log_format } => Ok(serve::serve(&config, &log, log_format.into())),
        Command::Demo { once } => Ok(demo::demo(once)),
        Command::Check { config } => Ok(check::check(&config)),
        Command::Agent(options) => Ok(agent::agent(&options)),
        Command::Backtest(options) => Ok(backtest::backtest(&options)),
        Command::Autoscale(autoscale::Autoscale::Simulate(options)) => Ok(autoscale::simulate(&options)),
        Command::Autoscale(autoscale::Autoscale::Client(command)) => ask(cli.reach, ClientCommand::Autoscale(command)),
        Command::Token(Token::New { name, role, file }) => {
            let made = token::make(&name, role, file.as_deref())?;
            eprintln!("{}", made.told);
            println!("{}", made.token);
            Ok(ExitCode::SUCCESS)
        }
        Command::Client(command) => ask(cli.reach, command),
    }
}

/// Asks a running daemon, and prints what it answers.
fn ask(reach: Reach, command: ClientCommand) -> Result<ExitCode, CommandError> {
    let client = Client::new(reach.admin, reach.token_file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CommandError::Runtime)?;
    let said = runtime.block_on(commands::answer(&client, command, std::io::stdout().is_terminal()))?;
    print!("{}", said.text);
    Ok(ExitCode::from(said.code))
}

/// An error and what caused it, in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}

#[cfg(test)]
mod tests;
