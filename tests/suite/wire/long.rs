//! Long response bodies, which pass serin's memory by where they can: every byte arrives, in its place.

use serin_tests::origin::{Origin, ok};
use serin_tests::wire::{End, Wire};

use super::given::{another_is_served, get, is_blamed, nobody_is_blamed, pattern, serin, user};

/// Answers a request with this body, in pieces of so many bytes.
async fn answer(wire: &mut Wire, body: &[u8], piece: usize) {
    wire.request().await.unwrap();
    let length = body.len();
    wire.send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"))
        .await
        .unwrap();
    for piece in body.chunks(piece) {
        wire.send(piece).await.unwrap();
    }
}

#[tokio::test]
async fn a_long_body_arrives_as_it_was_sent_whatever_its_length_and_its_pieces() {
    for rest in ["", "verdict.errors.body_contains = [\"\\\"error\\\":\"]"] {
        // given a service whose text is looked at, or not; and one connection on either side
        let origin = Origin::bind().await.unwrap();
        let serin = serin(&[origin.address()], rest).await;
        let mut user = user(&serin).await;
        user.send(get("/")).await.unwrap();
        let (mut wire, _) = origin.request().await.unwrap();
        wire.send(ok("hi")).await.unwrap();
        assert_eq!(user.response().await.unwrap().text(), "hi");
        // when bodies come about the lengths where the way changes
        let mut served = 1;
        for length in [8_192, 16_383, 16_384, 16_385, 65_536, 262_144, 262_145, 1_048_579] {
            for piece in [1_000, 50_000, length] {
                let body = pattern(length);
                user.send(get("/long")).await.unwrap();
                let (head, ()) = tokio::join!(user.head(), answer(&mut wire, &body, piece));
                assert_eq!(head.unwrap().get("content-length"), Some(length.to_string().as_str()));
                // then they arrive, and the next answer comes behind them over the same connections
                assert!(user.take(length).await.unwrap() == body, "{length} bytes in pieces of {piece}");
                served += 1;
            }
        }
        nobody_is_blamed(&serin, served).await;
    }
}

#[tokio::test]
async fn a_user_who_reads_late_gets_every_byte() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let mut user = user(&serin).await;
    let body = pattern(20 << 20);
    user.send(get("/")).await.unwrap();
    let mut wire = origin.accept().await.unwrap();
    let sent = body.clone();
    let sending = tokio::spawn(async move { answer(&mut wire, &sent, 64 << 10).await });
    user.head().await.unwrap();
    // The endpoint has filled all that lies between by the time that another user was served.
    another_is_served(&serin, &origin).await;
    assert!(user.take(body.len()).await.unwrap() == body);
    sending.await.unwrap();
    nobody_is_blamed(&serin, 2).await;
}

#[tokio::test]
async fn a_long_body_that_breaks_off_ends_the_connection_and_counts_against_the_endpoint() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let mut user = user(&serin).await;
    user.send(get("/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    let half = pattern(500_000);
    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await.unwrap();
    let sending = async {
        wire.send(&half).await.unwrap();
        drop(wire);
    };
    let receiving = async {
        user.head().await.unwrap();
        // What came is the user's; what didn't isn't made up.
        assert!(user.take(half.len()).await.unwrap() == half);
        assert_eq!(user.ended().await.unwrap(), End::Closed);
    };
    tokio::join!(sending, receiving);
    is_blamed(&serin, "truncated", 1).await;
}
