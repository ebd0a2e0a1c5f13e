//! A canary on trial: it breaks under load, and the time until it is gone is measured.
//!
//! [`row`] names the ways in which a canary breaks, [`table`] shows what many trials measured.

pub mod row;
pub mod table;

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::crowd::{Strangers, Visit, rush};
use crate::process::Build;
use crate::scene::{self, CANARY, SERVICE};
use crate::serin::Serin;
use crate::standin::Checkbox;
use crate::traffic::{Load, Mix, drive};

/// The load while a canary breaks, in requests a second, unless a trial says otherwise.
pub const RATE: f64 = 200.0;
/// What users ask for.
const PATH: &str = "/api/study/listing";
/// The share of requests that fail on either arm while all is well.
const EVERYDAY: f64 = 0.005;
/// How long a canary that broke may stay before the trial is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the circuit is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// What stable must have answered after a pull before the trial is over: a quarter of a second, or more.
const AFTERWARDS: u64 = 50;
/// How many users come in a second while serin learns what is slow.
const LEARNING: f64 = 250.0;

/// The canary answers every request with 500.
pub fn all_errors() -> Value {
    json!({ "error_rate": 1 })
}

/// The canary answers every request with 200 and an error in the body.
pub fn all_error_bodies() -> Value {
    json!({ "error_rate": 0, "error_body_rate": 1 })
}

/// How a canary breaks, and under what load.
#[derive(Clone, Debug)]
pub struct Break {
    /// What it does from then on.
    pub fault: Value,
    /// Requests a second, each from another user.
    pub rate: f64,
    /// How long it may stay until the trial is given up.
    pub patience: Duration,
    /// Which of its answers are bad.
    pub is_bad: fn(&Visit) -> bool,
}

impl Break {
    /// Errors, under [`RATE`] requests a second.
    pub fn with(fault: &Value) -> Self {
        Self { fault: fault.clone(), rate: RATE, patience: PATIENCE, is_bad: Visit::erred }
    }
}

/// Serin in front of a stable and a canary stand-in.
#[derive(Debug)]
pub struct Trial {
    /// The daemon.
    pub serin: Serin,
    /// The stable version.
    pub stable: Checkbox,
    /// The canary.
    pub canary: Checkbox,
}

/// How a canary was pulled.
#[derive(Clone, Debug)]
pub struct Pull {
    /// From the broken canary's first bad response to the open circuit, by serin's clock.
    pub decided: Duration,
    /// From the open circuit to the last request that serin sent to the canary; zero where it sent none
    /// after that. Up to a millisecond too long: a circuit tells its time in whole ones.
    pub sent_after: Duration,
    /// From the canary's first bad response to its last answer of all, as users saw them; none where no
    /// user said when.
    pub gone: Option<Duration>,
    /// How many users got a bad answer of the broken canary; none where no user said.
    pub hurt: Option<usize>,
    /// The circuit, as the admin API shows it.
    pub circuit: Value,
}

impl Trial {
    /// Starts all three, at a weight of 10 %. `more` are further tables of the configuration.
    ///
    /// # Errors
    /// When one of them doesn't start.
    pub async fn start(build: Build, more: &str) -> anyhow::Result<Self> {
        Self::start_at(10.0, build, more).await
    }

    /// As [`Trial::start`], at another weight, in percent.
    ///
    /// # Errors
    /// When one of them doesn't start.
    pub async fn start_at(percent: f64, build: Build, more: &str) -> anyhow::Result<Self> {
        let (stable, canary) = (scene::stable().await?, scene::canary().await?);
        let errors = "[service.checkbox.verdict.errors]\nstatus = [\"5xx\"]\nbody_contains = [\"\\\"error\\\":\"]\n";
        let more = format!("{}{errors}{more}", scene::weight(percent));
        let config = scene::config(&[&stable], &[&canary], &more);
        let serin = Serin::start_under(&config, build, &[]).await?;
        Ok(Self { serin, stable, canary })
    }

