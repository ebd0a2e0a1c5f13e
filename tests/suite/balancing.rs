//! Who of a pool gets a request: by load, by turns, by key, by session, and who is left out.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::client::Client;
use serin_tests::eventually::{eventually, logged};
use serin_tests::scene;
use serin_tests::serin::Serin;
use serin_tests::standin::{Checkbox, Setup};
use serin_tests::tomcat::Tomcat;
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(20);
const STICKY: &str = "[service.web.stickiness]\nsession_cookies = [\"JSESSIONID\"]\n";
const EJECTION: &str = "[service.web.ejection]\nconsecutive = 3\npeer_margin = 0\ntime = \"1s\"\n";

/// A proxy of one thread before some instances.
struct World {
    serin: Serin,
    stable: Vec<Tomcat>,
    canary: Vec<Tomcat>,
}

impl World {
    async fn start(stable: usize, canary: usize, more: &str) -> Self {
        let (mut world, mut seeds) = ((vec![], vec![]), (vec![], vec![]));
        for index in 0..stable {
            world.0.push(Tomcat::start(&format!("stable{index}")).await.unwrap());
            seeds.0.push(world.0[index].address().to_string());
        }
        for index in 0..canary {
            world.1.push(Tomcat::start(&format!("canary{index}")).await.unwrap());
            seeds.1.push(world.1[index].address().to_string());
        }
        let canaries = if canary > 0 { format!("canary = {:?}\n", seeds.1) } else { String::new() };
        let config =
            format!("[runtime]\nthreads = 1\n[service.web]\nhosts = [\"*\"]\nstable = {:?}\n{canaries}{more}", seeds.0);
        Self { serin: Serin::start(&config).await.unwrap(), stable: world.0, canary: world.1 }
    }

    async fn states(&self) -> Vec<String> {
        let service = self.serin.service("web").await.unwrap();
        let endpoints = service["pools"]["stable"]["endpoints"].as_array().unwrap().clone();
        // By their ids, which are addresses: in the order of the instances.
        let state = |one: &Tomcat| {
            let found = endpoints.iter().find(|endpoint| endpoint["id"] == one.address().to_string());
            found.map_or("gone", |endpoint| endpoint["state"].as_str().unwrap()).to_owned()
        };
        self.stable.iter().map(state).collect()
    }

    async fn until_states(&self, states: &[&str]) {
        eventually(SOON, &format!("endpoints are {states:?}"), async || (self.states().await == states).then_some(()))
            .await;
    }

    fn path(&self, index: usize, what: &str) -> String {
        format!("/v1/services/web/pools/stable/endpoints/{}{what}", self.stable[index].address())
    }

    /// How many of so many requests each stable instance serves, sent one after the other by one client.
    async fn served(&self, requests: usize) -> Vec<u64> {
        let before: Vec<u64> = self.stable.iter().map(Tomcat::served).collect();
        let mut client = self.serin.client();
        for _ in 0..requests {
            client.get("/plain").await.unwrap();
        }
        self.stable.iter().zip(before).map(|(one, before)| one.served() - before).collect()
    }

    /// A user who logged in, and on which instance.
    async fn user(&self, name: &str) -> (Client, String) {
        let mut client = self.serin.client();
        assert_eq!(client.get("/").await.unwrap().text(), "please log in");
        let anonymous = client.cookie("JSESSIONID").unwrap().to_owned();
        assert_eq!(client.get(&format!("/login?{name}")).await.unwrap().text(), "welcome");
        assert_ne!(client.cookie("JSESSIONID").unwrap(), anonymous, "the login didn't change the session's id");
        let host = greeted(&mut client, name).await.unwrap();
        (client, host)
    }
}

/// The instance that knows the user; none if it asks to log in.
async fn greeted(client: &mut Client, name: &str) -> Option<String> {
    let text = client.get("/home").await.unwrap().text();
    text.strip_prefix(&format!("hello {name} from ")).map(str::to_owned)
}

