//! WebSockets by HTTP/2, frame by frame: how one is asked for, what passes, and how it ends. The clients that nobody here
//! wrote are in `websocket.rs`.

use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use serin_tests::eventually::eventually;
use serin_tests::frames::{ENABLE_CONNECT_PROTOCOL, END_STREAM, Frame, Frames, LEAST_WINDOW, Outcome, kind, reason};
use serin_tests::origin::{Origin, ok};
use serin_tests::process::Signal;
use serin_tests::serin::Serin;
use serin_tests::wire::{End, Message, Wire};
use tokio::time::timeout;

use super::given::{get, outcome, serin, user};
use crate::wire::given::{PATIENCE, bad, is_blamed, list, metric};

/// A CONNECT on this stream that asks for this protocol.
fn connect(stream: u32, protocol: &str) -> Frame {
    let fields = [
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", "http"),
        (":authority", "a.example"),
        (":path", "/chat?room=1"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat, superchat"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("origin", "http://a.example"),
    ];
    Frame::headers(stream, 0, &fields)
}

/// What a server of WebSockets says to this request.
fn agreement(request: &Message) -> String {
    let key = [request.get("sec-websocket-key").unwrap(), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes()));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: chat\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// Opens a tunnel on this stream of a user's connection: the endpoint's side of it.
async fn open(user: &mut Frames, stream: u32, origin: &Origin) -> Wire {
    user.send(&connect(stream, "websocket")).await.unwrap();
    let (mut endpoint, request) = origin.request().await.unwrap();
    endpoint.send(agreement(&request)).await.unwrap();
    assert_eq!(user.outcome(stream).await.unwrap(), Outcome::Status(200));
    endpoint
}

/// Both ends hear each other.
async fn is_open(user: &mut Frames, stream: u32, endpoint: &mut Wire) {
    user.send(&Frame::data(stream, 0, "there")).await.unwrap();
    assert_eq!(endpoint.take(5).await.unwrap(), b"there");
    endpoint.send("and back").await.unwrap();
    assert_eq!(heard(user, stream, 8).await, b"and back");
}

/// So many bytes that come by a stream.
async fn heard(user: &mut Frames, stream: u32, length: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < length {
        let frame = user.until(|frame| frame.stream == stream && frame.kind != kind::WINDOW_UPDATE).await.unwrap();
        assert_eq!((frame.kind, frame.flags & END_STREAM), (kind::DATA, 0), "{frame:?}");
        heard.extend_from_slice(&frame.payload);
    }
    heard
}

async fn tunnels(serin: &Serin, count: u64) {
    let counted = async || (metric(serin, "serin_tunnels", &[]).await == count).then_some(());
    eventually(PATIENCE, &format!("{count} tunnels are open"), counted).await;
}

#[tokio::test]
async fn websockets_are_offered_unless_the_listener_has_none() {
    let origin = Origin::bind().await.unwrap();
    let on = serin(&[origin.address()], "", "").await;
    assert_eq!(user(&on).await.setting(ENABLE_CONNECT_PROTOCOL), Some(1));
    let off = serin(&[origin.address()], "http2.websocket = false", "").await;
    assert_eq!(user(&off).await.setting(ENABLE_CONNECT_PROTOCOL), None);
    assert_eq!(outcome(&off, &[connect(1, "websocket")]).await, Outcome::Reset(reason::PROTOCOL_ERROR));
}

#[tokio::test]
async fn a_websocket_by_http2_is_an_upgrade_to_its_endpoint() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "").await;
    let mut user = user(&serin).await;
    // given two that ask on one connection
    let mut keys = Vec::new();
    for stream in [1, 3] {
        user.send(&connect(stream, "websocket")).await.unwrap();
        let (mut endpoint, request) = origin.request().await.unwrap();
        // then each endpoint hears an offer of HTTP/1.1
        assert_eq!(request.start, "GET /chat?room=1 HTTP/1.1");
        for (name, wanted) in [
            ("connection", Some("upgrade")),
            ("upgrade", Some("websocket")),
            ("host", Some("a.example")),
            ("sec-websocket-version", Some("13")),
            ("sec-websocket-protocol", Some("chat, superchat")),
            ("sec-websocket-extensions", Some("permessage-deflate")),
            ("origin", Some("http://a.example")),
            ("content-length", None),
            ("transfer-encoding", None),
        ] {
            assert_eq!(request.get(name), wanted, "{name}");
        }
        keys.push(request.get("sec-websocket-key").unwrap().to_owned());
        // and its agreement comes back without what is between serin and it
        endpoint.send([agreement(&request), "hello".to_owned()].concat()).await.unwrap();
        let answer = user.until(|frame| frame.kind == kind::HEADERS && frame.stream == stream).await.unwrap();
        assert_eq!((answer.status(), answer.flags & END_STREAM), (200, 0));
        assert_eq!(heard(&mut user, stream, 5).await, b"hello");
        is_open(&mut user, stream, &mut endpoint).await;
        // when the client has said all, the endpoint still speaks
        user.send(&Frame::data(stream, END_STREAM, "bye")).await.unwrap();
        assert_eq!(endpoint.rest().await.unwrap(), (b"bye".to_vec(), End::Closed));
        endpoint.send("bye too").await.unwrap();
        endpoint.finish().await.unwrap();
        assert_eq!(user.body(stream).await.unwrap(), b"bye too");
    }
    // with a key of its own each
    assert!(keys[0] != keys[1] && keys.iter().all(|key| key.len() == 24), "{keys:?}");
    tunnels(&serin, 0).await;
    assert_eq!(metric(&serin, "serin_requests_total", &["1xx"]).await, 2);
    // and the connection serves on
    user.send(&get(5, "/next")).await.unwrap();
    origin.request().await.unwrap().0.send(ok("hi")).await.unwrap();
    assert_eq!(user.outcome(5).await.unwrap(), Outcome::Status(200));
}

