//! The verdict in one word and one sentence, from the judge, the guards and the forecast.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::forecast::{Expected, Outlook};
use super::judge::{Judge, Ruling};
use crate::model::circuit::Cause;
use crate::model::outcome::Signal;
use crate::model::span;

/// The verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// The canary isn't worse than stable by the margin: a step may go on.
    Pass,
    /// Not enough evidence for either.
    #[default]
    Hold,
    /// The canary must go.
    Pull,
}

impl Decision {
    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Hold => "hold",
            Self::Pull => "pull",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What forbids a pass, whatever the evidence. A pull is never forbidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    /// The split itself is broken, by [`super::SampleRatio`].
    pub split_broken: bool,
    /// Stable itself is failing, so that being like it says nothing good.
    pub stable_failing: bool,
}

/// The share of stable's requests that are bad from which on stable itself is failing.
const FAILING_SHARE: u64 = 5;
/// So many bad ones at least, or one user's bad luck would look like an outage.
const FAILING_BAD: u64 = 20;

/// Whether stable is failing, by its first attempts in the last minute: a fifth of them are errors, and
/// these are 20 or more.
pub const fn is_failing(requests: u64, errors: u64) -> bool {
    errors >= FAILING_BAD && errors.saturating_mul(FAILING_SHARE) >= requests
}

impl Judge {
    /// The verdict.
    pub fn decision(&self, guards: Guards) -> Decision {
        match self.ruling() {
            Ruling::Pull(_) => Decision::Pull,
            Ruling::Hold if self.pass().value() < self.pass().threshold() => Decision::Hold,
            Ruling::Hold if guards != Guards::default() || self.is_against() => Decision::Hold,
            Ruling::Hold => Decision::Pass,
        }
    }

    /// The verdict as a sentence without a full stop.
    pub fn why(&self, guards: Guards, expected: &Expected) -> String {
        match self.decision(guards) {
            Decision::Pull => self.why_pull(),
            Decision::Pass => format!(
                "the canary turns less than {} % more of its users bad than stable does",
                percent(self.pass().margin())
            ),
            Decision::Hold => self.why_hold(guards, expected),
        }
    }

    fn why_pull(&self) -> String {
        let Ruling::Pull(cause) = self.ruling() else { return String::new() };
        let signals = self.evidence(Default::default()).decisive();
        if cause != Cause::Evidence || signals.is_empty() {
            return cause.sentence().to_owned();
        }
        format!("{} ({})", cause.sentence(), signals.iter().map(Signal::to_string).collect::<Vec<_>>().join(", "))
    }

    fn why_hold(&self, guards: Guards, expected: &Expected) -> String {
        if guards.split_broken {
            "the split itself is broken: the users that came back don't sit on the arms as drawn".to_owned()
        } else if guards.stable_failing {
            "stable itself is failing: nothing goes on until it recovers".to_owned()
        } else if self.is_against() {
            "the evidence rests on one client address alone, which may err on purpose".to_owned()
        } else if !self.pass().learns() {
            format!("at weight {} % there is nothing to compare", self.pass().weight())
        } else {
            let bad = self.bad();
            let so_far = if bad.stable + bad.canary == 0 { "no unit went bad yet on either arm; " } else { "" };
            format!("{so_far}not enough evidence for a pull or a pass{}", ahead(expected))
        }
    }
}

/// What is ahead, as the end of a sentence.
fn ahead(expected: &Expected) -> String {
    let pull_first = match (expected.pull, expected.pass) {
        (Some(pull), Some(pass)) => pull.canary_units <= pass.canary_units,
        (pull, _) => pull.is_some(),
    };
    match (pull_first, expected.pull, expected.pass) {
        (true, Some(pull), _) => format!(": {} to a pull, if its excess is real", more(pull)),
        (_, _, Some(pass)) => format!(": {} to a pass, if it is no worse", more(pass)),
        _ => String::new(),
    }
}

/// `about 420 more canary users, 7m at today's traffic`.
pub fn more(outlook: Outlook) -> String {
    let time = outlook.time.map_or_else(
        || ", at no traffic never".to_owned(),
        |time| format!(", {} at today's traffic", span::show(time)),
    );
    format!("about {} more canary users{time}", outlook.canary_units)
}

/// A fraction as a percent, without needless zeros.
fn percent(fraction: f64) -> f64 {
    (fraction * 1e6).round() / 1e4
}
