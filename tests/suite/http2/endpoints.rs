//! Endpoints that speak HTTP/2, frame by frame: what they refuse, leave alone, cut short and get wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use serin_tests::eventually::eventually;
use serin_tests::frames::{END_HEADERS, END_STREAM, Frame, Frames, LEAST_WINDOW, Outcome, kind, reason};
use serin_tests::origin::{Origin, ok};
use serin_tests::wire::Wire;

use super::given::{get, post, serin, user};
use crate::wire::given::{PATIENCE, ask, bad, get as get_by_http1, is_blamed, metric, nobody_is_blamed};

const H2C: &str = "protocol = \"h2c\"";
/// Sooner than a wire gives up to hear anything, which would look like its end.
const SOON: Duration = Duration::from_secs(10);
const HEADERS: u8 = kind::HEADERS;

/// The next connection to an endpoint.
async fn accept(origin: &Origin) -> Frames {
    Frames::accepted(origin.accept().await.unwrap()).await.unwrap()
}

/// The stream of the next request on a connection.
async fn request(link: &mut Frames) -> u32 {
    link.until(|frame| frame.kind == HEADERS).await.unwrap().stream
}

/// Answers a request with this body.
async fn answer(link: &mut Frames, stream: u32, body: &str) {
    link.send(&Frame::headers(stream, 0, &[(":status", "200")])).await.unwrap();
    link.send(&Frame::data(stream, END_STREAM, body)).await.unwrap();
}

fn goaway(last: u32, reason: u32) -> Frame {
    Frame::new(kind::GOAWAY, 0, 0, [last.to_be_bytes(), reason.to_be_bytes()].concat())
}

#[tokio::test]
async fn one_connection_carries_many_requests_of_many_users() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", H2C).await;
    let (mut one, mut other) = (user(&serin).await, user(&serin).await);
    for stream in [1, 3, 5] {
        one.send(&get(stream, "/one")).await.unwrap();
        other.send(&get(stream, "/other")).await.unwrap();
    }
    let mut link = accept(&origin).await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(request(&mut link).await);
    }
    for stream in streams.into_iter().rev() {
        answer(&mut link, stream, "hi").await;
    }
    // Each user has all three, in whatever order they came through.
    for mut user in [one, other] {
        let mut answered = BTreeSet::new();
        while answered.len() < 3 {
            let head = user.until(|frame| frame.kind == HEADERS).await.unwrap();
            assert_eq!(head.status(), 200);
            answered.insert(head.stream);
        }
        assert_eq!(answered, BTreeSet::from([1, 3, 5]));
    }
    nobody_is_blamed(&serin, 6).await;
}

#[tokio::test]
async fn users_of_http_1_are_served_as_well() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", H2C).await;
    let asked = tokio::spawn({
        let address = serin.http();
        async move {
            let mut user = Wire::connect(address).await.unwrap();
            user.send("POST /up HTTP/1.1\r\nHost: a.example\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await
                .unwrap();
            user.send("5\r\nhello\r\n0\r\n\r\n").await.unwrap();
            user.response().await.unwrap()
        }
    });
    let mut link = accept(&origin).await;
    let stream = request(&mut link).await;
    assert_eq!(link.body(stream).await.unwrap(), b"hello");
    answer(&mut link, stream, "hi").await;
    let answer = asked.await.unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hi"));
}

#[tokio::test]
async fn an_endpoint_that_only_ever_promises_an_answer_is_left() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", H2C).await;
    let mut user = user(&serin).await;
    let promise = |stream| Frame::headers(stream, 0, &[(":status", "103"), ("link", "</a>")]);
    // given one that promises an answer a few times before it gives it, and takes its time with the body
    user.send(&get(1, "/")).await.unwrap();
    let mut link = accept(&origin).await;
    let stream = request(&mut link).await;
    for _ in 0..16 {
        link.send(&promise(stream)).await.unwrap();
    }
    answer(&mut link, stream, "hi").await;
    assert_eq!(user.outcome(1).await.unwrap(), Outcome::Status(200));
    nobody_is_blamed(&serin, 1).await;
    // when it promises without end
    user.send(&get(3, "/")).await.unwrap();
    let stream = request(&mut link).await;
    let flood: Vec<u8> = std::iter::repeat_n(promise(stream).bytes(), 100_000).flatten().collect();
    let flooding = tokio::spawn(async move {
        let _it_is_cut = link.send_bytes(&flood).await;
        link
    });
    // then the request has failed, long before its time is over, and the endpoint is to blame
    assert_eq!(user.outcome(3).await.unwrap(), Outcome::Status(502));
    is_blamed(&serin, "malformed", 1).await;
    drop(flooding.await.unwrap());
}

