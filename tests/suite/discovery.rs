//! Instances that register themselves: agents, leases, and what becomes of those that run out.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use serde_json::Value;
use serin_tests::agent::Agent;
use serin_tests::crowd::{Strangers, Visit, all_were_served};
use serin_tests::eventually::{eventually, logged};
use serin_tests::process::Signal;
use serin_tests::redis::Redis;
use serin_tests::scene::{self, PROBED, SERVICE, STABLE};
use serin_tests::serin::Serin;
use serin_tests::standin::{Checkbox, Setup};
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(30);
const LISTING: &str = "/api/study/listing";
const POOL: &str = "serin:{test}:service:checkbox:pool:stable";
const MASS: &str = "serin_discovery_mass_expiry";
/// The lease of all agents here: long enough for a busy machine to beat it.
const TTL: Duration = Duration::from_secs(3);

/// A proxy and a Redis; no endpoint is known but by its agent.
struct World {
    redis: Redis,
    serin: Serin,
}

impl World {
    /// With these tables for the service beside its hosts.
    async fn start(more: &str) -> Self {
        let redis = Redis::start().await.unwrap();
        let more = format!("{more}{}", scene::store(&redis.url()));
        let serin = Serin::start(&scene::config(&[], &[], &more)).await.unwrap();
        Self { redis, serin }
    }

    /// An agent of this instance; `more` goes into its `[agent]`.
    fn agent_with(&self, instance: &Checkbox, url: &str, more: &str) -> Agent {
        let (address, ttl) = (instance.address(), TTL.as_secs());
        let config = format!(
            "[agent]\nservice = \"{SERVICE}\"\naddress = \"{address}\"\nttl = \"{ttl}s\"\nversion = \"{STABLE}\"\n\
             admin = [\"http://{}\"]\ntoken_file = \"@token@\"\n{more}\n[store]\nurl = \"{url}\"\nnamespace = \"test\"\n",
            self.serin.admin()
        );
        Agent::start(&config, self.serin.token()).unwrap()
    }

    fn agent(&self, instance: &Checkbox) -> Agent {
        self.agent_with(instance, &self.redis.url(), "")
    }

    /// Instances with their agents, all of them ready.
    async fn fleet(&self, size: usize) -> Vec<(Checkbox, Agent)> {
        let mut fleet = Vec::new();
        for _ in 0..size {
            let instance = scene::stable().await.unwrap();
            let agent = self.agent(&instance);
            fleet.push((instance, agent));
        }
        for (instance, _) in &fleet {
            self.until(instance, "/state", "ready").await;
        }
        fleet
    }

    /// The endpoint of an instance; null while there is none.
    async fn endpoint(&self, instance: &Checkbox) -> Value {
        let id = instance.address().to_string();
        let service = self.serin.service(SERVICE).await.unwrap();
        let endpoints = service["pools"]["stable"]["endpoints"].as_array().unwrap();
        endpoints.iter().find(|endpoint| endpoint["id"] == id.as_str()).cloned().unwrap_or(Value::Null)
    }

    /// Waits until something about the endpoint of an instance is so.
    async fn until(&self, instance: &Checkbox, what: &str, is: &str) {
        eventually(SOON, &format!("{what} is {is}"), async || {
            (self.endpoint(instance).await.pointer(what)? == is).then_some(())
        })
        .await;
    }

    async fn until_gone(&self, instance: &Checkbox) {
        eventually(SOON, "the endpoint is gone", async || self.endpoint(instance).await.is_null().then_some(())).await;
    }

    async fn until_metric(&self, series: &str, is: f64) {
        eventually(SOON, &format!("{series} is {is}"), async || {
            (self.serin.metric(series).await.ok()? == is).then_some(())
        })
        .await;
    }

    async fn status(&self) -> u16 {
        self.serin.client().get(LISTING).await.unwrap().status
    }
}

/// Waits until an instance was asked so many more times by users.
async fn until_asked(instance: &Checkbox, more: u64) {
    let wanted = instance.requests().await.unwrap() + more;
    eventually(SOON, "users come", async || (instance.requests().await.unwrap() >= wanted).then_some(())).await;
}

#[tokio::test]
async fn an_endpoint_that_joins_gets_traffic_with_its_first_passing_check() {
    // given an agent that vouches for an instance that isn't there yet
    let world = World::start(PROBED).await;
    let before = scene::stable().await.unwrap();
    let address = before.address();
    before.kill().await.unwrap();
    let _agent = world.agent_with(&before, &world.redis.url(), "zone = \"cellar\"\nmetadata = { rack = \"r7\" }");
    world.until(&before, "/zone", "cellar").await;
    world.until(&before, "/state", "down").await;
    let endpoint = world.endpoint(&before).await;
    assert_eq!((&endpoint["version"], &endpoint["metadata"]["rack"]), (&STABLE.into(), &"r7".into()));
    assert_eq!(world.status().await, 503);
    // when it comes up, then checks find it, and users reach it
    let _instance = Checkbox::start(Setup::version(STABLE).behind_nginx().on(address)).await.unwrap();
    world.until(&before, "/state", "ready").await;
    assert_eq!(world.status().await, 200);
}

