//! The rows of the table: how a canary breaks, under what load, at what weight.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Break, Pull, Trial, all_error_bodies, all_errors};
use crate::crowd::Visit;
use crate::process::Build;

/// What the slow canary adds to each answer, in milliseconds.
const SLOWER: u64 = 50;
/// The share of requests that fail on the canary once it is worse. Before, and on stable, it is 0.5 %.
const WORSE: f64 = 0.05;
/// A row that is expected to take longer than this has fewer runs.
const LONG: Duration = Duration::from_secs(60);

/// How the canary is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// It answers 500 to everybody, from the first users on.
    Broken,
    /// It answers 200 with an error in the body.
    Bodies,
    /// It answers 500 to everybody, after a long time of everyday errors.
    Late,
    /// It answers 500 to everybody, under what the application's users do.
    Mix,
    /// Its errors rise from 0.5 to 5 %.
    Worse,
    /// Its answers take 50 ms more; from when on they are slow was learned.
    Slower,
    /// Its answers take 50 ms more; from when on they are slow is in the configuration.
    SlowerFixed,
}

impl Case {
    const fn name(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Bodies => "bodies",
            Self::Late => "late",
            Self::Mix => "mix",
            Self::Worse => "worse",
            Self::Slower => "slower",
            Self::SlowerFixed => "slower-fixed",
        }
    }

    /// What the canary does, for people.
    const fn what(self) -> &'static str {
        match self {
            Self::Broken => "500 to everybody",
            Self::Bodies => "200 with `{\"error\": …}`, by matcher",
            Self::Late => "500, after a long time of 0.5 % errors on both arms",
            Self::Mix => "500, under the mix of what checkbox.io's users do",
            Self::Worse => "0.5 → 5 % errors",
            Self::Slower => "+50 ms, threshold learned",
            Self::SlowerFixed => "+50 ms, `slow.threshold = \"30ms\"`",
        }
    }

    const fn configuration(self) -> &'static str {
        match self {
            Self::SlowerFixed => "[service.checkbox.verdict.slow]\nthreshold = \"30ms\"\n",
            _ => "",
        }
    }

    /// The shares of bad units on stable and canary, and what the evidence of the signal must reach.
    const fn odds(self) -> (f64, f64, f64) {
        match self {
            Self::Worse => (0.005, WORSE, 1_250.0),
            Self::Slower | Self::SlowerFixed => (0.001, 1.0, 10_000.0),
            Self::Late => (0.005, 1.0, 1_250.0),
            Self::Broken | Self::Bodies | Self::Mix => (0.0, 1.0, 1_250.0),
        }
    }
}

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// How the canary breaks.
    pub case: Case,
    /// Requests a second.
    pub rate: u32,
    /// The weight of the canary, in percent.
    pub weight: u32,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How the canary was pulled; none if it wasn't while patience lasted.
    pub pull: Option<Pull>,
    /// From when on an answer was slow, where the row is about what was learned.
    pub learned: Option<Duration>,
}

/// What all runs have in common.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The build of the daemon.
    pub build: Build,
    /// Users before a late break.
    pub healthy_users: usize,
    /// The longest that a broken canary may stay until its run is given up.
    pub limit: Duration,
}

