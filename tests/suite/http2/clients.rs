//! curl, nghttp and h2load.

use std::net::SocketAddr;
use std::process::Output;

use serin_tests::origin::{Origin, Played, ok};
use serin_tests::pki::{Pki, Valid};
use serin_tests::serin::Serin;
use serin_tests::wire::Message;
use tokio::process::Command;

use super::given::serin;
use crate::wire::given::{metric, nobody_is_blamed};

/// A request, as it came to the application.
fn told(request: &Message) -> Vec<u8> {
    let fields: String = request.fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    [format!("{}\n{fields}\n", request.start).as_bytes(), &request.body].concat()
}

/// A daemon with TLS in front of an application that answers with the request as it came.
struct Scene {
    serin: Serin,
    authority: Pki,
    _origin: Played,
}

impl Scene {
    /// With further lines in the listener.
    async fn start(lines: &str) -> Self {
        let authority = Pki::new().unwrap();
        let own = authority.issue("own", &["a.example", "b.example"], Valid::Now).unwrap();
        let origin = Origin::bind().await.unwrap().play(|request| ok(told(request)));
        let config = format!(
            "[[listener]]\nname = \"https\"\naddress = \"@http@\"\n\
             tls.certificates = [{{ cert_file = {:?}, key_file = {:?} }}]\ntls.hsts = \"1d\"\n{lines}\n\
             [service.web]\nhosts = [\"a.example\"]\nstable = [\"{}\"]\n[service.web.split]\nsticky = \"cookie\"\n",
            own.certificate,
            own.key,
            origin.address()
        );
        Self { serin: Serin::start(&config).await.unwrap(), authority, _origin: origin }
    }

    async fn curl(&self, host: &str, arguments: &[&str]) -> String {
        let port = self.serin.http().port();
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--include", "--max-time", "20", "--cacert"]);
        command.arg(self.authority.ca()).arg("--resolve").arg(format!("{host}:{port}:127.0.0.1")).args(arguments);
        text(&command.arg(format!("https://{host}:{port}/page?x=1")).output().await.expect("curl is installed"))
    }
}

/// What a client says that came to a good end.
fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn plain_curl(address: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--max-time", "20"]).args(arguments);
    command.arg(format!("http://{address}/page")).output().await.expect("curl is installed")
}

