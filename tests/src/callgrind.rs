//! What a request costs the daemon, counted and not timed: the daemon runs in valgrind's callgrind,
//! which counts the instructions of each thread, its system calls and its calls of the allocator.
//!
//! The same requests go through a daemon of their own some hundred times and then through another
//! more often; what both spent on their start and on the first requests cancels out, and what the
//! daemon does by the clock is taken off.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

use crate::process::Build;
use crate::serin::Serin;
use crate::wire::Wire;

/// How often the requests are sent in the shorter run and in the longer.
const TIMES: [u32; 2] = [300, 1_300];
/// What asks for memory: of serin's allocator as Rust calls it, and of the C library.
const ALLOCATING: [&str; 8] = [
    "mi_malloc_aligned",
    "mi_zalloc_aligned",
    "mi_realloc_aligned",
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
];

/// What one request costs the thread that serves it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Instructions in user mode.
    pub instructions: f64,
    /// Calls that ask for memory.
    pub allocations: f64,
    /// System calls, without those that only wait for events: how many requests one of these is
    /// shared by, depends on the load.
    pub system_calls: f64,
    /// Looks at the clock. They are no system calls but in valgrind.
    pub clock_reads: f64,
}

/// The most that the thread does by the clock and not for a request, in a second: twenty sweeps of its
/// deadlines, and a report at each. Measured on idle connections, and a third more.
const BY_THE_CLOCK: Cost = Cost { instructions: 120_000.0, allocations: 26.0, system_calls: 26.0, clock_reads: 330.0 };

impl Cost {
    /// Measures what a request costs a daemon with this configuration, whose one data-plane thread
    /// gets `requests`, which are `count` of them, over and over on one connection, each time when all
    /// answers to the last are there.
    ///
    /// # Errors
    /// When valgrind or the daemon doesn't run, or an answer isn't a success.
    pub async fn of(config: &str, requests: &[u8], count: u32) -> anyhow::Result<Self> {
        let (less, short) = run(config, requests, count, TIMES[0]).await?;
        let (more, long) = run(config, requests, count, TIMES[1]).await?;
        let between = f64::from((TIMES[1] - TIMES[0]) * count);
        // On a busy machine requests take longer, and more is done by the clock meanwhile.
        let longer = long.saturating_sub(short).as_secs_f64();
        let each = |of: fn(&Spent) -> u64, by_the_clock: f64| {
            (of(&more) as f64 - of(&less) as f64 - longer * by_the_clock) / between
        };
        let cost = Self {
            instructions: each(|spent| spent.instructions, BY_THE_CLOCK.instructions),
            allocations: each(|spent| spent.allocations, BY_THE_CLOCK.allocations),
            system_calls: each(|spent| spent.system_calls, BY_THE_CLOCK.system_calls),
            clock_reads: each(|spent| spent.clock_reads, BY_THE_CLOCK.clock_reads),
        };
        ensure!(cost.instructions > 0.0 && cost.system_calls > 1.0, "that can't be all: {cost:?}");
        ensure!(cost.allocations > 0.5, "no request asks for memory: is there another allocator?");
        Ok(cost)
    }

    /// The lesser of each figure.
    #[must_use]
    pub const fn min(self, other: Self) -> Self {
        Self {
            instructions: self.instructions.min(other.instructions),
            allocations: self.allocations.min(other.allocations),
            system_calls: self.system_calls.min(other.system_calls),
            clock_reads: self.clock_reads.min(other.clock_reads),
        }
    }
}

/// What a thread spent in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spent {
    instructions: u64,
    allocations: u64,
    system_calls: u64,
    clock_reads: u64,
}

