//! Rings the bell when Redis says that a service changed.
//!
//! Whatever it misses (while it reconnects, from a server that can't push, from a
//! writer that doesn't publish) the periodic look finds: it makes things quick, not right.

use std::sync::Arc;
use std::time::Duration;

use redis::{PushInfo, PushKind};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::connection::{Down, Server};

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
    pub(super) fn start(server: Arc<Server>, channel: String, bell: Arc<Notify>) -> Self {
        Self(tokio::spawn(async move {
            loop {
                if let Err(error) = listen(&server, &channel, &bell).await {
                    tracing::debug!(%error, "The subscription to changes ended");
                }
                tokio::time::sleep(PAUSE.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            }
        }))
    }
}

async fn listen(server: &Server, channel: &str, bell: &Arc<Notify>) -> Result<(), Down> {
    let (rung, gone) = (Arc::clone(bell), Arc::new(Notify::new()));
    let lost = Arc::clone(&gone);
    let on_push = move |push: PushInfo| -> Result<(), std::convert::Infallible> {
        match push.kind {
            PushKind::Message => rung.notify_one(),
            PushKind::Disconnection => lost.notify_one(),
            _ => {}
        }
        Ok(())
    };
    let mut dialed = server.connect_for_pushes(on_push).await?;
    dialed.connection.subscribe(channel).await?;
    server.note_reached();
    // What was published before now went unheard.
    bell.notify_one();
    loop {
        tokio::select! {
            () = gone.notified() => return Ok(()),
            () = tokio::time::sleep(PING) => redis::cmd("PING").exec_async(&mut dialed.connection).await?,
        }
    }
}
