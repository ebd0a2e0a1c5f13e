//! How soon a change in Redis is everywhere: in every proxy, and in the mirror that each of them has. And how long
//! a proxy with many endpoints and flags takes for one change, and for all of them.
//!
//! ```text
//! cargo build --release --package serin --package serin-tests --bins && target/release/store-latency
//! ```

use std::fmt::Write as _;
use std::io::{Write, stdout};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use redis::aio::MultiplexedConnection;
use serin_tests::redis::Redis;
use serin_tests::serin::Serin;
use tokio::time::{Instant, sleep};

const SERVICE: &str = "checkbox";
const FLAGS: &str = "serin:{test}:flags";
/// How long a change may take before the measurement is given up.
const LIMIT: Duration = Duration::from_secs(20);
/// Between two looks at whether a change has arrived.
const LOOK: Duration = Duration::from_micros(500);

/// Changes Redis and measures when that is seen.
#[derive(Debug, Parser)]
struct Options {
    /// Proxies, each with a mirror of its own
    #[arg(long, default_value_t = 3)]
    proxies: usize,
    /// Changes that are published
    #[arg(long, default_value_t = 500)]
    changes: usize,
    /// Changes that nobody is told of, as if all subscriptions were lost
    #[arg(long, default_value_t = 40)]
    silent: usize,
    /// Services of the proxy with many endpoints
    #[arg(long, default_value_t = 1_000)]
    services: usize,
    /// Endpoints of each of these services
    #[arg(long, default_value_t = 10)]
    endpoints: usize,
    /// Flags beside them
    #[arg(long, default_value_t = 10_000)]
    flags: usize,
    /// Measures the unoptimised daemon, which is quicker to build
    #[arg(long)]
    dev: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut out = stdout();
    writeln!(out, "| What | Times | p50 | p99 | longest |\n|---|---|---|---|---|")?;
    fleet(&options, &mut out).await?;
    many(&options, &mut out).await
}

/// How soon a change is in each proxy and each mirror.
async fn fleet(options: &Options, out: &mut impl Write) -> anyhow::Result<()> {
    let primary = Redis::start().await?;
    let (mut proxies, mut mirrors) = (Vec::new(), Vec::new());
    for _ in 0..options.proxies {
        let mirror = primary.start_replica().await?;
        let config = format!(
            "[store]\nurl = {:?}\nmirror = {:?}\nnamespace = \"test\"\n[service.{SERVICE}]\nhosts = [\"*\"]\n\
             stable = [\"127.0.0.1:1\"]\ncanary = [\"127.0.0.1:2\"]\n",
            primary.url(),
            mirror.url()
        );
        proxies.push(start(&config, options).await?);
        mirrors.push(mirror);
    }
    let (mut in_proxies, mut in_mirrors, mut unheard) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..options.changes + options.silent {
        let percent = (number % 4_000 + 1) as f64 / 100.0;
        let published = number < options.changes;
        let start = change(&primary, percent, published).await?;
        let mut waiting = tokio::task::JoinSet::new();
        for mirror in &mirrors {
            let connection = connect(mirror).await?;
            waiting.spawn(async move { (false, in_mirror(connection, percent, start).await) });
        }
        for proxy in &proxies {
            let admin = proxy.operator();
            waiting.spawn(async move { (true, in_proxy(admin, percent, start).await) });
        }
        for (is_proxy, took) in waiting.join_all().await {
            match (is_proxy, published) {
                (true, true) => in_proxies.push(took?),
                (true, false) => unheard.push(took?),
                (false, _) => in_mirrors.push(took?),
            }
        }
    }
    row(out, "a change is in a mirror", in_mirrors)?;
    row(out, "a published change is in force in a proxy", in_proxies)?;
    row(out, "a change that was not published is in force in a proxy", unheard)
}

/// How long a proxy with many endpoints takes for one change, and for everything.
async fn many(options: &Options, out: &mut impl Write) -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    let mut config = format!("[store]\nurl = {:?}\nnamespace = \"test\"\n", redis.url());
    let mut members = redis::pipe();
    for service in 0..options.services {
        writeln!(config, "[service.s{service}]\nhosts = [\"s{service}.test\"]")?;
        let keys = ["", ":pool:stable"].map(|suffix| format!("serin:{{test}}:service:s{service}{suffix}"));
        members.hset(&keys[0], "revision", 1).ignore();
        for endpoint in 0..options.endpoints {
            let address = format!("10.{}.{}.{}:80", service / 250, service % 250, endpoint + 1);
            members.hset(&keys[1], &address, format!("{{\"state\":\"ready\",\"address\":\"{address}\"}}")).ignore();
        }
    }
    for flag in 0..options.flags {
        members.hset(FLAGS, format!("flag-{flag}"), definition(flag)).ignore();
    }
    members.hset("serin:{test}:flagset", "revision", 1).ignore();
    let mut connection = connect(&redis).await?;
    members.exec_async(&mut connection).await?;
    let proxy = start(&config, options).await?;
    let (mut ones, mut alls, mut flags) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..100 {
        let service = number * 7 % options.services;
        let (name, id) = (format!("s{service}"), format!("new-{number}"));
        let key = format!("serin:{{test}}:service:{name}:pool:stable");
        let member = format!("{{\"state\":\"ready\",\"address\":\"10.9.9.{}:80\"}}", number + 1);
        let mut change = redis::pipe();
        change.atomic().hset(&key, &id, member).ignore();
        change.hincr(format!("serin:{{test}}:service:{name}"), "revision", 1).ignore();
        change.publish("serin:{test}:changes", &name).ignore();
        let start = Instant::now();
        change.exec_async(&mut connection).await?;
        ones.push(until(start, async || knows(&proxy, &name, &id).await).await?);
    }
    for number in 0..20 {
        // Whoever listens is thrown out, and looks at everything once it listens again.
        let (name, id) = (format!("s{}", number % options.services), format!("unheard-{number}"));
        let key = format!("serin:{{test}}:service:{name}:pool:stable");
        let start = Instant::now();
        let member = format!("{{\"state\":\"ready\",\"address\":\"10.9.8.{}:80\"}}", number + 1);
        redis::cmd("HSET").arg(&key).arg(&id).arg(member).exec_async(&mut connection).await?;
        redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).exec_async(&mut connection).await?;
        alls.push(until(start, async || knows(&proxy, &name, &id).await).await?);
    }
    for number in 0..options.flags.min(20) {
        let (key, text) = (format!("flag-{}", number * 7 % options.flags), definition(options.flags + number));
        let mut change = redis::pipe();
        change.atomic().hset(FLAGS, &key, &text).ignore().hincr("serin:{test}:flagset", "revision", 1).ignore();
        change.publish("serin:{test}:changes", ":flags").ignore();
        let start = Instant::now();
        change.exec_async(&mut connection).await?;
        flags.push(until(start, async || is_defined(&proxy, &key, &text).await).await?);
    }
    let (size, all_flags) = (options.services * options.endpoints, options.flags);
    let of = format!("{size} endpoints in {} services", options.services);
    row(out, &format!("one of {of} is in force"), ones)?;
    row(out, &format!("all {of} and {all_flags} flags are read anew after a lost subscription"), alls)?;
    if flags.is_empty() { Ok(()) } else { row(out, &format!("one of {all_flags} flags is in force"), flags) }
}

