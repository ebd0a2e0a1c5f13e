//! The PROXY protocol, in and out: by raw bytes, and with curl and HAProxy on the other side.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::net::SocketAddr;
use std::time::Duration;

use serin_tests::eventually::eventually;
use serin_tests::haproxy::HaProxy;
use serin_tests::origin::{Origin, Played, ok};
use serin_tests::pki::{Pki, Valid};
use serin_tests::serin::Serin;
use serin_tests::wire::{End, Message, Wire};
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(20);
const GET: &str = "GET /page HTTP/1.1\r\nHost: a.example\r\n\r\n";
/// From 203.0.113.7:4000 to 198.51.100.1:443, with something that nobody knows behind it.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x11\xcb\x00\x71\x07\xc6\x33\x64\x01\x0f\xa0\x01\xbb\xee\x00\x02hi";
const V1: &str = "PROXY TCP4 203.0.113.7 198.51.100.1 4000 443\r\n";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

/// An application that answers with whose the request is.
async fn application() -> Played {
    Origin::bind().await.unwrap().play(|request| ok(request.get("x-forwarded-for").unwrap_or("nobody's")))
}

/// A daemon whose listener has these further lines.
async fn serin(stable: SocketAddr, listener: &str, service: &str) -> Serin {
    let config = format!(
        "[[listener]]\nname = \"http\"\naddress = \"@http@\"\n{listener}\n\
         [service.web]\nhosts = [\"*\"]\nstable = [\"{stable}\"]\n{service}\n"
    );
    Serin::start(&config).await.unwrap()
}

async fn ask(serin: &Serin, bytes: impl AsRef<[u8]>) -> Message {
    let mut wire = Wire::connect(serin.http()).await.unwrap();
    wire.send(bytes).await.unwrap();
    wire.response().await.unwrap()
}

async fn refused(serin: &Serin, count: f64) {
    let counted = async || (serin.metric("serin_proxy_headers_refused_total").await.ok()? == count).then_some(());
    eventually(PATIENCE, &format!("{count} headers are refused"), counted).await;
}

