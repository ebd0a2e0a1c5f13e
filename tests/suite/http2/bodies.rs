//! Bodies both ways at constant memory, each as fast as the side that is slower.

use serin_tests::frames::{END_STREAM, Frame, Frames, LEAST_WINDOW, Outcome, kind};
use serin_tests::origin::{Origin, ok};

use super::given::{get, post, serin, user};
use crate::wire::given::nobody_is_blamed;

const LONG: usize = 20 << 20;
/// How much more memory a long body may take: windows and buffers, not the body.
const ROOM: u64 = 6 << 20;
const PIECE: usize = 16 << 10;

/// Room for so many bytes more, on a stream and on the connection.
async fn give_room(user: &mut Frames, stream: u32, bytes: usize) {
    for stream in [0, stream] {
        let bytes = u32::try_from(bytes).unwrap().to_be_bytes();
        user.send(&Frame::new(kind::WINDOW_UPDATE, 0, stream, bytes)).await.unwrap();
    }
}

#[tokio::test]
async fn a_long_answer_waits_for_who_takes_it() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "").await;
    let mut user = user(&serin).await;
    user.send(&get(1, "/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n")).await.unwrap();
    assert_eq!(user.outcome(1).await.unwrap(), Outcome::Status(200));
    let before = serin.peak_memory().unwrap();
    let sending = tokio::spawn(async move {
        for _ in 0..LONG / PIECE {
            wire.send([b'x'; PIECE]).await.unwrap();
        }
        wire
    });
    let mut length = 0;
    while length < LONG {
        let piece = user.until(|frame| frame.kind == kind::DATA).await.unwrap();
        length += piece.payload.len();
        if !piece.payload.is_empty() {
            give_room(&mut user, 1, piece.payload.len()).await;
        }
    }
    assert_eq!(length, LONG);
    let grown = serin.peak_memory().unwrap() - before;
    assert!(grown < ROOM, "{grown} bytes more");
    drop(sending.await.unwrap());
    nobody_is_blamed(&serin, 1).await;
}

#[tokio::test]
async fn a_long_request_body_waits_for_the_endpoint() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "max_body = \"1GB\"").await;
    let mut user = user(&serin).await;
    user.send(&post(1, "/", &[("content-length", &LONG.to_string())])).await.unwrap();
    let mut wire = origin.accept().await.unwrap();
    wire.head().await.unwrap();
    let before = serin.peak_memory().unwrap();
    let taking = tokio::spawn(async move {
        wire.skip(LONG).await.unwrap();
        wire
    });
    let (mut on_stream, mut on_connection, mut sent) = (user.window(), LEAST_WINDOW, 0);
    while sent < LONG {
        while on_stream.min(on_connection) < PIECE {
            let frame = user.next().await.unwrap();
            assert!(frame.kind != kind::RST_STREAM && frame.kind != kind::GOAWAY, "{frame:?}");
            let room = if frame.stream == 0 { &mut on_connection } else { &mut on_stream };
            *room += frame.room();
        }
        sent += PIECE;
        (on_stream, on_connection) = (on_stream - PIECE, on_connection - PIECE);
        let last = if sent == LONG { END_STREAM } else { 0 };
        user.send(&Frame::data(1, last, [b'x'; PIECE])).await.unwrap();
    }
    let mut wire = taking.await.unwrap();
    let grown = serin.peak_memory().unwrap() - before;
    assert!(grown < ROOM, "{grown} bytes more");
    wire.send(ok("done")).await.unwrap();
    assert_eq!(user.outcome(1).await.unwrap(), Outcome::Status(200));
}

#[tokio::test]
async fn a_body_that_nobody_takes_holds_up_no_other_request() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "").await;
    let mut user = user(&serin).await;
    user.send(&post(1, "/", &[])).await.unwrap();
    let _takes_nothing = origin.accept().await.unwrap();
    let room = user.window().min(LEAST_WINDOW) / PIECE;
    for _ in 0..room {
        user.send(&Frame::data(1, 0, [b'x'; PIECE])).await.unwrap();
    }
    user.send(&get(3, "/other")).await.unwrap();
    let (mut other, _) = origin.request().await.unwrap();
    other.send(ok("hi")).await.unwrap();
    assert_eq!(user.outcome(3).await.unwrap(), Outcome::Status(200));
}

#[tokio::test]
async fn a_body_that_is_larger_than_the_service_takes_is_refused() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", "max_body = 10").await;
    let (mut one, mut other) = (user(&serin).await, user(&serin).await);
    one.send(&post(1, "/said", &[("content-length", "11")])).await.unwrap();
    assert_eq!(one.outcome(1).await.unwrap(), Outcome::Status(413));
    other.send(&post(1, "/unsaid", &[])).await.unwrap();
    let mut wire = origin.accept().await.unwrap();
    other.send(&Frame::data(1, 0, [b'x'; 11])).await.unwrap();
    assert_eq!(other.outcome(1).await.unwrap(), Outcome::Status(413));
    let (rest, _) = wire.rest().await.unwrap();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "what was refused was made whole");
    nobody_is_blamed(&serin, 1).await;
}
