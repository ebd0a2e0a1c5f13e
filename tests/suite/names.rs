//! Endpoints that have names, with a real DNS server whose answers change, fail, and don't come.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::dns::Dns;
use serin_tests::eventually::{eventually, logged};
use serin_tests::nginx::Nginx;
use serin_tests::origin::{Origin, Played, ok};
use serin_tests::pki::{Pki, Valid};
use serin_tests::process::Signal;
use serin_tests::redis::{Redis, free_port};
use serin_tests::scene;
use serin_tests::serin::Serin;
use serin_tests::wire::Wire;
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(20);
const NAME: &str = "app.internal";
/// The last parts of the addresses that it has, one after the other: some stay, some move, all move.
const MOVES: [&[u8]; 7] = [&[11, 12], &[12, 13], &[13], &[11, 14], &[12], &[11, 12, 13, 14], &[14]];

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 7, last).into()
}

/// Servers at the same port of several addresses, each of which says its own.
async fn servers(port: u16) -> Vec<Played> {
    let mut all = Vec::new();
    for last in 11..=14 {
        let origin = Origin::bind_to(SocketAddr::new(ip(last), port)).await.unwrap();
        all.push(origin.play(move |_| ok(last.to_string())));
    }
    all
}

/// What may be wrong with DNS.
#[derive(Clone, Copy)]
enum Trouble {
    NoSuchName,
    Hangs,
    IsGone,
}

/// A DNS and a daemon that asks it, often.
struct World {
    dns: Dns,
    serin: Serin,
    port: u16,
}

fn config(dns: &Dns, port: u16, more: &str) -> String {
    format!(
        "[runtime]\nthreads = 2\n[dns]\nservers = [\"{}\"]\nmin_ttl = \"100ms\"\ntimeout = \"300ms\"\n\
         [service.web]\nhosts = [\"*\"]\nstable = [\"{NAME}:{port}\"]\n{more}\n",
        dns.address()
    )
}

impl World {
    async fn start(dns: Dns, more: &str) -> Self {
        let port = free_port().unwrap();
        let serin = Serin::start(&config(&dns, port, more)).await.unwrap();
        Self { dns, serin, port }
    }

    fn say(&self, last: &[u8]) {
        let addresses: Vec<IpAddr> = last.iter().map(|last| ip(*last)).collect();
        self.dns.set(&[(NAME, &addresses)]).unwrap();
    }

    /// Waits until something about the stable pool is so.
    async fn until(&self, what: &str, wanted: &Value) {
        eventually(SOON, &format!("{what} is {wanted}"), async || {
            (self.serin.service("web").await.ok()?["pools"]["stable"].pointer(what) == Some(wanted)).then_some(())
        })
        .await;
    }

    /// Waits until the name is known to have these.
    async fn until_known(&self, last: &[u8]) {
        let addresses: Vec<String> = last.iter().map(|last| ip(*last).to_string()).collect();
        self.until("/names/0/addresses", &json!(addresses)).await;
    }

    /// Waits until these and no others are ready.
    async fn until_ready(&self, last: &[u8]) {
        let wanted: Vec<_> = last.iter().map(|last| format!("{NAME}:{}[{}] ready", self.port, ip(*last))).collect();
        let mut seen = Vec::new();
        eventually(SOON, &format!("{wanted:?}"), async || {
            let service = self.serin.service("web").await.ok()?;
            let endpoints = service["pools"]["stable"]["endpoints"].as_array()?.iter();
            let shown = |one: &Value| format!("{} {}", one["id"].as_str().unwrap(), one["state"].as_str().unwrap());
            seen = endpoints.map(shown).collect();
            (seen == wanted).then_some(())
        })
        .await;
    }

    async fn failing(&self) -> f64 {
        self.serin.metric(&format!("serin_name_failing{{name=\"{NAME}\"}}")).await.unwrap()
    }
}

/// Users who ask without a break until it is over; what they lost.
struct Users {
    over: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    lost: JoinSet<Vec<String>>,
}

impl Users {
    fn of(serin: &Serin) -> Self {
        let (over, served, mut lost) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), JoinSet::new());
        for _ in 0..4 {
            let (mut client, over, served) = (serin.client(), Arc::clone(&over), Arc::clone(&served));
            lost.spawn(async move {
                let mut lost = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    match client.get("/").await {
                        Ok(reply) if reply.status == 200 => drop(served.fetch_add(1, Ordering::Relaxed)),
                        Ok(reply) => lost.push(format!("{} {}", reply.status, reply.text())),
                        Err(failure) => lost.push(format!("{failure:?}")),
                    }
                }
                lost
            });
        }
        Self { over, served, lost }
    }

    async fn lost_nothing(self) {
        self.over.store(true, Ordering::Relaxed);
        let lost: Vec<_> = self.lost.join_all().await.into_iter().flatten().collect();
        let served = self.served.load(Ordering::Relaxed);
        assert!(lost.is_empty() && served > 100, "{} of {served} lost: {:?}", lost.len(), &lost[..lost.len().min(5)]);
    }
}