#[tokio::test]
async fn an_endpoint_that_ends_first_still_hears() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "").await;
    let mut user = user(&serin).await;
    let mut endpoint = open(&mut user, 1, &origin).await;
    endpoint.send("all").await.unwrap();
    endpoint.finish().await.unwrap();
    assert_eq!(user.body(1).await.unwrap(), b"all");
    user.send(&Frame::data(1, 0, "not yet")).await.unwrap();
    user.send(&Frame::data(1, END_STREAM, "")).await.unwrap();
    assert_eq!(endpoint.rest().await.unwrap(), (b"not yet".to_vec(), End::Closed));
    tunnels(&serin, 0).await;
}

#[tokio::test]
async fn a_refusal_comes_back_as_it_is_and_nothing_else_is_taken_for_agreement() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "").await;
    let wrong = "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let without = "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    let cases = [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403, 0),
        ("HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", 302, 0),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage", 502, 0),
        (wrong, 502, 1),
        (without, 502, 2),
    ];
    for (answer, status, blamed) in cases {
        let mut user = user(&serin).await;
        user.send(&connect(1, "websocket")).await.unwrap();
        let (mut endpoint, _) = origin.request().await.unwrap();
        endpoint.send(answer).await.unwrap();
        assert_eq!(user.outcome(1).await.unwrap(), Outcome::Status(status), "{answer:?}");
        if status == 403 {
            assert_eq!(user.body(1).await.unwrap(), b"no");
        }
        assert_eq!(bad(&serin, "malformed").await, blamed, "{answer:?}");
        drop(endpoint);
    }
    is_blamed(&serin, "malformed", 2).await;
    tunnels(&serin, 0).await;
}

#[tokio::test]
async fn what_is_no_websocket_or_has_no_endpoint_for_one_is_not_implemented() {
    let origin = Origin::bind().await.unwrap();
    let http1 = serin(&[origin.address()], "", "").await;
    for protocol in ["connect-udp", "webtransport", "http/1.1"] {
        assert_eq!(outcome(&http1, &[connect(1, protocol)]).await, Outcome::Status(501), "{protocol}");
    }
    let h2c = serin(&[origin.address()], "", "protocol = \"h2c\"").await;
    assert_eq!(outcome(&h2c, &[connect(1, "websocket")]).await, Outcome::Status(501));
    // a closed gate isn't open because it says so kindly
    let gate = "[[service.web.gate]]\nflag = \"chat\"\npath = \"/chat\"\ndefault = false\nstatus = 200\n";
    let gated = serin(&[origin.address()], "", gate).await;
    assert_eq!(outcome(&gated, &[connect(1, "websocket")]).await, Outcome::Status(503));
}

