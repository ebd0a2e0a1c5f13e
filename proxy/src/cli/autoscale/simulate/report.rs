//! What came of it, for people: a table of all, and the decisions where one load was asked for.

use std::fmt::Write as _;
use std::time::Duration;

use super::super::super::render::{Cell, Page, Tone, clean, plain};
use crate::model::scaling::simulation::Outcome;

const HEADER: [&str; 6] =
    ["load", "who", "violating request-minutes", "instance-hours", "steps", "most reversals in a cooldown"];

/// All loads that were tried.
pub(super) struct Report {
    pub(super) tried: Vec<Tried>,
}

/// One load, and what it came to for each scaler: serin first.
pub(super) struct Tried {
    pub(super) trace: String,
    pub(super) cooldown: Duration,
    pub(super) outcomes: Vec<(String, Outcome)>,
}

impl Tried {
    pub(super) fn rows(&self) -> impl Iterator<Item = [String; 6]> {
        self.outcomes.iter().map(|(who, outcome)| {
            [
                self.trace.clone(),
                who.clone(),
                format!("{:.0}", outcome.violating_request_minutes()),
                format!("{:.1}", outcome.instance_hours()),
                outcome.steps.len().to_string(),
                outcome.most_reversals_within(self.cooldown.as_secs()).to_string(),
            ]
        })
    }
}

impl Report {
    /// For people.
    pub(super) fn text(&self, page: Page) -> String {
        let mut text = String::new();
        if let [tried] = &self.tried[..] {
            text += &decisions(page, tried);
            text.push('\n');
        }
        let head: Vec<Cell> = HEADER.iter().map(|word| ((*word).to_owned(), Tone::Faint)).collect();
        let rows = self.tried.iter().flat_map(Tried::rows).map(|row| row.into_iter().map(plain).collect());
        text + &page.table("", &std::iter::once(head).chain(rows).collect::<Vec<_>>())
    }

    /// For a document.
    pub(super) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = line(&HEADER.map(str::to_owned)) + "|---|---|---:|---:|---:|---:|\n";
        for row in self.tried.iter().flat_map(Tried::rows) {
            text += &line(&row);
        }
        text
    }
}

/// What serin decided, a line each.
fn decisions(page: Page, tried: &Tried) -> String {
    let mut text = String::new();
    let Some((_, outcome)) = tried.outcomes.first() else { return text };
    for step in &outcome.steps {
        let (hours, minutes, seconds) = (step.second / 3600, step.second / 60 % 60, step.second % 60);
        let why = page.paint(&clean(&step.why), Tone::Faint);
        // Writing to a string can't fail.
        let _ = writeln!(text, "{hours:02}:{minutes:02}:{seconds:02}  {} to {}  {why}", step.from, step.to);
    }
    text
}