/// A daemon's life: what its data-plane thread spent, and how long it served.
async fn run(config: &str, requests: &[u8], count: u32, times: u32) -> anyhow::Result<(Spent, Duration)> {
    let callgrind = [
        "valgrind",
        "--tool=callgrind",
        "--separate-threads=yes",
        "--collect-systime=yes",
        "--callgrind-out-file=@dir@/callgrind",
    ];
    let config = format!("[runtime]\nthreads = 1\n{config}");
    let serin = Serin::start_under(&config, Build::Release, &callgrind).await?;
    let start = Instant::now();
    let mut user = Wire::connect(serin.http()).await?;
    for _ in 0..times {
        user.send(requests).await?;
        for _ in 0..count {
            let response = user.response().await?;
            ensure!(response.status() == 200, "{response:?}\n{}", serin.logs());
        }
    }
    let served = start.elapsed();
    drop(user);
    let status = serin.stop().await?;
    ensure!(status.success(), "ended with {status}:\n{}", serin.logs());
    Ok((busiest(serin.dir())?, served))
}

/// The thread that made most system calls: the only one that serves requests.
fn busiest(dir: &Path) -> anyhow::Result<Spent> {
    let mut threads = Vec::new();
    for file in fs::read_dir(dir)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with("callgrind-") {
            threads.push(spent(&fs::read_to_string(file.path())?).with_context(|| format!("in {file:?}"))?);
        }
    }
    threads.into_iter().max_by_key(|spent| spent.system_calls).context("callgrind wrote no threads")
}

/// Adds up a profile in callgrind's format: a function's own lines follow its `fn=`; a line that
/// follows a `calls=` is what the callee spent, and counts there.
fn spent(profile: &str) -> anyhow::Result<Spent> {
    ensure!(profile.contains("events: Ir sysCount "), "callgrind counts something else");
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut own, mut callee, mut callees_line) = ("", "", false);
    let mut spent = Spent::default();
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            own = full_name(&mut names, name);
        } else if let Some(name) = line.strip_prefix("cfn=") {
            callee = full_name(&mut names, name);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            callees_line = true;
            if ALLOCATING.contains(&callee) {
                spent.allocations += calls.split(' ').next().unwrap_or(calls).parse::<u64>()?;
            }
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            if std::mem::take(&mut callees_line) {
                continue;
            }
            // The line's number, then a figure for each event; those at the end that are zero are left out.
            let mut figures = line.split(' ').skip(1).map(str::parse::<u64>);
            spent.instructions += figures.next().transpose()?.unwrap_or(0);
            let calls = figures.next().transpose()?.unwrap_or(0);
            if own.starts_with("clock_gettime") {
                spent.clock_reads += calls;
            } else if !own.starts_with("epoll_wait") && !own.starts_with("epoll_pwait") {
                spent.system_calls += calls;
            }
        }
    }
    Ok(spent)
}

/// A name is written once, as `(7) malloc`, and is `(7)` from then on.
fn full_name<'a>(names: &mut HashMap<&'a str, &'a str>, written: &'a str) -> &'a str {
    let (number, name) = written.split_once(' ').unwrap_or((written, ""));
    if !name.is_empty() {
        names.insert(number, name);
    }
    names.get(number).copied().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
events: Ir sysCount sysTime
fl=(1) read.rs
fn=(1) read
12 100
cfn=(2) malloc
calls=3 0
12 900 7
+1 20
fn=(2)
0 300
fn=(3) recv
0 40 4
fn=(4) epoll_wait
0 50 5 10
fn=(5) clock_gettime@@GLIBC_2.17
0 60 6
fn=(1)
* 5
cfn=(2)
calls=2 0
* 600
totals: 575 15 10
";

    #[test]
    fn a_functions_own_lines_are_added_and_its_callees_are_not_counted_twice() {
        let all = Spent { instructions: 575, allocations: 5, system_calls: 4, clock_reads: 6 };
        assert_eq!(spent(PROFILE).unwrap(), all);
    }

    #[test]
    fn other_events_are_refused() {
        spent("events: Ir\nfn=(1) read\n12 100\n").unwrap_err();
    }
}