#[tokio::test]
async fn a_side_that_breaks_off_takes_the_other_with_it() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "").await;
    let mut user = user(&serin).await;
    for (stream, why) in [(1, reason::CANCEL), (3, reason::NO_ERROR), (5, reason::PROTOCOL_ERROR)] {
        let mut endpoint = open(&mut user, stream, &origin).await;
        is_open(&mut user, stream, &mut endpoint).await;
        user.send(&Frame::reset(stream, why)).await.unwrap();
        endpoint.ended().await.unwrap();
        // it isn't half open: that would last for a minute
        tunnels(&serin, 0).await;
    }
    let endpoint = open(&mut user, 7, &origin).await;
    endpoint.reset().unwrap();
    assert_eq!(user.outcome(7).await.unwrap(), Outcome::Reset(reason::CANCEL));
    // and a connection takes all of its tunnels with it
    let mut beside = [open(&mut user, 9, &origin).await, open(&mut user, 11, &origin).await];
    is_open(&mut user, 9, &mut beside[0]).await;
    tunnels(&serin, 2).await;
    drop(user);
    for endpoint in &mut beside {
        endpoint.ended().await.unwrap();
    }
    tunnels(&serin, 0).await;
    assert_eq!(metric(&serin, "serin_endpoint_in_flight", &[]).await, 0);
    let gone = async || (metric(&serin, "serin_connections", &[]).await == 0).then_some(());
    eventually(PATIENCE, "no connection is left", gone).await;
}

#[tokio::test]
async fn a_tunnel_that_is_cut_tells_its_client() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "[service.web.timeouts]\ntunnel_idle = \"300ms\"").await;
    let mut user = user(&serin).await;
    // for the reason that it was quiet for too long
    let mut endpoint = open(&mut user, 1, &origin).await;
    assert_eq!(user.outcome(1).await.unwrap(), Outcome::Reset(reason::CANCEL));
    endpoint.ended().await.unwrap();
    tunnels(&serin, 0).await;
}

#[tokio::test]
async fn a_kill_closes_the_tunnel_and_leaves_the_connection() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "").await;
    let mut user = user(&serin).await;
    let mut endpoint = open(&mut user, 1, &origin).await;
    let drain = format!("/v1/services/web/pools/stable/endpoints/{}/drain", origin.address());
    let kill = json!({ "wait": "0s", "on_timeout": "kill", "min_ready": 0 });
    let killed = serin.operator().post_json(&drain, &kill).await.unwrap();
    assert_eq!((killed.status, killed.json().unwrap()["in_flight"].clone()), (200, json!(0)), "{}", killed.text());
    assert_eq!(user.outcome(1).await.unwrap(), Outcome::Reset(reason::CANCEL));
    endpoint.ended().await.unwrap();
    user.send(&get(3, "/")).await.unwrap();
    assert_eq!(user.outcome(3).await.unwrap(), Outcome::Status(503));
}

#[tokio::test]
async fn a_trip_closes_the_websockets_of_the_canary_and_no_others() {
    let (stable, canary) = (Origin::bind().await.unwrap(), Origin::bind().await.unwrap());
    let split =
        format!("canary = {}\n[service.web.split]\nweight = 100\nsticky = \"none\"\n", list(&[canary.address()]));
    let serin = serin(&[stable.address()], "", &split).await;
    let mut user = user(&serin).await;
    let mut on_canary = open(&mut user, 1, &canary).await;
    serin.set_weight("web", 0.0).await.unwrap();
    let mut on_stable = open(&mut user, 3, &stable).await;
    is_open(&mut user, 1, &mut on_canary).await;
    serin.trip("web", "a test").await.unwrap();
    assert_eq!(user.outcome(1).await.unwrap(), Outcome::Reset(reason::CANCEL));
    on_canary.ended().await.unwrap();
    is_open(&mut user, 3, &mut on_stable).await;
}

