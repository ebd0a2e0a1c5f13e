//! What a story counted: its row in the table of a run. `docs/operating.md` has one such table.

use std::fmt;
use std::ops::AddAssign;

use serin_tests::crowd::Visit;

/// What users asked for and how often they had no good answer, and what else was measured.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    requests: usize,
    failed: usize,
    measured: Vec<String>,
}

impl Figures {
    /// Those of users who have left.
    pub(crate) fn of(visits: &[Visit]) -> Self {
        let failed = visits.iter().filter(|visit| visit.erred()).count();
        Self { requests: visits.len(), failed, measured: Vec::new() }
    }

    /// And this.
    pub(crate) fn and(mut self, measured: impl Into<String>) -> Self {
        self.measured.push(measured.into());
        self
    }
}

impl AddAssign for Figures {
    fn add_assign(&mut self, more: Self) {
        self.requests += more.requests;
        self.failed += more.failed;
        self.measured.extend(more.measured);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} | {} | {}", self.requests, self.failed, self.measured.join("; "))
    }
}
