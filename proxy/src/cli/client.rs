//! A client of the admin API: one request over one connection, TCP or unix socket.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, IF_MATCH};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::admin::view::ProblemJson;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take, unless the call itself waits for something.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// The largest answer that is read, in bytes.
const LARGEST: usize = 32 << 20;

/// Where the admin API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminUrl {
    /// Host and port.
    Http(String),
    /// A unix socket.
    Unix(PathBuf),
}

/// Text that is no address of an admin API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected http://HOST:PORT or unix:/PATH")]
pub struct AdminUrlError;

impl FromStr for AdminUrl {
    type Err = AdminUrlError;

    fn from_str(text: &str) -> Result<Self, AdminUrlError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(AdminUrlError) };
        }
        let uri: Uri = text.parse().map_err(|_| AdminUrlError)?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or(AdminUrlError)?;
        if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(AdminUrlError);
        }
        Ok(Self::Http(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80))))
    }
}

impl fmt::Display for AdminUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(authority) => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("cannot reach the admin API at {url}: is serin running? set --admin or SERIN_ADMIN")]
    Unreachable {
        /// Where it was looked for.
        url: AdminUrl,
        /// What the system says.
        source: io::Error,
    },
    /// The connection broke, or what came back is no HTTP.
    #[error("the admin API at {url} broke off")]
    Broken {
        /// Where it is.
        url: AdminUrl,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time. The change may have been made all the same.
    #[error("the admin API at {url} gave no answer in {}s: the change may have been made all the same", waited.as_secs())]
    Slow {
        /// Where it is.
        url: AdminUrl,
        /// How long it was waited for.
        waited: Duration,
    },
    /// What was to be changed is another than the caller thought.
    #[error("{0}")]
    Overtaken(String),
    /// The server said no.
    #[error("{0}")]
    Refused(String),
    /// The answer makes no sense to this version.
    #[error("the answer of {url} makes no sense: is it serin's admin API, and of this version?")]
    Nonsense {
        /// Where it came from.
        url: AdminUrl,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The answer is JSON, but not what this version knows.
    #[error("the answer makes no sense: is the server of this version?")]
    Unknown(#[source] serde_json::Error),
    /// The token file can't be read.
    #[error("cannot read the token file {}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The token file holds no token.
    #[error("the token file {} must hold one token and nothing else", .0.display())]
    NoToken(PathBuf),
}

/// One call.
#[derive(Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// The path, with its query.
    pub path: &'a str,
    /// JSON, as its text.
    pub body: Option<Bytes>,
    /// The revision at which the caller believes what it changes to be.
    pub if_match: Option<u64>,
}

/// A client of one admin API.
#[derive(Debug)]
pub struct Client {
    url: AdminUrl,
    bearer: Option<HeaderValue>,
}

impl Client {
    /// A client of the API there, with the token that the file holds.
    ///
    /// # Errors
    /// When the token file can't be read, or holds no token.
    pub fn new(url: AdminUrl, token_file: Option<&Path>) -> Result<Self, ClientError> {
        let bearer = token_file.map(read_token).transpose()?;
        Ok(Self { url, bearer })
    }

    /// Asks, and reads the answer.
    ///
    /// # Errors
    /// When the API can't be reached, says no, or its answer makes no sense.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<T, ClientError> {
        let body = body.map(|json| Bytes::from(json.to_string()));
        self.send(Call { method, path, body, if_match: None }, patience).await
    }

    /// Makes a call.
    ///
    /// # Errors
    /// As [`Client::call`], and when what is to be changed isn't at the revision of `if_match`.
    pub async fn send<T: DeserializeOwned>(&self, call: Call<'_>, patience: Duration) -> Result<T, ClientError> {
        let slow = |waited| move |_| ClientError::Slow { url: self.url.clone(), waited };
        let exchange = async {
            match &self.url {
                AdminUrl::Http(authority) => {
                    let stream = self.connected(CONNECT, TcpStream::connect(authority)).await?;
                    self.exchange(stream, authority, call).await
                }
                AdminUrl::Unix(socket) => {
                    let stream = self.connected(CONNECT, UnixStream::connect(socket)).await?;
                    self.exchange(stream, "localhost", call).await
                }
            }
        };
        let (status, bytes) = tokio::time::timeout(patience, exchange).await.map_err(slow(patience))??;
        if !status.is_success() {
            return Err(refused(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Nonsense { url: self.url.clone(), source })
    }

    async fn connected<S>(
        &self,
        patience: Duration,
        connecting: impl Future<Output = io::Result<S>>,
    ) -> Result<S, ClientError> {
        let connected = tokio::time::timeout(patience, connecting).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        connected.map_err(|source| ClientError::Unreachable { url: self.url.clone(), source })
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: &str,
        call: Call<'_>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let mut request = Request::builder().method(call.method).uri(call.path).header(HOST, host);
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        if let Some(revision) = call.if_match {
            request = request.header(IF_MATCH, format!("\"{revision}\""));
        }
        if call.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let bytes = call.body.unwrap_or_default();
        let request = request.body(Full::new(bytes)).map_err(|error| self.broken(error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            Ok((status, body.map_err(|error| self.broken(error))?.to_bytes()))
        };
        // The connection is driven beside the answer and ends with it; its own errors reach the answer.
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            done = &mut answer => done,
            _ = connection => answer.await,
        }
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Broken { url: self.url.clone(), source: source.into() }
    }
}

fn refused(status: StatusCode, body: &[u8]) -> ClientError {
    let why = match serde_json::from_slice::<ProblemJson>(body) {
        Ok(problem) => problem.detail,
        Err(_) => format!("the answer is {status}: is it serin's admin API?"),
    };
    if status == StatusCode::PRECONDITION_FAILED { ClientError::Overtaken(why) } else { ClientError::Refused(why) }
}

fn read_token(path: &Path) -> Result<HeaderValue, ClientError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ClientError::TokenFile { path: path.to_owned(), source })?;
    let no_token = || ClientError::NoToken(path.to_owned());
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(no_token());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| no_token())?;
    value.set_sensitive(true);
    Ok(value)
}

/// A name as one segment of a path.
pub fn segment(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}
