//! `serin serve`: the daemon, from its configuration to its drain.

use std::path::Path;
use std::process::ExitCode;

use crate::daemon;
use crate::telemetry::log::{self, LogFormat};

/// The exit code of a configuration that is refused; `serin check` has the same.
const REFUSED: u8 = 2;

/// Runs the daemon until it is told to end.
pub fn serve(config: &Path, filter: &str, format: LogFormat) -> ExitCode {
    let log = match log::init(format, filter) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("error: {:#}", anyhow::Error::from(error));
            return ExitCode::from(REFUSED);
        }
    };
    let failed = |error: &anyhow::Error, code| {
        log.say(&format!("error: {error:#}"));
        ExitCode::from(code)
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("serin-control").enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into(), 1),
    };
    match runtime.block_on(daemon::serve(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let refused = error.downcast_ref::<crate::config::ConfigError>().is_some();
            failed(&error, if refused { REFUSED } else { 1 })
        }
    }
}
