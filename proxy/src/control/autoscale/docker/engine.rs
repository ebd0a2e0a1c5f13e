//! The way to an Engine: a socket of this machine, or TCP, with TLS as serin has it everywhere.
//!
//! bollard knows what is said; who it is said to is known here, so that no second TLS is built in.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use http::header::{HOST, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Response, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::super::driver::DriverError;
use crate::model::scaling::EngineSpec;
use crate::trust::{Client, Words};

/// An Engine that nobody spoke to yet. What is said to it ends with this.
///
/// # Errors
/// When the files for its TLS can't be used.
pub(super) fn engine(service: &str, to: &EngineSpec, patience: Duration) -> Result<Docker, DriverError> {
    let line = Arc::new(Line::to(service, to)?);
    let transport = move |request: BollardRequest| {
        let line = Arc::clone(&line);
        async move { line.exchange(request).await }
    };
    let made =
        Docker::connect_with_custom_transport(transport, Some("http://engine"), seconds(patience), API_DEFAULT_VERSION);
    made.map_err(|error| why(to, &error))
}

fn seconds(span: Duration) -> u64 {
    span.as_secs().max(1)
}

/// What an Engine's refusal, or its silence, means to people.
pub(super) fn why(to: &EngineSpec, error: &Error) -> DriverError {
    DriverError::failed(&match error {
        Error::DockerResponseServerError { message, .. } => format!("the Engine says: {}", message.trim()),
        Error::IOError { err } => format!("the Engine at {to} can't be reached: {err}"),
        Error::RequestTimeoutError => format!("the Engine at {to} doesn't answer"),
        other => format!("what the Engine at {to} says makes no sense: {other}"),
    })
}

/// The status of an Engine's refusal, if it is one.
pub(super) const fn refusal(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Where requests go, each over a connection of its own: they are few, and far between.
struct Line {
    to: EngineSpec,
    tls: Option<Client>,
    connections: Mutex<JoinSet<()>>,
}

impl Line {
    fn to(service: &str, to: &EngineSpec) -> Result<Self, DriverError> {
        let tls = match to {
            EngineSpec::Tcp { tls: Some(spec), .. } => {
                Some(Client::new(service, spec).map_err(|error| DriverError::failed(&error.to_string()))?)
            }
            EngineSpec::Tcp { tls: None, .. } | EngineSpec::Unix(_) => None,
        };
        Ok(Self { to: to.clone(), tls, connections: Mutex::default() })
    }

    async fn exchange(&self, request: BollardRequest) -> Result<Response<Incoming>, Error> {
        match (&self.to, &self.tls) {
            (EngineSpec::Unix(path), _) => self.say(UnixStream::connect(path).await?, request).await,
            (EngineSpec::Tcp { address, .. }, None) => self.say(TcpStream::connect(address).await?, request).await,
            (EngineSpec::Tcp { address, .. }, Some(tls)) => {
                let stream = TcpStream::connect(address).await?;
                let peer = stream.peer_addr()?;
                let stream = tls.connect(stream, peer, Words::Http1).await.map_err(io::Error::other)?;
                self.say(stream, request).await
            }
        }
    }

    async fn say<S>(&self, stream: S, mut request: BollardRequest) -> Result<Response<Incoming>, Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        self.keep(async move { drop(connection.await) });
        *request.uri_mut() = without_version(request.uri());
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("docker"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        Ok(sender.send_request(request).await?)
    }

    /// Has a connection served as long as this lives.
    fn keep(&self, connection: impl Future<Output = ()> + Send + 'static) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).spawn(connection);
    }
}

/// The path alone, as it is asked for, without the version of the API: then the Engine speaks its own. All that is asked
/// of it here it has known since 2014, and one version for all would be too new for some Engines and too old for others.
fn without_version(uri: &Uri) -> Uri {
    let whole = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let versioned = whole.strip_prefix("/v").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    versioned.unwrap_or(whole).parse().unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_asked_in_its_own_version() {
        for (asked, said) in [
            ("http://engine/v1.53/containers/json?all=true&filters=%7B%7D", "/containers/json?all=true&filters=%7B%7D"),
            ("http://engine/v1.53/containers/vase/start", "/containers/vase/start"),
        ] {
            let asked: Uri = asked.parse().expect("a URI");
            assert_eq!(without_version(&asked).to_string(), said);
        }
    }
}