/// A flag's definition, which differs from that of any other number.
fn definition(number: usize) -> String {
    format!(
        "{{\"state\":\"ENABLED\",\"variants\":{{\"on\":true,\"off\":false}},\"defaultVariant\":\"off\",\
         \"targeting\":{{\"if\":[{{\"==\":[{{\"var\":\"user\"}},\"u{number}\"]}},\"on\"]}}}}"
    )
}

/// Whether this definition of a flag is in force in a proxy.
async fn is_defined(proxy: &Serin, key: &str, definition: &str) -> anyhow::Result<bool> {
    let wanted: serde_json::Value = serde_json::from_str(definition)?;
    Ok(proxy.ask(&format!("/v1/flags/{key}")).await?.json()?["definition"] == wanted)
}

async fn start(config: &str, options: &Options) -> anyhow::Result<Serin> {
    if options.dev { Serin::start(config).await } else { Serin::start_release(config).await }
}

async fn connect(redis: &Redis) -> anyhow::Result<MultiplexedConnection> {
    Ok(redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?)
}

/// Sets the weight as `redis-cli` would, and says when.
async fn change(primary: &Redis, percent: f64, published: bool) -> anyhow::Result<Instant> {
    let mut connection = connect(primary).await?;
    let key = format!("serin:{{test}}:service:{SERVICE}");
    let mut change = redis::pipe();
    change.atomic().hset(&key, "weight", percent).ignore().hincr(&key, "revision", 1).ignore();
    if published {
        change.publish("serin:{test}:changes", SERVICE).ignore();
    }
    let start = Instant::now();
    change.exec_async(&mut connection).await?;
    Ok(start)
}

async fn in_mirror(mut mirror: MultiplexedConnection, percent: f64, start: Instant) -> anyhow::Result<Duration> {
    let key = format!("serin:{{test}}:service:{SERVICE}");
    let mut ask = redis::cmd("HGET");
    ask.arg(key).arg("weight");
    loop {
        let weight: Option<f64> = ask.query_async(&mut mirror).await?;
        if weight == Some(percent) {
            return Ok(start.elapsed());
        }
        ensure!(start.elapsed() < LIMIT, "a change isn't in a mirror after {LIMIT:?}");
        sleep(LOOK).await;
    }
}

async fn in_proxy(mut admin: serin_tests::client::Client, percent: f64, start: Instant) -> anyhow::Result<Duration> {
    let path = format!("/v1/services/{SERVICE}");
    loop {
        if admin.get(&path).await?.json()?["weight"]["asked"] == percent {
            return Ok(start.elapsed());
        }
        ensure!(start.elapsed() < LIMIT, "a change isn't in a proxy after {LIMIT:?}");
        sleep(LOOK).await;
    }
}

/// Whether a proxy has this endpoint in force.
async fn knows(proxy: &Serin, service: &str, id: &str) -> anyhow::Result<bool> {
    let path = format!("/v1/services/{service}/pools/stable/endpoints/{id}");
    Ok(proxy.ask(&path).await?.status == 200)
}

async fn until(start: Instant, mut is_so: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<Duration> {
    while !is_so().await? {
        ensure!(start.elapsed() < LIMIT, "not after {LIMIT:?}");
        sleep(LOOK).await;
    }
    Ok(start.elapsed())
}

/// Writes a row of the table.
fn row(out: &mut impl Write, what: &str, mut times: Vec<Duration>) -> anyhow::Result<()> {
    times.sort();
    let at = |percent: usize| -> anyhow::Result<String> {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        let time = times.get(index).context("no times")?;
        Ok(format!("{:.1} ms", time.as_secs_f64() * 1_000.0))
    };
    Ok(writeln!(out, "| {what} | {} | {} | {} | {} |", times.len(), at(50)?, at(99)?, at(100)?)?)
}