#[tokio::test]
async fn a_request_that_is_refused_or_left_alone_is_sent_once_more() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", H2C).await;
    for (round, leaves) in [false, true].into_iter().enumerate() {
        // given a connection that has served
        let mut user = user(&serin).await;
        user.send(&get(1, "/first")).await.unwrap();
        let mut link = accept(&origin).await;
        let stream = request(&mut link).await;
        answer(&mut link, stream, "hi").await;
        assert_eq!(user.outcome(1).await.unwrap(), Outcome::Status(200));
        // when the endpoint doesn't take the next request, not an idempotent one either
        user.send(&post(3, "/next", &[])).await.unwrap();
        let next = request(&mut link).await;
        let refusal =
            if leaves { goaway(stream, reason::NO_ERROR) } else { Frame::reset(next, reason::REFUSED_STREAM) };
        link.send(&refusal).await.unwrap();
        // then it comes once more, by another connection
        let mut again = accept(&origin).await;
        let stream = request(&mut again).await;
        user.send(&Frame::data(3, END_STREAM, "body")).await.unwrap();
        assert_eq!(again.body(stream).await.unwrap(), b"body");
        answer(&mut again, stream, "hi").await;
        assert_eq!(user.outcome(3).await.unwrap(), Outcome::Status(200));
        nobody_is_blamed(&serin, 2 * (round as u64 + 1)).await;
        drop((link, again));
        let closed = async || (metric(&serin, "serin_endpoint_in_flight", &[]).await == 0).then_some(());
        eventually(PATIENCE, "nothing is in flight", closed).await;
    }
}

#[tokio::test]
async fn a_request_that_is_refused_again_and_again_is_refused() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", H2C).await;
    let mut user = user(&serin).await;
    user.send(&get(1, "/")).await.unwrap();
    for _ in 0..2 {
        let mut link = accept(&origin).await;
        let stream = request(&mut link).await;
        link.send(&Frame::reset(stream, reason::REFUSED_STREAM)).await.unwrap();
    }
    assert_eq!(user.outcome(1).await.unwrap(), Outcome::Status(502));
    is_blamed(&serin, "refused", 1).await;
}

#[tokio::test]
async fn what_an_endpoint_cuts_short_is_not_made_whole() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", H2C).await;
    for (round, why) in [reason::NO_ERROR, reason::CANCEL].into_iter().enumerate() {
        let mut user = user(&serin).await;
        user.send(&get(1, "/")).await.unwrap();
        let mut link = accept(&origin).await;
        let stream = request(&mut link).await;
        link.send(&Frame::headers(stream, 0, &[(":status", "200")])).await.unwrap();
        link.send(&Frame::data(stream, 0, "half")).await.unwrap();
        assert_eq!(user.outcome(1).await.unwrap(), Outcome::Status(200));
        link.send(&Frame::reset(stream, why)).await.unwrap();
        assert!(matches!(user.outcome(1).await.unwrap(), Outcome::Reset(_)));
        is_blamed(&serin, "truncated", round as u64 + 1).await;
        drop(link);
    }
}

#[tokio::test]
async fn what_an_endpoint_gets_wrong_is_a_bad_gateway() {
    for (what, frames, blamed) in [
        (
            "a field of HTTP/1",
            vec![Frame::headers(1, END_STREAM, &[(":status", "200"), ("connection", "close")])],
            "malformed",
        ),
        ("no status", vec![Frame::headers(1, END_STREAM, &[("a", "b")])], "malformed"),
        (
            "another length",
            vec![
                Frame::headers(1, 0, &[(":status", "200"), ("content-length", "1")]),
                Frame::data(1, END_STREAM, "two"),
            ],
            "malformed",
        ),
        ("a reset", vec![Frame::reset(1, 2)], "reset"),
        ("a stream of its own", vec![Frame::headers(2, END_HEADERS, &[(":status", "200")])], "malformed"),
    ] {
        let origin = Origin::bind().await.unwrap();
        let serin = serin(&[origin.address()], "", H2C).await;
        let mut user = user(&serin).await;
        user.send(&post(1, "/", &[("content-length", "0")])).await.unwrap();
        user.send(&Frame::data(1, END_STREAM, [])).await.unwrap();
        let mut link = accept(&origin).await;
        request(&mut link).await;
        for frame in &frames {
            link.send(frame).await.unwrap();
        }
        let became = user.outcome(1).await.unwrap();
        if what != "another length" {
            assert_eq!(became, Outcome::Status(502), "{what}");
        }
        let told = async || (bad(&serin, blamed).await == 1).then_some(());
        eventually(PATIENCE, &format!("{what} is {blamed}"), told).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_speaks_http_1_is_a_bad_gateway() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "", &format!("{H2C}\ntimeouts.header = \"500ms\"")).await;
    let status = ask(&serin, get_by_http1("/")).await.status();
    assert!((502..=504).contains(&status), "{status}");
}

