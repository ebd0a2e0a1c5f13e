//! TOML to [`Spec`]: the only reader of configuration files and environment.
//!
//! A file goes through three hands: the TOML reader makes the raw tables (`raw`),
//! `build` gives every value its meaning, `source` tells people what is wrong and
//! where, hiding what may be a secret (`secrets`). Whoever holds a [`Spec`] need not
//! check anything again. May know: model.

mod build;
mod explain;
mod findings;
mod raw;
mod secrets;
mod source;
mod suggest;
#[cfg(test)]
mod tests;
mod units;
mod values;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::model::spec::Spec;

use findings::Findings;
use raw::RawConfig;
use source::Source;

/// Why a configuration can't be used. Never holds a secret of the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file's meaning or form is wrong: each problem with line, column and caret, over several lines.
    #[error("{0}")]
    Invalid(String),
    /// The file can't be read.
    #[error("{} can't be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A remark on a configuration that is valid but may not be what was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The line it is about, from 1; none where it is about the whole, or about what is absent.
    pub line: Option<usize>,
    /// One sentence, without secrets.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Reads a configuration file.
///
/// # Errors
/// When the file can't be read, or isn't valid.
pub fn load(path: &Path) -> Result<(Spec, Vec<Note>), ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let name = path.display().to_string();
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(&error, &name))?;
    parse(&text, &name)
}

/// Reads a configuration from its text. The file's name is for error messages.
///
/// # Errors
/// When the text isn't TOML, holds an unknown key, or a value without meaning: with up to ten
/// problems at once.
pub fn parse(text: &str, file_name: &str) -> Result<(Spec, Vec<Note>), ConfigError> {
    parse_below(text, file_name, state_directory().as_deref())
}

/// As [`parse`], with the directory in which the state file lies by default.
fn parse_below(text: &str, file_name: &str, state_directory: Option<&Path>) -> Result<(Spec, Vec<Note>), ConfigError> {
    let source = Source::new(text, file_name);
    let raw: RawConfig =
        toml::from_str(text).map_err(|error| ConfigError::Invalid(source.report(vec![explain::explain(&error)])))?;
    let mut findings = Findings::new(&source);
    let spec = build::spec(raw, state_directory, &mut findings);
    let notes = findings.conclude()?;
    Ok((spec, notes))
}

/// The directory that systemd made for this service's state; with several, the first.
fn state_directory() -> Option<PathBuf> {
    let directories = std::env::var_os("STATE_DIRECTORY")?;
    std::env::split_paths(&directories).next().filter(|directory| !directory.as_os_str().is_empty())
}

fn not_utf8(error: &std::string::FromUtf8Error, name: &str) -> ConfigError {
    let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
    ConfigError::Invalid(format!("{name}:{line}: this line holds bytes that aren't UTF-8"))
}
