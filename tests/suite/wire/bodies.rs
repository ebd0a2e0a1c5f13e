//! Bodies both ways: streamed, in any framing, at constant memory.

use serin_tests::origin::{Origin, ok};
use serin_tests::serin::Serin;
use serin_tests::wire::{End, Wire};

use super::given::{ask, get, is_blamed, nobody_is_blamed, serin, user};

const LONG: usize = 20 << 20;
const PIECE: usize = 64 << 10;
/// How much more memory a long body may take: buffers, not the body.
const ROOM: u64 = 5 << 20;

async fn send_long(wire: &mut Wire, chunked: bool) {
    let piece = vec![b'x'; PIECE];
    for _ in 0..LONG / PIECE {
        match chunked {
            true => wire.send([format!("{PIECE:x}\r\n").as_bytes(), &piece, b"\r\n"].concat()).await.unwrap(),
            false => wire.send(&piece).await.unwrap(),
        }
    }
    if chunked {
        wire.send("0\r\n\r\n").await.unwrap();
    }
}

/// Reads a long chunked body and holds none of it.
async fn skip_chunks(wire: &mut Wire) -> usize {
    let mut length = 0;
    loop {
        let mut line = wire.take(2).await.unwrap();
        while !line.ends_with(b"\r\n") {
            line.extend(wire.take(1).await.unwrap());
        }
        let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim_end(), 16).unwrap();
        wire.skip(size + 2).await.unwrap();
        length += size;
        if size == 0 {
            return length;
        }
    }
}

/// A user and an endpoint, with a first exchange behind them so that buffers are warm.
async fn warm(serin: &Serin, origin: &Origin) -> (Wire, Wire, u64) {
    let mut user = user(serin).await;
    user.send(get("/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    wire.send(ok("hi")).await.unwrap();
    user.response().await.unwrap();
    (user, wire, serin.peak_memory().unwrap())
}

#[tokio::test]
async fn long_request_bodies_stream_at_constant_memory() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let (mut user, mut wire, before) = warm(&serin, &origin).await;
    for chunked in [false, true] {
        let framing = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 20971520" };
        let sending = async {
            user.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).await.unwrap();
            send_long(&mut user, chunked).await;
        };
        let receiving = async {
            let head = wire.head().await.unwrap();
            assert_eq!(head.get("content-length").is_some(), !chunked);
            assert_eq!(head.get("transfer-encoding").is_some(), chunked);
            let length =
                if chunked { skip_chunks(&mut wire).await } else { wire.skip(LONG).await.map(|()| LONG).unwrap() };
            assert_eq!(length, LONG);
            wire.send(ok("got it")).await.unwrap();
        };
        tokio::join!(sending, receiving);
        assert_eq!(user.response().await.unwrap().text(), "got it");
    }
    let more = serin.peak_memory().unwrap() - before;
    assert!(more < ROOM, "{more} bytes more");
    nobody_is_blamed(&serin, 3).await;
}

#[tokio::test]
async fn long_response_bodies_stream_at_constant_memory() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let (mut user, mut wire, before) = warm(&serin, &origin).await;
    for framing in ["Content-Length: 20971520", "Transfer-Encoding: chunked", "X-Until: close"] {
        user.send(get("/")).await.unwrap();
        let sending = async {
            wire.request().await.unwrap();
            wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")).await.unwrap();
            send_long(&mut wire, framing.contains("chunked")).await;
            if framing.contains("close") {
                wire.finish().await.unwrap();
            }
        };
        let receiving = async {
            let head = user.head().await.unwrap();
            match head.get("content-length") {
                Some(_) => user.skip(LONG).await.unwrap(),
                None => assert_eq!(skip_chunks(&mut user).await, LONG),
            }
        };
        tokio::join!(sending, receiving);
    }
    let more = serin.peak_memory().unwrap() - before;
    assert!(more < ROOM, "{more} bytes more");
    nobody_is_blamed(&serin, 4).await;
}

#[tokio::test]
async fn a_user_who_does_not_read_holds_the_endpoint_back_not_the_memory() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let (mut user, mut wire, before) = warm(&serin, &origin).await;
    user.send(get("/")).await.unwrap();
    wire.request().await.unwrap();
    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 20971520\r\n\r\n").await.unwrap();
    user.head().await.unwrap();
    let sending = tokio::spawn(async move { send_long(&mut wire, false).await });
    // Whatever the endpoint could send by now lies in the system's buffers: the other user is served.
    let other = tokio::spawn(async move { (ask(&serin, get("/other")).await, serin) });
    let (mut second, _) = origin.request().await.unwrap();
    second.send(ok("hi")).await.unwrap();
    let (answer, serin) = other.await.unwrap();
    assert_eq!(answer.text(), "hi");
    let more = serin.peak_memory().unwrap() - before;
    assert!(more < ROOM, "{more} bytes more");
    user.skip(LONG).await.unwrap();
    sending.await.unwrap();
}

