//! Endpoints that break the rules: an error for the user or a cut connection, never a guess; and
//! such a connection never serves again.

use serin_tests::origin::{Origin, ok};
use serin_tests::wire::End;

use super::given::{ask, get, is_blamed, nobody_is_blamed, serin, user};

/// What an endpoint does after it has sent what it sends.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// It keeps the connection.
    Stay,
    /// It ends it in order.
    Close,
    /// It resets it.
    Reset,
}
use Then::{Close, Reset, Stay};

#[tokio::test]
async fn a_head_that_cannot_be_trusted_is_a_502() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(200_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1_000));
    let heads = [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "\r\n\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        &endless,
        &many,
    ];
    for (index, head) in heads.iter().enumerate() {
        let mut user = user(&serin).await;
        user.send(get("/")).await.unwrap();
        // Accepting here also says that the connection of the round before is not used again.
        let (mut wire, _) = origin.request().await.unwrap();
        let _it_may_be_closed_before_the_end = wire.send(head).await;
        let answer = user.response().await.unwrap();
        let shown = &head[..head.len().min(80)];
        assert_eq!((answer.status(), answer.get("x-serin-error")), (502, Some("malformed")), "{shown:?}");
        wire.rest().await.unwrap();
        is_blamed(&serin, "malformed", index as u64 + 1).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_goes_without_an_answer_is_a_502_and_asked_no_second_time() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let mut resets = 0;
    for (sent, then, reason) in
        [("", Close, "reset"), ("", Reset, "reset"), ("HTTP/1.1 100 Continue\r\n\r\n", Close, "truncated")]
    {
        let mut user = user(&serin).await;
        user.send(get("/")).await.unwrap();
        let (mut wire, _) = origin.request().await.unwrap();
        wire.send(sent).await.unwrap();
        if then == Reset {
            wire.reset().unwrap()
        } else {
            drop(wire)
        }
        let answer = user.response().await.unwrap();
        assert_eq!((answer.status(), answer.get("x-serin-error")), (502, Some(reason)));
        resets += u64::from(reason == "reset");
    }
    assert_eq!((super::given::bad(&serin, "reset").await, resets), (2, 2));
}

#[tokio::test]
async fn a_head_that_breaks_off_is_a_502() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    for (round, sent) in ["H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"].iter().enumerate() {
        let mut user = user(&serin).await;
        user.send(get("/")).await.unwrap();
        let (mut wire, _) = origin.request().await.unwrap();
        wire.send(sent).await.unwrap();
        drop(wire);
        let answer = user.response().await.unwrap();
        assert_eq!((answer.status(), answer.get("x-serin-error")), (502, Some("truncated")), "{sent:?}");
        is_blamed(&serin, "truncated", round as u64 + 1).await;
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_cuts_the_users_connection() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let mut truncated = 0;
    for (sent, then, malformed) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", Close, false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", Reset, false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", Close, false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Close, false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", Close, false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", Close, false),
        ("HTTP/1.1 200 OK\r\n\r\nhello", Reset, false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n+5\r\n", Stay, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX", Stay, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n", Stay, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nno trailer\r\n\r\n", Stay, true),
    ] {
        let mut user = user(&serin).await;
        user.send(get("/")).await.unwrap();
        let (mut wire, _) = origin.request().await.unwrap();
        wire.send(sent).await.unwrap();
        // The head must have passed before a reset overtakes it; what is broken from the beginning
        // may cut the connection before anything passed.
        if then != Stay {
            assert_eq!(user.head().await.unwrap().status(), 200, "{sent:?}");
        }
        match then {
            Close => wire.finish().await.unwrap(),
            Reset => wire.reset().unwrap(),
            Stay => {}
        }
        let (rest, _) = user.rest().await.unwrap();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{sent:?}: {:?}", String::from_utf8_lossy(&rest));
        truncated += u64::from(!malformed);
    }
    let counted = async || {
        let (cut, broken) =
            (super::given::bad(&serin, "truncated").await, super::given::bad(&serin, "malformed").await);
        (cut == truncated && broken == 4).then_some(())
    };
    serin_tests::eventually::eventually(super::given::PATIENCE, "all of them counted", counted).await;
}

#[tokio::test]
async fn what_comes_behind_a_response_reaches_nobody() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for (answer, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 51\r\n\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 51\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "hi"),
    ] {
        for at_once in [true, false] {
            let origin = Origin::bind().await.unwrap();
            let serin = serin(&[origin.address()], "").await;
            let mut first = user(&serin).await;
            first.send(get("/first")).await.unwrap();
            let (mut wire, _) = origin.request().await.unwrap();
            wire.send(if at_once { format!("{answer}{poison}") } else { answer.to_owned() }).await.unwrap();
            assert_eq!(first.response().await.unwrap().text(), body, "{answer:?}");
            if !at_once {
                let _it_may_be_closed = wire.send(poison).await;
                // The poison has arrived when the daemon ends the connection over it.
                wire.rest().await.unwrap();
            }
            let mut second = user(&serin).await;
            second.send(get("/second")).await.unwrap();
            let (mut fresh, request) = origin.request().await.unwrap();
            assert_eq!(request.target(), "/second", "{answer:?}");
            fresh.send(ok("clean")).await.unwrap();
            assert_eq!(second.response().await.unwrap().text(), "clean", "{answer:?}");
            nobody_is_blamed(&serin, 2).await;
        }
    }
}

#[tokio::test]
async fn a_cut_body_counts_once_and_the_next_request_is_served() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let mut unlucky = user(&serin).await;
    unlucky.send(get("/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await.unwrap();
    unlucky.head().await.unwrap();
    drop(wire);
    assert_ne!(unlucky.rest().await.unwrap(), (b"hello".to_vec(), End::Reset), "what was there is delivered in order");
    is_blamed(&serin, "truncated", 1).await;
    let asked = tokio::spawn(async move { (ask(&serin, get("/")).await, serin) });
    let (mut wire, _) = origin.request().await.unwrap();
    wire.send(ok("hi")).await.unwrap();
    let (answer, serin) = asked.await.unwrap();
    assert_eq!(answer.text(), "hi");
    is_blamed(&serin, "truncated", 1).await;
}
