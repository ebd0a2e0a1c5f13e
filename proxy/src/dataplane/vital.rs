//! What a core can't be without: its tasks that never end before it does. tokio keeps a panic to the task that it
//! befell, which is right for a request; a core that accepts nobody any more, or keeps no deadline, would look well all
//! the same.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Hears of what fails, of all cores.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vital(Arc<Notify>);

impl Vital {
    /// Has a task run on this core. `what` it is, should it panic.
    pub(crate) fn spawn(
        &self,
        core: usize,
        what: &'static str,
        task: impl Future<Output = ()> + 'static,
    ) -> JoinHandle<()> {
        let (task, vital) = (tokio::task::spawn_local(task), self.clone());
        tokio::task::spawn_local(async move {
            if task.await.is_err_and(|error| error.is_panic()) {
                tracing::error!(core, what, "A task that a core can't be without had panicked");
                vital.fail();
            }
        })
    }

    /// Something failed.
    pub(crate) fn fail(&self) {
        self.0.notify_one();
    }

    /// Has it told when a core's thread ends: none does before it is asked to.
    pub(crate) fn ends_with(&self, core: usize) -> EndOfCore {
        EndOfCore { vital: self.clone(), core }
    }

    /// Waits until something failed. For one to wait at a time.
    pub(crate) async fn failed(&self) {
        self.0.notified().await;
    }
}

/// The end of a core's thread, told when this is dropped.
#[derive(Debug)]
pub(crate) struct EndOfCore {
    vital: Vital,
    core: usize,
}

impl Drop for EndOfCore {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(core = self.core, "A data-plane thread had panicked");
        }
        self.vital.fail();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::runtime::{Builder, LocalOptions};
    use tokio::time::{Duration, timeout};

    use super::*;

    fn on_a_core(test: impl Future<Output = ()>) {
        let mut runtime = Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build_local(LocalOptions::default()).expect("a runtime").block_on(test);
    }

    async fn has_failed(vital: &Vital) -> bool {
        timeout(Duration::from_secs(1), vital.failed()).await.is_ok()
    }

    #[test]
    fn a_task_that_panics_is_told_and_one_that_ends_is_not() {
        on_a_core(async {
            let vital = Vital::default();
            vital.spawn(0, "one that goes on", pending());
            vital.spawn(0, "one that ends", ready(())).await.expect("it ended well");
            assert!(!has_failed(&vital).await);
            vital.spawn(0, "one that panics", async { panic!("on purpose") }).await.expect("its watcher ended well");
            assert!(has_failed(&vital).await);
        });
    }

    #[test]
    fn a_thread_that_ends_is_told_however_it_ends() {
        for panics in [false, true] {
            let vital = Vital::default();
            let own = vital.clone();
            let thread = std::thread::spawn(move || {
                let _told = own.ends_with(0);
                assert!(!panics, "on purpose");
            });
            assert_eq!(thread.join().is_err(), panics);
            on_a_core(async { assert!(has_failed(&vital).await) });
        }
    }
}