#[tokio::test]
async fn pieces_pass_as_they_come_in_both_directions_at_once() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "timeouts.idle = \"1s\"").await;
    let mut user = user(&serin).await;
    user.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let mut wire = origin.accept().await.unwrap();
    wire.head().await.unwrap();
    wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    user.head().await.unwrap();
    for _ in 0..5 {
        user.send("4\r\nping\r\n").await.unwrap();
        assert_eq!(wire.take(9).await.unwrap(), b"4\r\nping\r\n");
        wire.send("4\r\npong\r\n").await.unwrap();
        assert_eq!(user.take(9).await.unwrap(), b"4\r\npong\r\n");
    }
    user.send("0\r\n\r\n").await.unwrap();
    assert_eq!(wire.take(5).await.unwrap(), b"0\r\n\r\n");
    wire.send("0\r\n\r\n").await.unwrap();
    assert_eq!(user.take(5).await.unwrap(), b"0\r\n\r\n");

    // Both connections stand at a boundary again.
    user.send(get("/again")).await.unwrap();
    assert_eq!(wire.request().await.unwrap().target(), "/again");
    wire.send(ok("hi")).await.unwrap();
    assert_eq!(user.response().await.unwrap().text(), "hi");
    nobody_is_blamed(&serin, 2).await;
}

#[tokio::test]
async fn what_has_no_body_has_none_and_the_connection_goes_on() {
    let answers = |status: &'static str| format!("HTTP/1.1 {status}\r\nETag: \"1\"\r\n\r\n");
    let origin = Origin::bind().await.unwrap().play(move |request| match request.target() {
        "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".into(),
        "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
        "/204" => answers("204 No Content").into(),
        "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"1\"\r\n\r\n".into(),
        _ => ok("hello"),
    });
    let serin = serin(&[origin.address()], "").await;
    let mut user = user(&serin).await;
    for (target, status) in [("/head", 200), ("/chunked", 200), ("/204", 204), ("/304", 304)] {
        let method = if status == 200 { "HEAD" } else { "GET" };
        user.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await.unwrap();
        let head = user.head().await.unwrap();
        assert_eq!(head.status(), status, "{target}");
        assert_eq!(head.get("content-length"), (target == "/head").then_some("5"), "{target}");
        user.send(get("/next")).await.unwrap();
        assert_eq!(user.response().await.unwrap().text(), "hello", "after {target}");
    }
    assert_eq!(origin.bytes().len(), 1);
}

#[tokio::test]
async fn a_user_who_waits_for_100_gets_it_and_the_endpoint_does_not_see_the_question() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let mut user = user(&serin).await;
    user.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").await.unwrap();
    assert_eq!(user.head().await.unwrap().status(), 100);
    user.send("body").await.unwrap();
    let (mut wire, request) = origin.request().await.unwrap();
    assert_eq!((request.text().as_str(), request.get("expect")), ("body", None));
    wire.send(ok("hi")).await.unwrap();
    assert_eq!(user.response().await.unwrap().text(), "hi");
}

#[tokio::test]
async fn a_response_head_may_come_byte_by_byte() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let mut user = user(&serin).await;
    user.send(get("/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    for byte in ok("hello") {
        wire.send([byte]).await.unwrap();
    }
    assert_eq!(user.response().await.unwrap().text(), "hello");
}

#[tokio::test]
async fn hints_before_the_answer_are_passed_over_but_not_a_flood_of_them() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    let mut user = user(&serin).await;
    user.send(get("/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    wire.send([hint.as_bytes(), hint.as_bytes(), &ok("hello")].concat()).await.unwrap();
    let answer = user.response().await.unwrap();
    assert_eq!((answer.text().as_str(), answer.get("link")), ("hello", None));
    nobody_is_blamed(&serin, 1).await;

    user.send(get("/")).await.unwrap();
    wire.request().await.unwrap();
    wire.send([hint.repeat(1_000).as_bytes(), &ok("hello")].concat()).await.unwrap();
    assert_eq!(user.response().await.unwrap().status(), 502);
    assert_ne!(wire.rest().await.unwrap().1, End::Closed, "what was unread must not look like an end");
    is_blamed(&serin, "malformed", 1).await;
}
