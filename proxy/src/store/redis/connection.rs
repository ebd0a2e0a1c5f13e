//! Lines to the Redis server: connected when they are needed, tried again after a
//! pause that grows and never gets long, given up as soon as one behaves oddly.
//!
//! Where sentinels know which server takes writes, they are asked for each connection, and connections to
//! the one before it are left.
//!
//! May know: model.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisError, Value};
use tokio::sync::watch;
use tokio::time::Instant;

pub(super) use super::dial::Down;
use super::dial::{self, Dialed, Driver, dial};
use super::keys::Keys;
use super::schema::{self, Hands};
use super::sentinel::Sentinels;
use crate::model::redis::{Access, Address, MirrorSpec, Primary, RedisSpec};
use crate::store::StoreError;

/// The first pause after a failure; it doubles with each failure that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause: serin is back soon after Redis is.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long a write waits for the server that follows one which takes no writes any more.
const FOLLOW: Duration = Duration::from_secs(5);

/// The server, and how it has been doing.
#[derive(Debug)]
pub(super) struct Server {
    kind: Kind,
    place: Place,
    access: Access,
    schema: String,
    standing: Mutex<Standing>,
    /// Rises with each move: connections from before it are to be left.
    moves: watch::Sender<u64>,
}

/// What a server is to this proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Primary,
    Mirror,
}

#[derive(Debug)]
enum Place {
    At(Address),
    Watched(Sentinels),
}

#[derive(Debug, Default)]
struct Standing {
    failures: u32,
    /// Until then no further attempt is made, for the reason beside it.
    pause: Option<(Instant, Down)>,
    /// The server that was known takes no writes any more, and none that does has been found since.
    demoted: bool,
    /// Where the latest connection went.
    last: Option<Address>,
}

impl Server {
    /// The server that takes writes. Nothing is sent yet.
    pub(super) fn primary(spec: &RedisSpec, keys: &Keys) -> Self {
        let place = match &spec.primary {
            Primary::At(address) => Place::At(address.clone()),
            Primary::Watched { name, sentinels, access } => {
                Place::Watched(Sentinels::new(name.clone(), sentinels.clone(), access.clone()))
            }
        };
        Self::new(Kind::Primary, place, spec.access.clone(), keys)
    }

    /// A replica near by.
    pub(super) fn mirror(spec: &MirrorSpec, keys: &Keys) -> Self {
        Self::new(Kind::Mirror, Place::At(spec.address.clone()), spec.access.clone(), keys)
    }

    fn new(kind: Kind, place: Place, access: Access, keys: &Keys) -> Self {
        let (standing, moves) = (Mutex::default(), watch::Sender::new(0));
        Self { kind, place, access, schema: keys.schema(), standing, moves }
    }

    /// The sentinels that watch it, if any do.
    pub(super) const fn sentinels(&self) -> Option<&Sentinels> {
        match &self.place {
            Place::At(_) => None,
            Place::Watched(sentinels) => Some(sentinels),
        }
    }

    /// A connection for commands. Fails at once while a pause lasts.
    async fn connect(&self) -> Result<Dialed, Down> {
        if let Some((until, because)) = &self.standing().pause
            && *until > Instant::now()
        {
            return Err(because.clone());
        }
        match self.open(ProtocolVersion::RESP2, dial::config()).await {
            Ok(dialed) => {
                self.note_reached();
                Ok(dialed)
            }
            Err(down) => Err(self.note_missed(down)),
        }
    }

    /// A connection on which the server may push. It takes no part in the pauses of the others:
    /// a server that can't push is still one that can be asked.
    pub(super) async fn connect_for_pushes(&self, config: AsyncConnectionConfig) -> Result<Dialed, Down> {
        self.open(ProtocolVersion::RESP3, config).await
    }

