//! Rings the bell when Redis says that a service or a flag changed.
//!
//! Whatever it misses (while it reconnects, from a server that can't push, from a
//! writer that doesn't publish) the periodic look finds: it makes things quick, not right.

use std::sync::Arc;
use std::time::Duration;

use redis::{PushInfo, PushKind, RedisResult};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::bell::Bell;
use super::connection::Server;

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
    pub(super) fn start(server: Arc<Server>, channel: String, bell: Arc<Bell>) -> Self {
        Self(tokio::spawn(async move {
            loop {
                if let Err(error) = listen(&server, &channel, &bell).await {
                    tracing::debug!(kind = error.category(), "The subscription to changes ended");
                }
                tokio::time::sleep(PAUSE.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            }
        }))
    }
}

async fn listen(server: &Server, channel: &str, bell: &Arc<Bell>) -> RedisResult<()> {
    let (rung, gone) = (Arc::clone(bell), Arc::new(Notify::new()));
    let lost = Arc::clone(&gone);
    let on_push = move |push: PushInfo| -> Result<(), std::convert::Infallible> {
        match push.kind {
            PushKind::Message => rung.ring_for(push.data.last()),
            PushKind::Disconnection => lost.notify_one(),
            _ => {}
        }
        Ok(())
    };
    let mut connection = server.connect_for_pushes(on_push).await?;
    connection.subscribe(channel).await?;
    server.note_reached();
    // What was published before now went unheard.
    bell.ring_for_all();
    loop {
        tokio::select! {
            () = gone.notified() => return Ok(()),
            () = tokio::time::sleep(PING) => redis::cmd("PING").exec_async(&mut connection).await?,
        }
    }
}