    /// Lets so many users through, of whom half a percent meet an error on either arm, and ensures that
    /// nothing was pulled.
    ///
    /// # Errors
    /// When the canary was pulled, or when the errors that users met aren't those that were asked for.
    pub async fn healthy(&self, users: usize) -> anyhow::Result<()> {
        self.err_as_every_day().await?;
        let met = rush(self.serin.http(), PATH, users).await;
        let bad: usize = met.iter().filter(|((_, status), _)| *status != 200).map(|(_, count)| count).sum();
        let expected = users as f64 * EVERYDAY;
        ensure!((bad as f64 - expected).powi(2) < 36.0 * expected, "{users} users met {met:?}");
        ensure!(!self.is_open().await?, "a healthy canary was pulled: {}", self.circuit().await?);
        Ok(())
    }

    /// Half a percent of requests fail from now on, on either arm.
    ///
    /// # Errors
    /// When a stand-in is gone.
    pub async fn err_as_every_day(&self) -> anyhow::Result<()> {
        for arm in [&self.stable, &self.canary] {
            arm.fault(json!({ "error_rate": EVERYDAY })).await?;
        }
        Ok(())
    }

    /// Lets users come at a steady rate until serin has learned from when on an answer is slow: after a
    /// thousand answers. Returns it.
    ///
    /// # Errors
    /// When it doesn't learn it, or the canary was pulled meanwhile.
    pub async fn learn(&self) -> anyhow::Result<Duration> {
        let users = Strangers::come(self.serin.http(), LEARNING, PATH);
        let (series, end) =
            (format!("serin_slow_threshold_seconds{{service=\"{SERVICE}\"}}"), Instant::now() + PATIENCE);
        let learned = loop {
            if let Ok(seconds) = self.serin.metric(&series).await {
                break Duration::from_secs_f64(seconds);
            }
            ensure!(Instant::now() < end, "serin didn't learn what is slow in {PATIENCE:?}");
            sleep(LOOK).await;
        };
        users.leave().await?;
        ensure!(!self.is_open().await?, "a healthy canary was pulled: {}", self.circuit().await?);
        Ok(learned)
    }

    /// Breaks the canary in this way under [`RATE`] requests a second, each from another user, and
    /// waits until it is pulled.
    ///
    /// # Errors
    /// When it isn't, or when a process failed.
    pub async fn break_canary(&self, fault: &Value) -> anyhow::Result<Pull> {
        match self.try_break(&Break::with(fault)).await? {
            Some(pull) => Ok(pull),
            None => bail!("not pulled in {PATIENCE:?}: {}", self.serin.service(SERVICE).await?),
        }
    }

    /// Breaks the canary and waits until it is pulled; none if it isn't while patience lasts.
    ///
    /// # Errors
    /// When a process failed, or the canary was pulled before any user met it broken.
    pub async fn try_break(&self, how: &Break) -> anyhow::Result<Option<Pull>> {
        let strangers = Strangers::come(self.serin.http(), how.rate, PATH);
        self.until_requests(&self.canary, 3).await?;
        self.canary.fault(how.fault.clone()).await?;
        let (broken, broken_at) = (Instant::now(), Timestamp::now());
        let Some(circuit) = self.until_open(how.patience).await? else { return Ok(None) };
        self.until_requests(&self.stable, AFTERWARDS).await?;
        let visits = strangers.leave().await?;
        let stay = Stay::of(&visits, broken, how.is_bad)
            .with_context(|| format!("no user met the broken canary: {circuit}"))?;
        let since = broken_at + stay.first_bad.duration_since(broken);
        Ok(Some(Pull {
            decided: decided_after(&circuit, since)?,
            sent_after: self.sent_after(&circuit).await?,
            gone: Some(stay.last - stay.first_bad),
            hurt: Some(stay.hurt),
            circuit,
        }))
    }

    /// As [`Trial::break_canary`], under the mix of what the application's users do; none if it isn't
    /// pulled while patience lasts.
    ///
    /// # Errors
    /// When a process failed.
    pub async fn break_canary_under_mix(&self, fault: &Value, seed: u64) -> anyhow::Result<Option<Pull>> {
        let mix = Mix { seed, files: 1_000..=20_000, ..Mix::default() };
        let to = self.serin.http();
        let users = tokio::spawn(async move { drive(to, &mix, Load::new(RATE, usize::MAX >> 12)).await });
        let measured = self.measure_under_mix(fault).await;
        users.abort();
        measured
    }