impl Row {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let at = |case, rate, weight| Self { case, rate, weight };
        let mut rows = Vec::new();
        for case in [Case::Broken, Case::Worse, Case::Slower] {
            for rate in [20, 200] {
                rows.extend([10, 5].map(|weight| at(case, rate, weight)));
            }
        }
        rows.extend([20, 200].map(|rate| at(Case::SlowerFixed, rate, 10)));
        rows.extend([Case::Bodies, Case::Late, Case::Mix].map(|case| at(case, 200, 10)));
        rows
    }

    /// Its name: what breaks, requests a second, percent.
    pub fn name(self) -> String {
        format!("{}-{}-{}", self.case.name(), self.rate, self.weight)
    }

    /// What the canary does, for people.
    pub const fn what(self) -> &'static str {
        self.case.what()
    }

    /// About how long it takes until the pull: the bad units that the evidence needs, at the rate at
    /// which they come. See "How soon" in `docs/verdict.md`.
    pub fn expected(self) -> Duration {
        let (stable, canary, threshold) = self.case.odds();
        let weight = f64::from(self.weight) / 100.0;
        let (of_canary, of_stable) = (weight * canary, (1.0 - weight) * stable);
        let share = of_canary / (of_canary + of_stable);
        let rest = if share < 1.0 { (1.0 - share) * ((1.0 - share) / (1.0 - weight)).ln() } else { 0.0 };
        let units = 1.25 * f64::ln(threshold) / (share * (share / weight).ln() + rest);
        Duration::from_secs_f64(units / (f64::from(self.rate) * (of_canary + of_stable)))
    }

    /// How often it is run where nobody says: less often where a run takes long.
    pub fn usual_runs(self) -> u32 {
        match self.case {
            Case::Late => 5,
            _ if self.expected() > LONG => 12,
            _ => 20,
        }
    }

    /// Whether no other run goes on beside it: its users come as fast as answers do.
    pub fn is_alone(self) -> bool {
        self.case == Case::Late
    }

    /// How long the broken canary may stay until the run is given up.
    pub fn patience(self, limit: Duration) -> Duration {
        (5 * self.expected()).max(Duration::from_secs(30)).min(limit)
    }

    /// Runs it once, in front of a daemon of its own.
    ///
    /// # Errors
    /// When a process failed, or a healthy canary was pulled.
    pub async fn run(self, run: u32, circumstances: Circumstances) -> anyhow::Result<Ended> {
        let Circumstances { build, healthy_users, limit } = circumstances;
        let trial = Trial::start_at(self.weight.into(), build, self.case.configuration()).await?;
        // Else every run would draw the same errors, and both arms too.
        trial.stable.fault(json!({ "seed": 2 * run })).await?;
        trial.canary.fault(json!({ "seed": 2 * run + 1 })).await?;
        let mut learned = None;
        match self.case {
            Case::Mix => {
                let pull = trial.break_canary_under_mix(&all_errors(), run.into()).await?;
                return Ok(Ended { pull, learned: None });
            }
            Case::Late => trial.healthy(healthy_users).await?,
            Case::Worse => {
                trial.err_as_every_day().await?;
                trial.learn().await?;
            }
            Case::Slower => learned = Some(trial.learn().await?),
            Case::Broken | Case::Bodies | Case::SlowerFixed => {}
        }
        let mut how = Break { rate: self.rate.into(), patience: self.patience(limit), ..Break::with(&self.fault()) };
        if let Case::Slower | Case::SlowerFixed = self.case {
            how.is_bad = is_slower;
        }
        Ok(Ended { pull: trial.try_break(&how).await?, learned })
    }

    fn fault(self) -> Value {
        match self.case {
            Case::Bodies => all_error_bodies(),
            Case::Worse => json!({ "error_rate": WORSE }),
            Case::Slower | Case::SlowerFixed => json!({ "latency_ms": SLOWER }),
            Case::Broken | Case::Late | Case::Mix => all_errors(),
        }
    }
}

fn is_slower(visit: &Visit) -> bool {
    visit.took >= Duration::from_millis(SLOWER)
}

/// The rows whose names contain one of these words; all of them where none is given.
///
/// # Errors
/// The first word that no name contains.
pub fn rows_of(words: &[String]) -> Result<Vec<Row>, String> {
    let has = |row: &Row, word: &String| row.name().contains(word.as_str());
    if let Some(unknown) = words.iter().find(|word| !Row::all().iter().any(|row| has(row, word))) {
        return Err(unknown.clone());
    }
    let wanted = |row: &Row| words.is_empty() || words.iter().any(|word| has(row, word));
    Ok(Row::all().into_iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(case: Case, rate: u32, weight: u32) -> Row {
        Row { case, rate, weight }
    }

    #[test]
    fn fewer_requests_and_a_smaller_weight_take_longer() {
        let seconds = |case, rate, weight| row(case, rate, weight).expected().as_secs_f64();
        assert!((60.0..120.0).contains(&seconds(Case::Worse, 20, 10)), "{}", seconds(Case::Worse, 20, 10));
        assert!((120.0..200.0).contains(&seconds(Case::Worse, 20, 5)), "{}", seconds(Case::Worse, 20, 5));
        assert!((seconds(Case::Worse, 20, 5) / seconds(Case::Worse, 200, 5) - 10.0).abs() < 1e-6);
        assert!((0.1..0.4).contains(&seconds(Case::Broken, 200, 10)), "{}", seconds(Case::Broken, 200, 10));
    }

    #[test]
    fn rows_are_chosen_by_a_part_of_their_name() {
        assert_eq!(rows_of(&[]).unwrap(), Row::all());
        assert_eq!(rows_of(&["broken-20-".into()]).unwrap(), [row(Case::Broken, 20, 10), row(Case::Broken, 20, 5)]);
        assert_eq!(rows_of(&["late".into(), "brokn".into()]), Err("brokn".into()));
    }

    #[test]
    fn nobody_waits_longer_than_the_limit() {
        let limit = Duration::from_secs(420);
        assert_eq!(row(Case::Worse, 20, 5).patience(limit), limit);
        assert_eq!(row(Case::Broken, 200, 10).patience(limit), Duration::from_secs(30));
    }
}
