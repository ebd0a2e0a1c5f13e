//! Tunnels on the wire: who gets one, what passes through it, and when it ends.

use std::net::SocketAddr;

use serde_json::{Value, json};
use serin_tests::eventually::eventually;
use serin_tests::origin::{Origin, ok};
use serin_tests::process::Signal;
use serin_tests::serin::Serin;
use serin_tests::wire::{End, Message, Wire};
use tokio::time::Instant;

use super::given::{PATIENCE, get, is_blamed, list, metric, serin, user};

/// An offer of a WebSocket.
const OFFER: &str = "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\r\n";
/// An agreement to it.
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade, x-hop\r\nX-Hop: 1\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A tunnel, by its two ends.
async fn tunnel(serin: &Serin, origin: &Origin) -> (Wire, Wire) {
    let mut user = user(serin).await;
    user.send(OFFER).await.unwrap();
    let (mut endpoint, _) = origin.request().await.unwrap();
    endpoint.send(SWITCH).await.unwrap();
    assert_eq!(user.head().await.unwrap().status(), 101);
    (user, endpoint)
}

/// Both ends hear each other.
async fn is_open((user, endpoint): &mut (Wire, Wire)) {
    user.send("there").await.unwrap();
    assert_eq!(endpoint.take(5).await.unwrap(), b"there");
    endpoint.send("and back").await.unwrap();
    assert_eq!(user.take(8).await.unwrap(), b"and back");
}

/// Both ends are told that it is over.
async fn is_over((mut user, mut endpoint): (Wire, Wire)) {
    user.ended().await.unwrap();
    endpoint.ended().await.unwrap();
}

async fn tunnels(serin: &Serin, count: u64) {
    let counted = async || (metric(serin, "serin_tunnels", &[]).await == count).then_some(());
    eventually(PATIENCE, &format!("{count} tunnels are open"), counted).await;
}

/// The path of a stable endpoint in the admin API.
fn path(endpoint: SocketAddr) -> String {
    format!("/v1/services/web/pools/stable/endpoints/{endpoint}")
}

fn fields(message: &Message, names: &[&str]) -> Vec<Option<String>> {
    names.iter().map(|name| message.get(name).map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_101_to_an_offer_makes_a_tunnel_and_no_byte_is_lost() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    // given an offer, and what its user already says behind it
    let mut user = user(&serin).await;
    user.send([OFFER, "first "].concat()).await.unwrap();
    // then of what speaks of one connection the endpoint hears of the offer alone
    let (mut endpoint, offer) = origin.request().await.unwrap();
    assert_eq!(
        fields(&offer, &["connection", "upgrade", "sec-websocket-key", "te", "keep-alive"]),
        [Some("upgrade"), Some("websocket"), Some("dGhlIHNhbXBsZSBub25jZQ=="), None, None]
            .map(|v| v.map(str::to_owned))
    );
    // when it agrees, and says something at once
    endpoint.send([SWITCH, "hello "].concat()).await.unwrap();
    let answer = user.head().await.unwrap();
    assert_eq!(answer.status(), 101);
    assert_eq!(
        fields(&answer, &["connection", "upgrade", "sec-websocket-accept", "x-hop", "content-length"]),
        [Some("upgrade"), Some("websocket"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), None, None]
            .map(|v| v.map(str::to_owned))
    );
    // then bytes pass both ways, whatever they are
    user.send("GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(endpoint.take(24).await.unwrap(), b"first GET / HTTP/1.1\r\n\r\n");
    endpoint.send("you").await.unwrap();
    assert_eq!(user.take(9).await.unwrap(), b"hello you");
    // and each side ends when it has said all
    user.finish().await.unwrap();
    assert_eq!(endpoint.rest().await.unwrap(), (vec![], End::Closed));
    endpoint.send("bye").await.unwrap();
    endpoint.finish().await.unwrap();
    assert_eq!(user.rest().await.unwrap(), (b"bye".to_vec(), End::Closed));
    tunnels(&serin, 0).await;
}

#[tokio::test]
async fn a_route_changes_the_fields_of_an_agreement_but_not_what_was_agreed() {
    let origin = Origin::bind().await.unwrap();
    let lines = "[[service.web.route]]\nresponse_headers = { set = { x-from = \"edge\", sec-websocket-accept = \"no\" }, \
                 remove = [\"x-powered-by\", \"sec-websocket-protocol\"] }\n";
    let serin = serin(&[origin.address()], lines).await;
    let mut user = user(&serin).await;
    user.send(OFFER).await.unwrap();
    let (mut endpoint, _) = origin.request().await.unwrap();
    let more = "X-Powered-By: a framework\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
    endpoint.send(SWITCH.replace("\r\n\r\n", &format!("\r\n{more}"))).await.unwrap();
    let answer = user.head().await.unwrap();
    assert_eq!(answer.status(), 101);
    assert_eq!(
        fields(&answer, &["x-from", "x-powered-by", "sec-websocket-accept", "sec-websocket-protocol"]),
        [Some("edge"), None, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), Some("chat")].map(|v| v.map(str::to_owned))
    );
    is_open(&mut (user, endpoint)).await;
}

#[tokio::test]
async fn an_endpoint_that_ends_first_still_hears() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let (mut user, mut endpoint) = tunnel(&serin, &origin).await;
    endpoint.send("all").await.unwrap();
    endpoint.finish().await.unwrap();
    assert_eq!(user.rest().await.unwrap(), (b"all".to_vec(), End::Closed));
    user.send("not yet").await.unwrap();
    user.finish().await.unwrap();
    assert_eq!(endpoint.rest().await.unwrap(), (b"not yet".to_vec(), End::Closed));
}