    async fn measure_under_mix(&self, fault: &Value) -> anyhow::Result<Option<Pull>> {
        self.until_requests(&self.canary, 40).await?;
        let broken_at = Timestamp::now();
        self.canary.fault(fault.clone()).await?;
        let Some(circuit) = self.until_open(PATIENCE).await? else { return Ok(None) };
        self.until_requests(&self.stable, AFTERWARDS).await?;
        let (decided, sent_after) = (decided_after(&circuit, broken_at)?, self.sent_after(&circuit).await?);
        Ok(Some(Pull { decided, sent_after, gone: None, hurt: None, circuit }))
    }

    /// Mends both arms and closes the circuit: a new episode begins.
    ///
    /// # Errors
    /// When the reset is refused, or a process failed.
    pub async fn begin_anew(&self) -> anyhow::Result<()> {
        self.stable.heal().await?;
        self.canary.heal().await?;
        self.serin.reset(SERVICE, "the next trial").await
    }

    /// Whether the circuit is open.
    ///
    /// # Errors
    /// When serin doesn't answer.
    pub async fn is_open(&self) -> anyhow::Result<bool> {
        Ok(self.circuit().await?["state"] == "open")
    }

    async fn circuit(&self) -> anyhow::Result<Value> {
        Ok(self.serin.service(SERVICE).await?["circuit"].take())
    }

    /// The circuit once it is open; none if it isn't while patience lasts.
    async fn until_open(&self, patience: Duration) -> anyhow::Result<Option<Value>> {
        let end = Instant::now() + patience;
        loop {
            let circuit = self.circuit().await?;
            if circuit["state"] == "open" {
                return Ok(Some(circuit));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            sleep(LOOK).await;
        }
    }

    /// How long after the opening of the circuit the last request came to the canary.
    async fn sent_after(&self, circuit: &Value) -> anyhow::Result<Duration> {
        let last = self.canary.last_request().await?.context("the canary never had a request")?;
        Ok(Duration::try_from(last.duration_since(time(&circuit["since"])?)).unwrap_or_default())
    }

    /// Waits until a stand-in has seen so many more requests.
    async fn until_requests(&self, of: &Checkbox, more: u64) -> anyhow::Result<()> {
        let (wanted, end) = (of.requests().await? + more, Instant::now() + PATIENCE);
        while of.requests().await? < wanted {
            ensure!(Instant::now() < end, "a pool gets no traffic: {}", self.serin.service(SERVICE).await?);
            sleep(LOOK).await;
        }
        Ok(())
    }
}

/// How users met a canary after it broke.
#[derive(Debug)]
struct Stay {
    first_bad: Instant,
    last: Instant,
    hurt: usize,
}

impl Stay {
    fn of(visits: &[Visit], broken: Instant, is_bad: fn(&Visit) -> bool) -> Option<Self> {
        let by_canary = || visits.iter().filter(|visit| visit.at >= broken && visit.is_by(CANARY));
        // Strangers never come again: each visit is a user.
        let bad = || by_canary().filter(|visit| is_bad(visit));
        Some(Self { first_bad: bad().next()?.at, last: by_canary().next_back()?.at, hurt: bad().count() })
    }
}

/// From the first bad response in the evidence, or from `broken` where that one is of an earlier time,
/// to the opening of the circuit.
fn decided_after(circuit: &Value, broken: Timestamp) -> anyhow::Result<Duration> {
    let (first_bad, since) = (time(&circuit["evidence"]["first_bad"])?, time(&circuit["since"])?);
    Ok(Duration::try_from(since.duration_since(first_bad.max(broken))).unwrap_or_default())
}

fn time(value: &Value) -> anyhow::Result<Timestamp> {
    Ok(value.as_str().with_context(|| format!("{value} is no time"))?.parse()?)
}

/// The middle one, or the later of the two in the middle.
pub fn median(times: impl IntoIterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
