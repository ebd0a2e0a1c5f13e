//! Everything that may take too long, and who is to blame when it does.

use std::net::SocketAddr;
use std::time::Duration;

use serin_tests::origin::{Origin, ok};
use serin_tests::wire::Wire;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use super::given::{PATIENCE, ask, get, is_blamed, nobody_is_blamed, post, serin, user};

const LISTENER: &str = "[[listener]]\nname = \"http\"\naddress = \"@http@\"\n";

/// An endpoint whose queue of connections is full: the system leaves any other waiting.
async fn full() -> (SocketAddr, Vec<TcpStream>, tokio::net::TcpListener) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
    }
    (address, waiting, listener)
}

#[tokio::test]
async fn an_endpoint_that_does_not_take_the_connection_is_a_504() {
    let (address, _waiting, _listener) = full().await;
    let serin = serin(&[address], "timeouts.connect = \"200ms\"").await;
    let answer = ask(&serin, post("/", "x")).await;
    assert_eq!((answer.status(), answer.get("x-serin-error")), (504, Some("connect_timeout")));
    is_blamed(&serin, "connect_timeout", 1).await;
}

#[tokio::test]
async fn an_endpoint_that_hangs_before_the_head_is_a_504() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "timeouts.header = \"200ms\"").await;
    for (round, begun) in ["", "HTTP/1.1 200", "HTTP/1.1 103 Early Hints\r\n\r\n"].into_iter().enumerate() {
        let mut user = user(&serin).await;
        user.send(post("/", "x")).await.unwrap();
        let (mut wire, _) = origin.request().await.unwrap();
        wire.send(begun).await.unwrap();
        let answer = user.response().await.unwrap();
        assert_eq!((answer.status(), answer.get("x-serin-error")), (504, Some("timeout")), "{begun}");
        wire.ended().await.unwrap();
        is_blamed(&serin, "timeout", round as u64 + 1).await;
    }
}

#[tokio::test]
async fn the_time_for_the_whole_exchange_holds_before_the_head_too() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "timeouts = { total = \"200ms\", header = \"60s\" }").await;
    let mut user = user(&serin).await;
    user.send(get("/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    assert_eq!(user.response().await.unwrap().status(), 504);
    wire.ended().await.unwrap();
    is_blamed(&serin, "timeout", 1).await;
}

#[tokio::test]
async fn an_endpoint_that_hangs_in_the_middle_of_a_body_cuts_the_connection() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "timeouts.idle = \"200ms\"").await;
    let heads = ["Content-Length: 100", "Transfer-Encoding: chunked", "X-Until: close"];
    for (round, framing) in heads.into_iter().enumerate() {
        let mut user = user(&serin).await;
        user.send(get("/")).await.unwrap();
        let (mut wire, _) = origin.request().await.unwrap();
        wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n2\r\nhi\r\n")).await.unwrap();
        assert_eq!(user.head().await.unwrap().status(), 200);
        let (rest, _) = user.rest().await.unwrap();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{framing}: the cut looks like an end");
        wire.ended().await.unwrap();
        is_blamed(&serin, "timeout", round as u64 + 1).await;
    }
}

#[tokio::test]
async fn an_exchange_that_takes_too_long_in_all_ends_though_it_moves() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "timeouts = { total = \"500ms\", idle = \"20s\" }").await;
    let mut user = user(&serin).await;
    user.send(get("/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let trickle = async {
        // Each piece waits for the one before to have arrived.
        while wire.send("1\r\nx\r\n").await.is_ok() && user.take(6).await.is_ok() {}
    };
    timeout(PATIENCE, trickle).await.unwrap();
    is_blamed(&serin, "timeout", 1).await;
}

#[tokio::test]
async fn a_user_who_is_slow_with_the_body_is_to_blame_alone() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "timeouts.idle = \"200ms\"").await;
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut slow = user(&serin).await;
        slow.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n1\r\nx\r\n")).await.unwrap();
        let mut wire = origin.accept().await.unwrap();
        wire.head().await.unwrap();
        let answer = slow.response().await.unwrap();
        assert_eq!((answer.status(), answer.get("connection")), (408, Some("close")), "{framing}");
        wire.rest().await.unwrap();
    }
    nobody_is_blamed(&serin, 2).await;
}

#[tokio::test]
async fn an_endpoint_that_takes_no_more_of_the_body_is_to_blame() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "timeouts.idle = \"300ms\"").await;
    let mut user = user(&serin).await;
    user.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000000\r\n\r\n").await.unwrap();
    let _wire = origin.accept().await.unwrap();
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < 57 && user.send(&piece).await.is_ok() {
        sent += 1;
    }
    let answer = user.response().await.unwrap();
    assert_eq!((answer.status(), answer.get("x-serin-error")), (504, Some("timeout")));
    is_blamed(&serin, "timeout", 1).await;
}

#[tokio::test]
async fn a_user_who_is_slow_with_the_head_is_cut_off() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let rest = format!("{LISTENER}header_timeout = \"300ms\"\nidle_timeout = \"20s\"");
    let serin = serin(&[origin.address()], &rest).await;
    let mut slow = user(&serin).await;
    let start = Instant::now();
    slow.send("GET / HTTP/1.1\r\nX: ").await.unwrap();
    // A byte now and then must not buy more time.
    let trickle = async {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        while slow.send("y").await.is_ok() {
            pause.tick().await;
        }
    };
    timeout(PATIENCE, trickle).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(origin.bytes(), Vec::<Vec<u8>>::new());

    // The second request on a connection has no more time than the first.
    let mut again = user(&serin).await;
    again.send(get("/")).await.unwrap();
    again.response().await.unwrap();
    again.send("GET / HTTP/1.1\r\n").await.unwrap();
    again.ended().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_not_used_is_closed() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], &format!("{LISTENER}idle_timeout = \"300ms\"")).await;
    let mut never = user(&serin).await;
    never.ended().await.unwrap();
    let mut once = user(&serin).await;
    once.send(get("/")).await.unwrap();
    once.response().await.unwrap();
    once.ended().await.unwrap();
}

#[tokio::test]
async fn a_user_who_does_not_read_is_cut_off_and_to_blame_alone() {
    let origin = Origin::bind().await.unwrap();
    let rest = format!("timeouts.idle = \"20s\"\n{LISTENER}idle_timeout = \"300ms\"");
    let serin = serin(&[origin.address()], &rest).await;
    let mut user = user(&serin).await;
    user.send(get("/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await.unwrap();
    let piece = vec![b'x'; 1 << 20];
    let filling = async { while wire.send(&piece).await.is_ok() {} };
    timeout(PATIENCE, filling).await.unwrap();
    nobody_is_blamed(&serin, 1).await;
}

#[tokio::test]
async fn a_long_poll_outlives_the_idle_times_of_both_sides() {
    let origin = Origin::bind().await.unwrap();
    let rest = format!(
        "timeouts = {{ idle = \"200ms\", header = \"20s\" }}\n{LISTENER}idle_timeout = \"200ms\"\nheader_timeout = \"200ms\""
    );
    let serin = serin(&[origin.address()], &rest).await;
    let mut user = user(&serin).await;
    user.send(get("/poll")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    // Another connection, opened later, comes to its idle end: by then so would this one.
    let mut other = Wire::connect(serin.http()).await.unwrap();
    other.ended().await.unwrap();
    let mut other = Wire::connect(serin.http()).await.unwrap();
    other.ended().await.unwrap();
    wire.send(ok("news")).await.unwrap();
    assert_eq!(user.response().await.unwrap().text(), "news");
    nobody_is_blamed(&serin, 1).await;
}