#[tokio::test]
async fn a_slow_endpoint_gets_less_and_its_turns_if_turns_are_asked_for() {
    for (policy, least, most) in [("p2c", 10, 62), ("round_robin", 80, 80)] {
        // given
        let slow = Checkbox::start(Setup::version("slow").with("listing_ms", 60)).await.unwrap();
        let fast = scene::stable().await.unwrap();
        let more = format!("[runtime]\nthreads = 1\n[service.{}.balance]\npolicy = \"{policy}\"\n", scene::SERVICE);
        let serin = Serin::start(&scene::config(&[&slow, &fast], &[], &more)).await.unwrap();
        // when
        let mut client = serin.client();
        for _ in 0..160 {
            assert_eq!(client.get("/api/study/listing").await.unwrap().status, 200);
        }
        // then
        let service = serin.service(scene::SERVICE).await.unwrap();
        let endpoints = service["pools"]["stable"]["endpoints"].as_array().unwrap();
        let found = endpoints.iter().find(|endpoint| endpoint["id"] == slow.address().to_string()).unwrap();
        let requests = found["requests"].as_u64().unwrap();
        assert!((least..=most).contains(&requests), "{policy}: the slow one got {requests} of 160");
    }
}

#[tokio::test]
async fn one_client_stays_with_one_endpoint_by_consistent_hash_and_leaves_it_alone_when_others_come() {
    let balance = "[service.web.balance]\npolicy = \"consistent_hash\"\nhash_by = \"header:X-User\"\n";
    let world = World::start(4, 0, balance).await;
    let mut owners = Vec::new();
    for user in 0..24 {
        let mut client = world.serin.client().header("x-user", &format!("user-{user}"));
        let mut texts = BTreeSet::new();
        for _ in 0..5 {
            texts.insert(client.get("/plain").await.unwrap().text());
        }
        assert_eq!(texts.len(), 1, "{user} was sent to {texts:?}");
        owners.push(texts.pop_first().unwrap());
    }
    assert!(owners.iter().collect::<BTreeSet<_>>().len() > 2, "{owners:?}");
    // when one goes, only its users move
    let reply = world.serin.operator().delete(&world.path(0, "")).await.unwrap();
    assert!(reply.status < 300, "{}", reply.text());
    for (user, owner) in owners.iter().enumerate() {
        let mut client = world.serin.client().header("x-user", &format!("user-{user}"));
        let now = client.get("/plain").await.unwrap().text();
        assert!(now == *owner || owner == "stable0", "{user} moved from {owner} to {now}");
        assert_ne!(now, "stable0");
    }
}

#[tokio::test]
async fn a_new_endpoint_comes_to_its_share_slowly() {
    // given a pool that is older than the window
    let balance = "[service.web.balance]\npolicy = \"round_robin\"\nslow_start = \"4s\"\n";
    let mut world = World::start(2, 0, balance).await;
    let begun = Instant::now();
    let founders = world.served(100).await;
    assert_eq!(founders, [50, 50], "who founds a pool has its share at once");
    eventually(SOON, "the pool is older than the window", async || {
        (begun.elapsed() > Duration::from_millis(4_100)).then_some(())
    })
    .await;
    // when
    world.stable.push(Tomcat::start("late").await.unwrap());
    let wish = json!({ "address": world.stable[2].address().to_string() });
    let reply = world.serin.operator().put_json(&world.path(2, ""), &wish).await.unwrap();
    assert!(reply.status < 300, "{}", reply.text());
    // then
    let start = Instant::now();
    let first = world.served(150).await[2];
    let took = start.elapsed();
    if took < Duration::from_secs(1) {
        assert!(first < 35, "it got {first} of the first 150, in {took:?}");
    }
    eventually(SOON, "it has its share", async || (world.served(90).await[2] == 30).then_some(())).await;
}

