//! `serin backtest LOG…`: what the verdict would have said, from access logs alone.
//!
//! Reads files only: no daemon, no network. Lines are read one by one (`input`), by their format (`own`,
//! `combined`), and given to the judge of their episode (`run`); `report` says what came of it.

mod combined;
mod input;
mod line;
mod options;
mod own;
mod report;
mod run;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

pub use self::options::Options;
use self::report::Report;
use super::render::Page;
use super::with_causes;
use crate::config::ConfigError;

/// What `--help` says below the options.
pub(super) const HELP: &str = "\
Reads files only: no daemon, no network.
Exit codes: 0 = the canary would have stayed, 3 = it would have been pulled, 2 = wrong usage, or nothing to replay.
Examples:
  serin backtest access.log.1.gz access.log
  serin backtest --config serin.toml --false-pull-rate 0.0001 --signal slow=off access.log
  journalctl -u serin -o cat | serin backtest --json -
  serin backtest --format combined --weight 10 --arm canary=v2,stable=v1 nginx.log";

/// The exit code where a canary would have been pulled.
const PULLED: u8 = 3;
/// The exit code where nothing can be said.
const UNREADABLE: u8 = 2;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
enum BacktestError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(ConfigError),
    #[error("{} can't be read", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
}

/// Replays logs and prints what came of it.
pub fn backtest(options: &Options) -> ExitCode {
    match examine(options) {
        Ok(report) => {
            let said = if options.json { report.json() } else { report.text(Page::new(io::stdout().is_terminal())) };
            // Whoever closed the pipe has read enough: the exit code says the rest.
            let _ = io::stdout().write_all(said.as_bytes());
            if let Some(next) = report.next_step() {
                let _ = writeln!(io::stderr(), "error: {next}");
            }
            ExitCode::from(report.code())
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {}", with_causes(&error));
            ExitCode::from(UNREADABLE)
        }
    }
}

fn examine(options: &Options) -> Result<Report, BacktestError> {
    let (cases, tally, assumed) = run::replay(options)?;
    Ok(Report::new(options, cases, &tally, assumed))
}
