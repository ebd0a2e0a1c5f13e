//! The daemon, built with its driver for Docker's Engine. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    serin::cli::run()
}
