//! What a mail says, apart from how it looks: a headline, facts, and sections.
//!
//! All text goes in through constructors that make it one harmless line, so that no
//! name, reason or path from outside can break a header or forge a line of the body.

mod rollout;
mod scaling;
mod silence;

use super::words::{self, one_line};
use super::{Alert, RatioAlert, RuleAlert, TripAlert};
use crate::model::alert::RuleNews;
use crate::model::circuit::{Cause, ControlEvidence, Evidence, SignalEvidence};
use crate::model::outcome::Signal;
use crate::model::split::Arm;

/// The longest subject, in characters.
const SUBJECT: usize = 200;
/// The longest sentence or fact.
const SENTENCE: usize = 600;
/// The longest cell of a table.
const CELL: usize = 120;
/// The most failing requests that a mail lists.
const SAMPLES: usize = 20;

/// Whether it is bad news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Something is wrong.
    Bad,
    /// Something is well again.
    Good,
}

/// What a mail says.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) subject: String,
    pub(super) tone: Tone,
    pub(super) headline: String,
    pub(super) lead: String,
    /// Labels and what they stand for.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) sections: Vec<Section>,
    pub(super) footer: String,
}

/// A titled part of a letter.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) blocks: Vec<Block>,
}

/// A piece of a section.
#[derive(Clone, Debug)]
pub(super) enum Block {
    /// A paragraph.
    Text(String),
    /// A table: its head, and its rows.
    Table(Vec<&'static str>, Vec<Vec<String>>),
    /// A command to type.
    Command(String),
    /// An address to open.
    Link(String),
}

fn text(words: &str) -> Block {
    Block::Text(one_line(words, SENTENCE))
}

fn table<const N: usize>(head: [&'static str; N], rows: impl IntoIterator<Item = [String; N]>) -> Block {
    let cells = |row: [String; N]| row.iter().map(|cell| one_line(cell, CELL)).collect();
    Block::Table(head.to_vec(), rows.into_iter().map(cells).collect())
}

impl Alert {
    /// The subject of its mail: also how logs name it.
    pub(super) fn subject(&self) -> String {
        let (service, what) = match self {
            Self::Tripped(alert) => {
                (&alert.service, format!("{} ({})", alert.what(), alert.trip.cause.name().replace('_', " ")))
            }
            Self::Ratio(alert) => (&alert.service, "the split itself is broken".to_owned()),
            Self::Rule(alert) => {
                let state = match alert.news {
                    RuleNews::Fires => "firing",
                    RuleNews::Resolves => "resolved",
                };
                (&alert.service, format!("{} ({state})", words::rule(&alert.rule)))
            }
            Self::Rollout(alert) => (&alert.service, alert.what()),
            Self::Silence(alert) => (&alert.proxy, alert.what()),
            Self::Scaling(alert) => (&alert.service, alert.what()),
        };
        one_line(&format!("[serin] {service}: {what}"), SUBJECT)
    }

    /// What its mail says. `host` is the proxy that sends it.
    pub(super) fn letter(&self, host: &str, admin_url: Option<&str>) -> Letter {
        match self {
            Self::Tripped(alert) => alert.letter(self.subject(), host, admin_url),
            Self::Ratio(alert) => alert.letter(self.subject(), host, admin_url),
            Self::Rule(alert) => alert.letter(self.subject(), host, admin_url),
            Self::Rollout(alert) => alert.letter(self.subject(), host, admin_url),
            Self::Silence(alert) => alert.letter(self.subject(), host, admin_url),
            Self::Scaling(alert) => alert.letter(self.subject(), host, admin_url),
        }
    }
}

impl Letter {
    fn new(subject: String, tone: Tone, headline: &str, lead: &str, host: &str) -> Self {
        Self {
            subject,
            tone,
            headline: one_line(headline, SUBJECT),
            lead: one_line(lead, SENTENCE),
            facts: Vec::new(),
            sections: Vec::new(),
            footer: one_line(&format!("Sent by serin on {host}."), SENTENCE),
        }
    }

    fn fact(&mut self, label: &'static str, value: &str) {
        self.facts.push((label, one_line(value, SENTENCE)));
    }

    fn section(&mut self, title: &'static str, blocks: Vec<Block>) {
        self.sections.push(Section { title, blocks });
    }
}

// === trips ===

impl TripAlert {
    fn letter(&self, subject: String, host: &str, admin_url: Option<&str>) -> Letter {
        let canary = self
            .flag
            .as_ref()
            .map_or_else(String::new, |flag| format!(" Canary is who got the new definition of {}.", flag.key));
        let lead = format!("{}.{canary}", capitalised(self.trip.cause.sentence()));
        let headline = format!("{}: {}", self.service, self.what());
        let mut letter = Letter::new(subject, Tone::Bad, &headline, &lead, host);
        self.add_facts(&mut letter);
        if let Some(evidence) = &self.trip.evidence {
            letter.section("The proof", proof(evidence, self.trip.cause));
            if !evidence.samples.is_empty() {
                letter.section("Last failing requests", vec![samples(evidence)]);
            }
        }
        letter.section("What serin did", vec![text(&self.deed())]);
        let command = format!("serin reset {} --reason \"…\"", shell_word(&self.service));
        let mut way_back = vec![
            text(match self.flag {
                Some(_) => "When the cause is found and mended, close the circuit, and try the flag again:",
                None => "When the cause is found and mended, or the canary replaced, close the circuit:",
            }),
            Block::Command(one_line(&command, SENTENCE)),
        ];
        way_back.extend(admin_url.map(|url| Block::Link(one_line(url, SENTENCE))));
        letter.section("The way back", way_back);
        letter
    }

    fn add_facts(&self, letter: &mut Letter) {
        let trip = &self.trip;
        if let Some(flag) = &self.flag {
            letter.flag(flag);
        }
        letter.fact("Weight", &format!("{} % → 0 %", trip.weight_before));
        if let Some(first_bad) = trip.evidence.as_ref().and_then(|evidence| evidence.first_bad) {
            letter.fact("First bad response", &first_bad.to_string());
            letter.fact("Decided", &format!("{}, {} later", trip.at, words::span(trip.at.since(first_bad))));
        } else {
            letter.fact("Decided", &trip.at.to_string());
        }
        letter.fact("Reason", &trip.reason);
        letter.fact("By", &trip.by);
        for (arm, label) in [(Arm::Canary, "Canary version"), (Arm::Stable, "Stable version")] {
            if let Some(version) = self.versions.get(arm) {
                letter.fact(label, version);
            }
        }
        letter.fact("Proxy", &self.proxy);
        if let Some(episode) = self.episode {
            letter.fact("Episode", &episode.to_string());
        }
    }

    /// What was done, for the subject and the headline.
    fn what(&self) -> String {
        self.flag.as_ref().map_or_else(|| "canary pulled".to_owned(), |flag| format!("flag {} reverted", flag.key))
    }

    fn deed(&self) -> String {
        if let Some(flag) = &self.flag {
            return format!(
                "From the moment of the decision every new request of {} gets the definition of {} from before; requests \
                 that were on their way were left to finish. The circuit is open and stays open, also over restarts, \
                 until a person resets it.",
                self.service, flag.key
            );
        }
        format!(
            "From the moment of the decision every new request of {} goes to stable; requests that were already with \
             the canary were left to finish. The circuit is open and stays open, also over restarts, until a person \
             resets it.",
            self.service
        )
    }
}

fn proof(evidence: &Evidence, cause: Cause) -> Vec<Block> {
    let limit = words::odds(evidence.threshold);
    let reached = match cause {
        Cause::Evidence => String::new(),
        _ => " It did not decide this pull.".to_owned(),
    };
    let mut blocks = vec![
        text(&format!("Evidence {} against the canary; the limit is {limit}.{reached}", words::odds(evidence.e))),
        table(
            ["arm", "units", "bad", "ratio"],
            [Arm::Canary, Arm::Stable].map(|arm| {
                let seen = evidence.arms.get(arm);
                [arm.to_string(), words::count(seen.units), words::count(seen.bad), words::share(seen.bad, seen.units)]
            }),
        ),
        text(
            "A unit is one sticky key, which is one user, or one request of a service without sticky keys. Units are \
             estimated (± 3 %), bad ones are counted.",
        ),
    ];
    if evidence.signals.iter().any(|(_, signal)| signal.is_some()) {
        blocks.insert(2, signals(evidence));
    }
    if let Some(control) = &evidence.control {
        blocks.push(comparisons(control));
    }
    if evidence.addresses > 0 {
        let addresses = match evidence.addresses {
            1 => "one client address".to_owned(),
            n => format!("{} client addresses", words::count(n)),
        };
        let without = evidence.e_without_any_address.map_or_else(String::new, |e| {
            format!(" With any one address left out the evidence is still at least {}.", words::odds(e))
        });
        blocks.push(text(&format!("Users came from {addresses}.{without}")));
    }
    blocks
}

/// With what the canary was compared.
fn comparisons(control: &ControlEvidence) -> Block {
    table(
        ["compared", "evidence that the first is worse"],
        [
            ("canary, control", control.canary_vs_control),
            ("canary, all of stable", control.canary_vs_stable),
            ("control, rest of stable", control.control_vs_rest),
        ]
        .map(|(compared, e)| [compared.to_owned(), words::odds(e)]),
    )
}

/// Each signal by itself.
fn signals(evidence: &Evidence) -> Block {
    let row = |(name, signal): (Signal, &Option<SignalEvidence>)| {
        let signal = signal.as_ref()?;
        Some([
            name.to_string(),
            words::odds(signal.e),
            words::odds(signal.threshold),
            words::count(signal.bad.canary),
            words::count(signal.bad.stable),
        ])
    };
    table(["signal", "evidence", "limit", "bad on canary", "bad on stable"], evidence.signals.iter().filter_map(row))
}

fn samples(evidence: &Evidence) -> Block {
    let row = |sample: &crate::model::outcome::BadSample| {
        [
            sample.at.to_string(),
            sample.method.clone(),
            sample.path.clone(),
            sample.status.map_or_else(|| "–".to_owned(), |status| status.to_string()),
            sample.reason.name().to_owned(),
            sample.endpoint.clone(),
            sample.request_id.clone(),
        ]
    };
    table(
        ["time", "method", "path", "status", "why bad", "endpoint", "request id"],
        evidence.samples.iter().take(SAMPLES).map(row),
    )
}

// === the split ===

impl RatioAlert {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn letter(&self, subject: String, host: &str, admin_url: Option<&str>) -> Letter {
        let lead = "Users that came back with their key don't sit on the arms as they were drawn.";
        let headline = format!("{}: the split itself is broken", self.service);
        let mut letter = Letter::new(subject, Tone::Bad, &headline, lead, host);
        let all = self.returned.stable + self.returned.canary;
        letter.fact("Weight", &format!("{} %", self.weight));
        letter.fact("Users that came back", &words::count(all));
        let seen = words::share(self.returned.canary, all);
        letter.fact("On the canary", &format!("{} ({seen})", words::count(self.returned.canary)));
        letter.fact("Expected there", &format!("{:.0}", all as f64 * self.weight.fraction()));
        letter.fact("Episode", &self.episode.to_string());
        letter.fact("Proxy", host);
        let causes = "A cache in front that answers for serin, a client that loses its cookie on one arm only, or an \
                      arm that loses its users. Until it is known, figures of the two arms can't be compared.";
        letter.section("What it may be", vec![text(causes)]);
        let deed = "The canary passes no step in this episode. A pull is not held up. This is told once in an episode.";
        letter.section("What serin did", vec![text(deed)]);
        if let Some(url) = admin_url {
            letter.section("Where to look", vec![Block::Link(one_line(url, SENTENCE))]);
        }
        letter
    }
}

// === rules ===

impl RuleAlert {
    fn letter(&self, subject: String, host: &str, admin_url: Option<&str>) -> Letter {
        let rule = words::rule(&self.rule);
        let hold = words::span(self.rule.hold);
        let (tone, state, lead) = match self.news {
            RuleNews::Fires => (Tone::Bad, "firing", format!("The {rule} held for {hold} without a break.")),
            RuleNews::Resolves => {
                let lasted = words::span(self.at.since(self.fired_at));
                (Tone::Good, "resolved", format!("The rule on the {rule} fires no more, after {lasted}."))
            }
        };
        let mut letter = Letter::new(subject, tone, &format!("{}: {rule}, {state}", self.service), &lead, host);
        letter.fact("Rule", &format!("{rule}, for {hold}"));
        letter.fact("Value now", &words::value(self.rule.metric, self.value));
        letter.fact("Firing since", &self.fired_at.to_string());
        if self.news == RuleNews::Resolves {
            letter.fact("Resolved", &self.at.to_string());
        }
        letter.fact("Proxy", host);
        let told = match self.news {
            RuleNews::Fires => "Nothing: a rule only tells. One more mail follows when it fires no more.",
            RuleNews::Resolves => "Nothing: a rule only tells.",
        };
        letter.section("What serin did", vec![text(told)]);
        if let Some(url) = admin_url {
            letter.section("Where to look", vec![Block::Link(one_line(url, SENTENCE))]);
        }
        letter
    }
}

fn capitalised(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// A word that a shell takes as it stands: readers copy the command from the mail.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
