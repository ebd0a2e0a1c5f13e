//! What every kind of store promises, held against each of them, and in [`redis`] what Redis adds.

#![expect(clippy::expect_used, reason = "a test that can't go on has failed")]

mod acl;
mod audit;
mod evidence;
mod flags;
mod mirror;
mod redis;
mod registry;
mod tls;
mod world;

use std::sync::Arc;
use std::time::Duration;

use serin::model::rollout::change::{Lead, RolloutChange};
use serin::model::rollout::{Phase, RolloutId};
use serin::model::split::Arm;
use serin::model::state::{Change, Member, ServiceState};
use serin::model::time::Timestamp;
use serin::store::{Store, StoreError, fresh_episode};
use serin_tests::eventually::eventually;

use self::audit::an_audit_entry_is_seen_at_once_and_survives_a_restart;
use self::evidence::{evidence_goes_with_its_episode, evidence_is_kept_in_order_and_survives_a_restart};
use self::world::{
    SECOND, SERVICE, World, apply, beat, begin, canary, drain, load, percent, put, reset, set_weight, state, trip,
};

/// Each of these holds for every kind of store.
macro_rules! every_store {
    ($($promise:ident)*) => {
        mod embedded {
            $(#[tokio::test] async fn $promise() { super::$promise(super::World::embedded()).await; })*
        }
        mod in_redis {
            $(#[tokio::test] async fn $promise() { super::$promise(super::World::with_redis(&[]).await).await; })*
        }
    };
}

every_store! {
    a_service_that_nobody_touched_is_revision_zero
    a_weight_begins_an_episode_and_zero_ends_it
    a_trip_latches_until_a_reset
    members_come_drain_and_leave_a_tombstone
    a_lease_runs_out_unless_it_is_renewed
    a_change_meant_for_another_revision_is_refused
    a_change_is_heard_of_at_once
    a_restart_keeps_the_state
    a_second_opener_of_the_state_file_is_refused
    a_hundred_writers_lose_no_update
    a_rollout_is_kept_and_of_two_the_first_counts
    a_leader_leads_on_and_is_listened_to
    evidence_is_kept_in_order_and_survives_a_restart
    evidence_goes_with_its_episode
    an_audit_entry_is_seen_at_once_and_survives_a_restart
}

async fn a_service_that_nobody_touched_is_revision_zero(world: World) {
    let store = world.open("a").await;
    let loaded = store.load(&["one".to_owned(), "two".to_owned()]).await;
    assert_eq!(loaded.state.len(), 2);
    assert!(loaded.state.values().all(|state| *state == ServiceState::default()));
    assert_eq!(loaded.poisoned, []);
}

async fn a_weight_begins_an_episode_and_zero_ends_it(world: World) {
    let store = world.open("a").await;
    let set = apply(&*store, &set_weight(12.5)).await;
    assert_eq!((set.revision, set.weight), (1, Some(percent(12.5))));
    assert!(set.episode.is_some());
    assert_eq!(state(&*store).await, set);
    let raised = apply(&*store, &set_weight(50.0)).await;
    assert_eq!(raised.episode, set.episode, "raising the weight drew anew");
    let ended = apply(&*store, &set_weight(0.0)).await;
    assert_eq!((ended.revision, ended.episode), (3, None));
    assert_eq!(state(&*store).await, ended);
}

async fn a_trip_latches_until_a_reset(world: World) {
    // given a canary that gets traffic
    let store = world.open("a").await;
    apply(&*store, &set_weight(10.0)).await;
    // when it is tripped, again, and somebody raises the weight all the same
    apply(&*store, &trip("first")).await;
    apply(&*store, &trip("second")).await;
    apply(&*store, &set_weight(20.0)).await;
    // then the first trip stands and no episode runs
    let tripped = state(&*store).await;
    assert!(tripped.circuit.is_open() && tripped.episode.is_none());
    assert_eq!(tripped.circuit.trip.as_ref().map(|trip| trip.reason.as_str()), Some("first"));
    // until a person resets it
    let closed = apply(&*store, &reset()).await;
    assert!(!closed.circuit.is_open() && closed.episode.is_some());
    assert_eq!(state(&*store).await, closed);
}

async fn members_come_drain_and_leave_a_tombstone(world: World) {
    let store = world.open("a").await;
    let store = &*store;
    apply(store, &put("m")).await;
    assert!(matches!(canary(store, "m").await, Some(Member::Ready(_))));
    apply(store, &drain("m", true)).await;
    apply(store, &put("m")).await;
    assert!(matches!(canary(store, "m").await, Some(Member::Draining(_))), "being told of again ended the drain");
    apply(store, &drain("m", false)).await;
    assert!(matches!(canary(store, "m").await, Some(Member::Ready(_))));
    apply(store, &Change::RemoveMember { arm: Arm::Canary, id: "m".into() }).await;
    assert_eq!(canary(store, "m").await, Some(Member::Removed));
    assert!(state(store).await.pools.stable.is_empty(), "the other pool was touched");
}

async fn a_lease_runs_out_unless_it_is_renewed(world: World) {
    // given one member for good, and two with leases
    let store = world.open("a").await;
    let store = &*store;
    apply(store, &put("fixed")).await;
    apply(store, &beat("silent", 300)).await;
    let all = apply(store, &beat("beating", 60_000)).await;
    assert_eq!(state(store).await, all);
    // when one of them falls silent
    eventually(2 * SECOND, "the silent member leaves", async || {
        store.changed().await;
        canary(store, "silent").await.is_none().then_some(())
    })
    .await;
    // then the others are there, and nobody changed anything
    let left = state(store).await;
    assert_eq!(left.pools.canary.keys().collect::<Vec<_>>(), ["beating", "fixed"]);
    assert_eq!(left.revision, all.revision);
    // and a heartbeat of a living member is no change, one of a dead member is
    assert_eq!(apply(store, &beat("beating", 60_000)).await.revision, all.revision);
    assert_eq!(apply(store, &beat("silent", 60_000)).await.revision, all.revision + 1);
    assert!(canary(store, "silent").await.is_some());
}

async fn a_change_meant_for_another_revision_is_refused(world: World) {
    let store = world.open("a").await;
    let first = store.apply(SERVICE, &set_weight(1.0), Some(0)).await.expect("nothing was there");
    let refused = store.apply(SERVICE, &set_weight(2.0), Some(0)).await;
    assert!(matches!(refused, Err(StoreError::Conflict { expected: 0, actual: 1 })), "{refused:?}");
    assert_eq!(state(&*store).await, first);
    store.apply(SERVICE, &set_weight(3.0), Some(1)).await.expect("that is the revision");
    let refused = store.apply(SERVICE, &trip("late"), Some(1)).await;
    assert!(matches!(refused, Err(StoreError::Conflict { expected: 1, actual: 2 })), "{refused:?}");
    assert!(!state(&*store).await.circuit.is_open(), "a refused trip was made");
}

async fn a_change_is_heard_of_at_once(world: World) {
    let store = world.open("a").await;
    // given that nothing happened for a while
    store.changed().await;
    // when a change is made before and while somebody waits, then it is heard well before the periodic look
    for weight in [1.0, 2.0, 3.0] {
        apply(&*store, &set_weight(weight)).await;
        let heard = tokio::time::timeout(Duration::from_millis(250), store.changed()).await;
        assert!(heard.is_ok(), "only the periodic look would have seen it");
    }
}

async fn a_restart_keeps_the_state(world: World) {
    let store = world.open("a").await;
    apply(&*store, &set_weight(10.0)).await;
    apply(&*store, &put("m")).await;
    let before = apply(&*store, &trip("bad")).await;
    drop(store);
    assert_eq!(state(&*world.open("a").await).await, before);
}

async fn a_second_opener_of_the_state_file_is_refused(world: World) {
    let store = world.open("a").await;
    apply(&*store, &set_weight(10.0)).await;
    let refused = world.try_open("a").expect_err("the file is in use").to_string();
    assert!(refused.contains("another serin uses") && refused.contains("a.json"), "{refused}");
    drop(store);
    world.open("a").await;
}

async fn a_hundred_writers_lose_no_update(world: World) {
    let store = world.open("a").await;
    write_a_hundred(std::slice::from_ref(&store)).await;
    let loaded = load(&*store).await.state[SERVICE].clone();
    assert_eq!((loaded.revision, loaded.pools.canary.len()), (100, 100));
}

async fn a_rollout_is_kept_and_of_two_the_first_counts(world: World) {
    let store = world.open("a").await;
    let begun = apply(&*store, &begin(1)).await;
    assert_eq!(apply(&*store, &begin(2)).await, begun, "a second rollout began beside the first");
    let fence = store.lead("p1", SECOND).await.expect("the store answers").expect("nobody else leads");
    let lead = |step| Lead { id: RolloutId(1), step, fence, at: Timestamp::from_millis(5) };
    let advance = |step| Change::Rollout(RolloutChange::Advance { lead: lead(step), fresh: fresh_episode() });
    let first = apply(&*store, &advance(0)).await;
    assert_eq!((first.weight, first.episode.is_some()), (Some(percent(10.0)), true));
    assert_eq!(apply(&*store, &advance(0)).await, first, "the same advance was made twice");
    drop(store);
    let store = world.open("a").await;
    assert_eq!(state(&*store).await, first, "a restart lost something");
    // and a trip pulls it, for good
    let pulled = apply(&*store, &trip("5xx")).await;
    assert_eq!(pulled.rollout.as_ref().map(|rollout| rollout.phase), Some(Phase::Pulled));
    assert_eq!(apply(&*store, &advance(1)).await, pulled);
    let closed = apply(&*store, &reset()).await;
    assert_eq!((closed.weight, closed.episode), (Some(percent(0.0)), None));
}

async fn a_leader_leads_on_and_is_listened_to(world: World) {
    let store = world.open("a").await;
    let first = store.lead("p1", SECOND).await.expect("the store answers").expect("nobody else leads");
    assert_eq!(store.lead("p1", SECOND).await.expect("the store answers"), Some(first));
}

/// A hundred members, each put by a task of its own, over these stores in turn.
async fn write_a_hundred(stores: &[Arc<dyn Store>]) {
    let writers: Vec<_> = (0..100)
        .map(|n| {
            let store = Arc::clone(&stores[n % stores.len()]);
            tokio::spawn(async move { apply(&*store, &put(&format!("m{n}"))).await })
        })
        .collect();
    for writer in writers {
        writer.await.expect("the writer ends well");
    }
}