#[tokio::test]
async fn a_side_that_breaks_off_takes_the_other_with_it() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let (user, mut endpoint) = tunnel(&serin, &origin).await;
    user.reset().unwrap();
    endpoint.ended().await.unwrap();
    let (mut user, endpoint) = tunnel(&serin, &origin).await;
    endpoint.reset().unwrap();
    user.ended().await.unwrap();
    tunnels(&serin, 0).await;
}

#[tokio::test]
async fn any_other_answer_to_an_offer_is_an_ordinary_one() {
    let origin = Origin::bind().await.unwrap().play(|request| match request.target() {
        "/chat" => b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: foo\r\nContent-Length: 2\r\n\r\nno".to_vec(),
        target => ok(target),
    });
    let serin = serin(&[origin.address()], "").await;
    let mut user = user(&serin).await;
    // when a request is hidden behind an offer that isn't taken
    user.send([OFFER, &get("/hidden")].concat()).await.unwrap();
    let answer = user.response().await.unwrap();
    assert_eq!((answer.status(), answer.text().as_str(), answer.get("upgrade")), (426, "no", None));
    // then it is a request as any other, and the connections go on on both sides
    assert_eq!(user.response().await.unwrap().text(), "/hidden");
    user.send(get("/next")).await.unwrap();
    assert_eq!(user.response().await.unwrap().text(), "/next");
    assert_eq!(origin.targets().unwrap(), ["/chat", "/hidden", "/next"]);
    assert_eq!(origin.bytes().len(), 1);
    assert_eq!(metric(&serin, "serin_tunnels", &[]).await, 0);
}

#[tokio::test]
async fn what_was_not_offered_is_not_passed_on_and_a_101_to_it_is_a_bad_answer() {
    let offers = [
        ("no offer", ""),
        ("not named by Connection", "Upgrade: websocket\r\n"),
        ("HTTP inside HTTP", "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        ("with a body", "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n"),
    ];
    for (index, (what, offer)) in (1..).zip(offers) {
        let origin = Origin::bind().await.unwrap();
        let serin = serin(&[origin.address()], "").await;
        let mut user = user(&serin).await;
        let body = if offer.contains("Length") { "x" } else { "" };
        user.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{offer}\r\n{body}")).await.unwrap();
        let (mut endpoint, request) = origin.request().await.unwrap();
        assert_eq!(fields(&request, &["connection", "upgrade", "http2-settings"]), [None, None, None], "{what}");
        endpoint.send(SWITCH).await.unwrap();
        assert_eq!(user.response().await.unwrap().status(), 502, "{what} ({index})");
        assert_eq!(endpoint.rest().await.unwrap().0, b"", "{what}: the connection was used again");
        is_blamed(&serin, "malformed", 1).await;
    }
}

#[tokio::test]
async fn a_switch_to_what_was_not_offered_is_a_bad_answer() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let switches = [
        "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Go\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.0 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ];
    for (times, switch) in (1..).zip(switches) {
        let mut user = user(&serin).await;
        user.send(OFFER).await.unwrap();
        let (mut endpoint, _) = origin.request().await.unwrap();
        endpoint.send(switch).await.unwrap();
        assert_eq!(user.response().await.unwrap().status(), 502, "{switch:?}");
        endpoint.ended().await.unwrap();
        is_blamed(&serin, "malformed", times).await;
    }
}

#[tokio::test]
async fn the_connection_of_a_tunnel_serves_nobody_else() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let (user, mut endpoint) = tunnel(&serin, &origin).await;
    drop(user);
    assert_eq!(endpoint.rest().await.unwrap(), (vec![], End::Closed));
    let mut next = super::given::user(&serin).await;
    next.send(get("/next")).await.unwrap();
    let (mut other, _) = origin.request().await.unwrap();
    other.send(ok("next")).await.unwrap();
    assert_eq!(next.response().await.unwrap().text(), "next");
}

