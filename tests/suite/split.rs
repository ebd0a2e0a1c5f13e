//! Who gets the canary: the weight's share of users, always the same ones, on every proxy alike.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::print_stdout, reason = "figures are shown with `--nocapture`")]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;
use serin_tests::client::Client;
use serin_tests::crowd::{Crowd, address_of};
use serin_tests::eventually::eventually;
use serin_tests::redis::Redis;
use serin_tests::scene::{self, CANARY, PROBED, SERVICE, STABLE, config};
use serin_tests::serin::Serin;
use serin_tests::standin::Checkbox;
use serin_tests::traffic::{Load, Mix, drive};

const SOON: Duration = Duration::from_secs(20);
/// What visitors, participants and researchers ask for.
const PATHS: [&str; 4] = ["/api/study/listing", "/", "/studies.html", "/api/study/status/5e7f3a9c1d2b4c6e8f000001"];

struct Pools {
    stable: Checkbox,
    canary: Checkbox,
}

impl Pools {
    async fn start() -> Self {
        Self { stable: scene::stable().await.unwrap(), canary: scene::canary().await.unwrap() }
    }

    fn config(&self, more: &str) -> String {
        config(&[&self.stable], &[&self.canary], more)
    }
}

/// The users who met the canary.
pub(crate) fn on_canary(met: &[String]) -> BTreeSet<usize> {
    met.iter().enumerate().filter(|(_, version)| *version == CANARY).map(|(user, _)| user).collect()
}

/// The share of users on the canary is within four standard errors of the weight.
fn is_share(on_canary: usize, users: usize, percent: f64) {
    let (share, weight) = (on_canary as f64 / users as f64, percent / 100.0);
    let sigma = (weight * (1.0 - weight) / users as f64).sqrt();
    println!("{:.2} % of {users} users are on the canary, at a weight of {percent} %", share * 100.0);
    assert!((share - weight).abs() <= 4.0 * sigma, "{on_canary} of {users} at {percent} %");
}

