//! Users who come again and again: by which version each of them is answered, and how often that changes.

use std::sync::{Arc, Mutex};
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
    met: Arc<Mutex<Vec<Vec<String>>>>,
    task: JoinHandle<()>,
}

impl Regulars {
    /// Through the virtual address.
    pub(crate) fn come(app: App) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let met = Arc::new(Mutex::new(vec![Vec::new(); COUNT]));
        let meeting = Arc::clone(&met);
        let task = tokio::spawn(async move {
            let (mut crowd, to) = (Crowd::of(COUNT).at(app.host), address(VIRTUAL).unwrap());
            let mut times = interval(EVERY);
            loop {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => return,
                    _ = times.tick() => {}
                }
                let versions = crowd.ask(to, &[app.path]).await.unwrap();
                for (met, version) in meeting.lock().unwrap().iter_mut().zip(versions) {
                    if met.last() != Some(&version) {
                        met.push(version);
                    }
                }
            }
        });
        Self { stop, met, task }
    }

    /// The versions that each has met by now, one after the other.
    pub(crate) fn met(&self) -> Vec<Vec<String>> {
        self.met.lock().unwrap().clone()
    }

    /// Those that each has met in all.
    pub(crate) async fn leave(self) -> Vec<Vec<String>> {
        self.stop.send_replace(true);
        self.task.await.unwrap();
        Arc::into_inner(self.met).unwrap().into_inner().unwrap()
    }
}
