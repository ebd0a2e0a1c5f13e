//! The audit log as people see it.

use super::{Cell, Page, header, plain};
use crate::admin::view::AuditJson;
use crate::model::audit::Entry;

impl Page {
    /// The last so many entries, a line each, the newest last, where a reader of a terminal looks.
    pub(in super::super) fn audit(self, log: &AuditJson, last: usize) -> String {
        let text = if log.entries.is_empty() {
            "nothing was changed\n".to_owned()
        } else {
            let mut rows = vec![header(&["AT", "WHO", "WHAT", "OF", "FROM", "TO", "WHY"])];
            rows.extend(log.entries.iter().take(last).rev().map(row));
            self.table("", &rows)
        };
        text + &self.note(log.note.as_deref())
    }
}

fn row(entry: &Entry) -> Vec<Cell> {
    let of = [&entry.service, &entry.endpoint, &entry.flag].into_iter().flatten();
    let of = of.map(String::as_str).collect::<Vec<_>>().join(" ");
    let why = entry.why.as_deref().unwrap_or("–");
    [&*entry.at, &*entry.who, &*entry.what, &*of, &*entry.from, &*entry.to, why].into_iter().map(plain).collect()
}
