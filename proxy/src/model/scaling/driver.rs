//! What the configuration says of a driver: which one starts and stops instances, and how long it may take.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::super::tls::{EndpointTlsSpec, FileContent};

/// What starts and stops instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverSpec {
    /// Which.
    pub kind: DriverKind,
    /// How long one call may take.
    pub timeout: Duration,
    /// How long a started instance may take until it is ready; then it counts as failed.
    pub ready_within: Duration,
}

/// Which driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// A command and its arguments.
    Exec(Vec<PathBuf>),
    /// Containers of Docker's Engine.
    Docker(Box<DockerSpec>),
}

/// Instances that are containers, each of the same image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerSpec {
    /// Whose containers.
    pub engine: EngineSpec,
    /// The image that they are made of; the Engine has it.
    pub image: String,
    /// What is run instead of what the image says; empty = what it says.
    pub command: Vec<String>,
    /// The port in the container where the application listens.
    pub port: u16,
    /// The network of the Engine that containers join.
    pub network: String,
    /// The host's address on which each container gets a port; none = proxies reach containers by their own addresses.
    pub publish: Option<IpAddr>,
    /// Their environment, a `NAME=VALUE` to each line; it may hold secrets.
    pub environment: Option<FileContent>,
}

/// Where an Engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineSpec {
    /// On a socket of this machine.
    Unix(PathBuf),
    /// At a host and port.
    Tcp {
        /// As written: `host:port`.
        address: String,
        /// How it is known, and knows serin; none = nobody does.
        tls: Option<EndpointTlsSpec>,
    },
}

impl fmt::Display for EngineSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { address, .. } => write!(f, "tcp://{address}"),
        }
    }
}

/// A line of an environment that sets nothing. Never holds the line: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} isn't NAME=VALUE; comments begin with #")]
pub struct EnvironmentError {
    /// Which, from 1.
    pub line: usize,
}

impl DockerSpec {
    /// The environment of containers, as the Engine wants it.
    ///
    /// # Errors
    /// When a line sets nothing.
    pub fn environment(&self) -> Result<Vec<String>, EnvironmentError> {
        let text = String::from_utf8_lossy(self.environment.as_ref().map_or(&[], |file| &*file.content));
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_start()));
        let said = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        said.map(|(line, text)| match text.split_once('=') {
            Some((name, _)) if !name.is_empty() && !name.contains(char::is_whitespace) => Ok(text.to_owned()),
            _ => Err(EnvironmentError { line }),
        })
        .collect()
    }

    /// How its Engine is known, where that is by TLS.
    pub fn tls(&self) -> Option<&EndpointTlsSpec> {
        match &self.engine {
            EngineSpec::Tcp { tls, .. } => tls.as_ref(),
            EngineSpec::Unix(_) => None,
        }
    }

    /// Every file that it names.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut FileContent> {
        let tls = match &mut self.engine {
            EngineSpec::Tcp { tls, .. } => tls.as_mut(),
            EngineSpec::Unix(_) => None,
        };
        tls.into_iter().flat_map(EndpointTlsSpec::files_mut).chain(&mut self.environment)
    }
}

impl DriverSpec {
    /// The containers that it is about, if it is.
    pub const fn docker(&self) -> Option<&DockerSpec> {
        match &self.kind {
            DriverKind::Docker(docker) => Some(docker),
            DriverKind::Exec(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(environment: &str) -> DockerSpec {
        DockerSpec {
            engine: EngineSpec::Unix("/run/docker.sock".into()),
            image: "shop:1".into(),
            command: vec![],
            port: 80,
            network: "bridge".into(),
            publish: None,
            environment: Some(FileContent { file: "/env".into(), content: environment.as_bytes().into() }),
        }
    }

    #[test]
    fn an_environment_is_its_lines_but_for_blank_ones_and_comments() {
        let spec = with("# of the shop\n\nDB=postgres://a:b@c/d?x=1\n  EMPTY=\n");
        assert_eq!(spec.environment(), Ok(vec!["DB=postgres://a:b@c/d?x=1".into(), "EMPTY=".into()]));
    }

    #[test]
    fn a_line_that_sets_nothing_is_named_by_its_number_alone() {
        for line in ["hunter2", "=hunter2", "hunter 2=x"] {
            let error = with(&format!("A=1\n{line}\n")).environment().expect_err(line);
            assert_eq!(error, EnvironmentError { line: 2 });
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
    }
}
