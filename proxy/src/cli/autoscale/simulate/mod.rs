//! `serin autoscale simulate RULES`: rules, a load and a made-up service in; decisions, cost and harm out.
//!
//! Reads files only: no daemon, no network. The same seed gives the same answer.

mod plot;
mod report;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use self::report::{Report, Tried};
use super::super::render::Page;
use super::super::with_causes;
use crate::config::{self, ConfigError};
use crate::model::scaling::ScalingSpec;
use crate::model::scaling::simulation::{
    Gauge, Hpa, Own, Scaler, Shape, TargetTracking, Trace, TraceError, WorldSpec, run,
};
use crate::model::span;
use crate::model::time::Timestamp;

/// What `--help` says below the options.
pub(crate) const HELP: &str = "\
Reads files only: no daemon, no network. The same seed gives the same answer.
RULES is a configuration of serin with a [service.NAME.autoscale]; a load is a name (diurnal, flash-crowd, sawtooth,
noisy, slow-leak, canary; two-weeks by itself) or a file of lines SECOND,RATE.
Exit codes: 0 = done, 2 = wrong usage, or a file that makes no sense.
Examples:
  serin autoscale simulate config/autoscale.toml
  serin autoscale simulate serin.toml --service shop --trace flash-crowd --start 3m --svg crowd.svg
  serin autoscale simulate serin.toml --trace monday.csv --capacity 55 --slo 400ms";

/// The exit code where nothing can be said.
const UNREADABLE: u8 = 2;
/// The simulation's first second: a Monday's midnight, for schedules.
const BEGIN: Timestamp = Timestamp::from_millis(1_767_571_200_000);
/// Instances at the beginning are this busy.
const INITIALLY_BUSY: f64 = 0.8;

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A configuration with rules to scale by
    #[arg(value_name = "RULES")]
    rules: PathBuf,
    /// Whose rules, where several services have some
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// A made-up load or a file; may be given several times [default: every made-up load]
    #[arg(long, value_name = "NAME|FILE")]
    trace: Vec<PathBuf>,
    /// Another seed makes other loads of the same shape
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Requests a second that one instance can serve
    #[arg(long, value_name = "RATE", default_value_t = 100.0, value_parser = positive)]
    capacity: f64,
    /// How long one request takes on an idle instance
    #[arg(long, value_name = "SPAN", default_value = "50ms", value_parser = span::parse)]
    service_time: Duration,
    /// How long an answer may take
    #[arg(long, value_name = "SPAN", default_value = "250ms", value_parser = span::parse)]
    slo: Duration,
    /// How long an instance takes to start
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = span::parse)]
    start: Duration,
    /// The share of the driver's calls that fail, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    failing: f64,
    /// How busy the algorithms that it is compared with keep instances, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.8, value_parser = share)]
    busy: f64,
    /// Writes a plot of one load
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The table as Markdown, for a document
    #[arg(long)]
    markdown: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0).ok_or("a number above 0".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number| (0.0..=1.0).contains(number)).ok_or("a number from 0 to 1".to_owned())
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
enum SimulateError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(ConfigError),
    #[error("{} can't be read or written", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is no load", path.display())]
    Trace { path: PathBuf, source: TraceError },
}

