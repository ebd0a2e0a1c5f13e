//! What `serin backtest` is asked for, and what follows for the judge.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use toml::{Table, Value};

use super::BacktestError;
use super::combined::{Arms, Columns};
use crate::config;
use crate::model::outcome::Signal;
use crate::model::spec::{ServiceSpec, VerdictSpec};
use crate::model::split::Arm;
use crate::model::verdict::{pace, replay};
use crate::model::weight::Weight;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// serin's own access log, as JSON or as text
    #[default]
    Serin,
    /// Apache's and nginx's combined format, with further fields
    Combined,
    /// The common format, with further fields
    Common,
}

/// The arguments.
#[derive(Debug, Args)]
pub struct Options {
    /// Access logs, one after the other, the oldest first; `-` is standard input, gzip is read as it is
    #[arg(required = true, value_name = "LOG")]
    pub(super) logs: Vec<PathBuf>,
    /// Judge as this configuration says [default: as serin does unless told otherwise]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only this service; with other formats, the service of the configuration that the log is of
    #[arg(long, value_name = "NAME")]
    pub(super) service: Option<String>,
    /// How lines look
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
    /// Which field holds the arm, from 1; one in quotes or brackets is one [default: the one after the format's own]
    #[arg(long, value_name = "N")]
    arm_field: Option<usize>,
    /// What that field holds for each arm, such as canary=v2,stable=v1 or canary=10.0.0.21:3002,stable=*
    #[arg(long, value_name = "ARM=VALUE", value_delimiter = ',', value_parser = arm_value)]
    arm: Vec<(Arm, String)>,
    /// The percent of users that the canary was given all the time
    #[arg(long, value_name = "PERCENT")]
    weight: Option<Weight>,
    /// Which field tells users apart [default: 1, the client's address]
    #[arg(long, value_name = "N")]
    unit_field: Option<usize>,
    /// Statuses that are bad, such as 5xx,429 [default: the configuration's, or 5xx]
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    bad_status: Vec<String>,
    /// The chance, per episode, of ever pulling a canary that is no worse
    #[arg(long, value_name = "CHANCE")]
    false_pull_rate: Option<f64>,
    /// The chance, per step, of passing a canary that is worse by the margin
    #[arg(long, value_name = "CHANCE")]
    pass_error: Option<f64>,
    /// How many more of its users the canary may turn bad and still pass
    #[arg(long, value_name = "FRACTION")]
    pass_margin: Option<f64>,
    /// Pull when the canary's bad users exceed stable's by more; 0 = off
    #[arg(long, value_name = "N")]
    max_excess_errors: Option<u32>,
    /// A signal switched or tolerated otherwise: slow=off, client_errors=on, slow=1.5
    #[arg(long, value_name = "SIGNAL=HOW", value_delimiter = ',', value_parser = signal_how)]
    signal: Vec<(Signal, How)>,
    /// JSON instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// How a signal counts.
#[derive(Clone, Copy, Debug)]
enum How {
    Off,
    On,
    Tolerance(f64),
}

fn arm_value(text: &str) -> Result<(Arm, String), String> {
    let (name, value) = text.split_once('=').filter(|(_, value)| !value.is_empty()).ok_or("write ARM=VALUE")?;
    let arm = Arm::BOTH.into_iter().find(|arm| arm.name() == name).ok_or("an arm is `stable` or `canary`")?;
    Ok((arm, value.to_owned()))
}

fn signal_how(text: &str) -> Result<(Signal, How), String> {
    let (name, how) = text.split_once('=').ok_or("write SIGNAL=off, SIGNAL=on or SIGNAL=TOLERANCE")?;
    let signal = Signal::ALL.into_iter().find(|signal| signal.name() == name);
    let signal = signal.ok_or("a signal is `errors`, `slow`, `client_errors` or `missing`")?;
    let how = match how {
        "off" => How::Off,
        "on" => How::On,
        number => How::Tolerance(number.parse().map_err(|_| "`off`, `on`, or a tolerance such as 1.5")?),
    };
    Ok((signal, how))
}

/// The settings of all services.
#[derive(Debug)]
pub(super) struct Settings {
    services: Vec<Arc<ServiceSpec>>,
    /// The file that they are from.
    config: Option<PathBuf>,
    /// As the options say; of it count those fields that were given.
    given: VerdictSpec,
}

impl Options {
    /// Reads the configuration, and gives the options their meaning.
    pub(super) fn settings(&self) -> Result<Settings, BacktestError> {
        let services = match &self.config {
            Some(path) => config::load(path).map_err(BacktestError::Config)?.0.services,
            None => Vec::new(),
        };
        if let (Some(name), Some(path)) = (&self.service, &self.config)
            && !services.iter().any(|service| service.name == *name)
        {
            return Err(BacktestError::Usage(format!("{} has no service `{name}`", path.display())));
        }
        let given = self.given()?;
        Ok(Settings { services, config: self.config.clone(), given })
    }

