//! TLS with endpoints that nobody here wrote: nginx, OpenSSL, and Python's WebSockets behind nginx.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serin_tests::eventually::{eventually, logged};
use serin_tests::nginx::Nginx;
use serin_tests::origin::{Origin, ok};
use serin_tests::pki::{Identity, Pki, Valid};
use serin_tests::process::{Process, Signal};
use serin_tests::serin::Serin;
use serin_tests::websocket::{Echo, user};
use serin_tests::wire::{Message, Wire};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::wire::given::{PATIENCE, bad, get, metric, nobody_is_blamed, post};

const NAME: &str = "app.internal";
/// What it was asked, and how.
const TELLS: &str = "return 200 \"$ssl_protocol $server_protocol $ssl_server_name $http_host $ssl_session_reused $ssl_client_s_dn\\n\";";

/// A service on one core with this endpoint, and further lines in its table.
fn service(name: &str, endpoint: SocketAddr, lines: &str) -> String {
    format!("[service.{name}]\nhosts = [\"{name}.example\"]\nstable = [\"{endpoint}\"]\n{lines}\n")
}

/// Lines by which a service believes an authority.
fn believes(authority: &Pki) -> String {
    format!("tls = {{ server_name = \"{NAME}\", ca_file = {:?} }}\n", authority.ca())
}

async fn serin(services: &[String]) -> Serin {
    Serin::start(&format!("[runtime]\nthreads = 1\n{}", services.concat())).await.unwrap()
}

/// A request for a service, by a connection of its own.
async fn ask(serin: &Serin, service: &str, request: impl AsRef<str>) -> Message {
    let mut user = Wire::connect(serin.http()).await.unwrap();
    user.send(request.as_ref().replace("a.example", &format!("{service}.example"))).await.unwrap();
    user.response().await.unwrap()
}

fn own(authority: &Pki) -> Identity {
    authority.issue("own", &[NAME], Valid::Now).unwrap()
}

#[tokio::test]
async fn nginx_is_spoken_to_by_tls_and_asked_for_its_name() {
    let authority = Pki::new().unwrap();
    let nginx = Nginx::start(&[&own(&authority)], "", TELLS).await.unwrap();
    let serin = serin(&[service("web", nginx.addresses()[0], &believes(&authority))]).await;
    for _ in 0..3 {
        let answer = ask(&serin, "web", get("/")).await;
        assert_eq!(answer.text(), format!("TLSv1.3 HTTP/1.1 {NAME} web.example . \n"));
    }
    nobody_is_blamed(&serin, 3).await;
}

#[tokio::test]
async fn http2_is_agreed_on_where_a_service_says_so() {
    let authority = Pki::new().unwrap();
    let nginx = Nginx::start(&[&own(&authority)], "http2", TELLS).await.unwrap();
    let lines = format!("protocol = \"h2\"\n{}", believes(&authority));
    let serin = serin(&[service("web", nginx.addresses()[0], &lines)]).await;
    for _ in 0..3 {
        let answer = ask(&serin, "web", get("/")).await;
        assert_eq!(answer.text(), format!("TLSv1.3 HTTP/2.0 {NAME} web.example . \n"));
    }
    nobody_is_blamed(&serin, 3).await;
}

