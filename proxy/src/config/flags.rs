//! The file of flags that the configuration names: read, and refused where a definition in it can't be right.

use std::path::Path;

use super::ConfigError;
use super::source::{Problem, Source};
use crate::model::flag::{Definitions, FlagSet, Refusal};

/// The definitions of a file.
///
/// # Errors
/// When it can't be read, or anything in it is refused.
pub(super) fn read(path: &Path) -> Result<Definitions, ConfigError> {
    let bytes = std::fs::read(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let name = path.display().to_string();
    let text = String::from_utf8(bytes).map_err(|error| super::not_utf8(&error, &name))?;
    understand(&text).map_err(|problems| ConfigError::Invalid(Source::new(&text, &name).report(problems)))
}

/// What a text says, or what is wrong with it and where.
fn understand(text: &str) -> Result<Definitions, Vec<Problem>> {
    // Read by itself first: this error knows its place.
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let at = place(text, error.line(), error.column());
        return Err(vec![problem(at..at, format!("not valid JSON: {error}"))]);
    }
    let definitions = Definitions::parse(text.as_bytes()).map_err(|refusal| vec![refused(text, &refusal)])?;
    let (_, refusals) = definitions.compile(&FlagSet::default());
    if refusals.is_empty() {
        Ok(definitions)
    } else {
        Err(refusals.iter().map(|refusal| refused(text, refusal)).collect())
    }
}

/// Points at the flag; what is wrong in it the refusal says.
fn refused(text: &str, refusal: &Refusal) -> Problem {
    let key = refusal.flag.as_ref().map(|key| serde_json::Value::from(key.as_str()).to_string());
    let at = key.and_then(|key| text.find(&key).map(|at| at..at + key.len()));
    problem(at.unwrap_or(0..0), refusal.to_string())
}

const fn problem(at: std::ops::Range<usize>, reason: String) -> Problem {
    Problem { at, reason, unknown_key: false }
}

/// The byte at a line and column, both from 1.
fn place(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column.saturating_sub(1)).min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> String {
        let problems = understand(text).expect_err("it makes no sense");
        Source::new(text, "flags.json").report(problems)
    }

    #[test]
    fn what_is_no_json_is_pointed_at() {
        let report = report("{\n  \"flags\": {\n    \"a\" {}\n  }\n}\n");
        assert!(report.starts_with("flags.json:3:9: not valid JSON: expected `:`"), "{report}");
        assert!(report.ends_with("3 |     \"a\" {}\n  |         ^"), "{report}");
    }

    #[test]
    fn a_flag_that_is_refused_is_pointed_at_with_the_place_in_it() {
        let text = r#"{"flags": {
  "good": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on"},
  "bad": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "om"}
}}"#;
        let report = report(text);
        assert!(report.starts_with("flags.json:3:3: flags.bad.defaultVariant: "), "{report}");
        assert!(report.ends_with("\n  |   ^^^^^"), "{report}");
    }

    #[test]
    fn what_makes_sense_is_taken() {
        let text = r#"{"flags": {"a": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on"}}}"#;
        assert_eq!(understand(text).map(|flags| flags.flags.len()).ok(), Some(1));
    }
}
