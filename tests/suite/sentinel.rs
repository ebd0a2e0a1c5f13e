//! The store behind sentinels: the server that takes writes dies, or is changed by hand, under load.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::print_stdout, reason = "figures are shown with `--nocapture`")]

use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::crowd::{Strangers, all_were_served};
use serin_tests::eventually::eventually;
use serin_tests::redis::{Redis, Signal};
use serin_tests::scene::{self, SERVICE, config};
use serin_tests::serin::Serin;
use serin_tests::standin::Checkbox;
use tokio::time::Instant;

/// A fail-over takes the sentinels a few seconds; a busy machine longer.
const SOON: Duration = Duration::from_secs(30);
const LISTING: &str = "/api/study/listing";
const NAME: &str = "mymaster";
const HASH: &str = "serin:{test}:service:checkbox";

/// A primary with two replicas and three sentinels, and two proxies on them.
struct World {
    servers: Vec<Redis>,
    sentinels: Vec<Redis>,
    one: Serin,
    other: Serin,
    _pools: [Checkbox; 2],
}

impl World {
    async fn start() -> Self {
        Self::start_knowing(0..3).await
    }

    /// As [`World::start`], with proxies who know only these sentinels.
    async fn start_knowing(known: Range<usize>) -> Self {
        let primary = Redis::start().await.unwrap();
        let replicas = [primary.start_replica().await.unwrap(), primary.start_replica().await.unwrap()];
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(primary.start_sentinel(NAME, 2).await.unwrap());
        }
        for sentinel in &sentinels {
            until_it_knows_all(sentinel).await;
        }
        let [first, second] = replicas;
        let servers = vec![primary, first, second];
        let ports: Vec<String> = sentinels[known].iter().map(|one| format!("127.0.0.1:{}", one.port())).collect();
        let url = format!("redis+sentinel://{}/{NAME}/0", ports.join(","));
        let pools = [scene::stable().await.unwrap(), scene::canary().await.unwrap()];
        let config = config(&[&pools[0]], &[&pools[1]], &(scene::weight(30.0) + &scene::store(&url)));
        let (one, other) = (Serin::start(&config).await.unwrap(), Serin::start(&config).await.unwrap());
        Self { servers, sentinels, one, other, _pools: pools }
    }

    /// Waits until the sentinels name another server than this one, and returns its place among the servers.
    async fn until_another_leads(&self, before: usize) -> usize {
        self.until_another_leads_for(&self.sentinels, before).await
    }

    /// As [`World::until_another_leads`], by what these sentinels know.
    async fn until_another_leads_for(&self, sentinels: &[Redis], before: usize) -> usize {
        let start = Instant::now();
        let port = eventually(SOON, "another server leads", async || {
            for sentinel in sentinels {
                let ask = ["SENTINEL", "get-master-addr-by-name", NAME];
                let (_, port): (String, u16) = sentinel.command(&ask).await.ok()?;
                if port == self.servers[before].port() {
                    return None;
                }
                let leader = self.servers.iter().position(|server| server.port() == port)?;
                let role: Vec<redis::Value> = self.servers[leader].command(&["ROLE"]).await.ok()?;
                if role.first() != Some(&redis::Value::BulkString(b"master".to_vec())) {
                    return None;
                }
            }
            let ask = ["SENTINEL", "get-master-addr-by-name", NAME];
            let (_, port): (String, u16) = sentinels[0].command(&ask).await.ok()?;
            Some(port)
        })
        .await;
        println!("another server leads after {:?}", start.elapsed());
        self.servers.iter().position(|server| server.port() == port).unwrap()
    }

    /// Sets the weight until that is accepted, and waits until both proxies serve by it.
    async fn set_weight(&self, percent: f64) {
        let start = Instant::now();
        eventually(SOON, "a change is accepted again", async || self.one.set_weight(SERVICE, percent).await.ok()).await;
        println!("a change is accepted after {:?}", start.elapsed());
        for serin in [&self.one, &self.other] {
            eventually(SOON, "both serve by it", async || {
                let service = serin.service(SERVICE).await.ok()?;
                (service["weight"]["asked"] == json!(percent)).then_some(())
            })
            .await;
        }
    }
}

async fn until_it_knows_all(sentinel: &Redis) {
    eventually(SOON, "a sentinel knows all replicas and sentinels", async || {
        let replicas: Vec<redis::Value> = sentinel.command(&["SENTINEL", "replicas", NAME]).await.ok()?;
        let others: Vec<redis::Value> = sentinel.command(&["SENTINEL", "sentinels", NAME]).await.ok()?;
        (replicas.len() == 2 && others.len() == 2).then_some(())
    })
    .await;
}

