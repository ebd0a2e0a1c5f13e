//! Connections to the Redis server: made within a time limit, tried again after a
//! pause that grows and never gets long, given up as soon as one behaves oddly.
//!
//! The server's URL is known here and is told to nobody.
//! May know: nothing of serin but its errors.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo as _, ProtocolVersion, RedisError};
use tokio::time::Instant;

use crate::store::StoreError;

/// How long making a connection may take, greeting included.
const CONNECT: Duration = Duration::from_millis(500);
/// How long the answer to one round trip may take.
const ANSWER: Duration = Duration::from_secs(1);
/// The first pause after a failure; it doubles with each failure that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause: serin is back soon after Redis is.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Why Redis couldn't be asked, in words that hold no secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Down(pub(super) String);

impl From<RedisError> for Down {
    fn from(error: RedisError) -> Self {
        // An answer's own text may quote what was sent, a password included; its code doesn't.
        Self(match error.code() {
            Some(code) => format!("Redis answered {code}"),
            None if error.is_timeout() => "Redis did not answer in time".to_owned(),
            None if error.is_io_error() => format!("Redis can't be reached: {error}"),
            None => format!("Redis can't be used: {}", error.category()),
        })
    }
}

impl From<Down> for StoreError {
    fn from(down: Down) -> Self {
        Self::Unavailable(down.0)
    }
}

/// The server, and how it has been doing.
pub(super) struct Server {
    client: Client,
    subscriber: Client,
    standing: Mutex<Standing>,
}

#[derive(Default)]
struct Standing {
    failures: u32,
    /// Until then no further attempt is made, for the reason beside it.
    pause: Option<(Instant, Down)>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server(secret)")
    }
}

impl Server {
    /// A server by its URL. Nothing is sent yet.
    pub(super) fn new(url: &str) -> Result<Self, StoreError> {
        let unusable = || {
            StoreError::Settings(
                "store.url is no URL of a Redis server: give redis://[user:password@]host[:port][/database]".to_owned(),
            )
        };
        match url.split_once("://").map(|(scheme, _)| scheme) {
            Some("redis") => {}
            Some(scheme @ ("rediss" | "redis+sentinel")) => {
                return Err(StoreError::Settings(format!(
                    "store.url: {scheme}:// is not supported by this version yet: use redis://"
                )));
            }
            _ => return Err(unusable()),
        }
        let info = url.into_connection_info().map_err(|_| unusable())?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let pushing = info.clone().set_redis_settings(settings);
        let client = Client::open(info).map_err(|_| unusable())?;
        let subscriber = Client::open(pushing).map_err(|_| unusable())?;
        Ok(Self { client, subscriber, standing: Mutex::default() })
    }

    /// A connection for commands. Fails at once while a pause lasts.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, Down> {
        if let Some((until, because)) = &self.standing().pause
            && *until > Instant::now()
        {
            return Err(because.clone());
        }
        match self.client.get_multiplexed_async_connection_with_config(&config()).await {
            Ok(connection) => {
                self.note_reached();
                Ok(connection)
            }
            Err(error) => Err(self.note_missed(error.into())),
        }
    }

    /// A connection on which the server may push. It takes no part in the pauses of the others:
    /// a server that can't push is still one that can be asked.
    pub(super) async fn connect_for_pushes(
        &self,
        sender: impl AsyncPushSender,
    ) -> Result<MultiplexedConnection, RedisError> {
        let config = config().set_push_sender(sender);
        self.subscriber.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Notes that the server was reached: whoever pauses needs to no longer.
    pub(super) fn note_reached(&self) {
        let standing = std::mem::take(&mut *self.standing());
        if standing.failures > 0 {
            tracing::info!("Redis answers again");
        }
    }

    fn note_missed(&self, because: Down) -> Down {
        let mut standing = self.standing();
        if standing.failures == 0 {
            tracing::warn!(error = %because, "Redis is away");
        }
        standing.pause = Some((Instant::now() + pause(standing.failures, rand::random()), because.clone()));
        standing.failures = standing.failures.saturating_add(1);
        because
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER))
}

/// The pause after this many failures in a row, with a draw from 0 to 1 so that a fleet doesn't knock at once.
fn pause(failures: u32, draw: f64) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
    full.mul_f64(0.5 + draw / 2.0)
}

/// One connection, used by one caller at a time.
#[derive(Debug)]
pub(super) struct Line {
    server: std::sync::Arc<Server>,
    idle: tokio::sync::Mutex<Idle>,
}

#[derive(Default)]
struct Idle(Option<MultiplexedConnection>);

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "connected" } else { "not connected" })
    }
}

/// A line while it is used. Dropped without [`Held::keep`] (an error, a caller that left
/// in the middle) its connection is closed: what state it is in, nobody knows.
pub(super) struct Held<'a> {
    line: &'a Line,
    idle: tokio::sync::MutexGuard<'a, Idle>,
    pub(super) connection: MultiplexedConnection,
    reused: bool,
}

impl Line {
    /// A line to this server, connected when it is first used.
    pub(super) fn new(server: std::sync::Arc<Server>) -> Self {
        Self { server, idle: tokio::sync::Mutex::default() }
    }

    /// Waits for the line to be free, and connects it where need be.
    pub(super) async fn take(&self) -> Result<Held<'_>, Down> {
        let mut idle = self.idle.lock().await;
        let (connection, reused) = match idle.0.take() {
            Some(connection) => (connection, true),
            None => (self.server.connect().await?, false),
        };
        Ok(Held { line: self, idle, connection, reused })
    }
}

impl Held<'_> {
    /// Puts the connection back for the next caller.
    pub(super) fn keep(mut self) {
        self.idle.0 = Some(self.connection);
    }

    /// Connects anew if the connection was an old one that the server has closed since, as
    /// it does when it restarts. Then what was asked may be asked again; else the error stands.
    pub(super) async fn renew_after(&mut self, error: RedisError) -> Result<(), Down> {
        if !(self.reused && error.is_connection_dropped()) {
            return Err(error.into());
        }
        self.connection = self.line.server.connect().await?;
        self.reused = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_its_password() {
        for (url, reason) in [
            ("rediss://u:s3cret@h:1/0", "rediss:// is not supported by this version yet: use redis://"),
            ("redis+sentinel://:s3cret@h1,h2/m", "redis+sentinel:// is not supported by this version yet"),
            ("redis://u:s3cret@h:port/0", "store.url is no URL"),
            ("redis://u:s3cret@h/zero", "store.url is no URL"),
            ("s3cret", "store.url is no URL"),
            ("unix:///s3cret", "store.url is no URL"),
        ] {
            let error = Server::new(url).expect_err(url).to_string();
            assert!(error.contains(reason) && !error.contains("s3cret"), "{url}: {error}");
        }
        let server = Server::new("redis://user:s3cret@127.0.0.1:6379/1").expect("a URL");
        assert!(!format!("{server:?}").contains("s3cret"));
    }

    #[test]
    fn the_pause_grows_and_stays_short() {
        assert_eq!(pause(0, 1.0), FIRST_PAUSE);
        assert_eq!(pause(1, 0.0), FIRST_PAUSE);
        assert!(pause(3, 0.0) > pause(1, 1.0));
        for failures in [4, 5, 40, u32::MAX] {
            assert_eq!(pause(failures, 1.0), LONGEST_PAUSE);
        }
    }
}
