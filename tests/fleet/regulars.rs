//! Users who come again and again: by which version each of them is answered, and how often that changes.

use std::time::Duration;

use serin_tests::crowd::Crowd;
use serin_tests::hosts::fleet::{VIRTUAL, address};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::stage::App;

/// How many there are: enough for most steps of a plan to move some of them.
pub(crate) const COUNT: usize = 60;
/// How often each of them comes.
const EVERY: Duration = Duration::from_secs(2);

/// Users who come again until they are told to leave.
pub(crate) struct Regulars {
    stop: watch::Sender<bool>,
    task: JoinHandle<Vec<Vec<String>>>,
}

impl Regulars {
    /// Through the virtual address.
    pub(crate) fn come(app: App) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let (mut crowd, to) = (Crowd::of(COUNT).at(app.host), address(VIRTUAL).unwrap());
            let mut met = vec![Vec::new(); COUNT];
            let mut times = interval(EVERY);
            loop {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => return met,
                    _ = times.tick() => {}
                }
                for (met, version) in met.iter_mut().zip(crowd.ask(to, &[app.path]).await.unwrap()) {
                    if met.last() != Some(&version) {
                        met.push(version);
                    }
                }
            }
        });
        Self { stop, task }
    }

    /// The versions that each has met, one after the other.
    pub(crate) async fn leave(self) -> Vec<Vec<String>> {
        self.stop.send_replace(true);
        self.task.await.unwrap()
    }
}