async fn circuit(serin: &Serin) -> Value {
    serin.service(SERVICE).await.unwrap()["circuit"]["state"].take()
}

#[tokio::test]
async fn a_primary_that_dies_under_load_is_followed_and_costs_no_request() {
    let mut world = World::start().await;
    let users = [&world.one, &world.other].map(|serin| Strangers::come(serin.http(), 50.0, LISTING));
    world.set_weight(40.0).await;
    // given an open circuit, and a sentinel that is gone
    world.one.trip(SERVICE, "it smells").await.unwrap();
    eventually(SOON, "both know", async || (circuit(&world.other).await == "open").then_some(())).await;
    world.sentinels[0].stop().await.unwrap();
    let gone = world.sentinels.remove(0);
    // when the primary dies
    world.servers[0].stop().await.unwrap();
    let leader = world.until_another_leads(0).await;
    // then changes are accepted again, on the new one, and the circuit is open everywhere
    world.set_weight(50.0).await;
    assert_eq!((circuit(&world.one).await, circuit(&world.other).await), (json!("open"), json!("open")));
    let weight: String = world.servers[leader].command(&["HGET", HASH, "weight"]).await.unwrap();
    assert_eq!(weight, "50");
    let stored: String = world.servers[leader].command(&["HGET", HASH, "circuit"]).await.unwrap();
    assert!(stored.contains("\"open\""), "{stored}");
    for users in users {
        all_were_served(&users.leave().await.unwrap());
    }
    drop(gone);
}

#[tokio::test]
async fn a_primary_that_hangs_is_followed_and_not_believed_when_it_wakes() {
    let world = World::start().await;
    world.set_weight(40.0).await;
    world.servers[0].signal(Signal::STOP).unwrap();
    let leader = world.until_another_leads(0).await;
    world.set_weight(50.0).await;
    // when the old one wakes with what it knew
    world.servers[0].signal(Signal::CONT).unwrap();
    world.set_weight(60.0).await;
    let weight: String = world.servers[leader].command(&["HGET", HASH, "weight"]).await.unwrap();
    assert_eq!(weight, "60");
}

#[tokio::test]
async fn a_change_of_primary_by_hand_loses_no_later_change() {
    let world = World::start().await;
    let users = Strangers::come(world.one.http(), 100.0, LISTING);
    world.set_weight(40.0).await;
    let mut leader = 0;
    for (sentinel, percent) in [(0, 45.0), (1, 55.0)] {
        let _: redis::Value = world.sentinels[sentinel].command(&["SENTINEL", "FAILOVER", NAME]).await.unwrap();
        let before = leader;
        leader = world.until_another_leads(before).await;
        // The old one is alive, and is told to follow later by the sentinels: it is told now.
        let port = world.servers[leader].port().to_string();
        let follow = ["REPLICAOF", "127.0.0.1", &port];
        let _: redis::Value = world.servers[before].command(&follow).await.unwrap();
        // then the very next change is made, on the new one
        world.one.set_weight(SERVICE, percent).await.unwrap();
        let weight: String = world.servers[leader].command(&["HGET", HASH, "weight"]).await.unwrap();
        assert_eq!(weight, percent.to_string());
        eventually(SOON, "the sentinels are ready for the next", async || {
            let replicas: Vec<redis::Value> = world.servers[leader].command(&["ROLE"]).await.ok()?;
            let redis::Value::Array(replicas) = replicas.get(2)? else { return None };
            (replicas.len() == 2).then_some(())
        })
        .await;
    }
    all_were_served(&users.leave().await.unwrap());
}

#[tokio::test]
async fn a_write_that_the_old_primary_refuses_is_made_on_the_new_one() {
    // given proxies whose only sentinel hangs while the others change the primary
    let world = World::start_knowing(2..3).await;
    world.set_weight(40.0).await;
    world.sentinels[2].signal(Signal::STOP).unwrap();
    let _: redis::Value = world.sentinels[0].command(&["SENTINEL", "FAILOVER", NAME]).await.unwrap();
    let leader = world.until_another_leads_for(&world.sentinels[..2], 0).await;
    let port = world.servers[leader].port().to_string();
    let _: redis::Value = world.servers[0].command(&["REPLICAOF", "127.0.0.1", &port]).await.unwrap();
    // when a change is made where serin still takes the old one for the primary
    let (change, _) = tokio::join!(world.one.set_weight(SERVICE, 50.0), async {
        world.sentinels[2].signal(Signal::CONT).unwrap();
    });
    // then it waits until that sentinel knows better
    change.unwrap();
    let weight: String = world.servers[leader].command(&["HGET", HASH, "weight"]).await.unwrap();
    assert_eq!(weight, "50");
}
