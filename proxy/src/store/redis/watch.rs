//! Rings the bell when Redis says that a service changed, and tells the server when sentinels say that it moved.
//!
//! Whatever it misses (while it reconnects, from a server that can't push, from a
//! writer that doesn't publish) the periodic look finds: it makes things quick, not right.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, FromRedisValue as _, ProtocolVersion, PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::bell::{Bell, Teller};
use super::connection::{Down, Server};
use super::dial::{self, Dialed};
use super::sentinel::{MOVES, Sentinels};

/// How often a silent connection is asked whether it is still there.
const PING: Duration = Duration::from_secs(1);
/// The pause before the next connection.
const PAUSE: Duration = Duration::from_millis(250);

/// The task that listens. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watch {
    /// Listens on the channel, and rings for each message and each time it begins anew.
    pub(super) fn primary(server: Arc<Server>, channel: String, bell: Arc<Bell>) -> Self {
        Self::start(server, channel, bell, Teller::Primary)
    }

    /// As [`Watch::primary`], where a mirror says so.
    pub(super) fn mirror(server: Arc<Server>, channel: String, bell: Arc<Bell>) -> Self {
        Self::start(server, channel, bell, Teller::Mirror)
    }

    fn start(server: Arc<Server>, channel: String, bell: Arc<Bell>, teller: Teller) -> Self {
        Self(tokio::spawn(async move {
            loop {
                if let Err(error) = hear_changes(&server, &channel, &bell, teller).await {
                    tracing::debug!(%error, "The subscription to changes ended");
                }
                pause().await;
            }
        }))
    }

    /// Listens to the sentinels of a server, if it has any, and tells it of each move.
    pub(super) fn sentinels(server: &Arc<Server>) -> Option<Self> {
        server.sentinels()?;
        let server = Arc::clone(server);
        Some(Self(tokio::spawn(async move {
            while let Some(sentinels) = server.sentinels() {
                if let Err(error) = hear_moves(&server, sentinels).await {
                    tracing::debug!(%error, "The subscription to a sentinel ended");
                }
                pause().await;
            }
        })))
    }
}

async fn pause() {
    tokio::time::sleep(PAUSE.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
}

async fn hear_changes(server: &Server, channel: &str, bell: &Arc<Bell>, teller: Teller) -> Result<(), Down> {
    let rung = Arc::clone(bell);
    let (config, gone) = listening(move |service| rung.ring_for(service, teller));
    let mut moves = server.moves();
    let mut dialed = server.connect_for_pushes(config).await?;
    dialed.connection.subscribe(channel).await?;
    server.note_reached();
    // What was published before now went unheard.
    bell.ring_for_all();
    tokio::select! {
        ended = stay(&mut dialed, &gone) => ended,
        _ = moves.changed() => Ok(()),
    }
}

async fn hear_moves(server: &Arc<Server>, sentinels: &Sentinels) -> Result<(), Down> {
    let told = Arc::clone(server);
    let (config, gone) = listening(move |message: String| {
        if told.sentinels().is_some_and(|sentinels| sentinels.is_about_it(&message)) {
            tracing::info!("Sentinels say that writes go to another Redis server now");
            told.note_moved();
        }
    });
    let (mut dialed, _) = sentinels.connect(ProtocolVersion::RESP3, &config).await?;
    dialed.connection.subscribe(MOVES).await?;
    // What was told before now went unheard.
    let address = sentinels.ask(&mut dialed.connection).await?;
    server.note_place(&address);
    stay(&mut dialed, &gone).await
}

/// How a connection behaves on which messages are heard, and what is notified when it is lost.
fn listening(hear: impl Fn(String) + Send + Sync + 'static) -> (AsyncConnectionConfig, Arc<Notify>) {
    let gone = Arc::new(Notify::new());
    let lost = Arc::clone(&gone);
    let on_push = move |push: PushInfo| -> Result<(), Infallible> {
        match push.kind {
            PushKind::Message => hear(text_of(push.data)),
            PushKind::Disconnection => lost.notify_one(),
            _ => {}
        }
        Ok(())
    };
    (dial::config().set_push_sender(on_push), gone)
}

/// The text of a message, behind the name of its channel; what is no text is none of serin's.
fn text_of(mut message: Vec<Value>) -> String {
    message.pop().and_then(|text| String::from_redis_value(text).ok()).unwrap_or_default()
}

/// Returns when the connection is lost.
async fn stay(dialed: &mut Dialed, gone: &Notify) -> Result<(), Down> {
    loop {
        tokio::select! {
            () = gone.notified() => return Ok(()),
            () = tokio::time::sleep(PING) => redis::cmd("PING").exec_async(&mut dialed.connection).await?,
        }
    }
}
