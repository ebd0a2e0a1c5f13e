//! The mail of a driver that fails to start or stop instances, and that it works again.

use super::{Block, Letter, SENTENCE, Tone, one_line, shell_word, text};
use crate::control::alert::{ScalingAlert, ScalingNews};

impl ScalingAlert {
    /// What happened, for the subject.
    pub(super) fn what(&self) -> String {
        match self.news {
            ScalingNews::Fails { .. } => "the driver of its instances fails".to_owned(),
            ScalingNews::Works { .. } => "the driver of its instances works again".to_owned(),
        }
    }

    pub(super) fn letter(&self, subject: String, host: &str, admin_url: Option<&str>) -> Letter {
        let headline = format!("{}: {}", self.service, self.what());
        let mut letter = match &self.news {
            ScalingNews::Fails { why, failures, retry_at } => {
                let lead = "Instances that were to be started or stopped weren't, or nobody knows.";
                let mut letter = Letter::new(subject, Tone::Bad, &headline, lead, host);
                letter.fact("What went wrong", why);
                letter.fact("Failures in a row", &failures.to_string());
                letter.fact("Asked again", &retry_at.to_string());
                letter
            }
            ScalingNews::Works { failures } => {
                let lead = format!("It did as asked, after {failures} failures in a row.");
                Letter::new(subject, Tone::Good, &headline, &lead, host)
            }
        };
        letter.fact("Found", &self.at.to_string());
        letter.fact("Proxy", &self.proxy);
        if matches!(self.news, ScalingNews::Fails { .. }) {
            let deed = "The driver is left alone for a while, longer after each failure. What it may have started counts as \
                        there until it has undone it, so that never more than the most run. You are told of the first \
                        failure, the second, the fourth, the eighth and so on, and when it works again.";
            letter.section("What serin did", vec![text(deed)]);
            let service = shell_word(&self.service);
            let commands = [
                format!("serin autoscale plan {service}"),
                format!("serin autoscale pause {service} --for 2h --reason \"…\""),
            ];
            let mut blocks = vec![text("What is under way, and how to have it left alone:")];
            blocks.extend(commands.map(|command| Block::Command(one_line(&command, SENTENCE))));
            letter.section("What to do", blocks);
        }
        if let Some(url) = admin_url {
            letter.section("Where to look", vec![Block::Link(one_line(url, SENTENCE))]);
        }
        letter
    }
}
