//! Clients that are slow on purpose: with a body, and in taking an answer.

use std::time::Duration;

use serin_tests::origin::{Origin, ok};
use serin_tests::serin::Serin;
use serin_tests::wire::Wire;
use tokio::net::TcpSocket;
use tokio::time::{Instant, interval, timeout};

use crate::wire::given::{PATIENCE, ask, get, nobody_is_blamed, serin, user};

/// No idle limit ends these tests.
const PATIENT: &str = "timeouts = { idle = \"60s\", header = \"60s\" }\n[[listener]]\nname = \"http\"\naddress = \"@http@\"\nidle_timeout = \"60s\"\n";

/// With so high a rate over so short a time that a test can wait for it.
fn demanding() -> String {
    format!("{PATIENT}min_rate = \"10KB\"\nmin_rate_over = \"500ms\"\n")
}

/// A user whose system takes no more than it must before the program has.
async fn with_little_room(serin: &Serin) -> Wire {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    Wire::over(socket.connect(serin.http()).await.unwrap())
}

#[tokio::test]
async fn a_user_who_trickles_a_body_is_cut_off_and_to_blame_alone() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], &demanding()).await;
    for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let mut slow = user(&serin).await;
        slow.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).await.unwrap();
        let mut wire = origin.accept().await.unwrap();
        wire.head().await.unwrap();
        let start = Instant::now();
        let trickle = async {
            let mut pause = interval(Duration::from_millis(20));
            while slow.send("1\r\nx\r\n").await.is_ok() {
                pause.tick().await;
                if let Ok(Ok(answer)) = timeout(Duration::from_millis(1), slow.response()).await {
                    return Some(answer);
                }
            }
            None
        };
        let answer = timeout(PATIENCE, trickle).await.unwrap().unwrap();
        assert_eq!((answer.status(), answer.get("connection")), (408, Some("close")), "{framing}");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        wire.rest().await.unwrap();
    }
    nobody_is_blamed(&serin, 2).await;
}

#[tokio::test]
async fn a_user_who_takes_an_answer_byte_by_byte_is_cut_off_and_to_blame_alone() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], &demanding()).await;
    let mut slow = with_little_room(&serin).await;
    slow.send(get("/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await.unwrap();
    let filling = async {
        let piece = vec![b'x'; 1 << 20];
        while wire.send(&piece).await.is_ok() {}
    };
    let trickle = async {
        let mut pause = interval(Duration::from_millis(20));
        loop {
            pause.tick().await;
            let _whatever_there_is = slow.take(1).await;
        }
    };
    // Its endpoint is free again, though the user is still there and takes.
    tokio::select! {
        ended = timeout(PATIENCE, filling) => ended.unwrap(),
        () = trickle => {}
    }
    nobody_is_blamed(&serin, 1).await;
}

#[tokio::test]
async fn who_is_quiet_because_the_other_side_is_isnt_slow() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], &demanding()).await;
    let mut user = user(&serin).await;
    user.send("POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    user.head().await.unwrap();
    let mut pause = interval(Duration::from_millis(300));
    for _ in 0..6 {
        pause.tick().await;
        wire.send("1\r\nx\r\n").await.unwrap();
        assert_eq!(user.take(6).await.unwrap(), b"1\r\nx\r\n");
    }
    wire.send("0\r\n\r\n").await.unwrap();
    user.take(5).await.unwrap();
    nobody_is_blamed(&serin, 1).await;
}

#[tokio::test]
async fn a_tunnel_may_be_as_slow_as_it_likes() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], &demanding()).await;
    let mut near = user(&serin).await;
    near.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
    let (mut far, _) = origin.request().await.unwrap();
    far.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
    assert_eq!(near.head().await.unwrap().status(), 101);
    let mut pause = interval(Duration::from_millis(300));
    for _ in 0..6 {
        pause.tick().await;
        near.send("a").await.unwrap();
        assert_eq!(far.take(1).await.unwrap(), b"a");
        far.send("b").await.unwrap();
        assert_eq!(near.take(1).await.unwrap(), b"b");
    }
}

#[tokio::test]
async fn an_endpoint_is_not_to_blame_for_the_time_that_a_user_takes() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "timeouts = { idle = \"500ms\", total = \"1s\" }").await;
    let mut user = with_little_room(&serin).await;
    user.send(get("/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    let length = 20 << 20;
    wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", length + 1)).await.unwrap();
    let filling = tokio::spawn(async move {
        let _it_may_be_cut_off = wire.send(vec![b'x'; length]).await;
        wire
    });
    user.head().await.unwrap();
    // For longer than both limits it takes nothing. Then it takes all, and the endpoint has no more for a moment.
    let mut pause = interval(Duration::from_millis(1_500));
    pause.tick().await;
    pause.tick().await;
    let _it_may_be_cut_off = user.skip(length).await;
    let mut wire = filling.await.unwrap();
    let _by_then_it_may_be_over = wire.send("x").await;
    nobody_is_blamed(&serin, 1).await;
}

#[tokio::test]
async fn the_defaults_are_of_no_moment_to_a_plain_request() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "").await;
    let answer = ask(&serin, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(answer.status(), 200);
}
