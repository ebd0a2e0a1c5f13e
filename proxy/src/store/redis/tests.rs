//! What rings a store in Redis, by a server that refuses what it is asked to write.

use std::pin::pin;

use super::simulated::{Faults, Server, StateFile};
use super::*;
use crate::model::circuit::Trip;
use crate::model::weight::Weight;
use crate::store::{LOOK, fresh_episode};

/// Polls until it is done: a simulated message travels by being looked at.
async fn driven<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        work.as_mut().poll(context)
    })
    .await
}

/// Whether it rings before the next periodic look.
async fn rings(store: &dyn Store) -> bool {
    tokio::time::timeout(LOOK / 2, store.changed()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_refused_rings_nobody_but_for_a_stop_that_is_held_here() {
    // given a server that answers reads and refuses writes, and one look at it
    let server = Server::new(1, 1);
    let store = server.store(0, &StateFile::default());
    server.set_faults(Faults { refused_write: 1.0, ..Faults::default() });
    store.changed().await;
    // when a change is tried as each look would try it, then nothing calls for the next look
    let weight = Change::SetWeight { weight: Weight::FULL, fresh: fresh_episode() };
    for _ in 0..3 {
        let refused = driven(store.apply("checkbox", &weight, None)).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert!(!rings(&*store).await, "a write that was refused rang");
    }
    // but a trip holds here all the same, and that is news, once
    let trip = Change::Trip { episode: None, trip: Trip::sample() };
    for is_news in [true, false] {
        driven(store.apply("checkbox", &trip, None)).await.expect_err("it is refused");
        assert_eq!(rings(&*store).await, is_news);
    }
    // and what is stored rings
    server.set_faults(Faults::default());
    driven(store.apply("checkbox", &trip, None)).await.expect("it is stored");
    assert!(rings(&*store).await);
}
