//! How soon a canary is gone after it breaks: a table over many runs, each with a daemon of its own.
//! What is measured is told in [`serin_tests::pull`].
//!
//! ```text
//! cargo build --release --package serin --package serin-tests --bins && target/release/time-to-pull
//! ```

use std::cmp::Reverse;
use std::io::{Write, stderr, stdout};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use clap::Parser;
use serin_tests::process::Build;
use serin_tests::pull::row::{Circumstances, Ended, Row, rows_of};
use serin_tests::pull::table::{Runs, Table};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Breaks canaries in front of users and measures how soon they are gone.
#[derive(Debug, Parser)]
struct Options {
    /// How often each row is run [default: 20; 12 where a run takes minutes, 5 of a late break]
    #[arg(long)]
    runs: Option<u32>,
    /// Only rows whose names contain one of these, such as `broken` or `worse-20-10,late`
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Shows the names of the rows, about how long each pull takes, and ends
    #[arg(long)]
    list: bool,
    /// Daemons that may run at once
    #[arg(long, default_value_t = 16)]
    at_once: u32,
    /// Requests a second that they may be sent together
    #[arg(long, default_value_t = 800)]
    load: u32,
    /// A run in which the canary isn't pulled after so many seconds is given up
    #[arg(long, default_value_t = 420)]
    limit: u64,
    /// Users before a late break: the default is ten minutes' worth
    #[arg(long, default_value_t = 120_000)]
    healthy_users: usize,
    /// Measures the unoptimised daemon, which is quicker to build
    #[arg(long)]
    dev: bool,
}

/// What may go on at once.
#[derive(Clone, Debug)]
struct Room {
    daemons: Arc<Semaphore>,
    load: Arc<Semaphore>,
    most: [u32; 2],
}

impl Room {
    fn of(options: &Options) -> Self {
        let most = [options.at_once.max(1), options.load.max(200)];
        let [daemons, load] = most.map(|count| Arc::new(Semaphore::new(count as usize)));
        Self { daemons, load, most }
    }

    async fn run(self, row: Row, run: u32, circumstances: Circumstances) -> anyhow::Result<Ended> {
        let [daemons, load] = if row.is_alone() { self.most } else { [1, row.rate] };
        let _daemon = self.daemons.acquire_many(daemons).await?;
        let _load = self.load.acquire_many(load).await?;
        row.run(run, circumstances).await
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(options.runs != Some(0), "no runs, no figures");
    let rows = rows_of(&options.rows).map_err(|word| anyhow!("no row has `{word}` in its name; see --list"))?;
    let mut out = stdout();
    if options.list {
        for row in rows {
            writeln!(out, "{:18} {:>6.1} s  {}", row.name(), row.expected().as_secs_f64(), row.what())?;
        }
        return Ok(());
    }
    let table = measure(&rows, &options).await?;
    writeln!(
        out,
        "From the canary's first bad response to the decision; from the decision to the last request that serin"
    )?;
    writeln!(out, "sent to the canary; from the first bad response to the canary's last answer: in milliseconds. By")?;
    writeln!(out, "`{}`:\n", std::env::args().collect::<Vec<_>>().join(" "))?;
    write!(out, "{}", Table(&table))?;
    for (runs, problem) in table.iter().flat_map(|runs| runs.failed.iter().map(move |problem| (runs, problem))) {
        writeln!(out, "\n{} failed: {problem}", runs.row.name())?;
    }
    Ok(())
}

/// Runs all of them, the longest first, and those that need the machine for themselves last.
async fn measure(rows: &[Row], options: &Options) -> anyhow::Result<Vec<Runs>> {
    let limit = Duration::from_secs(options.limit);
    let build = if options.dev { Build::Dev } else { Build::Release };
    let circumstances = Circumstances { build, healthy_users: options.healthy_users, limit };
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&index| (rows[index].is_alone(), Reverse(rows[index].expected())));
    let (room, mut going) = (Room::of(options), JoinSet::new());
    for index in order {
        let row = rows[index];
        for run in 1..=options.runs.unwrap_or_else(|| row.usual_runs()) {
            let room = room.clone();
            going.spawn(async move { (index, run, room.run(row, run, circumstances).await) });
        }
    }
    let mut table: Vec<Runs> = rows.iter().map(|row| Runs::of(*row, limit)).collect();
    while let Some(ended) = going.join_next().await {
        let (index, run, result) = ended?;
        tell(rows[index], run, &result)?;
        match result {
            Ok(ended) => table[index].ended.push(ended),
            Err(error) => table[index].failed.push(format!("{error:#}")),
        }
    }
    Ok(table)
}

/// Says on stderr how a run ended: the table comes minutes later.
fn tell(row: Row, run: u32, result: &anyhow::Result<Ended>) -> anyhow::Result<()> {
    let name = row.name();
    match result {
        Ok(Ended { pull: Some(pull), .. }) => {
            writeln!(stderr(), "{name} run {run}: decided after {} ms", pull.decided.as_millis())?;
        }
        Ok(Ended { pull: None, .. }) => writeln!(stderr(), "{name} run {run}: not pulled")?,
        Err(error) => writeln!(stderr(), "{name} run {run}: {error:#}")?,
    }
    Ok(())
}
