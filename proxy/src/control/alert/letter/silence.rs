//! The mail of leases that ran out together, and of the end of that.

use super::{Block, Letter, SENTENCE, Tone, one_line, table, text, words};
use crate::control::alert::SilenceAlert;

/// The most endpoints that a mail lists.
const LISTED: usize = 20;

impl SilenceAlert {
    /// What happened, for the subject.
    pub(super) fn what(&self) -> String {
        match self.ended {
            None => "endpoints fell silent together (mass expiry)".to_owned(),
            Some(_) => "endpoints beat again (mass expiry over)".to_owned(),
        }
    }

    pub(super) fn letter(&self, subject: String, host: &str, admin_url: Option<&str>) -> Letter {
        let mut letter = match self.ended {
            None => self.begins(subject, host),
            Some(ended) => {
                let lead = format!("It lasted {}. Who still is silent has the time of its lease left.", {
                    words::span(ended.since(self.began))
                });
                Letter::new(subject, Tone::Good, &self.what(), &lead, host)
            }
        };
        letter.fact("Began", &self.began.to_string());
        letter.fact("Proxy", &self.proxy);
        if let Some(url) = admin_url {
            letter.section("Where to look", vec![Block::Link(one_line(url, SENTENCE))]);
        }
        letter
    }

    fn begins(&self, subject: String, host: &str) -> Letter {
        let lead = "So many leases ran out together that it is read as a fault of Redis or of a clock.";
        let mut letter = Letter::new(subject, Tone::Bad, &self.what(), lead, host);
        letter.fact("Silent", &format!("{} of {} leased endpoints", self.kept.len(), self.of));
        let deed = "They serve on as they were, but for those that fail active health checks. One more mail follows when \
                    enough of them beat again.";
        letter.section("What serin did", vec![text(deed)]);
        let listed = self.kept.iter().take(LISTED).map(|endpoint| [endpoint.clone()]);
        let mut blocks = vec![table(["endpoint"], listed)];
        let more = self.kept.len().saturating_sub(LISTED);
        if more > 0 {
            blocks.push(text(&format!("And {more} more.")));
        }
        letter.section("Who is silent", blocks);
        let command = "serin endpoint remove SERVICE ENDPOINT --pool POOL --reason \"…\"";
        let advice = "Is Redis well, can the hosts reach it, are its clock and theirs right? An endpoint that is really gone \
                      is taken out by:";
        letter.section("What to do", vec![text(advice), Block::Command(command.to_owned())]);
        letter
    }
}
