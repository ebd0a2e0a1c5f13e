//! What the tests of the wire are given: a daemon in front of endpoints, and its counters.

use std::fmt::Display;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serin_tests::eventually::eventually;
use serin_tests::origin::{Origin, ok};
use serin_tests::pki::{Pki, Valid};
use serin_tests::serin::Serin;
use serin_tests::wire::{Message, Wire};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// How long what must come true may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Every reason for which a request may count as bad.
const REASONS: [&str; 8] =
    ["status", "body", "connect_timeout", "refused", "reset", "timeout", "truncated", "malformed"];

/// A daemon on one core whose service `web` answers for any host with these stable endpoints.
/// `rest` goes on in the service's table.
pub(crate) async fn serin(stable: &[SocketAddr], rest: &str) -> Serin {
    serin_on(1, stable, rest).await
}

/// The same on so many cores.
pub(crate) async fn serin_on(cores: usize, stable: &[SocketAddr], rest: &str) -> Serin {
    let stable = list(stable);
    let config = format!("[runtime]\nthreads = {cores}\n[service.web]\nhosts = [\"*\"]\nstable = {stable}\n{rest}\n");
    Serin::start(&config).await.unwrap()
}

/// As [`serin`], by TLS; and who signed its certificate.
pub(crate) async fn serin_by_tls(stable: &[SocketAddr]) -> (Serin, Pki) {
    let authority = Pki::new().unwrap();
    let files = authority.issue("0", &["a.example"], Valid::Now).unwrap();
    let config = format!(
        "[runtime]\nthreads = 1\n[[listener]]\nname = \"https\"\naddress = \"@http@\"\n\
         tls.certificates = [{{ cert_file = {:?}, key_file = {:?} }}]\n\
         [service.web]\nhosts = [\"*\"]\nstable = {}\n",
        files.certificate,
        files.key,
        list(stable)
    );
    (Serin::start(&config).await.unwrap(), authority)
}

/// A user's connection by TLS.
pub(crate) async fn user_by_tls(serin: &Serin, authority: &Pki) -> Wire<TlsStream<TcpStream>> {
    Wire::connect_by_tls(serin.http(), &authority.ca(), "a.example").await.unwrap()
}

/// Addresses as the configuration has them.
pub(crate) fn list(addresses: &[SocketAddr]) -> String {
    format!("{:?}", addresses.iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A user's connection.
pub(crate) async fn user(serin: &Serin) -> Wire {
    Wire::connect(serin.http()).await.unwrap()
}

/// So many bytes, each of which says where it belongs.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    // A prime, so that no power of two is a period of it.
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// A `GET` of this target.
pub(crate) fn get(target: impl Display) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

/// A `POST` to this target.
pub(crate) fn post(target: impl Display, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The answer to this request from a new user.
pub(crate) async fn ask(serin: &Serin, request: impl AsRef<[u8]>) -> Message {
    let mut user = user(serin).await;
    user.send(request).await.unwrap();
    user.response().await.unwrap()
}

/// Another user is served meanwhile, over a connection of its own to the endpoint.
pub(crate) async fn another_is_served(serin: &Serin, origin: &Origin) {
    let answering = async {
        let (mut wire, _) = origin.request().await.unwrap();
        wire.send(ok("hi")).await.unwrap();
    };
    let (answer, ()) = tokio::join!(ask(serin, get("/other")), answering);
    assert_eq!(answer.text(), "hi");
}

/// The sum of a metric's samples whose line holds all of these.
pub(crate) async fn metric(serin: &Serin, name: &str, holds: &[&str]) -> u64 {
    let text = serin.ask("/metrics").await.unwrap().text();
    let named = text.lines().filter(|line| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']));
    let samples = named.filter(|line| holds.iter().all(|part| line.contains(part)));
    let values = samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let sum = values.sum::<f64>() as u64;
    sum
}

/// How many first attempts were bad for this reason.
pub(crate) async fn bad(serin: &Serin, reason: &str) -> u64 {
    metric(serin, "serin_bad_requests_total", &[&format!("reason=\"{reason}\"")]).await
}

/// Waits until so many first attempts were bad for this reason, and nothing was for another.
pub(crate) async fn is_blamed(serin: &Serin, reason: &str, times: u64) {
    let what = format!("{times} bad for {reason}");
    eventually(PATIENCE, &what, async || (bad(serin, reason).await == times).then_some(())).await;
    for other in REASONS.into_iter().filter(|other| *other != reason) {
        assert_eq!(bad(serin, other).await, 0, "{other}");
    }
}

/// Waits until so many requests are over, and makes sure that nobody was blamed for any.
pub(crate) async fn nobody_is_blamed(serin: &Serin, requests: u64) {
    let what = format!("{requests} requests over");
    let over = async || (metric(serin, "serin_requests_total", &[]).await == requests).then_some(());
    eventually(PATIENCE, &what, over).await;
    for reason in REASONS {
        assert_eq!(bad(serin, reason).await, 0, "{reason}");
    }
}
