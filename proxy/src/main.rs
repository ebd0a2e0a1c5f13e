//! The `serin` binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    serin::cli::run()
}
