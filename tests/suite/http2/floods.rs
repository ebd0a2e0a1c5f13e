//! Floods: each ends its own connection, says why, and leaves others alone.

use serin_tests::eventually::eventually;
use serin_tests::frames::{ACK, END_HEADERS, END_STREAM, Frame, Frames, Outcome, block, kind, reason};
use serin_tests::origin::{Origin, ok};
use serin_tests::serin::Serin;

use super::given::{fields, get, post, serin, user};
use crate::wire::given::{PATIENCE, metric};

/// Sends this until the connection ends, at most so often, and says why it ended.
async fn flood(user: &mut Frames, times: usize, mut frames: impl FnMut(u32) -> Vec<u8>) -> u32 {
    for turn in 0..times {
        let stream = u32::try_from(turn).unwrap() * 2 + 1;
        if user.send_bytes(&frames(stream)).await.is_err() {
            break;
        }
    }
    user.farewell().await.expect("a farewell")
}

async fn still_serves(serin: &Serin) {
    let mut user = user(serin).await;
    user.send(&get(1, "/after")).await.unwrap();
    assert_eq!(user.outcome(1).await.unwrap(), Outcome::Status(200));
}

#[tokio::test]
async fn requests_taken_back_at_once_are_a_flood() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "http2.max_resets = 50", "").await;
    let mut user = user(&serin).await;
    let pair = |stream| [get(stream, "/").bytes(), Frame::reset(stream, reason::CANCEL).bytes()].concat();
    assert_eq!(flood(&mut user, 100_000, pair).await, reason::ENHANCE_YOUR_CALM);
    still_serves(&serin).await;
    let reached = origin.requests().unwrap().iter().map(|(requests, _)| requests.len()).sum::<usize>();
    assert!(reached <= 52, "{reached} requests came through");
    let counted = async || (metric(&serin, "serin_http2_floods_total", &[]).await == 1).then_some(());
    eventually(PATIENCE, "the flood is counted", counted).await;
}

#[tokio::test]
async fn requests_taken_back_later_are_a_flood_too() {
    // given an application that never answers
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "http2.max_resets = 20", "").await;
    let mut user = user(&serin).await;
    // when each request is with it before it is taken back
    let mut why = None;
    for turn in 0..50_u32 {
        let stream = turn * 2 + 1;
        user.send(&get(stream, "/")).await.unwrap();
        let Ok((_held, _)) = origin.request().await else { panic!("request {turn} didn't come") };
        user.send(&Frame::reset(stream, reason::CANCEL)).await.unwrap();
        if turn == 20 {
            why = Some(user.farewell().await.unwrap());
            break;
        }
    }
    assert_eq!(why, Some(reason::ENHANCE_YOUR_CALM));
    assert_eq!(metric(&serin, "serin_endpoint_in_flight", &[]).await, 0);
}

#[tokio::test]
async fn frames_that_bring_nothing_are_a_flood() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "", "").await;
    for (what, frame) in [
        ("pings", Frame::new(kind::PING, 0, 0, [0; 8])),
        ("settings", Frame::new(kind::SETTINGS, 0, 0, [])),
        ("answers to pings", Frame::new(kind::PING, ACK, 0, [0; 8])),
        ("more room", Frame::new(kind::WINDOW_UPDATE, 0, 0, [0, 0, 0, 1])),
        ("priorities", Frame::new(kind::PRIORITY, 0, 1, [0, 0, 0, 0, 1])),
        ("unknown ones", Frame::new(0x77, 0, 0, "?")),
    ] {
        let mut user = user(&serin).await;
        let why = flood(&mut user, 5_000, |_| frame.bytes()).await;
        assert_eq!(why, reason::ENHANCE_YOUR_CALM, "{what}");
    }
    let mut user = user(&serin).await;
    user.send(&post(1, "/", &[])).await.unwrap();
    let why = flood(&mut user, 5_000, |_| Frame::data(1, 0, []).bytes()).await;
    assert_eq!(why, reason::ENHANCE_YOUR_CALM, "empty data");
    still_serves(&serin).await;
}

#[tokio::test]
async fn faults_that_make_serin_take_requests_back_are_a_flood() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "", "").await;
    let mut user = user(&serin).await;
    let broken = |stream| Frame::headers(stream, END_STREAM, &fields("GET", "/", &[("connection", "close")])).bytes();
    assert_eq!(flood(&mut user, 5_000, broken).await, reason::ENHANCE_YOUR_CALM);
    still_serves(&serin).await;
}

#[tokio::test]
async fn more_requests_at_once_than_are_taken_are_refused_one_by_one() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "http2.max_streams = 2", "").await;
    let mut user = user(&serin).await;
    for stream in [1, 3, 5] {
        user.send(&get(stream, "/")).await.unwrap();
    }
    assert_eq!(user.outcome(5).await.unwrap(), Outcome::Reset(reason::REFUSED_STREAM));
    for stream in [1, 3] {
        let (mut wire, _) = origin.request().await.unwrap();
        wire.send(ok("hi")).await.unwrap();
        assert_eq!(user.outcome(stream).await.unwrap(), Outcome::Status(200));
    }
}

#[tokio::test]
async fn a_small_block_that_unpacks_into_very_many_fields_ends_in_time() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "", "").await;
    let mut user = user(&serin).await;
    let before = serin.peak_memory().unwrap();
    // given a field of 3,500 bytes that is remembered, and named again by one byte each
    let long = "x".repeat(3_500);
    let mut fields = block(&fields("GET", "/", &[]));
    let remembered = block(&[("x-long", &long)]);
    fields.push(0x40);
    fields.extend_from_slice(&remembered[1..]);
    fields.extend(std::iter::repeat_n(0xbe, 10_000));
    user.send(&Frame::new(kind::HEADERS, END_STREAM | END_HEADERS, 1, fields)).await.unwrap();
    let became = user.outcome(1).await.unwrap();
    assert!(matches!(became, Outcome::Status(431) | Outcome::Farewell(reason::ENHANCE_YOUR_CALM)), "{became:?}");
    assert!(serin.peak_memory().unwrap() < before + (4 << 20));
    still_serves(&serin).await;
}
