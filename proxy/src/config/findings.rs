//! What is found while a file's meaning is read: problems that refuse it, notes that don't.

use std::ops::Range;

use toml::Spanned;

use super::raw::Scalar;
use super::source::{Problem, Source};
use super::units::{self, Reason};
use super::{ConfigError, Note};
use crate::model::spec::StatusSet;

/// Problems and notes, with the text they are about.
pub(super) struct Findings<'a> {
    source: &'a Source<'a>,
    problems: Vec<Problem>,
    notes: Vec<Note>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(source: &'a Source<'a>) -> Self {
        Self { source, problems: Vec::new(), notes: Vec::new() }
    }

    /// The line a byte is on.
    pub(super) fn line(&self, at: &Range<usize>) -> usize {
        self.source.line(at.start)
    }

    /// Something wrong.
    pub(super) fn problem(&mut self, at: Range<usize>, reason: impl Into<Reason>) {
        self.problems.push(Problem { at, reason: reason.into(), unknown_key: false });
    }

    /// Something remarkable about a place in the text.
    pub(super) fn note_at(&mut self, at: &Range<usize>, text: impl Into<String>) {
        let line = Some(self.line(at));
        self.notes.push(Note { line, text: text.into() });
    }

    /// Something remarkable about the whole, or about what is absent.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(Note { line: None, text: text.into() });
    }

    /// The meaning of a value; none where it has none, which becomes a problem.
    pub(super) fn read<R, T>(&mut self, raw: &Spanned<R>, meaning: impl FnOnce(&R) -> Result<T, Reason>) -> Option<T> {
        meaning(raw.get_ref()).map_err(|reason| self.problem(raw.span(), reason)).ok()
    }

    /// The statuses in a list.
    pub(super) fn statuses(&mut self, list: &[Spanned<Scalar>]) -> StatusSet {
        let mut statuses = StatusSet::EMPTY;
        for value in list {
            self.read(value, |value| units::status(value, &mut statuses));
        }
        statuses
    }

    /// The statuses that are failures: 5xx, unless others are listed.
    pub(super) fn failures(&mut self, listed: Option<&[Spanned<Scalar>]>) -> StatusSet {
        listed.map_or_else(|| (500..600).collect(), |list| self.statuses(list))
    }

    /// The meaning of a value that may be left out.
    pub(super) fn read_or<R, T>(
        &mut self,
        raw: Option<&Spanned<R>>,
        default: T,
        meaning: impl FnOnce(&R) -> Result<T, Reason>,
    ) -> T {
        raw.and_then(|raw| self.read(raw, meaning)).unwrap_or(default)
    }

    /// The meanings of a list's items, with their places; none may mean the same as one before.
    pub(super) fn read_distinct<T: PartialEq>(
        &mut self,
        raw: &[Spanned<String>],
        meaning: impl Fn(&str) -> Result<T, Reason>,
    ) -> Vec<(Range<usize>, T)> {
        let mut items: Vec<(Range<usize>, T)> = Vec::with_capacity(raw.len());
        for raw in raw {
            let Some(item) = self.read(raw, |text| meaning(text)) else { continue };
            if items.iter().any(|(_, before)| *before == item) {
                self.problem(raw.span(), "this is in the list already");
            } else {
                items.push((raw.span(), item));
            }
        }
        items
    }

    /// The notes in the order of the text, or all problems as one error.
    pub(super) fn conclude(mut self) -> Result<Vec<Note>, ConfigError> {
        if self.problems.is_empty() {
            self.notes.sort_by_key(|note| note.line.unwrap_or(0));
            Ok(self.notes)
        } else {
            Err(ConfigError::Invalid(self.source.report(self.problems)))
        }
    }
}