    /// The options as a configuration says them: so that they are checked as one is.
    fn given(&self) -> Result<VerdictSpec, BacktestError> {
        let mut verdict = Table::new();
        for (key, value) in [
            ("false_pull_rate", self.false_pull_rate),
            ("pass_error", self.pass_error),
            ("pass_margin", self.pass_margin),
        ] {
            verdict.extend(value.map(|value| (key.to_owned(), Value::Float(value))));
        }
        verdict.extend(self.max_excess_errors.map(|most| ("max_excess_errors".to_owned(), Value::from(most))));
        for (signal, how) in &self.signal {
            let table = verdict.entry(signal.name()).or_insert_with(|| Value::Table(Table::new()));
            let (key, value) = match how {
                How::Off => ("enabled", Value::Boolean(false)),
                How::On => ("enabled", Value::Boolean(true)),
                How::Tolerance(tolerance) => ("tolerance", Value::Float(*tolerance)),
            };
            table.as_table_mut().map(|table| table.insert(key.to_owned(), value));
        }
        if !self.bad_status.is_empty() {
            let status =
                |text: &String| text.parse::<i64>().map_or_else(|_| Value::from(text.as_str()), Value::Integer);
            let errors = verdict.entry("errors").or_insert_with(|| Value::Table(Table::new()));
            let all = self.bad_status.iter().map(status).collect();
            errors.as_table_mut().map(|table| table.insert("status".to_owned(), Value::Array(all)));
        }
        let service = "[[listener]]\nname = \"http\"\naddress = \"127.0.0.1:80\"\n\
                       [service.log]\nhosts = [\"*\"]\nstable = [\"127.0.0.1:81\"]\n";
        let verdict = Table::from_iter([("verdict".to_owned(), Value::Table(verdict))]);
        let verdict = Table::from_iter([("log".to_owned(), Value::Table(verdict))]);
        let verdict = Table::from_iter([("service".to_owned(), Value::Table(verdict))]);
        let text = format!("{service}{verdict}");
        let (spec, _) = config::parse(&text, "the options").map_err(BacktestError::Config)?;
        Ok(spec.services.first().map(|service| service.verdict.clone()).unwrap_or_default())
    }

