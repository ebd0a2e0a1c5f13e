//! Leases that run out, what survives a restart, and what a disk that is full costs.

use super::*;
use crate::model::circuit::Trip;
use crate::model::state::MemberSpec;
use crate::model::weight::Weight;
use crate::store::fresh_episode;

fn beat(id: &str, ttl_ms: u64) -> Change {
    let spec = MemberSpec { ttl_ms: Some(ttl_ms), ..MemberSpec::new(([127, 0, 0, 1], 80).into()) };
    Change::PutMember { arm: Arm::Canary, id: id.into(), spec }
}

fn trip() -> Change {
    Change::Trip { episode: None, trip: Trip::sample() }
}

async fn state(store: &EmbeddedStore) -> ServiceState {
    store.load(&["checkbox".into()]).await.state["checkbox"].clone()
}

async fn members(store: &EmbeddedStore) -> Vec<String> {
    state(store).await.pools.canary.into_keys().collect()
}

#[tokio::test(start_paused = true)]
async fn a_lease_runs_out_at_its_time_and_rings() {
    // given a member with a lease of 300 ms, whose change was heard of
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.json");
    let store = EmbeddedStore::open(&path).expect("opens");
    let put = Instant::now();
    let revision = store.apply("checkbox", &beat("a", 300), None).await.expect("applies").revision;
    store.changed().await;
    assert_eq!(members(&store).await, ["a"]);
    // when nothing but time passes
    store.changed().await;
    // then the store rang when the lease ended, and the member is gone at the same revision
    assert_eq!(put.elapsed(), Duration::from_millis(300));
    assert_eq!(members(&store).await, Vec::<String>::new());
    assert_eq!(state(&store).await.revision, revision);
    // and a restart doesn't bring it back
    drop(store);
    assert_eq!(members(&EmbeddedStore::open(&path).expect("opens")).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn everything_is_looked_at_twice_a_second_however_often_it_rings() {
    let store = EmbeddedStore::simulated();
    let mut looks = 0;
    for nth in 0..100 {
        tokio::time::advance(Duration::from_millis(100)).await;
        store.apply("checkbox", &beat(&format!("m{nth}"), 60_000), None).await.expect("applies");
        looks += usize::from(store.changed().await == Changed::Anything);
    }
    assert!((19..=20).contains(&looks), "{looks} in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_keeps_a_member_and_its_revision() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = EmbeddedStore::open(&folder.path().join("state.json")).expect("opens");
    for _ in 0..5 {
        let state = store.apply("checkbox", &beat("a", 300), None).await.expect("applies");
        assert_eq!(state.revision, 1);
        tokio::time::advance(Duration::from_millis(299)).await;
        assert_eq!(members(&store).await, ["a"]);
    }
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(members(&store).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_lease_counts_anew_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.json");
    let store = EmbeddedStore::open(&path).expect("opens");
    store.apply("checkbox", &beat("a", 300), None).await.expect("applies");
    drop(store);
    tokio::time::advance(Duration::from_secs(9)).await;
    let store = EmbeddedStore::open(&path).expect("opens again");
    assert_eq!(members(&store).await, ["a"]);
    tokio::time::advance(Duration::from_millis(300)).await;
    assert_eq!(members(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_change_before_anybody_listens_is_heard() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = EmbeddedStore::open(&folder.path().join("state.json")).expect("opens");
    store.apply("checkbox", &trip(), None).await.expect("applies");
    let heard = tokio::time::timeout(LOOK / 2, store.changed()).await;
    assert!(heard.is_ok(), "only the periodic look saw it");
}

#[tokio::test]
async fn flags_are_there_after_a_restart_and_a_change_twice_is_made_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.json");
    let store = EmbeddedStore::open(&path).expect("opens");
    let put = FlagChange::Put { key: "kill".into(), definition: "{}".into() };
    for _ in 0..2 {
        assert_eq!(store.change_flags(&put, None).await.expect("changes").revision, 1);
    }
    let refused = store.change_flags(&put, Some(0)).await;
    assert!(matches!(refused, Err(StoreError::Conflict { expected: 0, actual: 1 })), "{refused:?}");
    let before = store.load(&[]).await.flags;
    drop(store);
    let store = EmbeddedStore::open(&path).expect("opens again");
    assert_eq!((store.load(&[]).await.flags, &*before.flags["kill"]), (before.clone(), "{}"));
}

#[tokio::test]
async fn a_trip_holds_also_when_the_disk_fails_and_nothing_else_does() {
    // given a store whose file can't be replaced any more
    let folder = tempfile::tempdir().expect("a folder");
    let store = EmbeddedStore::open(&folder.path().join("sub/state.json")).expect("opens");
    std::fs::remove_dir_all(folder.path().join("sub")).expect("removes it");
    // when a weight is set, then it fails, and nothing changed
    let weight = Change::SetWeight { weight: Weight::FULL, fresh: fresh_episode() };
    let refused = store.apply("checkbox", &weight, None).await;
    assert!(matches!(refused, Err(StoreError::StateFile(_))), "{refused:?}");
    assert_eq!(state(&store).await, ServiceState::default());
    // when it is tripped, then that fails too, but holds
    let refused = store.apply("checkbox", &trip(), None).await;
    assert!(matches!(refused, Err(StoreError::StateFile(_))), "{refused:?}");
    assert!(state(&store).await.circuit.is_open());
}

#[tokio::test]
async fn what_a_full_disk_refuses_rings_nobody_but_for_a_stop_that_holds_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = EmbeddedStore::open(&folder.path().join("sub/state.json")).expect("opens");
    std::fs::remove_dir_all(folder.path().join("sub")).expect("removes it");
    let put = FlagChange::Put { key: "kill".into(), definition: "{}".into() };
    let episode = Change::BeginEpisode { fresh: fresh_episode() };
    store.apply("checkbox", &episode, None).await.expect_err("the disk is full");
    store.change_flags(&put, None).await.expect_err("the disk is full");
    let heard = async || tokio::time::timeout(LOOK / 2, store.changed()).await.is_ok();
    assert!(!heard().await, "whoever tries again at each look never rests");
    store.apply("checkbox", &trip(), None).await.expect_err("the disk is full");
    assert!(heard().await, "nobody looks at a trip that holds");
}
