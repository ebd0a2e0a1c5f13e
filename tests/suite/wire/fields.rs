//! Fields on their way: what speaks of one connection stays behind, and nobody but serin says who
//! the client is.

use serin_tests::origin::{Origin, ok};
use serin_tests::wire::Message;

use super::given::{ask, serin, user};

/// What an endpoint is asked when a user sends a `GET` with these fields.
async fn passed_on(rest: &str, fields: &str) -> Message {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], rest).await;
    assert_eq!(ask(&serin, format!("GET / HTTP/1.1\r\n{fields}\r\n")).await.status(), 200);
    let all = origin.requests().unwrap();
    all[0].0[0].clone()
}

const TRUSTING: &str =
    "[[listener]]\nname = \"http\"\naddress = \"@http@\"\ntrusted = [\"127.0.0.0/8\", \"10.0.0.0/8\"]";

#[tokio::test]
async fn what_speaks_of_one_connection_is_not_passed_on() {
    let request = passed_on(
        "",
        "Host: a.example\r\nConnection: keep-alive, X-Private\r\nConnection: X-Other\r\nKeep-Alive: 5\r\nX-Private: 1\r\n\
         X-Other: 1\r\nTE: gzip\r\nUpgrade: websocket\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\n\
         X-Kept: 1\r\n",
    )
    .await;
    let names: Vec<&str> = request.fields.iter().map(|(name, _)| &**name).collect();
    assert_eq!(
        names,
        ["host", "x-kept", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"],
        "{request:?}"
    );

    let origin = Origin::bind().await.unwrap().play(|_| {
        b"HTTP/1.1 200 OK\r\nConnection: X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n\
          Proxy-Authenticate: x\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nhi"
            .to_vec()
    });
    let serin = serin(&[origin.address()], "").await;
    let answer = ask(&serin, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let names: Vec<&str> = answer.fields.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["content-length", "x-kept", "date"], "{answer:?}");
}

#[tokio::test]
async fn a_user_cannot_take_the_host_or_serins_own_fields_away() {
    let request =
        passed_on("", "Host: a.example\r\nConnection: host, x-forwarded-for, X-Request-Id, content-length\r\n").await;
    assert_eq!(request.get("host"), Some("a.example"));
    assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.get("x-request-id").map(str::len), Some(32));
}

#[tokio::test]
async fn a_stranger_can_say_nothing_of_where_it_comes_from() {
    let names = [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Real-IP",
        "X-Request-Id",
        "X-Serin-Flags",
        "Forwarded",
    ];
    let mut fields = "Host: a.example\r\n".to_owned();
    for name in names {
        for alias in [name.to_owned(), name.replace('-', "_"), name.replace('-', "."), name.to_lowercase()] {
            fields.push_str(&format!("{alias}: forged\r\n"));
        }
    }
    fields.push_str("Transfer_Encoding: forged\r\nContent_Length: forged\r\n");
    let request = passed_on("", &fields).await;
    assert!(request.fields.iter().all(|(_, value)| value != "forged"), "{request:?}");
    assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.get("x-forwarded-proto"), Some("http"));
    assert_eq!(request.get("x-forwarded-host"), Some("a.example"));
    let id = request.get("x-request-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

#[tokio::test]
async fn a_trusted_peer_is_believed_and_added_to_the_whole_chain() {
    let request = passed_on(
        TRUSTING,
        "Host: a.example\r\nX-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 203.0.113.5, 10.1.1.1\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\nX-Forwarded-Port: 443\r\nX-Real-IP: 203.0.113.5\r\n\
         X-Request-Id: from-the-balancer\r\nX_Forwarded_For: forged\r\nX-Serin-Flags: forged\r\n",
    )
    .await;
    for (name, value) in [
        ("x-forwarded-for", Some("198.51.100.1, 203.0.113.5, 10.1.1.1, 127.0.0.1")),
        ("x-forwarded-proto", Some("https")),
        ("x-forwarded-host", Some("shop.example")),
        ("x-forwarded-port", Some("443")),
        ("x-real-ip", Some("203.0.113.5")),
        ("x-request-id", Some("from-the-balancer")),
        ("x_forwarded_for", None),
        ("x-serin-flags", None),
    ] {
        assert_eq!(request.get(name), value, "{name} in {request:?}");
    }
}

#[tokio::test]
async fn every_request_has_an_id_of_its_own_that_also_serins_own_answers_name() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "").await;
    let mut user = user(&serin).await;
    for _ in 0..2 {
        user.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        user.response().await.unwrap();
    }
    let all = origin.requests().unwrap();
    let ids: Vec<&str> = all[0].0.iter().filter_map(|request| request.get("x-request-id")).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: named-by-the-balancer\r\n\r\n";
    let answer = ask(&super::given::serin(&[], TRUSTING).await, request).await;
    assert!(answer.status() == 503 && answer.text().contains("named-by-the-balancer"), "{answer:?}");
}

#[tokio::test]
async fn a_target_with_a_host_of_its_own_decides_what_the_endpoint_is_told() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "").await;
    for head in [
        "GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n",
        "GET http://a.example/x HTTP/1.1\r\nHost:\r\n",
        "GET http://a.example/x HTTP/1.0\r\n",
    ] {
        assert_eq!(ask(&serin, format!("{head}\r\n")).await.status(), 200, "{head}");
    }
    for (requests, rest) in origin.requests().unwrap() {
        assert!(rest.is_empty());
        for request in requests {
            assert_eq!(request.start, "GET /x HTTP/1.1");
            assert_eq!(request.get("host"), Some("a.example"));
            assert_eq!(request.get("x-forwarded-host"), Some("a.example"));
        }
    }
}

#[tokio::test]
async fn an_endpoint_is_asked_for_a_path_whatever_the_client_asked_for() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "").await;
    for (line, status) in [
        ("GET http://a.example?x/../admin", 200),
        ("GET http://a.example", 200),
        ("OPTIONS *", 200),
        ("GET *", 400),
        ("POST *", 400),
        ("GET ?x", 400),
        ("GET a.example", 400),
        ("GET a.example:80", 400),
    ] {
        let answer = ask(&serin, format!("{line} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(answer.status(), status, "{line}");
    }
    assert_eq!(origin.targets().unwrap(), ["/?x/../admin", "/", "*"]);
}
