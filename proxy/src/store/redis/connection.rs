//! Lines to the Redis server: connected when they are needed, tried again after a
//! pause that grows and never gets long, given up as soon as one behaves oddly.
//!
//! May know: nothing of serin but its errors.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{ProtocolVersion, RedisError};
use tokio::time::Instant;

pub(super) use super::dial::Down;
use super::dial::{self, Dialed, Driver, dial};
use crate::model::redis::{Access, Address};

/// The first pause after a failure; it doubles with each failure that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause: serin is back soon after Redis is.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The server, and how it has been doing.
#[derive(Debug)]
pub(super) struct Server {
    address: Address,
    access: Access,
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    failures: u32,
    /// Until then no further attempt is made, for the reason beside it.
    pause: Option<(Instant, Down)>,
}

impl Server {
    /// A server. Nothing is sent yet.
    pub(super) fn new(address: Address, access: Access) -> Self {
        Self { address, access, standing: Mutex::default() }
    }

    /// A connection for commands. Fails at once while a pause lasts.
    async fn connect(&self) -> Result<Dialed, Down> {
        if let Some((until, because)) = &self.standing().pause
            && *until > Instant::now()
        {
            return Err(because.clone());
        }
        match dial(&self.address, &self.access, ProtocolVersion::RESP2, dial::config()).await {
            Ok(dialed) => {
                self.note_reached();
                Ok(dialed)
            }
            Err(down) => Err(self.note_missed(down)),
        }
    }

    /// A connection on which the server may push. It takes no part in the pauses of the others:
    /// a server that can't push is still one that can be asked.
    pub(super) async fn connect_for_pushes(&self, sender: impl AsyncPushSender) -> Result<Dialed, Down> {
        let config = dial::config().set_push_sender(sender);
        dial(&self.address, &self.access, ProtocolVersion::RESP3, config).await
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
            tracing::warn!(error = %because, "Redis is away, the last good state is used");
        }
        standing.pause = Some((Instant::now() + pause(standing.failures, rand::random()), because.clone()));
        standing.failures = standing.failures.saturating_add(1);
        because
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause after this many failures in a row, with a draw from 0 to 1 so that a fleet doesn't knock at once.
fn pause(failures: u32, draw: f64) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
    full.mul_f64(0.5 + draw / 2.0)
}

/// One connection, used by one caller at a time.
#[derive(Debug)]
pub(super) struct Line {
    server: Arc<Server>,
    idle: tokio::sync::Mutex<Idle>,
}

#[derive(Default)]
struct Idle(Option<Dialed>);

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
    driver: Driver,
    reused: bool,
}

impl Line {
    /// A line to this server, connected when it is first used.
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server, idle: tokio::sync::Mutex::default() }
    }

    /// Waits for the line to be free, and connects it where need be.
    pub(super) async fn take(&self) -> Result<Held<'_>, Down> {
        let mut idle = self.idle.lock().await;
        let (Dialed { connection, driver }, reused) = match idle.0.take() {
            Some(dialed) => (dialed, true),
            None => (self.server.connect().await?, false),
        };
        Ok(Held { line: self, idle, connection, driver, reused })
    }
}

impl Held<'_> {
    /// Puts the connection back for the next caller.
    pub(super) fn keep(mut self) {
        self.idle.0 = Some(Dialed { connection: self.connection, driver: self.driver });
    }

    /// Connects anew if the connection was an old one that the server has closed since, as
    /// it does when it restarts. Then what was asked may be asked again; else the error stands.
    pub(super) async fn renew_after(&mut self, error: RedisError) -> Result<(), Down> {
        if !(self.reused && error.is_connection_dropped()) {
            return Err(error.into());
        }
        Dialed { connection: self.connection, driver: self.driver } = self.line.server.connect().await?;
        self.reused = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
