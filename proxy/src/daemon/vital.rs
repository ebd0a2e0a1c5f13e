//! Tasks that serin can't be without. A task that panics is gone without a word, and nobody would pull a bad canary, or
//! mail, or hear of the store any more: then the process ends, so that its supervisor starts a whole one.

use std::thread;

use tokio::sync::watch;

/// Who watches over the tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Vital {
    lost: watch::Sender<Option<&'static str>>,
}

impl Vital {
    /// Does some work, and says so when it panics.
    pub(super) fn guard<F: Future<Output = ()>>(
        &self,
        name: &'static str,
        work: F,
    ) -> impl Future<Output = ()> + use<F> {
        let alarm = Alarm { name, lost: self.lost.clone() };
        async move {
            let _alarm = alarm;
            work.await;
        }
    }

    /// Waits until a task was lost, and says which one. May be asked again and again.
    pub(super) async fn lost(&self) -> &'static str {
        let mut lost = self.lost.subscribe();
        let name = lost.wait_for(Option::is_some).await.ok().and_then(|name| *name);
        // This one holds a sender: there is always somebody who may speak.
        name.unwrap_or_default()
    }
}

/// Rings when it is dropped by a panic, and not when its task is ended or comes to its end.
#[derive(Debug)]
struct Alarm {
    name: &'static str,
    lost: watch::Sender<Option<&'static str>>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(task = self.name, "A task panicked that serin can't be without: this process ends");
            self.lost.send_replace(Some(self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_missed_and_one_that_ends_or_is_ended_is_not() {
        let (vital, mut tasks) = (Vital::default(), JoinSet::new());
        tasks.spawn(vital.guard("done", async {}));
        tasks.spawn(vital.guard("ended", std::future::pending())).abort();
        while tasks.join_next().await.is_some() {}
        assert_eq!(*vital.lost.borrow(), None);
        tasks.spawn(vital.guard("court", async { panic!("on purpose") }));
        assert_eq!(vital.lost().await, "court");
    }
}
