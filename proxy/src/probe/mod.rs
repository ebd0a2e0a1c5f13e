//! One active health check, and the same one again and again: what a proxy asks of its endpoints, and an agent of the
//! instance beside it.
//!
//! May know: model, trust. Never: who asks, and what becomes of the finding.

mod jar;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use self::jar::Jar;
use crate::model::health::{Health, Streak};
use crate::model::proxy_protocol::{self, Version};
use crate::model::spec::HealthSpec;
use crate::trust::{Client, Fault, Words};

/// The most of a body that is looked at.
const MAX_BODY: usize = 64 * 1024;

/// Why a probe found an endpoint unhealthy.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Nobody listens there.
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    /// There is no TLS with it, or it doesn't prove who it is.
    #[error("no TLS")]
    Tls(#[source] Fault),
    /// The connection broke, or what came back is no HTTP.
    #[error("no answer")]
    Exchange(#[source] hyper::Error),
    /// A status that isn't a healthy one.
    #[error("status {0}")]
    Status(u16),
    /// A body that isn't a healthy one.
    #[error("the body doesn't hold the expected text")]
    Body,
}

/// What is probed, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Where it is.
    pub address: SocketAddr,
    /// The host that it is asked for.
    pub host: String,
    /// What makes it healthy.
    pub spec: HealthSpec,
    /// How it wants to be told whose a connection is.
    pub proxy_protocol: Option<Version>,
    /// How connections to it are kept private; none where they aren't.
    pub tls: Option<Arc<Client>>,
}

/// Probes for ever; each change of the health is told, with the finding that made it so.
pub async fn watch(target: Target, mut health: Health, mut tell: impl FnMut(Health, Result<(), ProbeError>) + Send) {
    let (mut streak, mut jar) = (Streak::default(), Jar::default());
    let spec = &target.spec;
    loop {
        let found = tokio::time::timeout(spec.timeout, probe(&target, &mut jar)).await;
        let found = found.unwrap_or(Err(ProbeError::Timeout(spec.timeout)));
        let after = streak.after(health, found.is_ok(), spec);
        if after != health {
            health = after;
            tell(after, found);
        }
        if after == Health::Down {
            // What it knew before is no concern of the one that comes up.
            jar = Jar::default();
        }
        let pause = if after == Health::Down { spec.down_interval } else { spec.interval };
        // A tenth of jitter, so that many who probe don't do so in step.
        let jitter = rand::rng().random_range(0.9..1.1);
        tokio::time::sleep(pause.mul_f64(jitter)).await;
    }
}

/// One probe over a connection of its own, so that a stuck one can't hide a live endpoint.
async fn probe(target: &Target, jar: &mut Jar) -> Result<(), ProbeError> {
    let mut stream = TcpStream::connect(target.address).await.map_err(ProbeError::Connect)?;
    if let Some(version) = target.proxy_protocol {
        stream.write_all(proxy_protocol::own(version)).await.map_err(ProbeError::Connect)?;
    }
    let Some(client) = &target.tls else { return ask(target, stream, jar).await };
    let stream = client.connect(stream, target.address, Words::Http1).await.map_err(ProbeError::Tls)?;
    ask(target, stream, jar).await
}

async fn ask<S>(target: &Target, stream: S, jar: &mut Jar) -> Result<(), ProbeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(ProbeError::Exchange)?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    // The configuration has checked path and host.
    let Ok(request) = request(target, jar) else { return Err(ProbeError::Status(0)) };
    let response = sender.send_request(request).await.map_err(ProbeError::Exchange)?;
    let status = response.status().as_u16();
    if target.spec.ask.cookies {
        jar.keep(response.headers());
    }
    if !target.spec.expect_status.contains(status) {
        return Err(ProbeError::Status(status));
    }
    let Some(text) = &target.spec.expect_body else { return Ok(()) };
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(|_| ProbeError::Body)?.to_bytes();
    match memchr::memmem::find(&body, text.as_bytes()) {
        Some(_) => Ok(()),
        None => Err(ProbeError::Body),
    }
}

fn request(target: &Target, jar: &Jar) -> http::Result<Request<Full<Bytes>>> {
    let ask = &target.spec.ask;
    let mut request = Request::builder().method(&ask.method).uri(target.spec.path.as_str());
    let own = |name| !ask.headers.iter().any(|(given, _)| *given == name);
    if own(header::HOST) {
        request = request.header(header::HOST, target.host.as_str());
    }
    if own(header::USER_AGENT) {
        request = request.header(header::USER_AGENT, "serin-health");
    }
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    if let Some(cookies) = jar.cookies() {
        request = request.header(header::COOKIE, cookies);
    }
    let body = ask.body.as_deref().unwrap_or_default();
    request.header(header::CONNECTION, "close").body(Full::from(body.to_owned()))
}
