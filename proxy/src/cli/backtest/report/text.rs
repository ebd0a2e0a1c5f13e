//! The same for people.

use std::fmt::Write as _;

use super::{EpisodeJson, MomentJson, PulledJson, Report, StepJson};
use crate::cli::render::verdict::evidence;
use crate::cli::render::{Cell, Page, Tone, clean, header, number, plain};
use crate::model::outcome::Signal;
use crate::model::verdict::{Decision, decision};

impl Report {
    /// For people.
    pub(in crate::cli::backtest) fn text(&self, page: Page) -> String {
        let lines = &self.lines;
        let mut text = format!(
            "{} lines: {} requests, {} others, {} broken\n",
            lines.read, lines.requests, lines.other, lines.broken
        );
        // Writing to a string can't fail, here and below.
        for broken in &lines.first_broken {
            let line = clean(&format!("broken: {}:{}: {}", broken.file, broken.line, broken.why));
            let _ = writeln!(text, "{}", page.paint(&line, Tone::Warn));
        }
        for assumed in &self.assumed {
            let _ = writeln!(text, "assumed: {}", clean(assumed));
        }
        for episode in &self.episodes {
            text.push('\n');
            text += &episode.text(page);
        }
        if lines.unreported_episodes > 0 {
            let _ = writeln!(text, "\nand {} more episodes: give less of the log", lines.unreported_episodes);
        }
        text
    }
}

impl EpisodeJson {
    fn text(&self, page: Page) -> String {
        let name = self.episode.as_ref().map_or_else(String::new, |episode| format!(", episode {episode}"));
        let (said, tone) = match (&self.pulled, self.decision) {
            (Some(_), _) => ("the canary would have been PULLED", Tone::Bad),
            (None, Decision::Pass) => ("the canary would have stayed, and passed", Tone::Good),
            (None, _) => ("the canary would have stayed", Tone::Plain),
        };
        let mut text = format!("{}: {}\n", clean(&format!("{}{name}", self.service)), page.paint(said, tone));
        text += &page.table("  ", &self.facts());
        text.push('\n');
        text += &page.table("  ", &self.signals());
        text.push('\n');
        text += &page.table("  ", &self.step_rows());
        if !self.evidence.whole.samples.is_empty() {
            text.push('\n');
            text += &page.table("  ", &self.samples());
        }
        for note in &self.notes {
            let _ = writeln!(text, "  {}", page.paint(&format!("note: {}", clean(note)), Tone::Warn));
        }
        text
    }

    fn facts(&self) -> Vec<Vec<Cell>> {
        let whole = &self.evidence.whole;
        let mut rows = Vec::new();
        if let (Some(from), Some(to)) = (&self.from, &self.to) {
            rows.push(vec![plain("log"), plain(format!("{} requests, {} to {}", self.requests, from.at, to.at))]);
        }
        if let Some(pulled) = &self.pulled {
            rows.extend(pulled_rows(pulled));
        }
        rows.push(vec![plain("why"), plain(&self.why)]);
        rows.push(vec![plain("for a pull"), evidence(whole.e, whole.threshold)]);
        let units = |arm: &str, bad: u64, units: u64| format!("{bad} of {units} {arm} users");
        let stable = units("stable", whole.stable.bad, whole.stable.units);
        let canary = units("canary", whole.canary.bad, whole.canary.units);
        rows.push(vec![plain("bad"), plain(format!("{canary}, {stable}, from {} addresses", whole.addresses))]);
        for (what, outlook) in [(Decision::Pull, self.expected.pull), (Decision::Pass, self.expected.pass)] {
            if let Some(outlook) = outlook.filter(|_| self.decision == Decision::Hold) {
                rows.push(vec![plain("expected"), (decision::more(outlook.outlook(), what), Tone::Faint)]);
            }
        }
        rows
    }

    fn signals(&self) -> Vec<Vec<Cell>> {
        let mut rows = vec![header(&["SIGNAL", "EVIDENCE", "BAD STABLE", "BAD CANARY"])];
        let counted = self.evidence.signals.iter().filter_map(|(name, share)| Some((name, (*share)?)));
        rows.extend(counted.map(|(name, share)| {
            let bad = [share.bad.stable, share.bad.canary].map(|bad| plain(bad.to_string()));
            [plain(Signal::name(name)), evidence(share.e, share.threshold)].into_iter().chain(bad).collect()
        }));
        rows
    }

    fn step_rows(&self) -> Vec<Vec<Cell>> {
        let mut rows = vec![header(&["STEP", "FROM", "STABLE USERS", "CANARY USERS", "FOR A PASS", ""])];
        rows.extend((1..).zip(&self.steps).map(|(number, step)| step_row(number, step)));
        rows
    }

    fn samples(&self) -> Vec<Vec<Cell>> {
        let mut rows = vec![header(&["LATEST BAD RESPONSES OF THE CANARY", "REQUEST", "STATUS", "REASON", "ID"])];
        rows.extend(self.evidence.whole.samples.iter().map(|sample| {
            let what = &sample.what;
            let status = what.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
            let request = format!("{} {}", what.method, what.path);
            [&sample.at, &request, &status, what.reason.name(), &what.request_id].map(plain).into()
        }));
        rows
    }
}

fn step_row(number_of: usize, step: &StepJson) -> Vec<Cell> {
    let passed = step.passed.as_ref().map_or_else(
        || plain("never passed"),
        |passed| (format!("passed at {} by {} users", spot(&passed.at), passed.exposed), Tone::Good),
    );
    vec![
        plain(format!("{number_of}: {} %", step.weight)),
        plain(&step.begun.at),
        plain(step.units.stable.to_string()),
        plain(step.units.canary.to_string()),
        plain(format!("E {} of {}, from {} users", number(step.e), number(step.threshold), step.exposed)),
        passed,
    ]
}

fn pulled_rows(pulled: &PulledJson) -> Vec<Vec<Cell>> {
    let id = if pulled.request_id.is_empty() { String::new() } else { format!(" by request {}", pulled.request_id) };
    let mut rows = vec![vec![plain("pulled"), (format!("at {}{id}", spot(&pulled.reached)), Tone::Bad)]];
    if pulled.waited_ms > 0 {
        let waited = format!("for {} ms for answers of stable, until {}", pulled.waited_ms, spot(&pulled.decided));
        rows.push(vec![plain("waited"), plain(waited)]);
    }
    let after = format!(
        "{} canary users until then; {} requests met the canary after it, {} of them bad",
        pulled.canary_users_hurt, pulled.canary_requests_after, pulled.bad_canary_requests_after
    );
    rows.push(vec![plain("hurt"), plain(after)]);
    rows
}

fn spot(moment: &MomentJson) -> String {
    format!("{}:{}, {}", moment.file, moment.line, moment.at)
}
