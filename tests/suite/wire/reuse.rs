//! Connections serve again, on both sides, where that is certain to be right.

use serin_tests::origin::{Origin, ok};
use serin_tests::serin::Serin;
use serin_tests::wire::{End, Message};

use super::given::{ask, get, nobody_is_blamed, post, serin, user};

/// A body of the length that the target names, chunked where it says so.
fn sized(request: &Message) -> Vec<u8> {
    let (framing, length) = request.target().trim_start_matches('/').split_once('/').unwrap();
    let body = vec![b'x'; length.parse().unwrap()];
    if framing == "length" {
        return ok(body);
    }
    let mut wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in body.chunks(10_000) {
        wire.extend_from_slice(format!("{:X}\r\n", piece.len()).as_bytes());
        wire.extend_from_slice(piece);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

#[tokio::test]
async fn one_connection_on_each_side_serves_bodies_of_any_size_and_framing() {
    let origin = Origin::bind().await.unwrap().play(sized);
    let serin = serin(&[origin.address()], "").await;
    let mut user = user(&serin).await;
    let lengths = [0, 1, 2_000, 8_000, 8_192, 10_000, 20_000, 50_000, 65_536, 100_000, 1_000_000];
    for (framing, length) in ["length", "chunked"].into_iter().flat_map(|framing| lengths.map(|n| (framing, n))) {
        user.send(get(format!("/{framing}/{length}"))).await.unwrap();
        let answer = user.response().await.unwrap();
        assert_eq!((answer.status(), answer.body.len()), (200, length), "{framing}");
        assert_eq!(origin.bytes().len(), 1, "a second connection after {framing}/{length}");
    }
    nobody_is_blamed(&serin, 22).await;
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_order() {
    let origin = Origin::bind().await.unwrap().play(|request| ok(request.target()));
    let serin = serin(&[origin.address()], "").await;
    let mut user = user(&serin).await;
    user.send([get("/1"), get("/2"), get("/3")].concat()).await.unwrap();
    for target in ["/1", "/2", "/3"] {
        assert_eq!(user.response().await.unwrap().text(), target);
    }
    assert_eq!(origin.targets().unwrap(), ["/1", "/2", "/3"]);
    assert_eq!(origin.bytes().len(), 1);
}

/// More than is read at once by far.
const MANY: usize = 2_000;

#[tokio::test]
async fn of_very_many_requests_that_are_sent_at_once_none_is_lost() {
    let serin =
        Serin::start("[runtime]\nthreads = 1\n[service.web]\nhosts = [\"b.example\"]\nstable = []\n").await.unwrap();
    let mut user = user(&serin).await;
    // given answers that take no time: nobody has this name
    user.send(get("/").repeat(MANY)).await.unwrap();
    for nth in 0..MANY {
        assert_eq!(user.response().await.unwrap().status(), 404, "{nth}");
    }
}

#[tokio::test]
async fn very_many_requests_that_are_sent_at_once_are_sent_on_in_order() {
    let config = "[runtime]\nthreads = 1\n[[listener]]\nname = \"http\"\naddress = \"@http@\"\nredirect_to_https = 443\n\
                  [service.web]\nhosts = [\"*\"]\nstable = []\n";
    let serin = Serin::start(config).await.unwrap();
    let mut user = user(&serin).await;
    let requests: String = (0..MANY).map(|nth| get(format!("/{nth}"))).collect();
    user.send(requests).await.unwrap();
    for nth in 0..MANY {
        let answer = user.response().await.unwrap();
        assert_eq!(answer.get("location"), Some(&*format!("https://a.example/{nth}")));
    }
}

#[tokio::test]
async fn what_came_too_early_is_not_lost_when_the_connection_waits_in_between() {
    let origin = Origin::bind().await.unwrap().play(|request| ok(request.target()));
    let serin = serin(&[origin.address()], "").await;
    for cut in [1, 10, get("/2").len() - 1] {
        let (first, second) = (get("/1"), get("/2"));
        let mut user = user(&serin).await;
        user.send([&first, &second[..cut]].concat()).await.unwrap();
        assert_eq!(user.response().await.unwrap().text(), "/1");
        user.send(&second[cut..]).await.unwrap();
        assert_eq!(user.response().await.unwrap().text(), "/2", "cut at {cut}");
        for byte in get("/3").bytes() {
            user.send([byte]).await.unwrap();
        }
        assert_eq!(user.response().await.unwrap().text(), "/3");
    }
}

#[tokio::test]
async fn a_connection_that_waited_takes_a_body_of_any_size() {
    let origin = Origin::bind().await.unwrap().play(|request| ok(request.body.len().to_string()));
    let serin = serin(&[origin.address()], "").await;
    for length in [1, 16_384, 32_700, 32_768, 33_000, 200_000] {
        let mut user = user(&serin).await;
        for _ in 0..3 {
            user.send(post("/", &"x".repeat(length))).await.unwrap();
            assert_eq!(user.response().await.unwrap().text(), length.to_string());
        }
    }
}

#[tokio::test]
async fn users_come_and_go_and_the_connection_to_the_endpoint_stays() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "").await;
    for _ in 0..5 {
        let mut user = user(&serin).await;
        user.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let answer = user.response().await.unwrap();
        assert_eq!((answer.text().as_str(), answer.get("connection")), ("hi", Some("close")));
        assert_eq!(user.ended().await.unwrap(), End::Closed);
    }
    assert_eq!(origin.bytes().len(), 1);
}

#[tokio::test]
async fn a_user_of_http_1_0_is_closed_unless_it_asks_to_stay() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "").await;
    let mut staying = user(&serin).await;
    for _ in 0..2 {
        staying.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await.unwrap();
        assert_eq!(staying.response().await.unwrap().text(), "hi");
    }
    let mut leaving = user(&serin).await;
    leaving.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(leaving.response().await.unwrap().text(), "hi");
    assert_eq!(leaving.ended().await.unwrap(), End::Closed);
}

#[tokio::test]
async fn an_endpoint_that_will_close_is_not_used_again() {
    for head in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n",
        // What a 204 says of a body may come after all.
        "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let body = if head.contains("204") { "" } else { "hi" };
        let origin = Origin::bind().await.unwrap().play(move |_| format!("{head}{body}").into());
        let serin = serin(&[origin.address()], "").await;
        for connections in 1..=3 {
            assert_eq!(ask(&serin, get("/")).await.text(), body, "{head}");
            assert_eq!(origin.bytes().len(), connections, "{head}");
        }
        nobody_is_blamed(&serin, 3).await;
    }
}

#[tokio::test]
async fn an_unused_connection_is_closed_in_time_also_when_nobody_is_there() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "timeouts.keep_alive = \"200ms\"").await;
    let mut user = user(&serin).await;
    user.send(get("/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    wire.send(ok("hi")).await.unwrap();
    user.response().await.unwrap();
    drop(user);
    assert_eq!(wire.ended().await.unwrap(), End::Closed);
}
