//! No request costs more than `tests/costs.toml` says: instructions, allocations, system calls and
//! looks at the clock, counted and not timed, so that a busy machine changes nothing.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::print_stdout, reason = "figures are shown with `--nocapture`")]

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;
use serin_tests::callgrind::Cost;
use serin_tests::origin::{Origin, Played, ok};
use serin_tests::redis::Redis;
use serin_tests::scene;

/// The ceilings, by the name of the work.
const CEILINGS: &str = include_str!("../costs.toml");
/// The key of a user, as serin gives it.
const KEY: &str = "serin_key=c2l4dGVlbiBieXRlcyBvaw";

/// What drawing an arm and judging it may add to a GET of 1 KiB, in instructions in user mode. Of these the build
/// that ships has some 19,000, a fifth of the request's CPU: a hundredth of all its CPU are 870.
const DRAWN_AND_JUDGED: f64 = 1_090.0;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ceiling {
    instructions: f64,
    allocations: f64,
    system_calls: f64,
    clock_reads: f64,
}

impl Ceiling {
    fn of(work: &str) -> Self {
        let mut all: BTreeMap<String, Self> = toml::from_str(CEILINGS).unwrap();
        all.remove(work).unwrap_or_else(|| panic!("tests/costs.toml has no [{work}]"))
    }

    /// What is above it.
    fn broken_by(&self, cost: &Cost) -> Vec<String> {
        let figures = [
            ("instructions", cost.instructions, self.instructions),
            ("allocations", cost.allocations, self.allocations),
            ("system_calls", cost.system_calls, self.system_calls),
            ("clock_reads", cost.clock_reads, self.clock_reads),
        ];
        let above = figures.into_iter().filter(|(_, cost, ceiling)| cost > ceiling);
        above.map(|(what, cost, ceiling)| format!("{what}: {cost:.2}, at most {ceiling}")).collect()
    }
}

/// Both arms: endpoints that give this answer.
struct Arms([Played; 2]);

impl Arms {
    async fn answering(answer: Vec<u8>) -> Self {
        let arm = async || {
            let answer = answer.clone();
            Origin::bind().await.unwrap().play(move |_| answer.clone())
        };
        Self([arm().await, arm().await])
    }

    /// A service with a split of 90/10 over both arms.
    fn service(&self, name: &str, hosts: &str, sticky: &str) -> String {
        let [stable, canary] = &self.0;
        format!(
            "[service.{name}]\nhosts = [{hosts:?}]\nstable = [\"{}\"]\ncanary = [\"{}\"]\n\
             [service.{name}.split]\nweight = 10\nsticky = {sticky:?}\n",
            stable.address(),
            canary.address()
        )
    }

    fn config(&self, sticky: &str) -> String {
        self.service("web", "*", sticky)
    }
}

/// The cost of a request is within the work's ceiling.
async fn is_within(work: &str, config: &str, requests: &[u8], count: u32) {
    let ceiling = Ceiling::of(work);
    let mut cost = Cost::of(config, requests, count).await.unwrap();
    if !ceiling.broken_by(&cost).is_empty() {
        // What a busy machine adds is gone, or less, the second time; what a change adds is not.
        cost = cost.min(Cost::of(config, requests, count).await.unwrap());
    }
    println!("{work}: {cost:.2?}");
    assert_eq!(ceiling.broken_by(&cost), Vec::<String>::new(), "{work} costs {cost:.2?}");
}

fn get(more: &str) -> Vec<u8> {
    format!("GET /api/study/listing HTTP/1.1\r\nHost: a.example\r\n{more}\r\n").into_bytes()
}

fn kib(count: usize) -> Vec<u8> {
    vec![b'x'; count << 10]
}

/// A body of 16 KiB in four chunks.
fn chunks() -> Vec<u8> {
    let chunk = [b"1000\r\n", &*kib(4), b"\r\n"].concat();
    [&*chunk.repeat(4), b"0\r\n\r\n"].concat()
}

#[tokio::test]
async fn a_request_is_within_its_costs() {
    let arms = Arms::answering(ok(kib(1))).await;
    is_within("get", &arms.config("none"), &get(""), 1).await;
}

#[tokio::test]
async fn what_a_draw_and_its_judging_add_is_within_its_costs() {
    let arms = Arms::answering(ok(kib(1))).await;
    let judged = arms.config("none");
    // at weight 0 no episode runs: nothing is drawn, counted or judged
    let unjudged = judged.replace("weight = 10", "weight = 0");
    let (with, without) =
        (Cost::of(&judged, &get(""), 1).await.unwrap(), Cost::of(&unjudged, &get(""), 1).await.unwrap());
    let added = with.instructions - without.instructions;
    println!("drawn and judged: {:.0} instructions more than {:.0}", added, without.instructions);
    assert!(added <= DRAWN_AND_JUDGED, "{added:.0} instructions of {:.0}", with.instructions);
}

