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
        let signals = signals.iter().map(Signal::to_string).collect::<Vec<_>>().join(", ");
        let beside_control = self.control().is_some_and(|control| control.canary_vs_control >= self.threshold());
        let than = if beside_control { ", and worse than the control restarted with it" } else { "" };
        format!("{}{than} ({signals})", cause.sentence())
    }

    /// What a canary that errs more than stable, and isn't pulled for it, has in common with its control.
    fn why_cold(&self) -> Option<&'static str> {
        let control = self.control().filter(|control| control.canary_vs_stable >= self.threshold())?;
        Some(if control.control_vs_rest >= self.threshold() && self.e() < self.threshold().cbrt() {
            "the canary errs more than stable, and so does the freshly restarted control: cold, not worse"
        } else {
            "the canary errs more than stable, but not clearly more than the control restarted with it"
        })
    }

    fn why_hold(&self, guards: Guards, expected: &Expected) -> String {
        if guards.split_broken {
            "the split itself is broken: the users that came back don't sit on the arms as drawn".to_owned()
        } else if guards.stable_failing {
            "stable itself is failing: nothing goes on until it recovers".to_owned()
        } else if self.is_against() {
            "the evidence rests on one client address alone, which may err on purpose".to_owned()
        } else if let Some(cold) = self.why_cold() {
            cold.to_owned()
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
        (true, Some(pull), _) => format!(": {}, if its excess is real", more(pull, Decision::Pull)),
        (_, _, Some(pass)) => format!(": {}, if it is no worse", more(pass, Decision::Pass)),
        _ => String::new(),
    }
}

/// `about 420 more canary users to a pass, 7m at today's traffic`.
pub fn more(outlook: Outlook, to: Decision) -> String {
    let time = outlook
        .time
        .map_or_else(|| "and no new ones come".to_owned(), |time| format!("{} at today's traffic", span::show(time)));
    format!("about {} more canary users to a {to}, {time}", outlook.canary_units)
}

/// A fraction as a percent, without needless zeros.
fn percent(fraction: f64) -> f64 {
    (fraction * 1e6).round() / 1e4
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::spec::VerdictSpec;
    use crate::model::time::Timestamp;
    use crate::model::verdict::Traffic;
    use crate::model::verdict::forecast::expected;
    use crate::model::weight::Weight;

    /// A judge of a step at this weight in which nothing went bad.
    fn quiet(percent: f64, exposed: u64) -> Judge {
        let mut judge = Judge::new(&VerdictSpec::default());
        judge.begin_step(Weight::from_percent(percent).expect("a weight"), Timestamp::default());
        judge.expose(exposed);
        judge
    }

    #[test]
    fn a_quiet_canary_passes_unless_a_guard_says_no() {
        let judge = quiet(10.0, 8_000);
        assert_eq!(judge.decision(Guards::default()), Decision::Pass);
        for (guards, why) in [
            (Guards { split_broken: true, stable_failing: false }, "the split itself is broken"),
            (Guards { split_broken: false, stable_failing: true }, "stable itself is failing"),
        ] {
            assert_eq!(judge.decision(guards), Decision::Hold);
            assert!(judge.why(guards, &Expected::default()).contains(why));
        }
    }

    #[test]
    fn no_data_is_neither_a_pass_nor_a_pull() {
        for percent in [0.0, 10.0, 100.0] {
            assert_eq!(quiet(percent, 0).decision(Guards::default()), Decision::Hold);
        }
        let why = quiet(100.0, 1_000_000).why(Guards::default(), &Expected::default());
        assert_eq!(why, "at weight 100 % there is nothing to compare");
    }

    #[test]
    fn the_sentence_says_how_long_it_will_take() {
        let judge = quiet(10.0, 4_000);
        let traffic = Traffic { units: 4_000, units_per_second: 10.0, maturity: Duration::from_secs(30) };
        let expected = expected(&judge, &traffic);
        let pass = expected.pass.expect("evidence grows");
        assert!((250..420).contains(&pass.canary_units), "{pass:?}");
        let why = judge.why(Guards::default(), &expected);
        assert!(why.contains(&format!("about {} more canary users to a pass, ", pass.canary_units)), "{why}");
        assert_eq!(
            more(Outlook { time: None, ..pass }, Decision::Pass).split(", ").last(),
            Some("and no new ones come")
        );
    }

    #[test]
    fn stable_is_failing_when_a_fifth_of_its_answers_are_errors_and_not_for_one_users_bad_luck() {
        for (requests, errors, failing) in [(0, 0, false), (19, 19, false), (100, 20, true), (101, 20, false)] {
            assert_eq!(is_failing(requests, errors), failing, "{errors} of {requests}");
        }
    }
}
