//! Feature flags as people see them.

use super::{Cell, Page, Tone, clean, header, plain};
use crate::admin::flag_view::{FlagJson, FlagsJson};

impl Page {
    /// All flags, a line each, and below what is wrong with them.
    pub(in super::super) fn flags(self, all: &FlagsJson) -> String {
        let mut text = self.store(&all.store);
        if all.flags.is_empty() {
            text += "no flag is defined\n";
        } else {
            let mut rows =
                vec![header(&["FLAG", "STATE", "TYPE", "DEFAULT", "RULE", "OWNER", "EXPIRES", "ASKED", "STALE"])];
            rows.extend(all.flags.iter().map(row));
            text += &self.table("", &rows);
        }
        for refusal in all.flags.iter().flat_map(|flag| &flag.refusals).chain(&all.refusals) {
            let line = format!("refused: {}: {}", refusal.at, refusal.why);
            text += &format!("{}\n", self.paint(&clean(&line), Tone::Bad));
        }
        text + &self.note(all.note.as_deref())
    }

    /// What a change of a flag came to.
    pub(in super::super) fn flag(self, flag: &FlagJson) -> String {
        let rows = vec![vec![
            plain(&flag.key),
            state(flag),
            plain(format!("default {}", or_dash(flag.default.as_deref()))),
            rule(flag),
            (format!("revision {}", flag.revision), Tone::Faint),
        ]];
        self.table("", &rows) + &self.note(flag.note.as_deref())
    }

    /// Flags that have had their day, with each reason.
    pub(in super::super) fn stale_flags(self, flags: &[FlagJson]) -> String {
        if flags.is_empty() {
            return "no flag has had its day\n".to_owned();
        }
        let mut rows = vec![header(&["FLAG", "OWNER", "WHY"])];
        for flag in flags {
            for stale in &flag.stale {
                rows.push(vec![plain(&flag.key), plain(or_dash(flag.owner.as_deref())), plain(&stale.says)]);
            }
        }
        self.table("", &rows)
    }
}

fn row(flag: &FlagJson) -> Vec<Cell> {
    let asked = flag.usage.as_ref().map_or_else(|| "–".to_owned(), |usage| usage.evaluations.to_string());
    let stale: Vec<&str> = flag.stale.iter().map(|stale| stale.why.as_str()).collect();
    vec![
        plain(&flag.key),
        state(flag),
        plain(or_dash(flag.kind.as_deref())),
        plain(or_dash(flag.default.as_deref())),
        rule(flag),
        plain(or_dash(flag.owner.as_deref())),
        // The day is enough for a line.
        plain(or_dash(flag.expires.as_deref().map(|at| at.split('T').next().unwrap_or(at)))),
        plain(asked),
        if stale.is_empty() { plain("–") } else { (stale.join(", "), Tone::Warn) },
    ]
}

fn state(flag: &FlagJson) -> Cell {
    match flag.state.as_str() {
        "ENABLED" if flag.refusals.is_empty() => ("enabled".to_owned(), Tone::Good),
        "ENABLED" => ("enabled, the last good one".to_owned(), Tone::Bad),
        "DISABLED" => ("disabled".to_owned(), Tone::Warn),
        other => (other.to_lowercase(), Tone::Bad),
    }
}

fn rule(flag: &FlagJson) -> Cell {
    if let Some(trial) = &flag.on_trial {
        return (format!("on trial in {}", trial.service), Tone::Warn);
    }
    match (flag.switched, flag.targeting) {
        (true, _) => ("switched".to_owned(), Tone::Warn),
        (false, true) => plain("yes"),
        (false, false) => plain("–"),
    }
}

fn or_dash(text: Option<&str>) -> &str {
    text.unwrap_or("–")
}