/// Tries rules and prints what came of it.
pub(crate) fn simulate(options: &Options) -> ExitCode {
    match examine(options) {
        Ok(report) => {
            let page = Page::new(io::stdout().is_terminal());
            let said = if options.markdown { report.markdown() } else { report.text(page) };
            // Whoever closed the pipe has read enough.
            let _ = io::stdout().write_all(said.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {}", with_causes(&error));
            ExitCode::from(UNREADABLE)
        }
    }
}

fn examine(options: &Options) -> Result<Report, SimulateError> {
    let spec = rules(options)?;
    let traces = traces(options)?;
    if options.svg.is_some() && traces.len() != 1 {
        return Err(SimulateError::Usage("a plot shows one load: name it by --trace".to_owned()));
    }
    let report = Report { tried: traces.into_iter().map(|trace| attempt(options, &spec, trace)).collect() };
    if let (Some(path), [tried]) = (&options.svg, &report.tried[..]) {
        let failed = |source| SimulateError::File { path: path.clone(), source };
        std::fs::write(path, plot::svg(tried, spec.max)).map_err(failed)?;
    }
    Ok(report)
}

/// The rules to try.
fn rules(options: &Options) -> Result<Arc<ScalingSpec>, SimulateError> {
    let (spec, _) = config::load(&options.rules).map_err(SimulateError::Config)?;
    let asked = |name: &str| options.service.as_deref().is_none_or(|service| service == name);
    let found =
        spec.services.iter().filter(|service| asked(&service.name)).filter_map(|service| service.autoscale.clone());
    match &found.collect::<Vec<_>>()[..] {
        [only] => Ok(Arc::clone(only)),
        [] => Err(SimulateError::Usage(format!("{} has no such [service.NAME.autoscale]", options.rules.display()))),
        _ => Err(SimulateError::Usage("several services have rules: say by --service whose".to_owned())),
    }
}

fn traces(options: &Options) -> Result<Vec<Trace>, SimulateError> {
    if options.trace.is_empty() {
        return Ok(Shape::ALL.into_iter().map(|shape| made_up(shape, options.seed)).collect());
    }
    options.trace.iter().map(|name| trace(name, options.seed)).collect()
}

fn trace(name: &Path, seed: u64) -> Result<Trace, SimulateError> {
    let known = Shape::ALL.into_iter().chain([Shape::TwoWeeks]).find(|shape| Path::new(shape.name()) == name);
    if let Some(shape) = known {
        return Ok(made_up(shape, seed));
    }
    let text = std::fs::read_to_string(name).map_err(|source| SimulateError::File { path: name.to_owned(), source })?;
    let label = name.file_stem().unwrap_or_default().to_string_lossy();
    Trace::read(&label, &text).map_err(|source| SimulateError::Trace { path: name.to_owned(), source })
}

fn made_up(shape: Shape, seed: u64) -> Trace {
    shape.trace(&mut chance(seed))
}

fn chance(seed: u64) -> impl FnMut() -> f64 {
    let mut rng = StdRng::seed_from_u64(seed);
    move || rng.random::<f64>()
}

/// The service that a load comes to.
fn world(options: &Options, spec: &ScalingSpec, trace: &Trace) -> WorldSpec {
    let first = trace.loads.first().map_or(0.0, |load| load.rate);
    WorldSpec {
        capacity: options.capacity,
        service_time: options.service_time.as_secs_f64(),
        slo: options.slo.as_secs_f64(),
        patience: 10.0,
        start: options.start.as_secs_f64(),
        failing: options.failing,
        initial: instances(first / (options.capacity * INITIALLY_BUSY)).clamp(spec.min, spec.max),
    }
}

/// One load, served at the size that each scaler chooses.
fn attempt(options: &Options, spec: &ScalingSpec, trace: Trace) -> Tried {
    let world = world(options, spec, &trace);
    let requests = options.busy * options.capacity;
    let (min, max) = (spec.min, spec.max);
    let scalers: [(&str, Box<dyn Scaler + '_>); 5] = [
        ("serin", Box::new(Own::new(spec, BEGIN))),
        ("HPA on CPU", Box::new(Hpa::new(Gauge::Cpu, options.busy, min, max))),
        ("HPA on requests", Box::new(Hpa::new(Gauge::Requests, requests, min, max))),
        ("target tracking on CPU", Box::new(TargetTracking::new(Gauge::Cpu, options.busy, min, max))),
        ("target tracking on requests", Box::new(TargetTracking::new(Gauge::Requests, requests, min, max))),
    ];
    let outcomes = scalers.into_iter().map(|(name, mut scaler)| {
        let outcome = run(&world, &trace, scaler.as_mut(), &mut chance(options.seed.wrapping_add(1)));
        (name.to_owned(), outcome)
    });
    let outcomes = outcomes.collect();
    Tried { trace: trace.name, cooldown: spec.pace.cooldown, outcomes }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn instances(number: f64) -> u32 {
    number.ceil() as u32
}