    async fn open(&self, protocol: ProtocolVersion, config: AsyncConnectionConfig) -> Result<Dialed, Down> {
        let address = match &self.place {
            Place::At(address) => address.clone(),
            Place::Watched(sentinels) => sentinels.primary().await?,
        };
        let mut dialed = dial(&address, &self.access, protocol, config).await?;
        if self.sentinels().is_some() {
            // Sentinels tell of a move after it was made, and one that was cut off tells of it late.
            let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut dialed.connection).await?;
            let demoted = role.first() != Some(&Value::BulkString(b"master".to_vec()));
            self.standing().demoted = demoted;
            if demoted {
                return Err(Down("the server that sentinels name takes no writes: they are asked again".to_owned()));
            }
        }
        self.check_schema(&mut dialed.connection).await?;
        self.standing().last = Some(address);
        Ok(dialed)
    }

    async fn check_schema(&self, connection: &mut MultiplexedConnection) -> Result<(), Down> {
        let hands = match self.kind {
            Kind::Primary => Hands::On,
            Kind::Mirror => Hands::Off,
        };
        schema::check(connection, &self.schema, hands).await
    }

    /// Notes that writes go to another server now, which is connected to at once.
    pub(super) fn note_moved(&self) {
        self.standing().pause = None;
        self.moves.send_modify(|moves| *moves += 1);
    }

    /// Notes where sentinels say that writes go: a move may have been told while nobody listened.
    pub(super) fn note_place(&self, address: &Address) {
        let last = self.standing().last.clone();
        if last.is_some_and(|last| last != *address) {
            self.note_moved();
        }
    }

    /// Tells of moves from now on.
    pub(super) fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    /// What a failure of a write means; a server that takes no writes any more is left.
    fn explain(&self, error: RedisError) -> Down {
        if self.sentinels().is_some() && is_read_only(&error) {
            self.standing().demoted = true;
            self.note_moved();
        }
        error.into()
    }

    /// Does a write, and does it again where it fell into a move: the server that it went to takes no writes
    /// any more, and the one that does may not be known yet. A write that arrived all the same does no harm twice;
    /// at worst it finds a revision that is its own.
    pub(super) async fn follow<T, F>(&self, write: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let end = Instant::now() + FOLLOW;
        loop {
            let before = *self.moves.borrow();
            let outcome = write().await;
            let moved = *self.moves.borrow() != before || self.standing().demoted;
            if !(matches!(outcome, Err(StoreError::Unavailable(_))) && moved && Instant::now() < end) {
                return outcome;
            }
            tokio::time::sleep(pause(1, rand::random())).await;
        }
    }

    /// Notes that the server was reached: whoever pauses needs to no longer.
    pub(super) fn note_reached(&self) {
        let mut standing = self.standing();
        standing.pause = None;
        if std::mem::take(&mut standing.failures) > 0 {
            match self.kind {
                Kind::Primary => tracing::info!("Redis answers again"),
                Kind::Mirror => tracing::info!("The mirror answers again"),
            }
        }
    }

    fn note_missed(&self, because: Down) -> Down {
        let mut standing = self.standing();
        if standing.failures == 0 {
            match self.kind {
                Kind::Primary => tracing::warn!(error = %because, "Redis is away"),
                Kind::Mirror => tracing::warn!(error = %because, "The mirror is away"),
            }
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

/// Whether a server said that it takes no writes; of a transaction some command says so.
fn is_read_only(error: &RedisError) -> bool {
    let errors = error.clone().into_server_errors();
    errors.is_some_and(|errors| errors.iter().any(|(_, error)| error.code() == "READONLY"))
}

/// One connection, used by one caller at a time.
#[derive(Debug)]
pub(super) struct Line {
    server: Arc<Server>,
    idle: tokio::sync::Mutex<Idle>,
}

#[derive(Default)]
struct Idle(Option<(Dialed, u64)>);

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
    /// How often the server had moved before this connection was made.
    moves: u64,
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
        let now = *self.server.moves.borrow();
        let (Dialed { connection, driver }, reused) = match idle.0.take() {
            Some((dialed, moves)) if moves == now => (dialed, true),
            _ => (self.server.connect().await?, false),
        };
        Ok(Held { line: self, idle, connection, driver, moves: now, reused })
    }
}

impl Held<'_> {
    /// Puts the connection back for the next caller.
    pub(super) fn keep(mut self) {
        self.idle.0 = Some((Dialed { connection: self.connection, driver: self.driver }, self.moves));
    }

    /// Connects anew if the connection was an old one that the server has closed since, as
    /// it does when it restarts, or one to a server that takes no writes any more. Then what was asked may be
    /// asked again; else the error stands.
    pub(super) async fn renew_after(&mut self, error: RedisError) -> Result<(), Down> {
        let server = &self.line.server;
        let dropped = error.is_connection_dropped();
        let demoted = server.sentinels().is_some() && is_read_only(&error);
        let down = server.explain(error);
        if !(self.reused && (dropped || demoted)) {
            return Err(down);
        }
        self.moves = *server.moves.borrow();
        Dialed { connection: self.connection, driver: self.driver } = server.connect().await?;
        self.reused = false;
        Ok(())
    }

    /// Makes sure that the data still has the meaning that it had when this connection was made. Where it hasn't,
    /// all others are left as well.
    pub(super) async fn check_schema(&mut self) -> Result<(), Down> {
        let checked = self.line.server.check_schema(&mut self.connection).await;
        if checked.is_err() {
            self.line.server.note_moved();
        }
        checked
    }

    /// What a failure of a write means.
    pub(super) fn explain(&self, error: RedisError) -> Down {
        self.line.server.explain(error)
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
