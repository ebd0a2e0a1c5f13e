//! Answers that come before the whole request is there.

use serin_tests::origin::{Origin, ok};
use serin_tests::wire::Wire;

use super::given::{get, nobody_is_blamed, serin, user};

/// A user who has sent the head and a little of a long body, and the endpoint that has both.
async fn half_sent(user: &mut Wire, origin: &Origin) -> Wire {
    user.send("POST /long HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\nsome").await.unwrap();
    let mut wire = origin.accept().await.unwrap();
    wire.head().await.unwrap();
    assert_eq!(wire.take(4).await.unwrap(), b"some");
    wire
}

#[tokio::test]
async fn an_answer_before_the_whole_request_reaches_the_user_and_both_connections_end() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    for status in ["200 OK", "413 Too Large"] {
        let mut user = user(&serin).await;
        let mut wire = half_sent(&mut user, &origin).await;
        wire.send(format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nearly")).await.unwrap();
        assert_eq!(user.response().await.unwrap().text(), "early");
        let (rest, _) = wire.rest().await.unwrap();
        assert!(rest.is_empty(), "the endpoint was sent more after its answer");
        user.ended().await.unwrap();
    }
    nobody_is_blamed(&serin, 2).await;
}

#[tokio::test]
async fn a_user_who_goes_on_sending_still_gets_the_early_answer() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "max_body = \"1KiB\"").await;
    for framing in ["Content-Length: 4000000", "Transfer-Encoding: chunked"] {
        let mut user = user(&serin).await;
        user.send(format!("POST /long HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).await.unwrap();
        // All of it is sent before anything is read, as simple clients do: a reset would cut it off.
        for _ in 0..400 {
            let piece = format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000));
            user.send(&piece[..if framing.contains("chunked") { piece.len() } else { 10_000 }]).await.unwrap();
        }
        assert_eq!(user.response().await.unwrap().status(), 413, "{framing}");
    }
}

#[tokio::test]
async fn an_endpoint_that_answers_and_hangs_up_in_the_middle_of_a_request_is_heard() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    for round in 1..=10 {
        let mut user = user(&serin).await;
        let mut wire = half_sent(&mut user, &origin).await;
        wire.send(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
        drop(wire);
        // What comes now can't be delivered any more.
        let _either_way = user.send([b'x'; 30_000]).await;
        assert_eq!(user.response().await.unwrap().status(), 403, "round {round}");
    }
    nobody_is_blamed(&serin, 10).await;
}

#[tokio::test]
async fn a_user_who_breaks_off_after_the_answer_began_is_to_blame_alone() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "timeouts.idle = \"300ms\"").await;
    // Not a number: the rest of the body can't be read.
    let broken = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n";
    for rest in ["zzz\r\n", ""] {
        let mut user = user(&serin).await;
        user.send(broken).await.unwrap();
        let mut wire = origin.accept().await.unwrap();
        wire.head().await.unwrap();
        wire.take(9).await.unwrap();
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n").await.unwrap();
        user.head().await.unwrap();
        user.take(7).await.unwrap();
        // The endpoint waits for the rest of the request, which makes no sense or doesn't come.
        user.send(rest).await.unwrap();
        user.ended().await.unwrap();
        wire.ended().await.unwrap();
    }
    nobody_is_blamed(&serin, 2).await;
}

#[tokio::test]
async fn after_an_early_answer_the_next_user_gets_an_answer_of_its_own() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let mut first = user(&serin).await;
    let mut wire = half_sent(&mut first, &origin).await;
    wire.send(ok("early")).await.unwrap();
    assert_eq!(first.response().await.unwrap().text(), "early");
    let mut second = user(&serin).await;
    second.send(get("/second")).await.unwrap();
    let (mut fresh, request) = origin.request().await.unwrap();
    assert_eq!(request.target(), "/second");
    fresh.send(ok("second")).await.unwrap();
    assert_eq!(second.response().await.unwrap().text(), "second");
}

#[tokio::test]
async fn a_long_answer_before_the_request_is_there_comes_whole_whatever_else_the_request_offered() {
    const LENGTH: usize = 8_000_000;
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    for offer in ["", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"] {
        let mut user = user(&serin).await;
        let head = format!("POST /long HTTP/1.1\r\nHost: a\r\n{offer}Content-Length: 8000000\r\n\r\nsome");
        user.send(head).await.unwrap();
        let mut wire = origin.accept().await.unwrap();
        wire.head().await.unwrap();
        let sends = tokio::spawn(async move {
            // In chunks, which come by serin's own memory.
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
            let piece = [b"2710\r\n".as_slice(), &[b'y'; 10_000], b"\r\n"].concat();
            for _ in 0..LENGTH / 10_000 {
                wire.send(&piece).await.unwrap();
            }
            wire.send("0\r\n\r\n").await.unwrap();
            wire
        });
        let answer = user.response().await.map_err(|_| "it is cut short").unwrap();
        assert_eq!(answer.body.len(), LENGTH, "{offer:?}");
        sends.await.unwrap();
    }
}