#[tokio::test]
async fn who_has_a_session_stays_with_its_host_and_learns_a_new_one_when_it_is_gone() {
    // given
    let world = World::start(3, 0, &format!("{STICKY}drain = \"2s\"\n")).await;
    let mut users = Vec::new();
    for index in 0..24 {
        let name = format!("ann{index}");
        let (client, host) = world.user(&name).await;
        users.push((name, client, host));
    }
    assert_eq!(users.iter().map(|(.., host)| host).collect::<BTreeSet<_>>().len(), 3, "users aren't spread");
    for (name, client, host) in &mut users {
        for _ in 0..5 {
            assert_eq!(greeted(client, name).await.as_ref(), Some(&*host), "{name} lost the session");
        }
    }
    // when a host drains, its sessions go on for a while, and nobody new comes to it
    let path = world.path(0, "/drain");
    let mut operator = world.serin.operator();
    let drain = tokio::spawn(async move { operator.post_json(&path, &json!({ "wait": "30s" })).await.unwrap() });
    world.until_states(&["draining", "ready", "ready"]).await;
    for (name, client, host) in users.iter_mut().filter(|(.., host)| host == "stable0") {
        assert_eq!(greeted(client, name).await.as_ref(), Some(&*host), "{name} lost the session to a drain");
    }
    for index in 0..12 {
        assert_ne!(world.user(&format!("new{index}")).await.1, "stable0");
    }
    // then the drain ends, and from then on it gets nothing
    assert_eq!(drain.await.unwrap().status, 200);
    let drained = world.stable[0].served();
    for (name, client, host) in &mut users {
        let now = greeted(client, name).await;
        assert_eq!(now.as_ref(), Some(&*host).filter(|host| *host != "stable0"), "{name}");
        if now.is_none() {
            assert_eq!(client.get(&format!("/login?{name}")).await.unwrap().text(), "welcome");
            let learnt = greeted(client, name).await.unwrap();
            for _ in 0..5 {
                assert_eq!(greeted(client, name).await.as_ref(), Some(&learnt));
            }
        }
    }
    assert_eq!(world.stable[0].served(), drained);
}

#[tokio::test]
async fn a_forged_host_gives_nobody_an_endpoint_and_says_nothing_of_its_address() {
    let world = World::start(2, 0, STICKY).await;
    let (client, _) = world.user("ann").await;
    let name = client.cookie("serin_host").unwrap().to_owned();
    assert_eq!(name.len(), 22, "{name}");
    assert!(world.stable.iter().all(|one| !name.contains(&one.address().port().to_string())));
    for forged in ["", "x", "AAAAAAAAAAAAAAAAAAAAAA", &world.stable[0].address().to_string(), &"9".repeat(4_000)] {
        let mut seen = BTreeSet::new();
        let mut client = world.serin.client();
        client.set_cookie("serin_host", forged);
        for _ in 0..60 {
            let reply = client.get("/plain").await.unwrap();
            assert_eq!(reply.status, 200, "{forged}");
            seen.insert(reply.text());
        }
        assert_eq!(seen.len(), 2, "{forged} was believed");
    }
}

#[tokio::test]
async fn a_session_yields_when_its_user_changes_the_arm() {
    // given users with sessions on the canary
    let world = World::start(2, 2, &format!("{STICKY}[service.web.split]\nweight = 100\n")).await;
    let (mut client, host) = world.user("ann").await;
    assert!(host.starts_with("canary"));
    for _ in 0..10 {
        assert_eq!(greeted(&mut client, "ann").await.as_ref(), Some(&host));
    }
    // when
    world.serin.trip("web", "it is bad").await.unwrap();
    // then
    let before: u64 = world.canary.iter().map(Tomcat::served).sum();
    assert_eq!(greeted(&mut client, "ann").await, None);
    assert_eq!(client.get("/login?ann").await.unwrap().text(), "welcome");
    let host = greeted(&mut client, "ann").await.unwrap();
    assert!(host.starts_with("stable"));
    for _ in 0..10 {
        assert_eq!(greeted(&mut client, "ann").await.as_ref(), Some(&host));
    }
    assert_eq!(world.canary.iter().map(Tomcat::served).sum::<u64>(), before, "a pulled canary got requests");
}

#[tokio::test]
async fn issue_traefik_181_an_endpoint_that_fails_is_left_out_for_a_time_and_comes_back() {
    // given
    let world = World::start(3, 0, EJECTION).await;
    world.stable[1].fail(true);
    // when
    let mut client = world.serin.client();
    eventually(SOON, "it is ejected", async || {
        client.get("/plain").await.unwrap();
        (world.states().await[1] == "ejected").then_some(())
    })
    .await;
    // then users see no failure, and everybody can see why
    assert_eq!(world.serin.client().get("/plain").await.unwrap().status, 200);
    let service = world.serin.service("web").await.unwrap();
    let endpoints = service["pools"]["stable"]["endpoints"].as_array().unwrap();
    let why = endpoints.iter().find_map(|endpoint| endpoint.pointer("/ejection/why")).and_then(Value::as_str).unwrap();
    assert!(why.ends_with("failures in a row"), "{why}");
    let labels = format!("{{service=\"web\",arm=\"stable\",endpoint=\"{}\"}}", world.stable[1].address());
    let metric = async |name: &str| world.serin.metric(&format!("{name}{labels}")).await.unwrap();
    assert_eq!((metric("serin_endpoint_ejected").await, metric("serin_endpoint_ready").await), (1.0, 0.0));
    logged("Endpoint is ejected", || world.serin.logs()).await;
    let shown = world.serin.command(&["endpoint", "list", "web"]).await.unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("ejected"), "{shown:?}");
    // and when it is well again it comes back by itself
    world.stable[1].fail(false);
    world.until_states(&["ready"; 3]).await;
    let served = world.stable[1].served();
    eventually(SOON, "it gets requests", async || {
        assert_eq!(client.get("/plain").await.unwrap().status, 200);
        (world.stable[1].served() > served).then_some(())
    })
    .await;
    assert!(metric("serin_endpoint_ejections_total").await >= 1.0);
}