#[tokio::test]
async fn bodies_of_any_size_come_through_both_ways() {
    let authority = Pki::new().unwrap();
    let behind = Origin::bind().await.unwrap().play(|request| ok(&request.body));
    let passes = format!("location / {{ proxy_pass http://{}; client_max_body_size 0; }}", behind.address());
    for (speaks, protocol) in [("", ""), ("http2", "protocol = \"h2\"\n")] {
        let nginx = Nginx::start(&[&own(&authority)], speaks, &passes).await.unwrap();
        let lines = format!("{protocol}{}", believes(&authority));
        let serin = serin(&[service("web", nginx.addresses()[0], &lines)]).await;
        for length in [0, 1, 16_384, 16_385, 3_000_000_usize] {
            let body: String = ('a'..='z').cycle().take(length).collect();
            let answer = ask(&serin, "web", post("/", &body)).await;
            assert!(answer.status() == 200 && answer.text() == body, "{length} bytes: {}", answer.start);
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_cannot_prove_who_it_is_gets_no_request() {
    let (authority, stranger) = (Pki::new().unwrap(), Pki::new().unwrap());
    let strange = stranger.issue("strange", &[NAME], Valid::Now).unwrap();
    let other = authority.issue("other", &["other.internal"], Valid::Now).unwrap();
    let expired = authority.issue("expired", &[NAME], Valid::Past).unwrap();
    let nginx = Nginx::start(&[&strange, &other, &expired, &own(&authority)], "", TELLS).await.unwrap();
    // One in the clear, which says so to whatever comes.
    let clear = Origin::bind().await.unwrap();
    let in_the_clear = clear.address();
    let heard = tokio::spawn(async move {
        let mut wire = clear.accept().await.unwrap();
        let heard = wire.some().await.unwrap();
        wire.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        heard
    });
    let at = |index: usize| nginx.addresses()[index];
    for (endpoint, protocol, why) in [
        (at(0), "http/1.1", "no known CA signed its certificate"),
        (at(1), "http/1.1", "its certificate is for another name"),
        (at(2), "http/1.1", "its certificate has run out"),
        (at(3), "h2", "it doesn't agree to HTTP/2"),
        (in_the_clear, "http/1.1", "what listens there speaks no TLS"),
    ] {
        let lines = format!("protocol = \"{protocol}\"\n{}", believes(&authority));
        let serin = serin(&[service("web", endpoint, &lines)]).await;
        let answer = ask(&serin, "web", post("/", "secret")).await;
        assert_eq!((answer.status(), answer.get("x-serin-error")), (502, Some("tls")), "{why}: {}", answer.text());
        assert!(!answer.text().contains("certificate"), "that is not for users: {}", answer.text());
        logged(why, || serin.logs()).await;
        assert!(serin.logs().contains(&endpoint.to_string()), "which endpoint? {}", serin.logs());
        assert_eq!(bad(&serin, "tls").await, 1, "{why}");
    }
    let heard = String::from_utf8_lossy(&heard.await.unwrap()).into_owned();
    assert!(!heard.contains("secret") && !heard.contains("HTTP/1.1\r\n"), "it went in the clear: {heard:?}");
}

#[tokio::test]
async fn an_endpoint_may_want_to_know_who_serin_is() {
    let authority = Pki::new().unwrap();
    let (server, client) = (own(&authority), authority.issue("serin", &["serin"], Valid::Now).unwrap());
    let openssl = Openssl::start(&server, &authority).await;
    let known = format!(
        "tls = {{ server_name = \"{NAME}\", ca_file = {:?}, certificate_file = {:?}, key_file = {:?} }}\n",
        authority.ca(),
        client.certificate,
        client.key
    );
    let services =
        [service("known", openssl.address, &known), service("unknown", openssl.address, &believes(&authority))];
    let serin = serin(&services).await;
    let mut user = Wire::connect(serin.http()).await.unwrap();
    user.send(get("/").replace("a.example", "known.example")).await.unwrap();
    assert_eq!(user.head().await.unwrap().status(), 200);
    drop(user);
    // The other service has no part in that, though it has the same endpoint.
    let refused = ask(&serin, "unknown", get("/")).await;
    assert_eq!((refused.status(), refused.get("x-serin-error")), (502, Some("tls")), "{}", refused.text());
    logged("it asks for a client certificate", || serin.logs()).await;
}

/// OpenSSL's server, which demands a client's certificate in the handshake.
struct Openssl {
    _process: Process,
    address: SocketAddr,
}

impl Openssl {
    async fn start(own: &Identity, authority: &Pki) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-www", "-Verify", "1", "-verify_return_error", "-accept"]).arg(address.to_string());
        command.arg("-cert").arg(&own.certificate).arg("-key").arg(&own.key).arg("-CAfile").arg(authority.ca());
        let process = Process::start("openssl", command).unwrap();
        let listens = async || TcpStream::connect(address).await.is_ok().then_some(());
        eventually(PATIENCE, "openssl listens", listens).await;
        Self { _process: process, address }
    }
}

#[tokio::test]
async fn services_that_believe_others_share_no_connection() {
    let authority = Pki::new().unwrap();
    let nginx = Nginx::start(&[&own(&authority)], "", TELLS).await.unwrap();
    let at = nginx.addresses()[0];
    let wrong = believes(&authority).replace(NAME, "else.internal");
    let serin =
        serin(&[service("one", at, &believes(&authority)), service("other", at, &wrong), service("clear", at, "")])
            .await;
    // given a connection that waits for the next request
    assert_eq!(ask(&serin, "one", get("/")).await.status(), 200);
    // then it isn't for who would not have made it
    assert_eq!(ask(&serin, "other", get("/")).await.get("x-serin-error"), Some("tls"));
    let clear = ask(&serin, "clear", get("/")).await;
    assert!(clear.status() == 400 && clear.text().contains("plain HTTP"), "{}", clear.text());
    assert_eq!(ask(&serin, "one", get("/")).await.status(), 200);
}

#[tokio::test]
async fn a_session_is_taken_up_again_by_the_next_connection() {
    let authority = Pki::new().unwrap();
    let nginx = Nginx::start(&[&own(&authority)], "", &format!("keepalive_timeout 0;\n{TELLS}")).await.unwrap();
    let serin = serin(&[service("web", nginx.addresses()[0], &believes(&authority))]).await;
    let mut reused = Vec::new();
    for _ in 0..3 {
        let told = ask(&serin, "web", get("/")).await.text();
        reused.push(told.split(' ').nth(4).unwrap().to_owned());
    }
    assert_eq!(reused, [".", "r", "r"]);
}

#[tokio::test]
async fn websockets_pass() {
    let authority = Pki::new().unwrap();
    let echo = Echo::start("stable").await.unwrap();
    let passes = format!(
        "location / {{ proxy_pass http://{}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection upgrade; proxy_buffering off; }}",
        echo.address()
    );
    let nginx = Nginx::start(&[&own(&authority)], "", &passes).await.unwrap();
    let lines = believes(&authority).replace("tls = ", "hosts = [\"*\"]\ntls = ");
    let config = service("web", nginx.addresses()[0], &lines).replacen("hosts = [\"web.example\"]\n", "", 1);
    let serin = serin(&[config]).await;
    for part in ["echo", "ping", "close"] {
        user(&format!("ws://{}", serin.http()), part, None).await.unwrap();
    }
    let closed = async || (metric(&serin, "serin_tunnels", &[]).await == 0).then_some(());
    eventually(PATIENCE, "all are closed", closed).await;
}

#[tokio::test]
async fn health_checks_are_made_by_tls() {
    let (authority, stranger) = (Pki::new().unwrap(), Pki::new().unwrap());
    let nginx = Nginx::start(&[&own(&authority)], "", TELLS).await.unwrap();
    let health = "health = { interval = \"100ms\", rise = 1, fall = 1 }\n";
    let at = nginx.addresses()[0];
    let serin = serin(&[
        service("good", at, &format!("{}{health}", believes(&authority))),
        service("bad", at, &format!("{}{health}", believes(&stranger))),
    ])
    .await;
    let state = async |service: &str| {
        let shown = serin.service(service).await.unwrap();
        shown["pools"]["stable"]["endpoints"][0]["state"].as_str().unwrap().to_owned()
    };
    eventually(PATIENCE, "the good one is up", async || (state("good").await == "ready").then_some(())).await;
    eventually(PATIENCE, "the bad one is down", async || (state("bad").await == "down").then_some(())).await;
    logged("no known CA signed its certificate", || serin.logs()).await;
    assert_eq!(ask(&serin, "bad", get("/")).await.status(), 503);
    assert_eq!(ask(&serin, "good", get("/")).await.status(), 200);
}

#[tokio::test]
async fn renewed_files_count_while_requests_are_served_and_broken_ones_do_not() {
    // given an endpoint that says who serin is, and users who never pause
    let authority = Pki::new().unwrap();
    let wants = format!("ssl_verify_client on;\nssl_client_certificate {};\n{TELLS}", authority.ca().display());
    let nginx = Nginx::start(&[&own(&authority)], "", &wants).await.unwrap();
    let client = authority.issue("before", &["serin"], Valid::Now).unwrap();
    let place = authority.folder().join("current");
    let (certificate, key) = (place.with_extension("cert"), place.with_extension("key"));
    let put = |files: &Identity| {
        std::fs::copy(&files.key, &key).unwrap();
        std::fs::copy(&files.certificate, &certificate).unwrap();
    };
    put(&client);
    let lines = format!(
        "tls = {{ server_name = \"{NAME}\", ca_file = {:?}, certificate_file = {certificate:?}, key_file = {key:?} }}\n",
        authority.ca()
    );
    let config = service("web", nginx.addresses()[0], &lines);
    let serin = serin(std::slice::from_ref(&config)).await;
    let named = async |name: &str| {
        let answer = ask(&serin, "web", get("/")).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.text().contains(&format!("CN={name}")).then_some(())
    };
    named("before").await.unwrap();
    // when they are renewed, first by the clock and then by a signal
    put(&authority.issue("after", &["serin"], Valid::Now).unwrap());
    eventually(PATIENCE, "the renewed certificate", async || named("after").await).await;
    put(&authority.issue("again", &["serin"], Valid::Now).unwrap());
    serin.signal(Signal::HUP).unwrap();
    eventually(PATIENCE, "the certificate of the signal", async || named("again").await).await;
    // then what is broken replaces nothing, whoever looks
    std::fs::write(&key, "half a key").unwrap();
    logged("The new files for TLS with endpoints are refused: the old ones stay", || serin.logs()).await;
    serin.signal(Signal::HUP).unwrap();
    logged("The new configuration is refused", || serin.logs()).await;
    named("again").await.unwrap();
    assert!(!serin.logs().contains("half a key") && serin.logs().contains("`key_file`"), "{}", serin.logs());
    assert_eq!(bad(&serin, "tls").await, 0);
}

#[tokio::test]
async fn who_is_not_to_be_verified_is_believed_and_that_is_said_loudly() {
    let stranger = Pki::new().unwrap();
    let nginx = Nginx::start(&[&own(&stranger)], "", TELLS).await.unwrap();
    let serin = serin(&[service("web", nginx.addresses()[0], "tls.verify = false")]).await;
    assert_eq!(ask(&serin, "web", get("/")).await.status(), 200);
    for loud in ["service `web` does NOT verify its endpoints", "Endpoints are NOT verified"] {
        logged(loud, || serin.logs()).await;
    }
}

#[tokio::test]
async fn a_daemon_does_not_start_with_files_that_cannot_be_used() {
    let authority = Pki::new().unwrap();
    let (one, other) = (own(&authority), authority.issue("other", &["serin"], Valid::Now).unwrap());
    let mut lines = format!("tls = {{ server_name = \"{NAME}\", ca_file = {:?}", authority.ca());
    write!(lines, ", certificate_file = {:?}, key_file = {:?} }}", one.certificate, other.key).unwrap();
    let refused = Serin::start(&service("web", ([127, 0, 0, 1], 9).into(), &lines)).await.unwrap_err().to_string();
    assert!(refused.contains("service `web`") && refused.contains("can't be used together"), "{refused}");
}

#[tokio::test]
async fn an_endpoint_that_never_finishes_a_handshake_takes_too_long() {
    let silent = Origin::bind().await.unwrap();
    let authority = Pki::new().unwrap();
    let lines = format!("timeouts.connect = \"300ms\"\n{}", believes(&authority));
    let serin = serin(&[service("web", silent.address(), &lines)]).await;
    let before = tokio::time::Instant::now();
    let answer = ask(&serin, "web", get("/")).await;
    assert_eq!((answer.status(), answer.get("x-serin-error")), (504, Some("connect_timeout")));
    assert!(before.elapsed() < Duration::from_secs(10));
}
