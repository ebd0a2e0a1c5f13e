//! Pools that change while they serve: drains, weights, new endpoints, dead ones, and whose turn it is meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::client::Client;
use serin_tests::eventually::eventually;
use serin_tests::origin::{Origin, Played, ok};
use serin_tests::serin::Serin;
use serin_tests::wire::{Message, Wire};
use tokio::time::Instant;

use crate::change::named;
use crate::wire::given::{PATIENCE, ask, get, list, metric, serin, user};

/// In this time serin looks more than once at what is in flight, and at who fails.
const LOOKS: Duration = Duration::from_millis(500);
const TURNS: &str = "balance = { policy = \"round_robin\" }\n";

/// The path of an endpoint of stable in the admin API, and what is done to it.
fn path(endpoint: SocketAddr, verb: &str) -> String {
    format!("/v1/services/web/pools/stable/endpoints/{endpoint}{verb}")
}

/// Tells the proxy something of an endpoint: what is done to it, or without a verb what it is.
async fn tell(serin: &Serin, endpoint: SocketAddr, verb: &str, wish: &Value) {
    let (mut operator, path) = (serin.operator(), path(endpoint, verb));
    let told =
        if verb.is_empty() { operator.put_json(&path, wish).await } else { operator.post_json(&path, wish).await };
    let reply = told.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Who answers so many requests, one after the other over one connection.
async fn answers(user: &mut Client, requests: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..requests {
        names.push(user.get("/").await.unwrap().text());
    }
    names
}

/// How many of these were given by each of so many, and the most in a row by one.
fn shares<const N: usize>(answers: &[String], names: [&str; N]) -> ([usize; N], usize) {
    let counts = names.map(|name| answers.iter().filter(|answer| *answer == name).count());
    (counts, answers.chunk_by(|one, next| one == next).map(<[_]>::len).max().unwrap_or_default())
}

/// A request that its endpoint has begun and not ended.
async fn under_way(serin: &Serin, at: &Origin) -> (Wire, Wire) {
    let mut user = user(serin).await;
    user.send(get("/long")).await.unwrap();
    (user, at.request().await.unwrap().0)
}

async fn states(serin: &Serin) -> Vec<String> {
    let service = serin.service("web").await.unwrap();
    let endpoints = service["pools"]["stable"]["endpoints"].as_array().unwrap();
    endpoints.iter().map(|endpoint| endpoint["state"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn issue_traefik_41_a_drain_takes_no_new_work_finishes_the_old_and_tells_when_it_is_done() {
    // given a request that an endpoint works on, and another endpoint
    let busy = Origin::bind().await.unwrap();
    let serin = serin(&[busy.address()], "").await;
    let (mut user, mut wire) = under_way(&serin, &busy).await;
    let other = named("other").await;
    tell(&serin, other.address(), "", &json!({})).await;
    // when it is drained
    let mut operator = serin.operator().deadline(PATIENCE * 2);
    let path = path(busy.address(), "/drain");
    let drain = tokio::spawn(async move { operator.post_json(&path, &json!({ "wait": "30s" })).await.unwrap() });
    let draining = async || states(&serin).await.contains(&"draining".to_owned()).then_some(());
    eventually(PATIENCE, "it drains", draining).await;
    // then what is new goes elsewhere, and whoever drains it waits for what is old
    let begun = Instant::now();
    while begun.elapsed() < LOOKS {
        assert_eq!(ask(&serin, get("/")).await.text(), "other");
    }
    assert!(!drain.is_finished(), "a request is under way");
    wire.send(ok("done")).await.unwrap();
    assert_eq!(user.response().await.unwrap().text(), "done");
    let told = drain.await.unwrap();
    assert_eq!((told.status, &told.json().unwrap()["in_flight"]), (200, &json!(0)));
    assert_eq!(shares(&answers(&mut serin.client(), 20).await, ["other"]).0, [20]);
}

#[tokio::test]
async fn issue_traefik_2812_every_weight_set_by_the_api_counts_from_the_next_request_on() {
    let (one, other, canary) = (named("one").await, named("other").await, named("canary").await);
    let rest = format!("canary = {}\n{TURNS}", list(&[canary.address()]));
    let serin = serin(&[one.address(), other.address()], &rest).await;
    let mut user = serin.client();
    // the canary's, on and off, for a user with a cookie and a connection
    for percent in [100.0, 0.0, 100.0, 0.0] {
        serin.set_weight("web", percent).await.unwrap();
        let on_canary = if percent > 0.0 { 10 } else { 0 };
        assert_eq!(shares(&answers(&mut user, 10).await, ["canary"]).0, [on_canary], "at {percent} %");
    }
    // and an endpoint's, however often
    for (weight, expected) in [(3, [30, 10]), (1, [20, 20]), (9, [36, 4]), (1, [20, 20]), (4, [32, 8])] {
        tell(&serin, one.address(), "", &json!({ "weight": weight })).await;
        assert_eq!(shares(&answers(&mut user, 40).await, ["one", "other"]).0, expected, "{weight} to 1");
    }
}

#[tokio::test]
async fn issue_haproxy_2497_an_endpoint_that_is_added_takes_what_waits_for_the_full_ones() {
    // given an endpoint that has all it may have, and somebody who waits
    let full = Origin::bind().await.unwrap();
    let limits = "balance = { policy = \"least_request\" }\n\
                  limits = { max_in_flight_per_endpoint = 1, queue.timeout = \"20s\" }\n";
    let serin = serin(&[full.address()], limits).await;
    let (mut first, mut wire) = under_way(&serin, &full).await;
    let mut waits = user(&serin).await;
    waits.send(get("/")).await.unwrap();
    let in_line = async || (metric(&serin, "serin_queue_length", &[]).await == 1).then_some(());
    eventually(PATIENCE, "one is in line", in_line).await;
    // when another one is added, without a reload
    let added = named("added").await;
    tell(&serin, added.address(), "", &json!({})).await;
    // then it takes who waits, and who comes
    assert_eq!(waits.response().await.unwrap().text(), "added");
    assert_eq!(shares(&answers(&mut serin.client(), 10).await, ["added"]).0, [10]);
    wire.send(ok("full")).await.unwrap();
    assert_eq!(first.response().await.unwrap().text(), "full");
}

#[tokio::test]
async fn issue_pingora_144_least_request_knows_what_is_in_flight_after_every_change_of_the_pool() {
    // given an endpoint with three requests that take long
    let busy = Origin::bind().await.unwrap();
    let serin = serin(&[busy.address()], "balance = { policy = \"least_request\" }\n").await;
    let mut long = Vec::new();
    for _ in 0..3 {
        long.push(under_way(&serin, &busy).await);
    }
    // when the pool is made anew again and again
    let others = [named("other").await, named("other").await];
    for other in &others {
        tell(&serin, other.address(), "", &json!({})).await;
        assert_eq!(shares(&answers(&mut serin.client(), 20).await, ["other"]).0, [20]);
    }
    tell(&serin, busy.address(), "", &json!({ "weight": 2 })).await;
    assert_eq!(shares(&answers(&mut serin.client(), 20).await, ["other"]).0, [20]);
    // then its three were never forgotten, and it is asked again once they are done
    for (mut user, mut wire) in long {
        wire.send(ok("long")).await.unwrap();
        assert_eq!(user.response().await.unwrap().text(), "long");
    }
    for other in &others {
        tell(&serin, other.address(), "/drain", &json!({})).await;
    }
    let (mut user, mut wire) = under_way(&serin, &busy).await;
    wire.send(ok("busy")).await.unwrap();
    assert_eq!(user.response().await.unwrap().text(), "busy");
}

#[tokio::test]
async fn issue_traefik_2986_turns_are_by_weight_and_evenly_spread_also_after_an_endpoint_came_back() {
    let pool = [named("a").await, named("b").await, named("c").await];
    let [a, b, c] = [0, 1, 2].map(|index: usize| pool[index].address());
    let serin = serin(&[a, b, c], TURNS).await;
    tell(&serin, a, "", &json!({ "weight": 3 })).await;
    let mut user = serin.client();
    for round in 0..3 {
        // a has three of five turns, never with the other two behind them
        let (counts, in_a_row) = shares(&answers(&mut user, 50).await, ["a", "b", "c"]);
        assert_eq!(counts, [30, 10, 10], "round {round}");
        assert!(in_a_row <= 2, "round {round}: {in_a_row} in a row");
        // when it goes and comes back
        tell(&serin, a, "/drain", &json!({})).await;
        assert_eq!(shares(&answers(&mut user, 20).await, ["a", "b", "c"]).0, [0, 10, 10], "round {round}");
        tell(&serin, a, "/ready", &json!({})).await;
    }
}

#[tokio::test]
async fn issue_envoy_25487_what_serin_refuses_by_a_limit_ejects_nobody() {
    let (busy, other) = (Origin::bind().await.unwrap(), named("other").await);
    let rest = "limits = { max_in_flight = 1, queue.length = 0 }\nejection = { consecutive = 1, time = \"1h\" }\n";
    let serin = serin(&[busy.address()], rest).await;
    let (mut user, mut wire) = under_way(&serin, &busy).await;
    tell(&serin, other.address(), "", &json!({})).await;
    // when very much more is refused
    let begun = Instant::now();
    while begun.elapsed() < LOOKS {
        assert_eq!(ask(&serin, get("/")).await.get("x-serin-error"), Some("queue_full"));
    }
    // then both are as good as before
    assert_eq!(states(&serin).await, ["ready"; 2]);
    wire.send(ok("done")).await.unwrap();
    assert_eq!(user.response().await.unwrap().text(), "done");
    assert_eq!(metric(&serin, "serin_endpoint_ejections_total", &[]).await, 0);
}

#[tokio::test]
async fn issue_envoy_12076_the_cap_on_ejections_keeps_no_sick_endpoint_in() {
    // given that no more than one of four may be ejected, and three are sick
    let alive = named("alive").await;
    let mut pool = vec![alive];
    for _ in 0..3 {
        let script = |_: &Message| b"HTTP/1.1 503 Sick\r\nContent-Length: 0\r\n\r\n".to_vec();
        pool.push(Origin::bind().await.unwrap().play(script));
    }
    let health = "ejection = { consecutive = 1, max_percent = 1, time = \"1h\" }\n\
                  health = { path = \"/\", interval = \"100ms\", fall = 1 }\n";
    let addresses: Vec<SocketAddr> = pool.iter().map(Played::address).collect();
    let serin = serin(&addresses, health).await;
    // then the checks take out all of them
    let down = async || (states(&serin).await.iter().filter(|state| *state == "down").count() == 3).then_some(());
    eventually(PATIENCE, "three are down", down).await;
    assert_eq!(shares(&answers(&mut serin.client(), 40).await, ["alive"]).0, [40]);
}
