//! TOML to [`Spec`]: the only reader of configuration files and environment.
//!
//! A file goes through three hands: the TOML reader makes the raw tables (`raw`),
//! `build` gives every value its meaning, `source` tells people what is wrong and
//! where, hiding what may be a secret (`secrets`). Whoever holds a [`Spec`] need not
//! check anything again. May know: model.

mod agent;
mod build;
mod explain;
mod findings;
mod flags;
mod raw;
mod redis_url;
mod secrets;
mod source;
mod suggest;
mod surroundings;
#[cfg(test)]
mod tests;
mod units;
mod values;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::scaling::{DriverKind, DriverSpec, EnvironmentError, ScalingSpec};
use crate::model::spec::{ServiceSpec, Spec};
use crate::model::tls::FileContent;

pub use agent::{load_agent, parse_agent, version_of};
use findings::Findings;
use raw::RawConfig;
use source::Source;
pub use surroundings::{HANDOVER, OF_THIS_PROCESS, notify_socket, socket_names, takes_over, watchdog};

/// Why a configuration can't be used. Never holds a secret of the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file's meaning or form is wrong: each problem with line, column and caret, over several lines.
    #[error("{0}")]
    Invalid(String),
    /// A secret's file holds no secret.
    #[error("{} holds no secret for {purpose}: give it one line of {LEAST} to {MOST} letters, without blanks", path.display())]
    NoSecret {
        /// The file.
        path: PathBuf,
        /// What it is for.
        purpose: &'static str,
    },
    /// A container's environment that can't be one.
    #[error("{}: {problem}", path.display())]
    Environment {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: EnvironmentError,
    },
    /// The file, or one that it names for a secret, can't be read.
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

/// The shortest override secret, in bytes: what could be guessed is none.
const LEAST: usize = 16;
/// The longest, in bytes: it must fit into a header.
const MOST: usize = 512;

/// Reads a configuration file, and the secrets that requests are compared with.
///
/// # Errors
/// When the file can't be read, or isn't valid, or a secret's file holds none.
pub fn load(path: &Path) -> Result<(Spec, Vec<Note>), ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let name = path.display().to_string();
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(&error, &name))?;
    let (mut spec, notes) = parse(&text, &name)?;
    for tls in spec.listeners.iter_mut().filter_map(|listener| listener.tls.as_mut()) {
        read_all(tls.files_mut())?;
    }
    if let Some(flags) = &mut spec.flag_file {
        flags.definitions = Arc::new(flags::read(&flags.file)?);
    }
    for service in &mut spec.services {
        read_endpoint_tls(service)?;
        read_driver(service)?;
        let mut with_secret = ServiceSpec::clone(service);
        if let Some(secret) = with_secret.split.as_mut().and_then(|split| split.override_secret.as_mut()) {
            secret.value = secret_for(&secret.file, "testers")?;
            *service = Arc::new(with_secret.clone());
        }
        if let Some(stickiness) = with_secret.balance.stickiness.as_mut()
            && let Some(file) = &stickiness.secret.file
        {
            stickiness.secret.value = secret_for(file, "host stickiness")?;
            *service = Arc::new(with_secret);
        }
    }
    Ok((spec, notes))
}

/// The certificates that a configuration names, if what their files hold has changed since they were read.
///
/// # Errors
/// When one of them can't be read.
pub fn changed_certificates(spec: &Spec) -> Result<Option<Spec>, ConfigError> {
    let mut now = spec.clone();
    for tls in now.listeners.iter_mut().filter_map(|listener| listener.tls.as_mut()) {
        read_all(tls.files_mut())?;
    }
    let mut changed = now.listeners.iter().zip(&spec.listeners).any(|(now, before)| now.tls != before.tls);
    for (service, before) in now.services.iter_mut().zip(&spec.services) {
        read_endpoint_tls(service)?;
        read_driver(service)?;
        changed |= service.tls != before.tls || service.autoscale != before.autoscale;
    }
    Ok(changed.then_some(now))
}

/// Reads what the TLS with a service's endpoints names. One that says what it said before stays the same.
fn read_endpoint_tls(service: &mut Arc<ServiceSpec>) -> Result<(), ConfigError> {
    let Some(mut tls) = service.tls.clone() else { return Ok(()) };
    read_all(tls.files_mut())?;
    if service.tls.as_ref() != Some(&tls) {
        *service = Arc::new(ServiceSpec { tls: Some(tls), ..ServiceSpec::clone(service) });
    }
    Ok(())
}

/// Reads what a service's driver names. One that says what it said before stays the same.
fn read_driver(service: &mut Arc<ServiceSpec>) -> Result<(), ConfigError> {
    let Some(scaling) = &service.autoscale else { return Ok(()) };
    let mut read = ScalingSpec::clone(scaling);
    let Some(DriverSpec { kind: DriverKind::Docker(docker), .. }) = &mut read.driver else { return Ok(()) };
    read_all(docker.files_mut())?;
    if let (Err(problem), Some(file)) = (docker.environment(), &docker.environment) {
        return Err(ConfigError::Environment { path: file.file.clone(), problem });
    }
    if **scaling != read {
        *service = Arc::new(ServiceSpec { autoscale: Some(Arc::new(read)), ..ServiceSpec::clone(service) });
    }
    Ok(())
}

fn read_all<'a>(files: impl Iterator<Item = &'a mut FileContent>) -> Result<(), ConfigError> {
    for file in files {
        let unreadable = |source| ConfigError::Unreadable { path: file.file.clone(), source };
        file.content = std::fs::read(&file.file).map_err(unreadable)?.into();
    }
    Ok(())
}

fn secret_for(path: &Path, purpose: &'static str) -> Result<Arc<[u8]>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let secret = bytes.trim_ascii();
    if (LEAST..=MOST).contains(&secret.len()) && secret.iter().all(u8::is_ascii_graphic) {
        Ok(secret.into())
    } else {
        Err(ConfigError::NoSecret { path: path.to_owned(), purpose })
    }
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

/// What this proxy calls itself: the machine's name.
pub fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = read.trim();
    if name.is_empty() { "serin".to_owned() } else { name.to_owned() }
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
