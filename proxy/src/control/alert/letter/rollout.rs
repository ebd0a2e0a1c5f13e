//! The mail of a rollout that came out by itself, and what a mail says of a flag on trial.

use super::{Block, Letter, SENTENCE, Tone, capitalised, one_line, text};
use crate::control::alert::RolloutAlert;
use crate::model::rollout::Phase;
use crate::model::rollout::subject::{Subject, Trial};

impl RolloutAlert {
    /// How it came out, for the subject.
    pub(super) fn what(&self) -> String {
        format!("rollout of {} {}", self.rollout.plan.subject, self.rollout.phase)
    }

    pub(super) fn letter(&self, subject: String, host: &str, admin_url: Option<&str>) -> Letter {
        let (rollout, plan) = (&self.rollout, &self.rollout.plan);
        let (tone, deed) = match (rollout.phase, &plan.subject) {
            (Phase::Promoted, Subject::Version(_)) => (
                Tone::Good,
                "The canary keeps its users. When every stable endpoint carries the version, it empties by itself: roll \
                 the stable pool to it now.",
            ),
            (Phase::Promoted, Subject::Flag(_)) => {
                (Tone::Good, "Everybody gets the new definition: it becomes the one in force.")
            }
            (_, Subject::Version(_)) => {
                (Tone::Bad, "The canary gets nothing any more, and the rollout is over: begin a new one to try again.")
            }
            (_, Subject::Flag(_)) => (
                Tone::Bad,
                "Nobody gets the new definition any more, and the rollout is over: begin a new one to try again.",
            ),
        };
        let headline = format!("{}: {}", self.service, self.what());
        let mut letter = Letter::new(subject, tone, &headline, &capitalised(&format!("{}.", rollout.why)), host);
        match &plan.subject {
            Subject::Version(version) => letter.fact("Version", version),
            Subject::Flag(trial) => letter.flag(trial),
        }
        letter.fact("Step", &format!("{} of {}", rollout.step, plan.steps.len()));
        letter.fact("Begun", &format!("{} by {}", plan.at, plan.by));
        letter.fact("Decided", &self.at.to_string());
        letter.fact("Rollout", &plan.id.to_string());
        letter.section("What serin did", vec![text(deed)]);
        if let Some(url) = admin_url {
            letter.section("Where to look", vec![Block::Link(one_line(url, SENTENCE))]);
        }
        letter
    }
}

impl Letter {
    /// Which flag was on trial, from what to what.
    pub(super) fn flag(&mut self, trial: &Trial) {
        self.fact("Flag", &trial.key);
        self.fact("Definition before", &trial.from.to_string());
        self.fact("Definition on trial", &trial.to.to_string());
    }
}
