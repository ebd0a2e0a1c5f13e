//! Writes the statistical report on the verdict, `docs/verdict-report.md`. What it holds is told in
//! [`serin_tests::verdict_report`].
//!
//! ```text
//! just verdict-report
//! ```

use std::io::{BufWriter, Write, stdout};
use std::num::NonZero;
use std::thread::available_parallelism;

use clap::Parser;
use serin_tests::verdict_report::{Plan, Section, head, write};

/// Simulates what is promised of the verdict and writes a report on it.
#[derive(Debug, Parser)]
struct Options {
    /// The seed of all draws: the same seed gives the same report
    #[arg(long, default_value_t = 20_260_401)]
    seed: u64,
    /// A hundredth of the episodes: a look, not a report
    #[arg(long)]
    quick: bool,
    /// Only these sections
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Section>,
    /// Threads; any number gives the same report
    #[arg(long, default_value_t = available_parallelism().map_or(1, NonZero::get))]
    threads: usize,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let plan = Plan { seed: options.seed, one_in: if options.quick { 100 } else { 1 }, threads: options.threads };
    let mut out = BufWriter::new(stdout().lock());
    let sections = if options.only.is_empty() { Section::ALL.to_vec() } else { options.only };
    writeln!(out, "{}", head(&plan))?;
    write(&plan, &sections, &mut out)?;
    Ok(out.flush()?)
}
