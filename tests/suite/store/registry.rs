//! One member's own entry: what an agent writes into a real Redis, beside what people write there.

use serin::model::split::Arm;
use serin::model::state::{Member, MemberSpec};
use serin::store::registry::{Beat, Entry, Registry, registry};

use super::world::{NAMESPACE, SERVICE, World, apply, canary, drain, spec, state};

const LEASE: &str = "serin:{test}:lease:checkbox:canary:";
const POOL: &str = "serin:{test}:service:checkbox:pool:canary";

fn entry(world: &mut World, id: &str) -> Box<dyn Registry> {
    let text = format!("[store]\nurl = \"{}\"\n", world.redis().url());
    let (spec, _) = serin::config::parse(&text, "test").expect("a configuration");
    let entry = Entry { service: SERVICE.into(), arm: Arm::Canary, id: id.into() };
    registry(&spec.store.kind, NAMESPACE, entry).expect("an entry")
}

fn leased() -> MemberSpec {
    MemberSpec { ttl_ms: Some(60_000), ..spec(80) }
}

async fn beat(entry: &dyn Registry, first: bool) -> Beat {
    entry.beat(&leased(), first).await.expect("Redis is there")
}

#[tokio::test]
async fn a_beat_registers_what_is_not_there_and_renews_what_is() {
    let mut world = World::with_redis(&[]).await;
    let (entry, proxy) = (entry(&mut world, "m"), world.open("p").await);
    assert_eq!(beat(&*entry, true).await, Beat::Registered);
    assert_eq!(canary(&*proxy, "m").await, Some(Member::Ready(leased())));
    assert_eq!(beat(&*entry, false).await, Beat::Renewed);
    let news = MemberSpec { version: Some("2".into()), ..leased() };
    assert_eq!(entry.beat(&news, false).await.expect("Redis is there"), Beat::Registered);
    assert_eq!(canary(&*proxy, "m").await, Some(Member::Ready(news)));
    // what Redis lost, or somebody spoiled, is written anew; the service itself is never touched
    for words in [&["FLUSHALL"][..], &["HSET", POOL, "m", "nonsense"], &["DEL", &format!("{LEASE}m")]] {
        world.cli(words).await;
        assert_eq!(beat(&*entry, false).await, Beat::Registered, "{words:?}");
    }
    assert_eq!(world.cli(&["EXISTS", "serin:{test}:service:checkbox"]).await, redis::Value::Int(0));
}

#[tokio::test]
async fn what_a_person_did_stays_until_the_agent_starts_anew() {
    let mut world = World::with_redis(&[]).await;
    let (entry, proxy) = (entry(&mut world, "m"), world.open("p").await);
    beat(&*entry, true).await;
    apply(&*proxy, &drain("m", true)).await;
    // a drain stays also then
    for first in [false, true] {
        assert_eq!(beat(&*entry, first).await, Beat::Draining);
        assert!(matches!(canary(&*proxy, "m").await, Some(Member::Draining(_))));
    }
    world.cli(&["HSET", POOL, "m", r#"{"state":"removed"}"#]).await;
    assert_eq!(beat(&*entry, false).await, Beat::TakenOut);
    assert_eq!(canary(&*proxy, "m").await, Some(Member::Removed));
    entry.drain(&leased()).await.expect("Redis is there");
    assert_eq!(canary(&*proxy, "m").await, Some(Member::Removed));
    assert_eq!(beat(&*entry, true).await, Beat::Registered);
    assert_eq!(canary(&*proxy, "m").await, Some(Member::Ready(leased())));
}

#[tokio::test]
async fn an_agent_that_died_while_it_drained_begins_anew() {
    let mut world = World::with_redis(&[]).await;
    let (entry, proxy) = (entry(&mut world, "m"), world.open("p").await);
    beat(&*entry, true).await;
    entry.drain(&leased()).await.expect("Redis is there");
    assert_eq!(beat(&*entry, false).await, Beat::Draining, "it goes on draining");
    assert_eq!(beat(&*entry, true).await, Beat::Registered);
    assert_eq!(canary(&*proxy, "m").await, Some(Member::Ready(leased())));
}

#[tokio::test]
async fn silence_ends_the_lease_and_a_farewell_the_entry() {
    let mut world = World::with_redis(&[]).await;
    let proxy = world.open("p").await;
    for (id, left) in [("m", None), ("10.0.0.1:80", Some(Member::Removed))] {
        let entry = entry(&mut world, id);
        beat(&*entry, true).await;
        entry.fall_silent().await.expect("Redis is there");
        assert_eq!(canary(&*proxy, id).await, None, "its lease is gone");
        beat(&*entry, false).await;
        entry.leave(&leased()).await.expect("Redis is there");
        // an address may be a seed of the configuration, which only a tombstone keeps out
        assert_eq!(canary(&*proxy, id).await, left);
        assert_eq!(world.cli(&["EXISTS", &format!("{LEASE}{id}")]).await, redis::Value::Int(0));
    }
}

#[tokio::test]
async fn a_farewell_leaves_another_s_entry_alone() {
    let mut world = World::with_redis(&[]).await;
    let (entry, proxy) = (entry(&mut world, "m"), world.open("p").await);
    beat(&*entry, true).await;
    let elsewhere = MemberSpec { ttl_ms: Some(60_000), ..spec(81) };
    entry.leave(&elsewhere).await.expect("Redis is there");
    assert_eq!(state(&*proxy).await.pools.canary.len(), 1);
}