    /// How the columns of a foreign format are read; none for serin's own.
    pub(super) fn columns(&self, settings: &Settings) -> Result<Option<Columns>, BacktestError> {
        let fields = match self.format {
            Format::Serin => {
                let strange = self.arm_field.is_some()
                    || !self.arm.is_empty()
                    || self.weight.is_some()
                    || self.unit_field.is_some()
                    || !self.bad_status.is_empty();
                return if strange {
                    let why = "serin's own lines say the arm, the weight, the unit and what was bad: leave out \
                               --arm-field, --arm, --weight, --unit-field and --bad-status, or name the --format";
                    Err(BacktestError::Usage(why.to_owned()))
                } else {
                    Ok(None)
                };
            }
            Format::Combined => 9,
            Format::Common => 7,
        };
        let weight = self.weight.filter(|weight| *weight != Weight::ZERO && *weight != Weight::FULL);
        let weight = weight.ok_or_else(|| {
            BacktestError::Usage(
                "say by --weight which percent of users the canary got, above 0 and below 100".to_owned(),
            )
        })?;
        if self.arm_field == Some(0) || self.unit_field == Some(0) {
            return Err(BacktestError::Usage("fields are counted from 1".to_owned()));
        }
        let service = self.service_of_log(settings)?;
        Ok(Some(Columns {
            arm: self.arm_field.unwrap_or(fields + 1),
            arms: Arms(self.arm.clone()),
            unit: self.unit_field,
            weight,
            errors: self.judged(settings, &service).verdict.errors,
            service,
        }))
    }

    /// The service that a log is of which doesn't say so itself.
    fn service_of_log(&self, settings: &Settings) -> Result<String, BacktestError> {
        match (&self.service, &settings.services[..]) {
            (Some(name), _) => Ok(name.clone()),
            (None, []) => Ok("log".to_owned()),
            (None, [only]) => Ok(only.name.clone()),
            (None, _) => Err(BacktestError::Usage("say by --service which service the log is of".to_owned())),
        }
    }

    /// How a service is judged.
    pub(super) fn judged(&self, settings: &Settings, service: &str) -> Judged {
        let known = settings.services.iter().find(|known| known.name == service);
        let mut verdict = known.map_or_else(|| config_default(&settings.given), |known| known.verdict.clone());
        let given = &settings.given;
        if self.false_pull_rate.is_some() {
            verdict.false_pull_rate = given.false_pull_rate;
        }
        if self.pass_error.is_some() {
            verdict.pass_error = given.pass_error;
        }
        if self.pass_margin.is_some() {
            verdict.pass_margin = given.pass_margin;
        }
        if self.max_excess_errors.is_some() {
            verdict.max_excess_errors = given.max_excess_errors;
        }
        if !self.bad_status.is_empty() {
            verdict.errors.status = given.errors.status.clone();
        }
        for (signal, how) in &self.signal {
            let spec = verdict.signals.get_mut(*signal);
            match how {
                How::Off => spec.enabled = false,
                How::On => spec.enabled = true,
                How::Tolerance(_) => spec.tolerance = given.signals.get(*signal).tolerance,
            }
        }
        if self.format != Format::Serin {
            for signal in Signal::ALL.into_iter().filter(|signal| !replay::BY_STATUS.contains(signal)) {
                verdict.signals.get_mut(signal).enabled = false;
            }
        }
        let header_timeout = known.map_or(Duration::ZERO, |known| known.timeouts.header);
        let is_missing = known.is_none() && settings.config.is_some();
        Judged { verdict, maturity: pace::maturity(header_timeout), is_missing }
    }

    /// What the log doesn't say, and is taken for granted.
    pub(super) fn assumed(&self, columns: Option<&Columns>) -> Vec<String> {
        let Some(columns) = columns else { return Vec::new() };
        let unit = columns.unit.map_or_else(
            || "a user is a client address: those behind one address count as one".to_owned(),
            |field| format!("a user is a value of field {field}"),
        );
        vec![
            format!("the canary got {} % of users all the time, drawn by chance", columns.weight),
            unit,
            format!("field {} says who served", columns.arm),
            "all of the log is one episode; requests are over in the order of the lines".to_owned(),
            "answers are bad by status alone: such a log tells nothing of `slow` and `missing`".to_owned(),
        ]
    }
}

/// As a configuration judges that says nothing, with the statuses that the options name.
fn config_default(given: &VerdictSpec) -> VerdictSpec {
    VerdictSpec { errors: given.errors.clone(), ..VerdictSpec::default() }
}

/// How a service is judged.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) verdict: VerdictSpec,
    pub(super) maturity: Duration,
    /// Whether there is a configuration and the service isn't in it.
    pub(super) is_missing: bool,
}