async fn weight_arrives(serin: &Serin, percent: f64) {
    eventually(SOON, "the other proxy hears of the weight", async || {
        (serin.service(SERVICE).await.ok()?["weight"]["effective"] == percent).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weight_of_ten_percent_is_a_tenth_of_the_users_and_each_stays_on_its_arm_on_every_proxy() {
    // given two proxies on one Redis
    let (pools, redis) = (Pools::start().await, Redis::start().await.unwrap());
    let config = pools.config(&(scene::weight(10.0) + &scene::store(&redis.url())));
    let (one, other) = (Serin::start(&config).await.unwrap(), Serin::start(&config).await.unwrap());
    // when 20,000 users come twice, to one and to the other
    let mut crowd = Crowd::of(20_000);
    let first = crowd.ask(one.http(), &PATHS).await.unwrap();
    let again = crowd.ask(other.http(), &PATHS).await.unwrap();
    // then a tenth is on the canary, and all are where they were
    assert_eq!(first, again);
    is_share(on_canary(&first).len(), 20_000, 10.0);

    // when the weight goes up, nobody leaves the canary; when it goes down, nobody joins it
    let mut some = crowd.first(1_000);
    let (mut before, mut weight) = (on_canary(&first[..1_000]), 10.0);
    for percent in [25.0, 60.0, 30.0, 2.0] {
        one.set_weight(SERVICE, percent).await.unwrap();
        let now = on_canary(&some.ask(one.http(), &PATHS).await.unwrap());
        weight_arrives(&other, percent).await;
        assert_eq!(now, on_canary(&some.ask(other.http(), &PATHS).await.unwrap()));
        let (fewer, more) = if percent > weight { (&before, &now) } else { (&now, &before) };
        assert!(fewer.is_subset(more), "from {weight} to {percent} % users were exchanged");
        is_share(now.len(), 1_000, percent);
        (before, weight) = (now, percent);
    }

    // when it is zero, everybody is on stable from the next request on
    one.set_weight(SERVICE, 0.0).await.unwrap();
    assert_eq!(on_canary(&some.ask(one.http(), &PATHS).await.unwrap()), BTreeSet::new());
    weight_arrives(&other, 0.0).await;
    assert_eq!(on_canary(&some.ask(other.http(), &PATHS).await.unwrap()), BTreeSet::new());
}

#[tokio::test]
async fn users_who_do_what_the_applications_users_do_stay_on_one_version_and_nothing_fails() {
    let pools = Pools::start().await;
    let serin = Serin::start(&pools.config(&scene::weight(30.0))).await.unwrap();
    let mix = Mix { shares: [60, 30, 8, 0], files: 1_000..=100_000, think_scale: 0.001, ..Mix::default() };
    let report = drive(serin.http(), &mix, Load::new(200.0, 2_000)).await;
    assert_eq!((report.requests(), report.failures(), report.server_errors()), (2_000, 0, 0), "{:?}", report.total);
    assert_eq!(report.users_who_switched(), BTreeSet::new());
    is_share(report.users_on(CANARY).len(), report.users.len(), 30.0);
}

#[tokio::test]
async fn an_arm_without_a_ready_endpoint_is_served_by_the_other() {
    let pools = Pools::start().await;
    let serin = Serin::start(&pools.config(&(scene::weight(50.0) + PROBED))).await.unwrap();
    let mut crowd = Crowd::of(100);
    let drawn = crowd.ask(serin.http(), &PATHS).await.unwrap();
    assert!((20..80).contains(&on_canary(&drawn).len()), "{drawn:?}");
    for (arm, gone, remaining) in [("canary", &pools.canary, STABLE), ("stable", &pools.stable, CANARY)] {
        // given that a person drains all of one pool
        let path = format!("/v1/services/{SERVICE}/pools/{arm}/endpoints/{}", gone.address());
        let change = async |what: &str| {
            let wish = if what == "drain" { json!({ "min_ready": 0 }) } else { json!({}) };
            let reply = serin.operator().post_json(&format!("{path}/{what}"), &wish).await.unwrap();
            assert_eq!(reply.status, 200, "{}", reply.text());
        };
        change("drain").await;
        // then the other serves all, and when it is ready again everybody is where they were
        assert!(crowd.ask(serin.http(), &PATHS).await.unwrap().iter().all(|version| version == remaining), "{arm}");
        change("ready").await;
        assert_eq!(crowd.ask(serin.http(), &PATHS).await.unwrap(), drawn);
    }
    assert_eq!(serin.service(SERVICE).await.unwrap()["circuit"]["state"], "closed");
}

#[tokio::test]
async fn when_all_of_stable_dies_the_canary_serves() {
    let pools = Pools::start().await;
    let serin = Serin::start(&pools.config(&(scene::weight(10.0) + PROBED))).await.unwrap();
    pools.stable.kill().await.unwrap();
    ready(&serin, "stable", 0).await;
    assert_eq!(on_canary(&Crowd::of(50).ask(serin.http(), &PATHS).await.unwrap()).len(), 50);
    assert_eq!(serin.service(SERVICE).await.unwrap()["circuit"]["state"], "closed");
}

#[tokio::test]
async fn when_all_of_the_canary_dies_stable_serves_and_the_circuit_opens() {
    let pools = Pools::start().await;
    let serin = Serin::start(&pools.config(&(scene::weight(90.0) + PROBED))).await.unwrap();
    let mut crowd = Crowd::of(50);
    crowd.ask(serin.http(), &PATHS).await.unwrap();
    pools.canary.kill().await.unwrap();
    ready(&serin, "canary", 0).await;
    assert_eq!(on_canary(&crowd.ask(serin.http(), &PATHS).await.unwrap()), BTreeSet::new());
    eventually(SOON, "the canary is pulled", async || {
        let circuit = serin.service(SERVICE).await.ok()?["circuit"].take();
        (circuit["state"] == "open" && circuit["cause"] == "no_ready_canary").then_some(())
    })
    .await;
}

async fn ready(serin: &Serin, pool: &str, endpoints: u64) {
    eventually(SOON, "the probes see it", async || {
        (serin.service(SERVICE).await.ok()?["pools"][pool]["ready"] == endpoints).then_some(())
    })
    .await;
}

#[tokio::test]
async fn users_are_known_by_a_header_where_the_service_says_so() {
    let pools = Pools::start().await;
    let split = scene::sticky(20.0, "header:X-User");
    let serin = Serin::start(&pools.config(&split)).await.unwrap();
    // given one connection, so that nothing else tells users apart
    let mut on_canary = 0;
    let mut connection = serin.client();
    for user in 0..1_000 {
        connection = connection.header("x-user", &format!("user-{user}"));
        let (first, again) = (version(&mut connection).await, version(&mut connection).await);
        assert_eq!(first, again, "user {user}");
        on_canary += usize::from(first == CANARY);
    }
    is_share(on_canary, 1_000, 20.0);
    assert_eq!(connection.cookie("serin_key"), None, "no key is needed, so none is given");
}

#[tokio::test]
async fn users_are_known_by_their_address_where_the_service_says_so() {
    let pools = Pools::start().await;
    let split = scene::sticky(20.0, "client-ip");
    let serin = Serin::start(&pools.config(&split)).await.unwrap();
    let mut on_canary = 0;
    let (mut one, mut other) = (serin.client(), serin.client());
    for user in 0..1_000 {
        for connection in [&mut one, &mut other] {
            connection.become_another(address_of(user));
        }
        let (first, again) = (version(&mut one).await, version(&mut other).await);
        assert_eq!(first, again, "user {user}");
        on_canary += usize::from(first == CANARY);
    }
    is_share(on_canary, 1_000, 20.0);
    assert_eq!(one.cookie("serin_key"), None, "no key is needed, so none is given");
}

#[tokio::test]
async fn an_address_that_an_untrusted_peer_claims_is_not_believed() {
    let pools = Pools::start().await;
    let distrusting = pools.config(&scene::sticky(50.0, "client-ip")).replace("trusted = ", "# ");
    let serin = Serin::start(&distrusting).await.unwrap();
    let mut liar = serin.client().from(Ipv4Addr::new(127, 0, 0, 7));
    let mut met = BTreeSet::new();
    for claimed in 0..50 {
        liar.become_another(address_of(claimed));
        met.insert(version(&mut liar).await);
    }
    assert_eq!(met.len(), 1, "one address, two arms");
}

async fn version(client: &mut Client) -> String {
    let reply = client.get("/api/study/listing").await.unwrap();
    reply.version().unwrap_or_else(|| panic!("answered by serin: {} {}", reply.status, reply.text())).to_owned()
}