#[tokio::test]
async fn addresses_move_and_dns_fails_and_no_request_does() {
    for checks in ["", "[service.web.health]\ninterval = \"200ms\"\nexpect_status = [200]\n"] {
        let mut world = World::start(Dns::start().await.unwrap(), checks).await;
        let _servers = servers(world.port).await;
        world.say(MOVES[0]);
        world.until_ready(MOVES[0]).await;
        let users = Users::of(&world.serin);
        for last in MOVES.iter().chain(&MOVES) {
            world.say(last);
            // With checks, those that left go only after one of those that came is known to be well.
            world.until_known(last).await;
        }
        for trouble in [Trouble::NoSuchName, Trouble::Hangs, Trouble::IsGone] {
            match trouble {
                Trouble::NoSuchName => world.dns.set(&[]).unwrap(),
                Trouble::Hangs => world.dns.signal(Signal::STOP).unwrap(),
                Trouble::IsGone => world.dns.stop().await.unwrap(),
            }
            world.until("/names/0/state", &json!("failing")).await;
            assert_eq!(world.failing().await, 1.0);
            world.until_known(&[14]).await;
            match trouble {
                Trouble::NoSuchName => {}
                Trouble::Hangs => world.dns.signal(Signal::CONT).unwrap(),
                Trouble::IsGone => world.dns.restart().await.unwrap(),
            }
            world.say(&[14]);
            world.until("/names/0/state", &json!("resolved")).await;
        }
        users.lost_nothing().await;
        for event in ["The addresses of a name changed", "A name fails", "no such name", "A name answers again"] {
            logged(event, || world.serin.logs()).await;
        }
    }
}

#[tokio::test]
async fn who_leaves_finishes_what_it_has_and_who_stays_notices_nothing() {
    let world = World::start(Dns::start().await.unwrap(), "").await;
    let [one, two] = [11, 12].map(|last| SocketAddr::new(ip(last), world.port));
    let (one, _two) = (Origin::bind_to(one).await.unwrap(), Origin::bind_to(two).await.unwrap().play(|_| ok("two")));
    world.say(&[11]);
    world.until_ready(&[11]).await;
    let mut slow = Wire::connect(world.serin.http()).await.unwrap();
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (mut asked, _) = one.request().await.unwrap();
    // when its address leaves, others are served by who came
    world.say(&[12]);
    world.until_ready(&[12]).await;
    assert_eq!(world.serin.client().get("/").await.unwrap().text(), "two");
    // and when it is back, it is known with what it has
    world.say(&[11, 12]);
    world.until_ready(&[11, 12]).await;
    world.until("/endpoints/0/in_flight", &json!(1)).await;
    asked.send(ok("slow")).await.unwrap();
    assert_eq!(slow.response().await.unwrap().text(), "slow");
    world.until("/endpoints/0/in_flight", &json!(0)).await;
}

#[tokio::test]
async fn an_upgrade_while_dns_is_gone_costs_nobody_a_request() {
    let mut world = World::start(Dns::start().await.unwrap(), "").await;
    let _servers = servers(world.port).await;
    world.say(&[11, 12]);
    world.until_ready(&[11, 12]).await;
    let users = Users::of(&world.serin);
    // given a DNS that is gone, as the old process knows
    world.dns.stop().await.unwrap();
    world.until("/names/0/state", &json!("failing")).await;
    // when one process takes over from another, and again
    for _ in 0..2 {
        world.serin.upgrade().await.unwrap();
        // then the new one has what the old one knew last
        world.until_ready(&[11, 12]).await;
        world.until("/names/0/state", &json!("failing")).await;
    }
    users.lost_nothing().await;
    // and follows DNS as soon as that is back
    world.dns.restart().await.unwrap();
    world.say(&[13]);
    world.until_ready(&[13]).await;
}