#[tokio::test]
async fn curl_chooses_http2_by_tls_where_it_is_spoken() {
    let scene = Scene::start("").await;
    let page = scene.curl("a.example", &["--http2", "--cookie", "a=b"]).await;
    assert!(page.starts_with("HTTP/2 200"), "{page}");
    for told in ["GET /page?x=1 HTTP/1.1", "host: a.example:", "x-forwarded-proto: https", "cookie: a=b"] {
        assert!(page.contains(told), "{told} isn't in {page}");
    }
    assert!(page.contains("set-cookie: serin_key=") && page.contains("; Secure"), "{page}");
    assert!(scene.curl("a.example", &["--http1.1"]).await.starts_with("HTTP/1.1 200"));
    let without = Scene::start("http2.enabled = false").await;
    assert!(without.curl("a.example", &["--http2"]).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn serins_own_answers_say_too_that_clients_are_to_come_by_https() {
    let scene = Scene::start("").await;
    for version in ["--http1.1", "--http2"] {
        let page = scene.curl("b.example", &[version]).await.to_lowercase();
        assert!(page.contains(" 404") && page.contains("x-serin-error: no_service"), "{page}");
        assert!(page.contains("strict-transport-security: max-age=86400"), "{page}");
    }
}

#[tokio::test]
async fn without_tls_http2_is_spoken_with_who_begins_with_it_where_it_is_asked_for() {
    let origin = Origin::bind().await.unwrap().play(|request| ok(told(request)));
    let both = serin(&[origin.address()], "", "").await;
    let page = text(&plain_curl(both.http(), &["--http2-prior-knowledge"]).await);
    assert!(page.starts_with("HTTP/2 200") && page.contains("x-forwarded-proto: http\n"), "{page}");
    for version in ["--http1.1", "--http2"] {
        let page = text(&plain_curl(both.http(), &[version]).await);
        assert!(page.starts_with("HTTP/1.1 200") && !page.contains("upgrade"), "{page}");
    }
    let config = format!("[service.web]\nhosts = [\"*\"]\nstable = [\"{}\"]\n", origin.address());
    let one = Serin::start(&config).await.unwrap();
    assert!(!plain_curl(one.http(), &["--http2-prior-knowledge"]).await.status.success());
    assert!(text(&plain_curl(one.http(), &[]).await).starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn large_bodies_come_through_both_ways() {
    let scene = Scene::start("").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let body: String = (0..500_000_u32).map(|n| format!("{n:07}")).collect();
    std::fs::write(file.path(), &body).unwrap();
    let at = format!("@{}", file.path().display());
    let page = scene.curl("a.example", &["--http2", "--data-binary", &at]).await;
    assert!(page.starts_with("HTTP/2 200") && page.contains("content-length: 3500000\n"), "{:.300}", page);
    assert!(page.ends_with(&body), "{} bytes", page.len());
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let origin = Origin::bind().await.unwrap().play(|request| match request.target() {
        "/page" if request.start.starts_with("HEAD") => b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
    });
    let serin = serin(&[origin.address()], "", "").await;
    let head = text(&plain_curl(serin.http(), &["--http2-prior-knowledge", "--head"]).await);
    assert!(head.starts_with("HTTP/2 200") && head.contains("content-length: 1234"), "{head}");
    let none = text(&plain_curl(serin.http(), &["--http2-prior-knowledge"]).await);
    assert!(none.starts_with("HTTP/2 204"), "{none}");
}

#[tokio::test]
async fn nghttp_gets_many_answers_at_once_and_h2load_very_many() {
    let origin = Origin::bind().await.unwrap().play(|request| ok(request.target()));
    let serin = serin(&[origin.address()], "", "").await;
    let urls = (0..20).map(|n| format!("http://{}/page/{n}", serin.http()));
    let pages = text(&Command::new("nghttp").args(urls).output().await.expect("nghttp is installed"));
    assert!((0..20).all(|n| pages.contains(&format!("/page/{n}"))), "{pages}");
    let mut load = Command::new("h2load");
    load.args(["--requests=2000", "--clients=5", "--max-concurrent-streams=20"])
        .arg(format!("http://{}/", serin.http()));
    let report = text(&load.output().await.expect("h2load is installed"));
    assert!(report.contains("2000 succeeded, 0 failed, 0 errored"), "{report}");
    nobody_is_blamed(&serin, 2_020).await;
    assert_eq!(metric(&serin, "serin_requests_total", &["2xx"]).await, 2_020);
}

#[tokio::test]
async fn who_expects_to_be_told_to_go_on_is_refused_before_its_body_or_goes_on_by_itself() {
    let origin = Origin::bind().await.unwrap().play(|request| ok(told(request)));
    let serin = serin(&[origin.address()], "", "max_body = \"1KiB\"").await;
    let nghttp = async |body: usize| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'x'; body]).unwrap();
        let mut command = Command::new("nghttp");
        command.args(["--verbose", "--no-dep", "--expect-continue", "--data"]).arg(file.path());
        text(&command.arg(format!("http://{}/", serin.http())).output().await.expect("nghttp is installed"))
    };
    // what is refused by its head is refused before anything more of it is sent
    let refused = nghttp(5_000).await;
    assert!(refused.contains(":status: 413") && !refused.contains("send DATA frame"), "{refused}");
    // what isn't is told nothing, and goes on when its client has waited for long enough
    let taken = nghttp(500).await;
    assert!(taken.contains(":status: 200") && !taken.contains(":status: 100"), "{taken}");
    assert!(taken.contains("send DATA frame <length=500") && taken.contains("content-length: 500"), "{taken}");
    let (requests, _) = &origin.requests().unwrap()[0];
    assert_eq!((requests[0].get("expect"), requests[0].body.len()), (None, 500));
}
