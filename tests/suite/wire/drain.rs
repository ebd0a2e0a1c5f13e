//! SIGTERM: what runs is finished, nothing new is taken, and the process ends well.

use serin_tests::eventually::eventually;
use serin_tests::origin::{Origin, ok};
use serin_tests::process::Signal;
use serin_tests::serin::Serin;
use serin_tests::wire::{End, Wire};
use tokio::io::{AsyncRead, AsyncWrite};

use super::given::{PATIENCE, get, metric, serin_by_tls, serin_on, user, user_by_tls};

async fn is_draining(serin: &Serin) {
    let failing = async || (serin.ask("/readyz").await.ok()?.status == 503).then_some(());
    eventually(PATIENCE, "readiness fails", failing).await;
}

async fn refuses(serin: &Serin) {
    let refused = async || Wire::connect(serin.http()).await.is_err().then_some(());
    eventually(PATIENCE, "new connections are refused", refused).await;
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_takes_nothing_new() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin_on(2, &[origin.address()], "").await;
    let (mut waiting, mut streaming, mut sending) = (user(&serin).await, user(&serin).await, user(&serin).await);
    waiting.send(get("/waiting")).await.unwrap();
    let (mut waiting_on, _) = origin.request().await.unwrap();
    streaming.send(get("/streaming")).await.unwrap();
    let (mut streaming_from, _) = origin.request().await.unwrap();
    streaming_from.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").await.unwrap();
    streaming.head().await.unwrap();
    sending.send("POST /sending HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nha").await.unwrap();
    let mut sending_to = origin.accept().await.unwrap();
    sending_to.head().await.unwrap();
    let mut idle = [user(&serin).await, user(&serin).await];
    for user in &mut idle[..1] {
        user.send("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n").await.unwrap();
        user.response().await.unwrap();
    }

    serin.signal(Signal::TERM).unwrap();
    is_draining(&serin).await;
    refuses(&serin).await;
    for user in &mut idle {
        assert_eq!(user.ended().await.unwrap(), End::Closed);
    }
    assert!(serin.is_alive(), "requests are running");

    waiting_on.send(ok("done")).await.unwrap();
    let answer = waiting.response().await.unwrap();
    assert_eq!((answer.text().as_str(), answer.get("connection")), ("done", Some("close")));
    assert_eq!(waiting.ended().await.unwrap(), End::Closed);
    streaming_from.send("ha").await.unwrap();
    assert_eq!(streaming.rest().await.unwrap(), (b"haha".to_vec(), End::Closed));
    assert!(serin.is_alive(), "a request is running");
    is_draining(&serin).await;
    sending.send("ha").await.unwrap();
    assert_eq!(sending_to.take(4).await.unwrap(), b"haha");
    sending_to.send(ok("done")).await.unwrap();
    assert_eq!(sending.response().await.unwrap().text(), "done");
    assert_eq!(serin.ended().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_drain_with_nothing_to_do_is_quick_and_its_exit_code_good() {
    let serin = serin_on(2, &[], "").await;
    let mut idle = user(&serin).await;
    idle.send(get("/")).await.unwrap();
    idle.response().await.unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(serin.stop().await.unwrap().code(), Some(0));
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(idle.ended().await.unwrap(), End::Closed);
}

#[tokio::test]
async fn a_drain_cuts_what_is_not_done_in_its_time() {
    let origin = Origin::bind().await.unwrap();
    let config =
        format!("[runtime]\ndrain = \"300ms\"\n[service.web]\nhosts = [\"*\"]\nstable = [\"{}\"]", origin.address());
    let serin = Serin::start(&config).await.unwrap();
    let mut user = user(&serin).await;
    user.send(get("/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    assert_eq!(serin.stop().await.unwrap().code(), Some(0));
    user.ended().await.unwrap();
    wire.ended().await.unwrap();
    assert!(serin.logs().contains("open connections are cut"));
}

#[tokio::test]
async fn pipelined_requests_behind_the_last_one_are_not_begun() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin_on(1, &[origin.address()], "").await;
    let user = user(&serin).await;
    only_the_first_is_begun(&origin, &serin, user).await;
}

#[tokio::test]
async fn nor_are_they_by_tls() {
    let origin = Origin::bind().await.unwrap();
    let (serin, authority) = serin_by_tls(&[origin.address()]).await;
    let user = user_by_tls(&serin, &authority).await;
    only_the_first_is_begun(&origin, &serin, user).await;
}

#[tokio::test]
async fn who_was_told_the_end_by_tls_and_stays_is_not_heard_any_more() {
    let origin = Origin::bind().await.unwrap().play(|request| ok(request.target()));
    let (serin, authority) = serin_by_tls(&[origin.address()]).await;
    let mut user = user_by_tls(&serin, &authority).await;
    user.send("GET /1 HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await.unwrap();
    assert_eq!(user.response().await.unwrap().text(), "/1");
    assert_eq!(user.ended().await.unwrap(), End::Closed);
    // when it goes on all the same, and never closes its end
    user.send(get("/2")).await.unwrap();
    let gone = async || (metric(&serin, "serin_connections", &[]).await == 0).then_some(());
    eventually(PATIENCE, "its connection is gone", gone).await;
    assert_eq!(origin.targets().unwrap(), ["/1"]);
}

async fn only_the_first_is_begun<S: AsyncRead + AsyncWrite + Unpin>(origin: &Origin, serin: &Serin, mut user: Wire<S>) {
    user.send([get("/1"), get("/2")].concat()).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    serin.signal(Signal::TERM).unwrap();
    refuses(serin).await;
    wire.send(ok("1")).await.unwrap();
    let answer = user.response().await.unwrap();
    assert_eq!((answer.text().as_str(), answer.get("connection")), ("1", Some("close")));
    user.ended().await.unwrap();
    let (rest, _) = wire.rest().await.unwrap();
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    assert_eq!(serin.ended().await.unwrap().code(), Some(0));
}