#[tokio::test]
async fn a_tunnel_is_over_for_the_verdict_when_it_opens_and_in_flight_until_it_ends() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let mut open = tunnel(&serin, &origin).await;
    is_open(&mut open).await;
    tunnels(&serin, 1).await;
    assert_eq!(metric(&serin, "serin_requests_total", &["1xx"]).await, 1);
    assert_eq!(metric(&serin, "serin_endpoint_in_flight", &[]).await, 1);
    let shown: Value = serin.service("web").await.unwrap()["pools"]["stable"]["endpoints"][0].clone();
    assert_eq!((&shown["in_flight"], &shown["tunnels"]), (&json!(1), &json!(1)));
    drop(open);
    tunnels(&serin, 0).await;
    assert_eq!(metric(&serin, "serin_requests_total", &[]).await, 1);
    assert_eq!(metric(&serin, "serin_endpoint_in_flight", &[]).await, 0);
}

#[tokio::test]
async fn a_quiet_tunnel_ends_when_its_time_is_over() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "[service.web.timeouts]\ntunnel_idle = \"300ms\"\nidle = \"1m\"").await;
    is_over(tunnel(&serin, &origin).await).await;
}

/// issue_caddy_7222: a WebSocket survives a reload that has nothing to do with it.
#[tokio::test]
async fn issue_caddy_7222_a_tunnel_survives_reloads_and_changes_of_the_store() {
    let origin = Origin::bind().await.unwrap();
    let text = |more: &str| {
        let stable = list(&[origin.address()]);
        format!("[service.web]\nhosts = [\"a.example\"]\nstable = {stable}\n[service.web.split]\nweight = 10\n{more}")
    };
    let serin = Serin::start(&text("")).await.unwrap();
    let mut open = tunnel(&serin, &origin).await;
    serin.rewrite(&text("[service.other]\nhosts = [\"b.example\"]\n")).unwrap();
    serin.signal(Signal::HUP).unwrap();
    let taken_in = async || serin.service("other").await.ok();
    eventually(PATIENCE, "the other service is there", taken_in).await;
    is_open(&mut open).await;
    serin.set_weight("web", 50.0).await.unwrap();
    serin.trip("web", "a test").await.unwrap();
    serin.reset("web", "a test").await.unwrap();
    is_open(&mut open).await;
    // also when the service itself goes
    serin.rewrite("[service.other]\nhosts = [\"b.example\"]\n").unwrap();
    serin.signal(Signal::HUP).unwrap();
    let gone = async || serin.service("web").await.is_err().then_some(());
    eventually(PATIENCE, "the service is gone", gone).await;
    is_open(&mut open).await;
}