#[tokio::test]
async fn a_request_with_the_users_cookie_is_within_its_costs() {
    let arms = Arms::answering(ok(kib(1))).await;
    is_within("sticky", &arms.config("cookie"), &get(&format!("Cookie: {KEY}\r\n")), 1).await;
}

#[tokio::test]
async fn a_request_as_a_browser_makes_it_is_within_its_costs() {
    let asked = format!(
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
         Accept: application/json, text/plain, */*\r\nAccept-Language: en-US,en;q=0.5\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://a.example/studies.html\r\n\
         Cookie: connect.sid=s%3AhpXc7Zl0Vb1q; {KEY}; theme=dark\r\nDNT: 1\r\nConnection: keep-alive\r\n\
         Sec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n"
    );
    let answer = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 01 Nov 2025 12:00:00 GMT\r\n\
                  Content-Type: application/json; charset=utf-8\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n\
                  X-Powered-By: Express\r\nAccess-Control-Allow-Origin: *\r\nVary: Accept-Encoding\r\n\
                  ETag: W/\"400-2SYGkYJTxJ1yVtY6dS1eOQ\"\r\nCache-Control: no-cache\r\n\
                  Strict-Transport-Security: max-age=63072000\r\nX-Content-Type-Options: nosniff\r\n\r\n";
    let arms = Arms::answering([answer.as_bytes(), &*kib(1)].concat()).await;
    is_within("browser", &arms.config("cookie"), &get(&asked), 1).await;
}

#[tokio::test]
async fn a_request_that_flags_decide_about_is_within_its_costs() {
    let redis = Redis::start().await.unwrap();
    let flag = |targeting: &str| {
        format!(
            r#"{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"on","targeting":{targeting}}}"#
        )
    };
    let split = flag(r#"{"fractional":[["on",10],["off",90]]}"#);
    for (key, definition) in [("study.listing", flag("null")), ("search", flag("null")), ("new-editor", split)] {
        let _: i64 = redis.command(&["HSET", "serin:{test}:flags", key, &definition]).await.unwrap();
    }
    let arms = Arms::answering(ok(kib(1))).await;
    let config = format!(
        "{}{}[service.web.flags]\nheader = [\"search\", \"new-editor\"]\n\
         [[service.web.gate]]\nflag = \"study.create\"\nmethods = [\"POST\"]\npath = \"/api/study/create\"\n\
         [[service.web.gate]]\nflag = \"study.listing\"\npath = \"/api/study/listing\"\n",
        scene::store(&redis.url()),
        arms.config("cookie")
    );
    is_within("flags", &config, &get(&format!("Cookie: {KEY}\r\n")), 1).await;
}

#[tokio::test]
async fn a_request_with_a_body_is_within_its_costs() {
    let arms = Arms::answering(ok("ok")).await;
    let head = "POST /upload HTTP/1.1\r\nHost: a.example\r\nContent-Length: 16384\r\n\r\n";
    is_within("post", &arms.config("none"), &[head.as_bytes(), &*kib(16)].concat(), 1).await;
}

#[tokio::test]
async fn a_request_and_a_response_in_chunks_are_within_their_costs() {
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let arms = Arms::answering([answer, &*chunks()].concat()).await;
    let head = "POST /upload HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    is_within("chunked", &arms.config("none"), &[head.as_bytes(), &*chunks()].concat(), 1).await;
}

#[tokio::test]
async fn requests_sent_ahead_of_their_answers_are_within_their_costs() {
    let arms = Arms::answering(ok(kib(1))).await;
    is_within("pipelined", &arms.config("none"), &get("").repeat(8), 8).await;
}

#[tokio::test]
async fn a_request_among_a_thousand_services_is_within_its_costs() {
    let arms = Arms::answering(ok(kib(1))).await;
    let mut config = arms.service("web", "a.example", "none");
    for service in 0..1_000 {
        let seeds: Vec<_> = (0..10).map(|endpoint| format!("127.1.{}.{endpoint}:9", service % 250)).collect();
        // Writing to a string can't fail.
        let _ = writeln!(config, "[service.s{service}]\nhosts = [\"s{service}.example\"]\nstable = {seeds:?}");
    }
    is_within("among_1000_services", &config, &get(""), 1).await;
}