/// What curl gets at this address, coming from 127.0.0.9.
async fn curl(url: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--interface", "127.0.0.9"]).args(arguments);
    let output = command.arg(url).output().await.unwrap();
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_connection_is_its_clients_and_not_that_of_the_proxy_in_front() {
    let application = application().await;
    let serin = serin(application.address(), "proxy_protocol = [\"127.0.0.0/8\"]", "").await;
    for (header, client) in [
        (V1.as_bytes(), "203.0.113.7"),
        (V2, "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::9 ::1 1 2\r\n", "2001:db8::9"),
        (b"PROXY TCP6 ::ffff:203.0.113.8 ::1 1 2\r\n", "203.0.113.8"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (LOCAL, "127.0.0.1"),
    ] {
        // whether it all comes at once or byte by byte
        assert_eq!(ask(&serin, [header, GET.as_bytes()].concat()).await.text(), client);
        let mut wire = Wire::connect(serin.http()).await.unwrap();
        for byte in [header, GET.as_bytes()].concat() {
            wire.send([byte]).await.unwrap();
        }
        assert_eq!(wire.response().await.unwrap().text(), client);
        // and it stays that client's
        wire.send(GET).await.unwrap();
        assert_eq!(wire.response().await.unwrap().text(), client);
    }
    refused(&serin, 0.0).await;
}

#[tokio::test]
async fn a_proxy_in_front_that_gives_no_header_or_a_bad_one_gets_no_answer() {
    let application = application().await;
    let serin = serin(application.address(), "proxy_protocol = [\"127.0.0.1\"]\nheader_timeout = \"300ms\"", "").await;
    let bad: [&[u8]; 6] = [
        GET.as_bytes(),
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4000 70000\r\n",
        // cut short: in the line, in the address, before the end of what it says
        b"PROXY TCP4 203.0.113.7",
        &V2[..20],
        &V2[..V2.len() - 1],
        b"",
    ];
    for (index, bytes) in bad.into_iter().enumerate() {
        let mut wire = Wire::connect(serin.http()).await.unwrap();
        wire.send(bytes).await.unwrap();
        wire.ended().await.unwrap();
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        refused(&serin, (index + 1) as f64).await;
    }
    assert_eq!(application.bytes().len(), 0);
}

#[tokio::test]
async fn nobody_else_can_say_whose_a_connection_is() {
    let application = application().await;
    let serin = serin(application.address(), "proxy_protocol = [\"10.0.0.0/8\"]", "").await;
    assert_eq!(ask(&serin, GET).await.text(), "127.0.0.1");
    for header in [V1.as_bytes(), V2] {
        let mut wire = Wire::connect(serin.http()).await.unwrap();
        wire.send([header, GET.as_bytes()].concat()).await.unwrap();
        let (answer, _) = wire.rest().await.unwrap();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{:?}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(application.requests().unwrap().iter().map(|(requests, _)| requests.len()).sum::<usize>(), 1);
}

#[tokio::test]
async fn who_is_trusted_is_said_of_the_client_and_not_of_the_proxy_in_front() {
    let application = application().await;
    let listener = "proxy_protocol = [\"127.0.0.1\"]\ntrusted = [\"203.0.113.0/24\"]";
    let serin = serin(application.address(), listener, "").await;
    let told = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
    assert_eq!(ask(&serin, [V1, told].concat()).await.text(), "192.0.2.1, 203.0.113.7");
    assert_eq!(ask(&serin, ["PROXY UNKNOWN\r\n", told].concat()).await.text(), "127.0.0.1");
}

#[tokio::test]
async fn curls_header_is_read_also_in_front_of_tls() {
    let application = application().await;
    let plain = serin(application.address(), "proxy_protocol = [\"127.0.0.0/8\"]", "").await;
    let url = format!("http://{}/", plain.http());
    assert_eq!(curl(&url, &["--haproxy-protocol"]).await, "127.0.0.9");
    let authority = Pki::new().unwrap();
    let files = authority.issue("a", &["localhost"], Valid::Now).unwrap();
    let listener = format!(
        "proxy_protocol = [\"127.0.0.0/8\"]\ntls.certificates = [{{ cert_file = {:?}, key_file = {:?} }}]",
        files.certificate, files.key
    );
    let tls = serin(application.address(), &listener, "").await;
    let url = format!("https://localhost:{}/", tls.http().port());
    let ca = authority.ca();
    assert_eq!(curl(&url, &["--haproxy-protocol", "--cacert", ca.to_str().unwrap()]).await, "127.0.0.9");
    refused(&tls, 0.0).await;
}

#[tokio::test]
async fn haproxy_in_front_and_haproxy_behind_agree_on_who_the_client_is() {
    let behind = HaProxy::telling_addresses().await.unwrap();
    for (before, after) in
        [("send-proxy", "v2"), ("send-proxy-v2", "v1"), ("send-proxy-v2 proxy-v2-options crc32c", "v2")]
    {
        let service = format!("proxy_protocol = \"{after}\"\n[service.web.health]\nrise = 1\ninterval = \"100ms\"");
        let serin = serin(behind.address(), "proxy_protocol = [\"127.0.0.1\"]", &service).await;
        // its checks pass: they have a header too
        let up = async || serin.service("web").await.ok()?.to_string().contains("\"ready\":1").then_some(());
        eventually(PATIENCE, "the endpoint is up", up).await;
        let front = HaProxy::in_front_of(serin.http(), before).await.unwrap();
        assert_eq!(curl(&format!("http://{}/", front.address()), &[]).await, "127.0.0.9", "{before}, {after}");
    }
}

#[tokio::test]
async fn a_connection_to_an_endpoint_says_whose_it_is_and_is_nobody_elses() {
    let origin = Origin::bind().await.unwrap();
    let service = "proxy_protocol = \"v1\"\n[service.web.timeouts]\nkeep_alive = \"4s\"";
    let serin = serin(origin.address(), "trusted = [\"127.0.0.1\"]", service).await;
    let mut wire = Wire::connect(serin.http()).await.unwrap();
    // given two requests of a client that follow closely
    wire.send([GET, GET].concat()).await.unwrap();
    let mut endpoint = origin.accept().await.unwrap();
    let header = line(&mut endpoint).await;
    let words: Vec<&str> = header.split(' ').collect();
    assert_eq!((words[..3].join(" ").as_str(), words[5]), ("PROXY TCP4 127.0.0.1", &*serin.http().port().to_string()));
    // then they share a connection, which is introduced once
    for _ in 0..2 {
        endpoint.request().await.unwrap();
        endpoint.send(ok("yes")).await.unwrap();
        assert_eq!(wire.response().await.unwrap().text(), "yes");
    }
    // and another client gets another, also where it comes by the same proxy and connection
    let mut other = Wire::connect(serin.http()).await.unwrap();
    other.send(GET).await.unwrap();
    let mut others = origin.accept().await.unwrap();
    assert!(line(&mut others).await.starts_with("PROXY TCP4 127.0.0.1 "));
    others.request().await.unwrap();
    others.send(ok("other")).await.unwrap();
    assert_eq!(other.response().await.unwrap().text(), "other");
    other.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n").await.unwrap();
    let mut forwarded = origin.accept().await.unwrap();
    let header = line(&mut forwarded).await;
    assert!(header.starts_with("PROXY TCP4 203.0.113.7 127.0.0.1 0 "), "{header}");
    forwarded.request().await.unwrap();
    forwarded.send(ok("forwarded")).await.unwrap();
    assert_eq!(other.response().await.unwrap().text(), "forwarded");
    // none is kept for longer than its client's next request may follow at once
    for endpoint in [&mut endpoint, &mut others, &mut forwarded] {
        assert_eq!(endpoint.rest().await.unwrap(), (vec![], End::Closed));
    }
}

/// The line of version 1 at the front of a connection.
async fn line(endpoint: &mut Wire) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(endpoint.take(1).await.unwrap());
    }
    String::from_utf8(line).unwrap().trim_end().to_owned()
}