#[tokio::test]
async fn an_agent_is_silent_while_its_instance_is_not_well() {
    let world = World::start("").await;
    let instance = scene::stable().await.unwrap();
    let checked = "[agent.health]\npath = \"/api\"\nexpect_status = [404]\ninterval = \"50ms\"\nfall = 1\nrise = 1";
    let agent = world.agent_with(&instance, &world.redis.url(), checked);
    world.until(&instance, "/state", "ready").await;
    // when the instance dies, then its lease ends at once: no proxy checks it here
    instance.kill().await.unwrap();
    world.until_gone(&instance).await;
    logged("Silent: the instance is not well", || agent.logs()).await;
    // when it is back, its agent beats again, and it must be steady; alone as it is, it gets work all the same
    let _again = Checkbox::start(Setup::version(STABLE).behind_nginx().on(instance.address())).await.unwrap();
    world.until(&instance, "/state", "ready").await;
    assert_eq!(world.status().await, 200);
}

#[tokio::test]
async fn an_instance_that_dies_with_its_agent_is_out_and_costs_nothing_once_that_is_known() {
    let world = World::start(PROBED).await;
    let fleet = world.fleet(3).await;
    let users = Strangers::come(world.serin.http(), 50.0, LISTING);
    until_asked(&fleet[0].0, 5).await;
    let (instance, agent) = &fleet[0];
    agent.kill().await.unwrap();
    instance.kill().await.unwrap();
    world.until(instance, "/state", "down").await;
    let known = Instant::now();
    // then its lease runs out too
    world.until_gone(instance).await;
    until_asked(&fleet[1].0, 10).await;
    let visits = users.leave().await.unwrap();
    let later: Vec<Visit> = visits.into_iter().filter(|visit| visit.at > known).collect();
    all_were_served(&later);
    assert_eq!(world.serin.metric("serin_discovery_lapses_total").await.unwrap(), 1.0);
}

