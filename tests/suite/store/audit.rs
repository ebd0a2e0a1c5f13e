//! The audit log: kept by every store, shared by proxies that share one.

use serin::model::audit::Entry;
use serin::store::Store;
use serin_tests::eventually::eventually;

use super::world::{SECOND, World};

fn entry(to: &str) -> Entry {
    let [proxy, who, what, to] = ["a", "ann", "weight", to].map(str::to_owned);
    Entry { proxy, who, what, to, service: Some("checkbox".to_owned()), ..Entry::default() }
}

/// What the newest entries say, the newest first; whether that is all.
async fn noted(store: &dyn Store) -> (Vec<String>, bool) {
    let noted = store.noted(10).await;
    (noted.entries.into_iter().map(|entry| entry.to).collect(), noted.because.is_none())
}

pub(super) async fn an_audit_entry_is_seen_at_once_and_survives_a_restart(world: World) {
    let store = world.open("a").await;
    store.note(entry("10"));
    assert_eq!(noted(&*store).await, (vec!["10".to_owned()], true));
    eventually(SECOND, "it is in the store", async || {
        (world.kept("a").await.matches("\"to\":\"10\"").count() == 1).then_some(())
    })
    .await;
    drop(store);
    let store = world.open("a").await;
    assert_eq!(noted(&*store).await, (vec!["10".to_owned()], true));
}

#[tokio::test]
async fn what_one_proxy_notes_while_redis_is_away_is_seen_by_all_once_it_is_back() {
    let mut world = World::with_redis(&[]).await;
    let (one, other) = (world.open("a").await, world.open("b").await);
    one.note(entry("10"));
    let sees = async |store: &dyn Store, expected: &[&str], all: bool| {
        eventually(10 * SECOND, "the entries are seen", async || {
            let (seen, is_all) = noted(store).await;
            (seen == expected && is_all == all).then_some(())
        })
        .await;
    };
    sees(&*other, &["10"], true).await;
    world.redis().stop().await.expect("it stops");
    one.note(entry("20"));
    sees(&*one, &["20", "10"], false).await;
    sees(&*other, &[], false).await;
    // Redis comes back without what it had
    world.redis().restart().await.expect("it is back");
    sees(&*other, &["20"], true).await;
    sees(&*one, &["20", "10"], true).await;
}

#[tokio::test]
async fn a_stream_that_somebody_spoiled_is_made_anew() {
    let world = World::with_redis(&[]).await;
    let key = "serin:{test}:audit";
    world.cli(&["SET", key, "x"]).await;
    let store = world.open("a").await;
    assert_eq!(noted(&*store).await, (vec![], true));
    store.note(entry("10"));
    eventually(SECOND, "the entry is there", async || {
        let length = world.cli(&["TYPE", key]).await;
        (length == redis::Value::SimpleString("stream".to_owned())).then_some(())
    })
    .await;
    world.cli(&["XADD", key, "*", "other", "field"]).await;
    assert_eq!(noted(&*store).await, (vec!["10".to_owned()], true));
}
