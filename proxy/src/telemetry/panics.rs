//! What becomes of panics: they are logged, and a task's is one of who waits for it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::thread;

use tokio::task::JoinError;

/// From now on a panic is logged, and no thread writes to stderr by itself: one that nobody reads would hold it up.
pub(super) fn log_all() {
    std::panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let why = panic.payload();
    let why = why.downcast_ref::<&str>().copied().or_else(|| why.downcast_ref::<String>().map(String::as_str));
    let why = why.unwrap_or("it says no more");
    let at = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let current = thread::current();
    tracing::error!(thread = current.name(), at, backtrace, "A thread panicked: {why}");
}

/// Passes the panic of a task on to whoever waits for it: nobody watches over the tasks of a task.
pub fn pass_on(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_panic_of_a_task_is_one_of_who_waits_for_it_and_its_end_is_not() {
        let wait_for = async |inner: tokio::task::JoinHandle<()>| {
            tokio::spawn(async move { pass_on(inner.await) }).await.is_err_and(|error| error.is_panic())
        };
        let ended = tokio::spawn(std::future::pending());
        ended.abort();
        assert!(!wait_for(ended).await && !wait_for(tokio::spawn(async {})).await);
        assert!(wait_for(tokio::spawn(async { panic!("on purpose") })).await);
    }
}