#[tokio::test]
async fn a_drain_waits_for_tunnels_and_closes_them_if_it_is_told_to() {
    let origin = Origin::bind().await.unwrap();
    let other = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let mut open = tunnel(&serin, &origin).await;
    let mut operator = serin.operator();
    let joined = operator.put_json(&path(other.address()), &json!({})).await.unwrap();
    assert_eq!(joined.status, 200, "{}", joined.text());
    let drain = format!("{}/drain", path(origin.address()));
    // it stays open as long as the drain waits, and beyond
    let late = operator.post_json(&drain, &json!({ "wait": "100ms" })).await.unwrap();
    assert_eq!(late.status, 504, "{}", late.text());
    is_open(&mut open).await;
    // new work goes elsewhere
    let mut elsewhere = tunnel(&serin, &other).await;
    // told to kill, it closes the tunnels of this endpoint and no others
    let killed = operator.post_json(&drain, &json!({ "wait": "0s", "on_timeout": "kill" })).await.unwrap();
    assert_eq!((killed.status, killed.json().unwrap()["in_flight"].clone()), (200, json!(0)));
    is_over(open).await;
    is_open(&mut elsewhere).await;
    // and a drain without a deadline in sight ends with the last tunnel
    let drain = format!("{}/drain", path(other.address()));
    let waiting = tokio::spawn(async move { operator.post_json(&drain, &json!({ "min_ready": 0 })).await.unwrap() });
    let draining =
        async || (serin.service("web").await.ok()?.to_string().matches("draining").count() == 2).then_some(());
    eventually(PATIENCE, "it drains", draining).await;
    assert!(!waiting.is_finished(), "the drain didn't wait");
    drop(elsewhere);
    assert_eq!(waiting.await.unwrap().status, 200);
}

#[tokio::test]
async fn the_tunnels_of_an_endpoint_that_is_removed_go_on_until_they_end() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let mut open = tunnel(&serin, &origin).await;
    let removed = serin.operator().delete(&path(origin.address())).await.unwrap();
    assert!(removed.status < 300, "{}", removed.text());
    is_open(&mut open).await;
}

#[tokio::test]
async fn a_trip_closes_the_tunnels_of_the_canary_within_ten_seconds_and_no_others() {
    let (stable, canary) = (Origin::bind().await.unwrap(), Origin::bind().await.unwrap());
    let serin = Serin::start(&format!(
        "[runtime]\nthreads = 2\n[service.web]\nhosts = [\"*\"]\nstable = {}\ncanary = {}\n[service.web.split]\n\
         weight = 100\nsticky = \"none\"\n",
        list(&[stable.address()]),
        list(&[canary.address()]),
    ))
    .await
    .unwrap();
    let mut on_canary = Vec::new();
    for _ in 0..5 {
        on_canary.push(tunnel(&serin, &canary).await);
    }
    serin.set_weight("web", 0.0).await.unwrap();
    let mut on_stable = tunnel(&serin, &stable).await;
    // a weight that goes down is no reason
    is_open(&mut on_canary[0]).await;
    let start = Instant::now();
    serin.trip("web", "a test").await.unwrap();
    for open in on_canary {
        is_over(open).await;
    }
    assert!(start.elapsed().as_secs() < 12, "{:?}", start.elapsed());
    is_open(&mut on_stable).await;
}

#[tokio::test]
async fn sigterm_gives_tunnels_the_time_of_the_drain_and_then_closes_them() {
    let origin = Origin::bind().await.unwrap();
    let config =
        format!("[runtime]\ndrain = \"1s\"\n[service.web]\nhosts = [\"*\"]\nstable = {}\n", list(&[origin.address()]));
    let serin = Serin::start(&config).await.unwrap();
    let mut open = tunnel(&serin, &origin).await;
    serin.signal(Signal::TERM).unwrap();
    let refused = async || Wire::connect(serin.http()).await.is_err().then_some(());
    eventually(PATIENCE, "new connections are refused", refused).await;
    is_open(&mut open).await;
    assert_eq!(serin.ended().await.unwrap().code(), Some(0));
    is_over(open).await;
    assert!(serin.logs().contains("open connections are cut"));
}

/// What a tunnel may hold of serin's own memory while nothing passes: `docs/websocket.md` says so too.
const IDLE: u64 = 2_048;

#[tokio::test]
async fn a_thousand_idle_tunnels_hold_less_than_two_kib_each() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let mut open = Vec::new();
    // what the first ones need is there for all
    for _ in 0..200 {
        open.push(tunnel(&serin, &origin).await);
    }
    let before = serin.peak_memory().unwrap();
    for _ in 0..1_000 {
        open.push(tunnel(&serin, &origin).await);
    }
    let each = (serin.peak_memory().unwrap() - before) / 1_000;
    assert!(each <= IDLE, "{each} bytes");
    // and they are no worse for that
    for open in &mut open {
        is_open(open).await;
    }
}
