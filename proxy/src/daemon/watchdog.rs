//! Signs of life for the supervisor, as long as everything that must not stand still gets on.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::live::Live;
use crate::telemetry::supervisor::Supervisor;

/// How many times in the supervisor's patience life is looked for.
const LOOKS: u32 = 4;

/// What people read of a serin that serves.
pub(super) fn status(live: &Live) -> String {
    let snapshot = live.snapshot();
    let open = snapshot.services().iter().filter(|service| service.live.is_open()).count();
    let store = if live.store_health().reachable { "" } else { ", without the store" };
    format!("STATUS=Serves {} services, {open} circuits open{store}", snapshot.services().len())
}

/// Tells the supervisor, which waits for so long, of each time that all data-plane cores and control have shown to be
/// alive. Goes on for ever.
pub(super) async fn watch_over(live: Arc<Live>, supervisor: Arc<Supervisor>, patience: Duration) {
    let mut look = tokio::time::interval(patience / LOOKS);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waited = 0;
    live.pulse().ask();
    look.tick().await;
    loop {
        look.tick().await;
        match live.pulse().silent() {
            None => {
                waited = 0;
                supervisor.tell(&format!("WATCHDOG=1\n{}", status(&live)));
                live.pulse().ask();
            }
            Some(silent) => {
                waited += 1;
                if waited + 1 == LOOKS {
                    tracing::error!(silent, "No sign of life: the supervisor is about to end this process");
                }
            }
        }
    }
}
