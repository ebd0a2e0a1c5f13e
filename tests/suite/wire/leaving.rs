//! Users who leave: the endpoint is let go, and nobody is blamed.

use serin_tests::eventually::eventually;
use serin_tests::origin::Origin;
use serin_tests::wire::Wire;

use super::given::{PATIENCE, get, metric, nobody_is_blamed, serin, user};

/// Leaves in one of two ways.
fn leave(user: Wire, by_reset: bool) {
    if by_reset { user.reset().unwrap() } else { drop(user) }
}

#[tokio::test]
async fn a_user_who_leaves_before_the_answer_frees_the_endpoint() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    for (round, by_reset) in [false, true].into_iter().enumerate() {
        let mut user = user(&serin).await;
        user.send(get("/")).await.unwrap();
        let (mut wire, _) = origin.request().await.unwrap();
        leave(user, by_reset);
        wire.ended().await.unwrap();
        nobody_is_blamed(&serin, round as u64 + 1).await;
    }
    assert_eq!(metric(&serin, "serin_requests_total", &["client_gone"]).await, 2);
    let free = async || (metric(&serin, "serin_endpoint_in_flight", &[]).await == 0).then_some(());
    eventually(PATIENCE, "nothing is in flight", free).await;
}

#[tokio::test]
async fn a_user_who_leaves_in_the_middle_of_its_body_frees_the_endpoint() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    for (round, framing) in ["Content-Length: 100", "Transfer-Encoding: chunked"].into_iter().enumerate() {
        for (turn, by_reset) in [false, true].into_iter().enumerate() {
            let mut user = user(&serin).await;
            user.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n5\r\nhello\r\n")).await.unwrap();
            let mut wire = origin.accept().await.unwrap();
            wire.head().await.unwrap();
            leave(user, by_reset);
            let (rest, _) = wire.rest().await.unwrap();
            assert!(!rest.ends_with(b"0\r\n\r\n"), "what was broken off was made whole");
            nobody_is_blamed(&serin, (2 * round + turn) as u64 + 1).await;
        }
    }
}

#[tokio::test]
async fn a_user_who_leaves_in_the_middle_of_the_answer_frees_the_endpoint() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    for (round, by_reset) in [false, true].into_iter().enumerate() {
        let mut user = user(&serin).await;
        user.send(get("/")).await.unwrap();
        let (mut wire, _) = origin.request().await.unwrap();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nhello").await.unwrap();
        user.head().await.unwrap();
        leave(user, by_reset);
        let piece = vec![b'x'; 1 << 16];
        let sending = async { while wire.send(&piece).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, sending).await.unwrap();
        nobody_is_blamed(&serin, round as u64 + 1).await;
    }
}