#[tokio::test]
async fn an_endpoint_that_says_nothing_takes_too_long() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", &format!("{H2C}\ntimeouts.header = \"300ms\"")).await;
    let mut user = user(&serin).await;
    user.send(&get(1, "/")).await.unwrap();
    let mut link = accept(&origin).await;
    let stream = request(&mut link).await;
    assert_eq!(user.outcome(1).await.unwrap(), Outcome::Status(504));
    let reset = link.until(|frame| frame.kind == kind::RST_STREAM).await.unwrap();
    assert_eq!((reset.stream, reset.reason()), (stream, Some(reason::CANCEL)));
    is_blamed(&serin, "timeout", 1).await;
}

#[tokio::test]
async fn who_takes_its_request_back_takes_it_back_from_the_endpoint() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", H2C).await;
    let mut user = user(&serin).await;
    user.send(&post(1, "/", &[])).await.unwrap();
    let mut link = accept(&origin).await;
    let early = request(&mut link).await;
    user.send(&Frame::reset(1, reason::CANCEL)).await.unwrap();
    let reset = link.until(|frame| frame.kind == kind::RST_STREAM).await.unwrap();
    assert_eq!(reset.stream, early);
    // Also when both bodies are on their way.
    user.send(&post(3, "/", &[])).await.unwrap();
    let late = request(&mut link).await;
    link.send(&Frame::headers(late, 0, &[(":status", "200")])).await.unwrap();
    assert_eq!(user.outcome(3).await.unwrap(), Outcome::Status(200));
    user.send(&Frame::reset(3, reason::CANCEL)).await.unwrap();
    let reset = link.until(|frame| frame.kind == kind::RST_STREAM).await.unwrap();
    assert_eq!(reset.stream, late);
    nobody_is_blamed(&serin, 2).await;
}

#[tokio::test]
async fn a_connection_on_which_an_answer_failed_to_come_is_not_used_for_others() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", &format!("{H2C}\ntimeouts.header = \"300ms\"")).await;
    let mut user = user(&serin).await;
    user.send(&get(1, "/")).await.unwrap();
    let mut dead = accept(&origin).await;
    request(&mut dead).await;
    assert_eq!(user.outcome(1).await.unwrap(), Outcome::Status(504));
    // when the next request comes
    user.send(&get(3, "/")).await.unwrap();
    let mut link = accept(&origin).await;
    let stream = request(&mut link).await;
    answer(&mut link, stream, "hi").await;
    assert_eq!(user.outcome(3).await.unwrap(), Outcome::Status(200));
}

#[tokio::test]
async fn a_request_whose_rest_the_endpoint_never_takes_ends_with_its_user_and_so_does_the_connection() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "", H2C).await;
    // given an endpoint that answers early, and takes no more of the request than it must
    let mut user = Wire::connect(serin.http()).await.unwrap();
    let body = "x".repeat(LEAST_WINDOW + 50_000);
    user.send(format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n", body.len())).await.unwrap();
    let mut link = accept(&origin).await;
    let stream = request(&mut link).await;
    user.send(&body).await.unwrap();
    let mut taken = 0;
    while taken < LEAST_WINDOW {
        taken += link.until(|frame| frame.kind == kind::DATA).await.unwrap().payload.len();
    }
    link.send(&Frame::headers(stream, 0, &[(":status", "200")])).await.unwrap();
    assert_eq!(user.head().await.unwrap().status(), 200);
    // when the user leaves
    drop(user);
    // then others go by another connection, and this one ends, since nothing else is under way on it
    let mut other = Frames::connect(serin.http()).await.unwrap();
    let ended = async { while link.next().await.is_ok() {} };
    tokio::time::timeout(SOON, ended).await.expect("the connection ends");
    other.send(&get(1, "/")).await.unwrap();
    let mut next = accept(&origin).await;
    let stream = request(&mut next).await;
    answer(&mut next, stream, "hi").await;
    assert_eq!(other.outcome(1).await.unwrap(), Outcome::Status(200));
}
