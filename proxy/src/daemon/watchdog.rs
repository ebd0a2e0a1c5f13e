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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_supervisor_hears_of_life_only_while_every_part_shows_some() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let ear = UnixDatagram::bind(&path).expect("binds");
        ear.set_nonblocking(true).expect("a socket");
        let signs = || std::iter::from_fn(|| ear.recv(&mut [0; 256]).ok()).count();
        let (live, _reports) = Live::new(1);
        let seconds = async |count: u32, control: bool, verdict: bool| {
            for _ in 0..count {
                if control {
                    live.pulse().control_goes_on();
                }
                if verdict {
                    live.pulse().verdict_goes_on();
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let patience = Duration::from_secs(1) * LOOKS;
        tokio::spawn(watch_over(Arc::clone(&live), Arc::new(Supervisor::at(Some(path.as_path()))), patience));
        let of_core = Arc::clone(&live);
        let core = tokio::spawn(async move { of_core.pulse().answer_for(0).await });
        for (control, verdict) in [(false, true), (true, false)] {
            // Whoever stands still now may have answered the question at hand.
            seconds(2, control, verdict).await;
            signs();
            seconds(8, control, verdict).await;
            assert_eq!(signs(), 0, "control goes on: {control}, the verdict: {verdict}");
        }
        seconds(8, true, true).await;
        assert!((6..=8).contains(&signs()), "all get on");
        core.abort();
        // It may have answered the question at hand.
        seconds(2, true, true).await;
        signs();
        seconds(8, true, true).await;
        assert_eq!(signs(), 0, "a core stands still");
    }
}
