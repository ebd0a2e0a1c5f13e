//! Waiting for what must come true, never for time to pass.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a line of a log may take, on a machine with other work.
const LOGGED: Duration = Duration::from_secs(20);

/// Asks `probe` until it has an answer, and returns that.
///
/// # Panics
/// With `what`, when there is no answer by the deadline.
pub async fn eventually<T>(deadline: Duration, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    let asking = async {
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            sleep(PAUSE).await;
        }
    };
    match timeout_at(end, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within {deadline:?}: {what}"),
    }
}

/// Waits until a log holds this: its lines come out a moment after what they tell of.
///
/// # Panics
/// With the log, when it doesn't within twenty seconds.
pub async fn logged(what: &str, log: impl Fn() -> String) {
    let wanted = async {
        while !log().contains(what) {
            sleep(PAUSE).await;
        }
    };
    assert!(timeout_at(Instant::now() + LOGGED, wanted).await.is_ok(), "no {what:?} in\n{}", log());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_answer_is_returned_when_it_comes() {
        let mut looks = 0;
        let answer = eventually(Duration::from_secs(1), "three looks", async || {
            looks += 1;
            (looks == 3).then_some("here")
        });
        assert_eq!(answer.await, "here");
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "not within 1s: the moon turns blue")]
    async fn what_does_not_come_fails_the_test_in_its_words() {
        eventually(Duration::from_secs(1), "the moon turns blue", async || None::<()>).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "an answer")]
    async fn a_probe_that_hangs_does_not_outlast_the_deadline() {
        eventually(Duration::from_secs(1), "an answer", async || std::future::pending::<Option<()>>().await).await;
    }
}
