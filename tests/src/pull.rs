//! A canary on trial: it breaks under load, and the time until it is gone is measured.

use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::crowd::{Strangers, Visit, rush};
use crate::process::Build;
use crate::scene::{self, CANARY, SERVICE};
use crate::serin::Serin;
use crate::standin::Checkbox;
use crate::traffic::{Load, Mix, drive};

/// The load while a canary breaks, in requests a second.
pub const RATE: f64 = 200.0;
/// What users ask for.
const PATH: &str = "/api/study/listing";
/// The share of requests that fail on either arm while all is well.
const EVERYDAY: f64 = 0.005;
/// How long a canary that broke may stay before the trial is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the circuit is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(10);
/// What stable must have answered after a pull before the trial is over: a quarter of a second.
const AFTERWARDS: u64 = 50;

/// The canary answers every request with 500.
pub fn all_errors() -> Value {
    json!({ "error_rate": 1 })
}

/// The canary answers every request with 200 and an error in the body.
pub fn all_error_bodies() -> Value {
    json!({ "error_rate": 0, "error_body_rate": 1 })
}

/// Serin in front of a stable and a canary stand-in, at a weight of 10 %.
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
    /// From the broken canary's first bad response to the open circuit: by serin's clock, and for a
    /// canary that had erred before it broke, from its first answer after that.
    pub decided: Duration,
    /// From the canary's first bad response to its last of all, as users saw them; none where no user
    /// said when.
    pub gone: Option<Duration>,
    /// The circuit, as the admin API shows it.
    pub circuit: Value,
}

impl Trial {
    /// Starts all three. `more` are further tables of the configuration.
    ///
    /// # Errors
    /// When one of them doesn't start.
    pub async fn start(build: Build, more: &str) -> anyhow::Result<Self> {
        let (stable, canary) = (scene::stable().await?, scene::canary().await?);
        let errors = "[service.checkbox.verdict.errors]\nstatus = [\"5xx\"]\nbody_contains = [\"\\\"error\\\":\"]\n";
        let more = format!("{}{errors}{more}", scene::weight(10.0));
        let config = scene::config(&[&stable], &[&canary], &more);
        let serin = match build {
            Build::Dev => Serin::start(&config).await?,
            Build::Release => Serin::start_release(&config).await?,
        };
        Ok(Self { serin, stable, canary })
    }

    /// Lets so many users through, of whom half a percent meet an error on either arm, and ensures that
    /// nothing was pulled.
    ///
    /// # Errors
    /// When the canary was pulled, or when the errors that users met aren't those that were asked for.
    pub async fn healthy(&self, users: usize) -> anyhow::Result<()> {
        for arm in [&self.stable, &self.canary] {
            arm.fault(json!({ "error_rate": EVERYDAY })).await?;
        }
        let met = rush(self.serin.http(), PATH, users).await;
        let bad: usize = met.iter().filter(|((_, status), _)| *status != 200).map(|(_, count)| count).sum();
        let expected = users as f64 * EVERYDAY;
        ensure!((bad as f64 - expected).powi(2) < 36.0 * expected, "{users} users met {met:?}");
        ensure!(!self.is_open().await?, "a healthy canary was pulled: {}", self.circuit().await?);
        Ok(())
    }

    /// Breaks the canary in this way under [`RATE`] requests a second, each from another user, and
    /// waits until it is pulled.
    ///
    /// # Errors
    /// When it isn't, or when a process failed.
    pub async fn break_canary(&self, fault: &Value) -> anyhow::Result<Pull> {
        let strangers = Strangers::come(self.serin.http(), RATE, PATH);
        self.until_requests(&self.canary, 3).await?;
        self.canary.fault(fault.clone()).await?;
        let (broken, broken_at) = (Instant::now(), Timestamp::now());
        let circuit = self.until_open().await?;
        self.until_requests(&self.stable, AFTERWARDS).await?;
        let visits = strangers.leave().await?;
        let (first, last) = stay(&visits, broken).context("no user met the broken canary")?;
        let decided = decided_after(&circuit, broken_at + first.duration_since(broken))?;
        Ok(Pull { decided, gone: Some(last - first), circuit })
    }

    /// As [`Trial::break_canary`], under the mix of what the application's users do.
    ///
    /// # Errors
    /// When the canary isn't pulled, or when a process failed.
    pub async fn break_canary_under_mix(&self, fault: &Value, seed: u64) -> anyhow::Result<Pull> {
        let mix = Mix { seed, files: 1_000..=20_000, ..Mix::default() };
        let to = self.serin.http();
        let users = tokio::spawn(async move { drive(to, &mix, Load::new(RATE, usize::MAX >> 12)).await });
        self.until_requests(&self.canary, 40).await?;
        let broken_at = Timestamp::now();
        self.canary.fault(fault.clone()).await?;
        let circuit = self.until_open().await;
        users.abort();
        let circuit = circuit?;
        Ok(Pull { decided: decided_after(&circuit, broken_at)?, gone: None, circuit })
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

    async fn until_open(&self) -> anyhow::Result<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let circuit = self.circuit().await?;
            if circuit["state"] == "open" {
                return Ok(circuit);
            }
            ensure!(Instant::now() < end, "not pulled in {PATIENCE:?}: {}", self.serin.service(SERVICE).await?);
            sleep(LOOK).await;
        }
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

/// When the canary first answered after it broke, and when last.
fn stay(visits: &[Visit], broken: Instant) -> Option<(Instant, Instant)> {
    let mut by_canary = visits.iter().filter(|visit| visit.at >= broken && visit.is_by(CANARY)).map(|visit| visit.at);
    let first = by_canary.next()?;
    Some((first, by_canary.next_back().unwrap_or(first)))
}

/// From the first bad response in the evidence, or from `broken` where that one is of an earlier time,
/// to the opening of the circuit.
fn decided_after(circuit: &Value, broken: Timestamp) -> anyhow::Result<Duration> {
    let at = |value: &Value| -> anyhow::Result<Timestamp> {
        Ok(value.as_str().with_context(|| format!("no time in {circuit}"))?.parse()?)
    };
    let (first_bad, since) = (at(&circuit["evidence"]["first_bad"])?, at(&circuit["since"])?);
    Ok(Duration::try_from(since.duration_since(first_bad.max(broken))).unwrap_or_default())
}

/// The middle one, or the later of the two in the middle.
pub fn median(times: impl IntoIterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
