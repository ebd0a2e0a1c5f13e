//! Markdown tables, and how figures are written in them.

use std::fmt::{self, Display};

use super::figures::{lower_bound, upper_bound};

/// A table: its head, then its rows.
#[derive(Debug)]
pub(super) struct Table {
    columns: usize,
    text: String,
}

impl Table {
    /// A table with these columns. A name that starts with `>` is a column of figures.
    pub(super) fn new(head: &[&str]) -> Self {
        let names: Vec<&str> = head.iter().map(|name| name.trim_start_matches('>')).collect();
        let rules: Vec<&str> = head.iter().map(|name| if name.starts_with('>') { "---:" } else { "---" }).collect();
        Self { columns: head.len(), text: format!("| {} |\n| {} |\n", names.join(" | "), rules.join(" | ")) }
    }

    /// Adds a row, a cell for each column.
    pub(super) fn row(&mut self, cells: &[String]) {
        debug_assert_eq!(cells.len(), self.columns, "{cells:?}");
        self.text += &format!("| {} |\n", cells.join(" | "));
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a goal is met, as a cell that is easily found when not.
pub(super) fn met(met: bool) -> String {
    if met { "met" } else { "**missed**" }.to_owned()
}

/// Whether a chance is at most the one promised, of which `hits` of `trials` came true: open where so few trials
/// can't tell.
pub(super) fn kept(hits: u64, trials: u64, promised: f64) -> String {
    if upper_bound(hits, trials) <= promised {
        met(true)
    } else if lower_bound(hits, trials) > promised {
        met(false)
    } else {
        "open".to_owned()
    }
}

/// A fraction as a percent with so many decimals.
pub(super) fn percent(fraction: f64, decimals: usize) -> String {
    format!("{:.decimals$} %", fraction * 100.0)
}

/// A number of units: a decimal where it is small.
pub(super) fn units(number: f64) -> String {
    if number < 99.95 { format!("{number:.1}") } else { format!("{number:.0}") }
}

/// Seconds as people read them; `never` for infinite ones.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s.is_infinite() => "never".to_owned(),
        s if s < 0.995 => format!("{:.0} ms", s * 1e3),
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 5_970.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}
