//! The text of a configuration file as something to point at: lines, columns, carets.

use std::fmt::Write as _;
use std::ops::Range;

use super::secrets;

/// At most so many problems are reported at once; the rest often follows from them.
const MOST: usize = 10;

/// Something wrong, at a place.
#[derive(Clone)]
pub(super) struct Problem {
    /// The bytes at fault.
    pub(super) at: Range<usize>,
    /// What is wrong and what would be right, without the value.
    pub(super) reason: String,
    /// The key at fault isn't known, so its value may be anything, a secret too.
    pub(super) unknown_key: bool,
}

/// A configuration text and the name of its file.
pub(super) struct Source<'a> {
    text: &'a str,
    name: &'a str,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, name: &'a str) -> Self {
        Self { text, name }
    }

    /// The line a byte is on, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        1 + self.before(at).bytes().filter(|byte| *byte == b'\n').count()
    }

    fn before(&self, at: usize) -> &'a str {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        &self.text[..at]
    }

    /// All problems in the order of the text, each with its line and a caret.
    pub(super) fn report(&self, mut problems: Vec<Problem>) -> String {
        problems.sort_by_key(|problem| problem.at.start);
        let hidden = secrets::hidden(self.text);
        let mut report: Vec<String> = problems.iter().take(MOST).map(|p| self.render(p, &hidden)).collect();
        if let Some(more) = problems.len().checked_sub(MOST).filter(|more| *more > 0) {
            report.push(format!("… and {more} more"));
        }
        report.join("\n\n")
    }

    fn render(&self, problem: &Problem, hidden: &[Range<usize>]) -> String {
        let head = self.before(problem.at.start);
        let start = head.rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[start..].find('\n').map_or(self.text.len(), |length| start + length);
        let column = 1 + head[start..].chars().count();
        let number = self.line(head.len());
        let mut hidden = hidden.to_vec();
        if problem.unknown_key {
            hidden.extend(self.value_after(problem.at.end, end));
        }
        let (line, caret) = self.show(start..end, &problem.at, &hidden);
        let margin = " ".repeat(number.to_string().len());
        let mut out = String::new();
        // Writing to a string can't fail.
        let reason = problem.reason.replace(char::is_control, " ");
        let _ = write!(out, "{}:{number}:{column}: {reason}", self.name);
        let _ = write!(out, "\n{margin} |\n{number} | {line}\n{margin} | {caret}");
        out
    }

    /// The value behind an unknown key on its line, unless it is a plain number or truth value.
    fn value_after(&self, key_end: usize, line_end: usize) -> Option<Range<usize>> {
        let rest = self.text.get(key_end..line_end)?;
        let value = rest.split_once('=')?.1.trim();
        let plain = value.parse::<f64>().is_ok() || matches!(value, "true" | "false");
        let start = line_end - rest.split_once('=')?.1.trim_start().len();
        (!plain && !value.is_empty()).then_some(start..line_end)
    }

    /// A line as it may be shown, and the carets below it.
    fn show(&self, line: Range<usize>, at: &Range<usize>, hidden: &[Range<usize>]) -> (String, String) {
        let (mut shown, mut carets) = (String::new(), String::new());
        let mut first_caret = None;
        let mut was_hidden = false;
        for (offset, letter) in self.text[line.clone()].char_indices().map(|(i, c)| (line.start + i, c)) {
            let is_hidden = hidden.iter().any(|range| range.contains(&offset));
            let at_fault = at.contains(&offset) || (at.is_empty() && at.start == offset);
            if !(is_hidden && was_hidden) {
                shown.push(match letter {
                    _ if is_hidden => '…',
                    // Tabs would shift the caret, and a file's escape sequences are not for this terminal.
                    letter if letter.is_control() => ' ',
                    letter => letter,
                });
                carets.push(' ');
            }
            if at_fault {
                carets.pop();
                carets.push('^');
                first_caret = Some(());
            }
            was_hidden = is_hidden;
        }
        let carets = match first_caret {
            Some(()) => carets.trim_end().to_owned(),
            None => format!("{}^", " ".repeat(shown.trim_end_matches(' ').chars().count())),
        };
        (shown.trim_end().to_owned(), carets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str, culprit: &str) -> String {
        let start = text.find(culprit).expect("the culprit");
        let problem = Problem { at: start..start + culprit.len(), reason: "is wrong".into(), unknown_key: false };
        Source::new(text, "f.toml").report(vec![problem])
    }

    #[test]
    fn the_caret_stands_under_the_culprit() {
        assert_eq!(report("a = 1\r\nbc = 22\r\n", "22"), "f.toml:2:6: is wrong\n  |\n2 | bc = 22\n  |      ^^");
        assert_eq!(report("ä\t= 22", "22"), "f.toml:1:5: is wrong\n  |\n1 | ä = 22\n  |     ^^");
    }

    #[test]
    fn a_hidden_value_is_one_letter_wide() {
        let text = "password = \"hunter2\"\n";
        assert_eq!(report(text, "\"hunter2\""), "f.toml:1:12: is wrong\n  |\n1 | password = …\n  |            ^");
    }

    #[test]
    fn a_problem_at_the_end_of_the_text_is_pointed_at() {
        let at_end = |text: &str| {
            let problem = Problem { at: text.len()..text.len(), reason: "is wrong".into(), unknown_key: false };
            Source::new(text, "f.toml").report(vec![problem])
        };
        assert_eq!(at_end("ab ="), "f.toml:1:5: is wrong\n  |\n1 | ab =\n  |     ^");
        assert_eq!(at_end(""), "f.toml:1:1: is wrong\n  |\n1 | \n  | ^");
    }

    #[test]
    fn only_the_first_problems_are_told() {
        let problem = |at: usize| Problem { at: at..at, reason: format!("p{at}"), unknown_key: false };
        let report = Source::new(&"x".repeat(30), "f.toml").report((0..13).rev().map(problem).collect());
        assert!(report.starts_with("f.toml:1:1: p0\n") && report.ends_with("… and 3 more"), "{report}");
    }
}