#[tokio::test]
async fn sigterm_gives_websockets_the_time_of_the_drain() {
    let origin = Origin::bind().await.unwrap();
    let config = format!(
        "[runtime]\nthreads = 1\ndrain = \"1s\"\n[[listener]]\nname = \"http\"\naddress = \"@http@\"\nhttp2.enabled = true\n\
         idle_timeout = \"200ms\"\n[service.web]\nhosts = [\"*\"]\nstable = {}\n",
        list(&[origin.address()])
    );
    let serin = Serin::start(&config).await.unwrap();
    let mut user = user(&serin).await;
    let mut endpoint = open(&mut user, 1, &origin).await;
    serin.signal(Signal::TERM).unwrap();
    assert_eq!(user.farewell().await.unwrap(), reason::NO_ERROR);
    // a connection with a WebSocket isn't idle
    let refused = async || Wire::connect(serin.http()).await.is_err().then_some(());
    eventually(PATIENCE, "new connections are refused", refused).await;
    is_open(&mut user, 1, &mut endpoint).await;
    assert_eq!(serin.ended().await.unwrap().code(), Some(0));
    endpoint.ended().await.unwrap();
}

/// What may be on its way from a side that speaks to one that doesn't listen: windows and buffers of serin and the
/// sockets' own.
const HELD: usize = 12 << 20;
const PIECE: usize = 16 << 10;
/// Who makes no room for so long makes none.
const STUCK: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_side_that_takes_nothing_stops_the_other() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "").await;
    // given a client that makes no room
    let mut user = user(&serin).await;
    let mut endpoint = open(&mut user, 1, &origin).await;
    let before = serin.peak_memory().unwrap();
    let mut sent = 0;
    while timeout(STUCK, endpoint.send([b'x'; PIECE])).await.is_ok() {
        sent += PIECE;
        assert!(sent < HELD, "{sent} bytes went nowhere");
    }
    // and an endpoint that reads nothing
    let _endpoint = open(&mut user, 3, &origin).await;
    let (mut on_stream, mut on_connection, mut sent) = (user.window(), LEAST_WINDOW, 0);
    'full: loop {
        while on_stream.min(on_connection) < PIECE {
            let Ok(frame) = timeout(STUCK, user.next()).await else { break 'full };
            let frame = frame.unwrap();
            assert!(frame.kind != kind::RST_STREAM && frame.kind != kind::GOAWAY, "{frame:?}");
            let room = if frame.stream == 0 { &mut on_connection } else { &mut on_stream };
            *room += frame.room();
        }
        user.send(&Frame::data(3, 0, [b'x'; PIECE])).await.unwrap();
        (on_stream, on_connection, sent) = (on_stream - PIECE, on_connection - PIECE, sent + PIECE);
        assert!(sent < HELD, "{sent} bytes went nowhere");
    }
    // then serin holds little of either
    let grown = serin.peak_memory().unwrap() - before;
    assert!(grown < 2 << 20, "{grown} bytes more");
    tunnels(&serin, 2).await;
}

/// What a WebSocket may hold of serin's own memory while nothing passes: `docs/websocket.md` says so too.
const IDLE: u64 = 6 << 10;

#[tokio::test]
async fn a_thousand_idle_websockets_hold_less_than_six_kib_each() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "").await;
    let mut users = Vec::new();
    let mut endpoints = Vec::new();
    let mut before = 0;
    // what the first ones need is there for all
    for round in 0..24 {
        if round == 4 {
            before = serin.peak_memory().unwrap();
        }
        let mut user = user(&serin).await;
        for nth in 0..50 {
            endpoints.push(open(&mut user, 2 * nth + 1, &origin).await);
        }
        users.push(user);
    }
    let each = (serin.peak_memory().unwrap() - before) / 1_000;
    assert!(each <= IDLE, "{each} bytes");
    // and they are no worse for that
    for (user, endpoints) in users.iter_mut().zip(endpoints.chunks_mut(50)) {
        is_open(user, 1, &mut endpoints[0]).await;
    }
}