#[tokio::test]
async fn a_pool_that_fails_as_a_whole_keeps_half_of_it_and_a_canary_all() {
    let world = World::start(2, 2, &format!("{EJECTION}[service.web.split]\nweight = 50\nsticky = \"none\"\n")).await;
    world.stable.iter().chain(&world.canary).for_each(|one| one.fail(true));
    let mut client = world.serin.client();
    eventually(SOON, "one of stable is ejected", async || {
        client.get("/plain").await.unwrap();
        world.states().await.iter().any(|state| state == "ejected").then_some(())
    })
    .await;
    for _ in 0..100 {
        assert_eq!(client.get("/plain").await.unwrap().status, 500);
    }
    let states = world.states().await;
    assert!(states.iter().any(|state| state == "ready"), "{states:?}");
    let service = world.serin.service("web").await.unwrap();
    assert_eq!(service["pools"]["canary"]["ready"], 2, "the canary is the verdict's");
}

#[tokio::test]
async fn while_all_are_down_requests_are_refused_unless_the_service_fails_open() {
    let health = "[service.web.health]\npath = \"/plain\"\nexpect_body = \"no instance says this\"\n\
                  interval = \"100ms\"\nfall = 1\n";
    for (all_down, status) in [("503", 503), ("fail_open", 200)] {
        let world = World::start(2, 0, &format!("{health}[service.web.balance]\nall_down = \"{all_down}\"\n")).await;
        world.until_states(&["down"; 2]).await;
        for _ in 0..20 {
            assert_eq!(world.serin.client().get("/plain").await.unwrap().status, status, "{all_down}");
        }
    }
}

#[tokio::test]
async fn when_too_little_of_a_pool_is_ready_all_of_it_serves() {
    let more = format!("{EJECTION}max_percent = 100\n[service.web.balance]\npanic_percent = 60\n");
    let world = World::start(2, 0, &more.replace("time = \"1s\"", "time = \"1h\"\nmax_time = \"1h\"")).await;
    world.stable[0].fail(true);
    let mut client = world.serin.client();
    eventually(SOON, "half of it is ejected", async || {
        client.get("/plain").await.unwrap();
        (world.serin.metric("serin_pool_panic{service=\"web\",arm=\"stable\"}").await.unwrap() == 1.0).then_some(())
    })
    .await;
    world.until_states(&["ejected", "ready"]).await;
    assert!(world.served(60).await.iter().all(|served| *served > 0));
    assert_eq!(world.serin.service("web").await.unwrap()["pools"]["stable"]["panic"], true);
}

#[tokio::test]
async fn health_checks_ask_as_they_are_told_and_share_one_session() {
    let health = "[service.web.health]\npath = \"/check\"\nmethod = \"POST\"\nbody = \"ping\"\n\
                  headers = [\"X-Check: yes\"]\ninterval = \"50ms\"\n";
    let world = World::start(1, 0, health).await;
    eventually(SOON, "ten checks", async || (world.stable[0].served() >= 10).then_some(())).await;
    assert_eq!(world.stable[0].sessions(), 1, "each check began a session");
    let checks = world.stable[0].requests().unwrap();
    let told = |check: &serin_tests::wire::Message| {
        check.start == "POST /check HTTP/1.1" && check.get("x-check") == Some("yes") && check.text() == "ping"
    };
    assert!(checks.iter().all(told), "{checks:?}");
    // and without cookies each begins one
    let world = World::start(1, 0, &format!("{health}cookies = false\n")).await;
    eventually(SOON, "ten sessions", async || (world.stable[0].sessions() >= 10).then_some(())).await;
}
