//! How soon a canary is gone after it breaks: a table over many runs. What is measured is told in
//! [`serin_tests::pull`].
//!
//! ```text
//! cargo build --release --package serin-tests && target/release/time-to-pull
//! ```

use std::io::{Write, stdout};
use std::time::Duration;

use anyhow::ensure;
use clap::Parser;
use serde_json::Value;
use serin_tests::process::Build;
use serin_tests::pull::{Pull, RATE, Trial, all_error_bodies, all_errors, median};

/// Breaks canaries in front of users and measures how soon they are gone.
#[derive(Debug, Parser)]
struct Options {
    /// How often each case is run
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// Users before a late break: the default is ten minutes' worth
    #[arg(long, default_value_t = 120_000)]
    healthy_users: usize,
    /// Measures the unoptimised daemon, which is quicker to build
    #[arg(long)]
    dev: bool,
}

/// How the canary is broken.
#[derive(Clone, Copy, Debug)]
enum Case {
    Fresh,
    Bodies,
    Late,
    Mix,
}

impl Case {
    const ALL: [Self; 4] = [Self::Fresh, Self::Bodies, Self::Late, Self::Mix];

    const fn name(self) -> &'static str {
        match self {
            Self::Fresh => "500 to everybody",
            Self::Bodies => "200 with {\"error\": …}",
            Self::Late => "500, after long health",
            Self::Mix => "500, real users' mix",
        }
    }

    fn fault(self) -> Value {
        if let Self::Bodies = self { all_error_bodies() } else { all_errors() }
    }

    async fn run(self, trial: &Trial, run: u32, options: &Options) -> anyhow::Result<Pull> {
        if let Self::Late = self {
            trial.healthy(options.healthy_users).await?;
        }
        let pull = match self {
            Self::Mix => trial.break_canary_under_mix(&self.fault(), run.into()).await?,
            _ => trial.break_canary(&self.fault()).await?,
        };
        trial.begin_anew().await?;
        Ok(pull)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(options.runs > 0, "no runs, no figures");
    let build = if options.dev { Build::Dev } else { Build::Release };
    let mut out = stdout();
    writeln!(out, "From the first bad response, at {RATE} requests/s and a weight of 10 %, in milliseconds:")?;
    writeln!(out, "{:24} {:>5} {:>20} {:>20}", "canary answers", "runs", "decided", "last request")?;
    writeln!(out, "{:24} {:>5} {:>10} {:>9} {:>10} {:>9}", "", "", "median", "most", "median", "most")?;
    for case in Case::ALL {
        let trial = Trial::start(build, "").await?;
        let mut pulls = Vec::new();
        for run in 1..=options.runs {
            pulls.push(case.run(&trial, run, &options).await?);
        }
        let decided = figures(pulls.iter().map(|pull| pull.decided));
        let gone = figures(pulls.iter().filter_map(|pull| pull.gone));
        writeln!(out, "{:24} {:>5} {decided} {gone}", case.name(), options.runs)?;
    }
    writeln!(
        out,
        "Before each late break {} users met 0.5 % of errors on both arms, and none of these canaries was pulled.",
        options.healthy_users
    )?;
    Ok(())
}

/// The median and the longest, as columns.
fn figures(times: impl Iterator<Item = Duration> + Clone) -> String {
    match times.clone().max() {
        Some(most) => format!("{:>10} {:>9}", median(times).as_millis(), most.as_millis()),
        None => format!("{:>10} {:>9}", "–", "–"),
    }
}