#[tokio::test]
async fn an_agent_that_is_told_to_stop_takes_its_instance_out_without_losing_a_request() {
    let world = World::start(PROBED).await;
    let fleet = world.fleet(2).await;
    let (instance, agent) = &fleet[0];
    instance.fault(serde_json::json!({ "listing_ms": 700 })).await.unwrap();
    let users = Strangers::come(world.serin.http(), 50.0, LISTING);
    until_asked(instance, 20).await;
    // when the agent is stopped, and the instance killed as soon as the agent has ended
    let status = agent.stop().await.unwrap();
    instance.kill().await.unwrap();
    assert!(status.success(), "{}", agent.logs());
    // then nobody noticed
    until_asked(&fleet[1].0, 20).await;
    all_were_served(&users.leave().await.unwrap());
    world.until_gone(instance).await;
    assert_eq!(world.serin.metric("serin_discovery_lapses_total").await.unwrap(), 0.0);
    assert!(agent.logs().contains("Drained"), "{}", agent.logs());
    let line: String = world.redis.command(&["HGET", POOL, &instance.address().to_string()]).await.unwrap();
    assert_eq!(line, r#"{"state":"removed"}"#);
    // and an agent that starts again brings it back at once
    let _again = Checkbox::start(Setup::version(STABLE).behind_nginx().on(instance.address())).await.unwrap();
    let _agent = world.agent(instance);
    world.until(instance, "/state", "ready").await;
    assert_eq!(world.endpoint(instance).await["lease"], "steady");
}

#[tokio::test]
async fn an_agent_that_flaps_waits_longer_each_time() {
    let world = World::start("").await;
    let fleet = world.fleet(3).await;
    let (instance, agent) = &fleet[0];
    let users = Strangers::come(world.serin.http(), 50.0, LISTING);
    for times in 1..=2 {
        agent.signal(Signal::STOP).unwrap();
        world.until_gone(instance).await;
        agent.signal(Signal::CONT).unwrap();
        world.until(instance, "/state", "returning").await;
        // it gets nothing until it was steady
        let (back, asked) = (Instant::now(), instance.requests().await.unwrap());
        until_asked(&fleet[1].0, 20).await;
        assert_eq!(instance.requests().await.unwrap(), asked, "it got work while it must prove itself");
        world.until(instance, "/state", "ready").await;
        let waited = back.elapsed();
        // A look may come half a second after what it sees.
        assert!(waited + Duration::from_secs(1) > TTL * times, "{waited:?} the time {times}");
        until_asked(instance, 5).await;
    }
    all_were_served(&users.leave().await.unwrap());
    assert_eq!(world.serin.metric("serin_discovery_lapses_total").await.unwrap(), 2.0);
}

#[tokio::test]
async fn when_all_agents_fall_silent_everybody_serves_on_and_people_are_told() {
    // given instances that no proxy checks
    let world = World::start("").await;
    let fleet = world.fleet(3).await;
    let users = Strangers::come(world.serin.http(), 50.0, LISTING);
    for (_, agent) in &fleet {
        agent.signal(Signal::STOP).unwrap();
    }
    // when their leases have run out
    world.until_metric(MASS, 1.0).await;
    eventually(SOON, "no lease is left", async || {
        let leases: Vec<String> = world.redis.command(&["KEYS", "serin:{test}:lease:*"]).await.unwrap();
        leases.is_empty().then_some(())
    })
    .await;
    // then all of them serve on
    for (instance, _) in &fleet {
        world.until(instance, "/lease", "kept").await;
        assert_eq!(world.endpoint(instance).await["state"], "ready");
        until_asked(instance, 5).await;
    }
    logged("Too many leases ran out together", || world.serin.logs()).await;
    // until they beat again
    for (_, agent) in &fleet {
        agent.signal(Signal::CONT).unwrap();
    }
    world.until_metric(MASS, 0.0).await;
    for (instance, _) in &fleet {
        world.until(instance, "/lease", "steady").await;
    }
    all_were_served(&users.leave().await.unwrap());
    assert_eq!(world.serin.metric("serin_discovery_mass_expiries_total").await.unwrap(), 1.0);
}

#[tokio::test]
async fn a_flushed_redis_costs_no_request_and_agents_fill_it_again() {
    let world = World::start("").await;
    let fleet = world.fleet(3).await;
    let users = Strangers::come(world.serin.http(), 50.0, LISTING);
    until_asked(&fleet[0].0, 5).await;
    let _: String = world.redis.command(&["FLUSHALL"]).await.unwrap();
    eventually(SOON, "all are in Redis again", async || {
        let members: usize = world.redis.command(&["HLEN", POOL]).await.unwrap();
        let leases: Vec<String> = world.redis.command(&["KEYS", "serin:{test}:lease:*"]).await.unwrap();
        (members == fleet.len() && leases.len() == fleet.len()).then_some(())
    })
    .await;
    for (instance, _) in &fleet {
        world.until(instance, "/lease", "steady").await;
        until_asked(instance, 5).await;
    }
    all_were_served(&users.leave().await.unwrap());
}

#[tokio::test]
async fn an_agent_waits_for_redis_and_drains_by_the_time_alone_where_nobody_can_be_asked() {
    let mut world = World::start("").await;
    world.redis.stop().await.unwrap();
    let instance = scene::stable().await.unwrap();
    let config = format!(
        "[agent]\nservice = \"{SERVICE}\"\naddress = \"{}\"\ndrain_wait = \"1s\"\n[store]\nurl = \"{}\"\nnamespace = \"test\"\n",
        instance.address(),
        world.redis.url()
    );
    let agent = Agent::start(&config, "").unwrap();
    eventually(SOON, "the agent misses Redis", async || {
        agent.logs().contains("The store can't be told: tried again until it can").then_some(())
    })
    .await;
    world.redis.restart().await.unwrap();
    world.until(&instance, "/state", "ready").await;
    assert!(agent.stop().await.unwrap().success());
    world.until_gone(&instance).await;
}

#[tokio::test]
async fn the_rights_of_the_manual_are_enough_for_an_agent_and_for_nothing_else() {
    let manual = include_str!("../../docs/agent.md");
    let rights = manual.lines().find(|line| line.starts_with("ACL SETUSER ")).unwrap();
    let rights = rights.replace("{production}", "{test}").replace(">PASSWORD", ">pw");
    let world = World::start("").await;
    let _: String = world.redis.command(&rights.split(' ').collect::<Vec<_>>()).await.unwrap();
    let url = world.redis.url().replace("redis://", "redis://checkbox-agent:pw@");
    // then its whole life goes by them
    let instance = scene::stable().await.unwrap();
    let agent = world.agent_with(&instance, &url, "drain_wait = \"10s\"");
    world.until(&instance, "/state", "ready").await;
    assert!(agent.stop().await.unwrap().success());
    assert!(agent.logs().contains("Taken out"), "{}", agent.logs());
    // and a weight is out of their reach
    let mut connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut weight = redis::cmd("HSET");
    weight.arg("serin:{test}:service:checkbox").arg("weight").arg(100);
    let refused = weight.exec_async(&mut connection).await.unwrap_err();
    assert_eq!(refused.code(), Some("NOPERM"));
}
