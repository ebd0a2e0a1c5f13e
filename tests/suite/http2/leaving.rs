//! Who leaves, or never says anything: requests are counted once, endpoints let go, connections ended.

use std::time::Duration;

use serin_tests::eventually::eventually;
use serin_tests::frames::{END_STREAM, Frame, Outcome, PREFACE, block, kind, reason};
use serin_tests::origin::{Origin, ok};
use serin_tests::process::Signal;
use serin_tests::wire::Wire;

use super::given::{fields, get, post, serin, user};
use crate::wire::given::{PATIENCE, metric, nobody_is_blamed};

#[tokio::test]
async fn a_request_that_is_taken_back_frees_its_endpoint_and_is_counted_once() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "").await;
    let mut user = user(&serin).await;
    // given one that waits, one whose body is half there, and one whose answer is half there
    user.send(&get(1, "/waiting")).await.unwrap();
    let (mut waiting, _) = origin.request().await.unwrap();
    user.send(&post(3, "/sending", &[("content-length", "10")])).await.unwrap();
    user.send(&Frame::data(3, 0, "five!")).await.unwrap();
    let mut sending = origin.accept().await.unwrap();
    sending.head().await.unwrap();
    user.send(&get(5, "/answered")).await.unwrap();
    let (mut answered, _) = origin.request().await.unwrap();
    answered.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello").await.unwrap();
    assert_eq!(user.outcome(5).await.unwrap(), Outcome::Status(200));
    // when all are taken back
    for stream in [1, 3, 5] {
        user.send(&Frame::reset(stream, reason::CANCEL)).await.unwrap();
    }
    // then the endpoints are let go
    waiting.ended().await.unwrap();
    sending.rest().await.unwrap();
    answered.ended().await.unwrap();
    nobody_is_blamed(&serin, 3).await;
    assert_eq!(metric(&serin, "serin_requests_total", &["client_gone"]).await, 2);
    assert_eq!(metric(&serin, "serin_endpoint_in_flight", &[]).await, 0);
    // and the connection serves on
    user.send(&get(7, "/next")).await.unwrap();
    origin.request().await.unwrap().0.send(ok("hi")).await.unwrap();
    assert_eq!(user.outcome(7).await.unwrap(), Outcome::Status(200));
}

#[tokio::test]
async fn a_body_that_is_broken_off_is_never_made_whole() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "").await;
    for (round, why) in [reason::NO_ERROR, reason::CANCEL].into_iter().enumerate() {
        let mut user = user(&serin).await;
        user.send(&post(1, "/", &[])).await.unwrap();
        user.send(&Frame::data(1, 0, "hello")).await.unwrap();
        let mut wire = origin.accept().await.unwrap();
        wire.head().await.unwrap();
        assert_eq!(wire.take(10).await.unwrap(), b"5\r\nhello\r\n");
        user.send(&Frame::reset(1, why)).await.unwrap();
        let (rest, _) = wire.rest().await.unwrap();
        assert!(rest.is_empty(), "what was broken off was made whole: {rest:?}");
        nobody_is_blamed(&serin, round as u64 + 1).await;
    }
}

#[tokio::test]
async fn the_requests_of_a_connection_that_dies_end_with_it() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "").await;
    for by_reset in [false, true] {
        let mut user = user(&serin).await;
        let mut wires = Vec::new();
        for stream in [1, 3, 5] {
            user.send(&get(stream, "/")).await.unwrap();
            wires.push(origin.request().await.unwrap().0);
        }
        if by_reset {
            let mut gone = Wire::connect(serin.http()).await.unwrap();
            std::mem::swap(&mut gone, user.wire());
            gone.reset().unwrap();
        }
        drop(user);
        for mut wire in wires {
            wire.ended().await.unwrap();
        }
    }
    nobody_is_blamed(&serin, 6).await;
    let gone = async || (metric(&serin, "serin_connections", &[]).await == 0).then_some(());
    eventually(PATIENCE, "no connection is left", gone).await;
}

#[tokio::test]
async fn issue_envoy_14350_a_drain_tells_users_to_go_and_finishes_what_is_under_way() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "").await;
    let (mut idle, mut busy) = (user(&serin).await, user(&serin).await);
    busy.send(&get(1, "/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    serin.signal(Signal::TERM).unwrap();
    for user in [&mut idle, &mut busy] {
        assert_eq!(user.farewell().await.unwrap(), reason::NO_ERROR);
    }
    let ping = idle.until(|frame| frame.kind == kind::PING).await.unwrap();
    idle.send(&Frame::new(kind::PING, 1, 0, ping.payload)).await.unwrap();
    let (_, _) = idle.wire().rest().await.unwrap();
    assert!(serin.is_alive(), "a request is under way");
    wire.send(ok("done")).await.unwrap();
    assert_eq!(busy.outcome(1).await.unwrap(), Outcome::Status(200));
    assert_eq!(busy.body(1).await.unwrap(), b"done");
    assert!(serin.ended().await.unwrap().success());
}

#[tokio::test]
async fn who_asks_for_nothing_is_told_to_go_whatever_it_pings() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "idle_timeout = \"400ms\"", "").await;
    let mut user = user(&serin).await;
    user.send(&get(1, "/")).await.unwrap();
    assert_eq!(user.outcome(1).await.unwrap(), Outcome::Status(200));
    let mut turns = tokio::time::interval(Duration::from_millis(50));
    let told = async {
        loop {
            turns.tick().await;
            user.send(&Frame::new(kind::PING, 0, 0, [0; 8])).await.unwrap();
            let answer = user.until(|frame| frame.kind == kind::PING || frame.kind == kind::GOAWAY).await.unwrap();
            if answer.kind == kind::GOAWAY {
                return answer.reason();
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, told).await.unwrap(), Some(reason::NO_ERROR));
    user.wire().rest().await.unwrap();
}

#[tokio::test]
async fn who_never_finishes_the_fields_of_a_request_is_cut() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "header_timeout = \"300ms\"", "").await;
    // Beside a request that waits, so that the connection isn't idle.
    let mut beside = user(&serin).await;
    beside.send(&get(1, "/")).await.unwrap();
    let (_held, _) = origin.request().await.unwrap();
    let open = Frame::new(kind::HEADERS, END_STREAM, 3, block(&fields("GET", "/", &[])));
    beside.send(&open).await.unwrap();
    beside.wire().rest().await.unwrap();
    let mut cut = user(&serin).await;
    let whole = get(1, "/").bytes();
    cut.send_bytes(&whole[..whole.len() - 3]).await.unwrap();
    cut.wire().rest().await.unwrap();
    // Nor who never gets beyond the preface.
    let mut begun = Wire::connect(serin.http()).await.unwrap();
    begun.send(&PREFACE[..10]).await.unwrap();
    begun.rest().await.unwrap();
    nobody_is_blamed(&serin, 1).await;
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_loses_it() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "idle_timeout = \"500ms\"", "").await;
    let mut user = user(&serin).await;
    // No room on any stream.
    user.send(&Frame::new(kind::SETTINGS, 0, 0, [0, 4, 0, 0, 0, 0])).await.unwrap();
    user.send(&get(1, "/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await.unwrap();
    wire.send([b'x'; 1_000]).await.unwrap();
    assert_eq!(user.outcome(1).await.unwrap(), Outcome::Status(200));
    assert_eq!(user.outcome(1).await.unwrap(), Outcome::Reset(reason::CANCEL));
    wire.ended().await.unwrap();
    nobody_is_blamed(&serin, 1).await;
}
