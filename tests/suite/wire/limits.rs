//! Limits, and what has nowhere to go.

use serin_tests::eventually::eventually;
use serin_tests::origin::{Origin, ok};
use serin_tests::serin::Serin;
use serin_tests::wire::{End, Wire};

use super::given::{PATIENCE, ask, get, metric, nobody_is_blamed, serin, serin_on, user};

#[tokio::test]
async fn a_body_over_the_limit_is_a_413_and_one_at_the_limit_is_not() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "max_body = \"10B\"").await;
    for (framing, body, status) in [
        ("Content-Length: 10", "0123456789", 200),
        ("Content-Length: 11", "01234567890", 413),
        ("Transfer-Encoding: chunked", "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n", 200),
        ("Transfer-Encoding: chunked", "5\r\n01234\r\n6\r\n567890\r\n0\r\n\r\n", 413),
    ] {
        let answer = ask(&serin, format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}")).await;
        assert_eq!(answer.status(), status, "{body}");
        if status == 413 {
            assert_eq!((answer.get("connection"), answer.get("x-serin-error").is_some()), (Some("close"), true));
        }
    }
    // Who asks first isn't told to send it.
    let answer = ask(&serin, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(answer.status(), 413);
    let whole: usize = origin.requests().unwrap().iter().map(|(requests, _)| requests.len()).sum();
    assert_eq!(whole, 2, "a request over the limit was passed on in full");
}

/// A user who was served once and stays, if there is room.
async fn stays(serin: &Serin) -> Option<Wire> {
    let mut user = user(serin).await;
    user.send(get("/")).await.ok()?;
    user.response().await.ok()?;
    Some(user)
}

#[tokio::test]
async fn connections_over_the_limit_are_refused_until_others_end() {
    for cores in [1, 2] {
        let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
        let listener = "[[listener]]\nname = \"http\"\naddress = \"@http@\"\nmax_connections = 6";
        let serin = serin_on(cores, &[origin.address()], listener).await;
        let mut users = Vec::new();
        for _ in 0..6 {
            users.push(stays(&serin).await.expect("there is room"));
        }
        for _ in 0..4 {
            assert!(stays(&serin).await.is_none(), "a connection too many on {cores} cores");
        }
        assert_eq!(metric(&serin, "serin_connections", &[]).await, 6);
        users.truncate(3);
        eventually(PATIENCE, "room again", async || stays(&serin).await).await;
    }
}

#[tokio::test]
async fn a_host_that_nobody_answers_for_is_a_404() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let config = format!(
        "[service.web]\nhosts = [\"a.example\"]\nstable = [\"{}\"]\n[service.other]\nhosts = [\"b.example\"]",
        origin.address()
    );
    let serin = Serin::start(&config).await.unwrap();
    let to = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for (host, status) in [("a.example", 200), ("A.Example:8080", 200), ("c.example", 404), ("", 404)] {
        assert_eq!(ask(&serin, to(host)).await.status(), status, "{host}");
    }
    let mut user = user(&serin).await;
    for _ in 0..2 {
        user.send(to("c.example")).await.unwrap();
        let answer = user.response().await.unwrap();
        assert_eq!((answer.status(), answer.get("x-serin-error")), (404, Some("no_service")));
    }
    let answer = ask(&serin, to("b.example")).await;
    assert_eq!((answer.status(), answer.get("retry-after")), (503, Some("1")));
}

#[tokio::test]
async fn a_service_without_a_ready_endpoint_is_a_503_that_says_when_to_come_back() {
    let serin = serin(&[], "").await;
    let mut user = user(&serin).await;
    for _ in 0..2 {
        user.send(get("/")).await.unwrap();
        let answer = user.response().await.unwrap();
        assert_eq!((answer.status(), answer.get("x-serin-error")), (503, Some("no_endpoint")));
        assert!(answer.get("retry-after").is_some() && answer.get("cache-control") == Some("no-store"));
    }
    nobody_is_blamed(&serin, 2).await;
}

#[tokio::test]
async fn an_answer_of_serins_own_tells_nothing_of_the_endpoint() {
    let origin = Origin::bind().await.unwrap();
    let address = origin.address();
    let serin = serin(&[address], "").await;
    let mut user = user(&serin).await;
    user.send(get("/")).await.unwrap();
    drop(origin.request().await.unwrap());
    let answer = user.response().await.unwrap();
    let all = format!("{answer:?}{}", answer.text());
    assert!(!all.contains(&address.port().to_string()) && !all.contains("127.0.0.1"), "{all}");
    drop(user);
    assert_eq!(user_of(&serin).await, End::Closed);
}

/// How a user who sends nothing but its own end is treated.
async fn user_of(serin: &Serin) -> End {
    let mut user = user(serin).await;
    user.finish().await.unwrap();
    user.ended().await.unwrap()
}