#[tokio::test]
async fn without_dns_serin_starts_and_says_why_there_is_no_endpoint() {
    let mut world = World::start(Dns::gone().unwrap(), "").await;
    let _servers = servers(world.port).await;
    assert_eq!(world.serin.client().get("/").await.unwrap().status, 503);
    world.until("/endpoints/0/state", &json!("unresolved")).await;
    let service = world.serin.service("web").await.unwrap();
    let note = service["pools"]["stable"]["endpoints"][0]["note"].as_str().unwrap();
    assert!(note.contains("app.internal since") && note.contains("DNS server"), "{note}");
    let status = world.serin.command(&["status", "web"]).await.unwrap();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("unresolved") && status.contains("app.internal since"), "{status}");
    world.dns.restart().await.unwrap();
    world.say(&[13]);
    world.until_ready(&[13]).await;
    assert_eq!(world.serin.client().get("/").await.unwrap().text(), "13");
}

#[tokio::test]
async fn a_name_in_the_store_is_one_for_all_proxies_and_its_addresses_drain_one_by_one() {
    let (redis, dns, port) = (Redis::start().await.unwrap(), Dns::start().await.unwrap(), free_port().unwrap());
    let _servers = servers(port).await;
    dns.set(&[(NAME, &[ip(11), ip(12)]), ("late.internal", &[ip(13)])]).unwrap();
    let store = scene::store(&redis.url());
    let world = World { serin: Serin::start(&config(&dns, port, &store)).await.unwrap(), dns, port };
    let other = Serin::start(&config(&world.dns, port, &store)).await.unwrap();
    world.until_ready(&[11, 12]).await;
    // when one address drains by one proxy, the other gives it nothing either, and it can't be removed
    let id = format!("{NAME}:{port}[{}]", ip(11));
    let mut operator = world.serin.operator();
    let of = |id: &str, what: &str| format!("/v1/services/web/pools/stable/endpoints/{id}{what}");
    let drained = operator.post_json(&of(&id, "/drain"), &json!({})).await.unwrap();
    assert_eq!((drained.status, drained.json().unwrap()["state"].clone()), (200, json!("draining")));
    assert_eq!(operator.delete(&of(&id, "")).await.unwrap().status, 409);
    let refused = operator.post_json(&of(&format!("{NAME}:{port}"), "/drain"), &json!({})).await.unwrap();
    assert!(refused.status == 409 && refused.text().contains(&id), "{}", refused.text());
    for serin in [&world.serin, &other] {
        eventually(SOON, "only the other serves", async || {
            let mut client = serin.client();
            let mut seen = Vec::new();
            for _ in 0..4 {
                seen.push(client.get("/").await.unwrap().text());
            }
            (seen == ["12"; 4]).then_some(())
        })
        .await;
    }
    // then a name that joins by the API is looked up by both, and leaves
    let late = format!("late.internal:{port}");
    let put = operator.put_json(&of(&late, ""), &json!({"weight": 3})).await.unwrap();
    assert_eq!((put.status, put.json().unwrap()["name"].clone()), (200, json!("late.internal")));
    for serin in [&world.serin, &other] {
        eventually(SOON, "the late one serves", async || {
            (serin.client().get("/").await.unwrap().text() == "13").then_some(())
        })
        .await;
    }
    assert_eq!(operator.delete(&of(&late, "")).await.unwrap().status, 200);
    assert_eq!(operator.delete(&of(&format!("{NAME}:{port}"), "")).await.unwrap().status, 200);
    eventually(SOON, "no name is left", async || {
        world.serin.service("web").await.ok()?["pools"]["stable"].get("names").is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_has_a_name_proves_it_by_tls() {
    let (authority, dns) = (Pki::new().unwrap(), Dns::start().await.unwrap());
    let own = authority.issue("own", &[NAME], Valid::Now).unwrap();
    let nginx = Nginx::start(&[&own], "", "return 200 \"$ssl_server_name\";").await.unwrap();
    let port = nginx.addresses()[0].port();
    let localhost = IpAddr::from([127, 0, 0, 1]);
    dns.set(&[(NAME, &[localhost]), ("other.internal", &[localhost])]).unwrap();
    let ca = format!("tls = {{ ca_file = {:?} }}\n", authority.ca());
    let other = format!("{ca}[service.other]\nhosts = [\"other.example\"]\nstable = [\"other.internal:{port}\"]\n{ca}");
    let serin = Serin::start(&config(&dns, port, &other)).await.unwrap();
    let ask = async |host: &str| {
        let mut user = Wire::connect(serin.http()).await.unwrap();
        user.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.unwrap();
        user.response().await.unwrap()
    };
    let answer = ask("web.example").await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, NAME));
    assert_eq!(ask("other.example").await.status(), 502, "it holds no certificate for that name");
}
