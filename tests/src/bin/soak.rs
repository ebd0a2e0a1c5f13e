//! Users who ask without a break while the configuration is reloaded ten times a second, endpoints come, drain and go,
//! and the daemon is replaced again and again. Ends with 1 if any of them lost anything.
//!
//! ```text
//! cargo build --release --package serin --package serin-tests --bins && target/release/soak --seconds 60
//! ```

use std::io::{Write as _, stdout};
use std::time::Duration;

use clap::Parser;
use serin_tests::soak::{Plan, play};

/// Changes everything and counts what is lost.
#[derive(Debug, Parser)]
struct Options {
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Users who ask, each without a break
    #[arg(long, default_value_t = 16)]
    users: usize,
    /// WebSockets that stay open
    #[arg(long, default_value_t = 20)]
    chats: usize,
    /// New processes
    #[arg(long, default_value_t = 10)]
    upgrades: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Options { seconds, users, chats, upgrades } = Options::parse();
    let plan = Plan { time: Duration::from_secs(seconds), users, chats, upgrades };
    let report = play(plan).await?;
    writeln!(
        stdout(),
        "{} requests, {} lost; {} messages over {chats} WebSockets, {} broken; {} reloads, {} upgrades, {} endpoints drained",
        report.served,
        report.lost.len(),
        report.messages,
        report.broken.len(),
        report.reloads,
        report.upgrades,
        report.drained
    )?;
    report.check(&plan)
}
