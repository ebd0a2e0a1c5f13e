//! What is tried again, where, and what it counts as.

use serin_tests::origin::{Origin, ok};
use serin_tests::serin::Serin;
use serin_tests::wire::{End, Wire};

use super::given::{ask, bad, get, is_blamed, metric, nobody, nobody_is_blamed, post, serin, user};

/// A user and an endpoint whose connection has served once.
async fn used_once(origin: &Origin, serin: &Serin) -> (Wire, Wire) {
    let mut user = user(serin).await;
    user.send(get("/first")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    wire.send(ok("first")).await.unwrap();
    user.response().await.unwrap();
    (user, wire)
}

#[tokio::test]
async fn a_get_that_meets_a_stale_connection_is_sent_once_more_and_still_scored() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let (mut user, mut wire) = used_once(&origin, &serin).await;
    user.send(get("/second")).await.unwrap();
    assert_eq!(wire.request().await.unwrap().target(), "/second");
    drop(wire);
    let (mut fresh, request) = origin.request().await.unwrap();
    assert_eq!(request.target(), "/second");
    fresh.send(ok("second")).await.unwrap();
    assert_eq!(user.response().await.unwrap().text(), "second");
    is_blamed(&serin, "reset", 1).await;
}

#[tokio::test]
async fn a_get_that_kills_the_fresh_connection_too_ends_there() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let (mut user, mut wire) = used_once(&origin, &serin).await;
    user.send(get("/second")).await.unwrap();
    wire.request().await.unwrap();
    drop(wire);
    drop(origin.request().await.unwrap());
    assert_eq!(user.response().await.unwrap().status(), 502);
    is_blamed(&serin, "reset", 1).await;
    assert_eq!(metric(&serin, "serin_endpoint_requests_total", &[]).await, 3);
}

#[tokio::test]
async fn a_post_is_never_sent_twice_once_a_byte_of_it_was() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let (mut user, mut wire) = used_once(&origin, &serin).await;
    user.send(post("/pay", "money")).await.unwrap();
    assert_eq!(wire.request().await.unwrap().text(), "money");
    drop(wire);
    assert_eq!(user.response().await.unwrap().status(), 502);
    is_blamed(&serin, "reset", 1).await;

    // Nor a request whose body is gone, though its method may be repeated.
    let (mut user, mut wire) = used_once(&origin, &serin).await;
    user.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    wire.request().await.unwrap();
    drop(wire);
    assert_eq!(user.response().await.unwrap().status(), 502);
    is_blamed(&serin, "reset", 2).await;
}

#[tokio::test]
async fn a_get_is_not_sent_again_once_a_byte_of_the_answer_was_seen() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    for (round, begun) in ["HTTP/1.1 2", "HTTP/1.1 103 Early Hints\r\n\r\n"].into_iter().enumerate() {
        let (mut user, mut wire) = used_once(&origin, &serin).await;
        user.send(get("/second")).await.unwrap();
        wire.request().await.unwrap();
        wire.send(begun).await.unwrap();
        wire.finish().await.unwrap();
        assert_eq!(user.response().await.unwrap().status(), 502, "{begun}");
        is_blamed(&serin, "truncated", round as u64 + 1).await;
    }
}

#[tokio::test]
async fn a_connection_that_the_endpoint_closed_in_between_costs_nobody_anything() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    for request in [get("/second"), post("/pay", "money")] {
        let (mut user, mut wire) = used_once(&origin, &serin).await;
        wire.finish().await.unwrap();
        // Its own end follows when the daemon has seen the close.
        assert_eq!(wire.ended().await.unwrap(), End::Closed);
        user.send(request).await.unwrap();
        let (mut fresh, _) = origin.request().await.unwrap();
        fresh.send(ok("fresh")).await.unwrap();
        assert_eq!(user.response().await.unwrap().text(), "fresh");
        fresh.finish().await.unwrap();
        fresh.ended().await.unwrap();
    }
    nobody_is_blamed(&serin, 4).await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_replaced_within_the_budget_for_what_may_be_repeated() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[nobody(), origin.address()], "").await;
    let mut user = user(&serin).await;
    let (mut served, mut failed) = (0, 0);
    for _ in 0..200 {
        user.send(get("/")).await.unwrap();
        match user.response().await.unwrap().status() {
            200 => served += 1,
            502 => failed += 1,
            status => panic!("{status}"),
        }
    }
    let retries = metric(&serin, "serin_retries_total", &[]).await;
    let refused = bad(&serin, "refused").await;
    assert!((30..=40).contains(&retries), "{retries} retries of 200 requests are not a fifth");
    assert_eq!(refused, retries + failed, "each first attempt that was refused is scored");
    assert_eq!(served + failed, 200);

    for _ in 0..20 {
        user.send(post("/", "x")).await.unwrap();
        user.response().await.unwrap();
    }
    assert_eq!(metric(&serin, "serin_retries_total", &[]).await, retries, "a POST was retried");
    assert!(bad(&serin, "refused").await > refused);
}

#[tokio::test]
async fn a_refusal_is_never_answered_by_the_other_arm() {
    let stable = Origin::bind().await.unwrap().play(|_| ok("stable"));
    let canary = format!("canary = [\"{}\"]\nsplit = {{ weight = 100 }}", nobody());
    let serin = serin(&[stable.address()], &canary).await;
    for _ in 0..10 {
        assert_eq!(ask(&serin, get("/")).await.status(), 502);
    }
    assert_eq!(metric(&serin, "serin_bad_requests_total", &["arm=\"canary\"", "refused"]).await, 10);
    assert_eq!(stable.bytes(), Vec::<Vec<u8>>::new());
}
