//! The stand-in checkbox.io as a process of its own. What it does is told in [`serin_tests::checkbox`].

use std::process::ExitCode;

use clap::Parser;
use serin_tests::checkbox::{Options, run};

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The harness keeps standard error and shows it when the start fails.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("checkbox: {error:#}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}
