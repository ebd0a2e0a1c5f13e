//! The `serin` binary: everything is in the library.

use std::process::ExitCode;

/// Measured against the system's in docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    serin::cli::run()
}
