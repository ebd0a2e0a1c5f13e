//! TLS towards clients that nobody here wrote: curl and OpenSSL.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::expect_used, reason = "a test that can't go on has failed")]

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serin_tests::eventually::eventually;
use serin_tests::origin::{Origin, Played, ok};
use serin_tests::pki::{Identity, Pki, Valid};
use serin_tests::process::Signal;
use serin_tests::serin::Serin;
use serin_tests::wire::{Message, Wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(20);
/// The beginning of an answer of the application.
const SERVED: &str = "HTTP/1.1 200";

/// A daemon with a TLS listener in front of an application that answers with the request as it came.
struct Scene {
    serin: Serin,
    authority: Pki,
    config: String,
    _origin: Played,
}

/// `cert_file` and `key_file` of a certificate.
fn entry(files: &Identity) -> String {
    format!("{{ cert_file = {:?}, key_file = {:?} }}", files.certificate, files.key)
}

/// A request, as it came to the application.
fn told(request: &Message) -> Vec<u8> {
    let fields: String = request.fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    [format!("{}\n{fields}\n", request.start).as_bytes(), &request.body].concat()
}

impl Scene {
    /// With a certificate for each group of names, in files `0`, `1`, …, and further lines in the listener.
    async fn start(names: &[&[&str]], lines: &str) -> Self {
        let authority = Pki::new().unwrap();
        let lines = lines.replace("@ca@", authority.ca().to_str().unwrap());
        let issue =
            |(index, names): (usize, &&[&str])| entry(&authority.issue(&index.to_string(), names, Valid::Now).unwrap());
        let certificates: Vec<String> = names.iter().enumerate().map(issue).collect();
        let origin = Origin::bind().await.unwrap().play(|request| ok(told(request)));
        let config = format!(
            "[[listener]]\nname = \"https\"\naddress = \"@http@\"\ntls.certificates = [{}]\n{lines}\n\
             [service.web]\nhosts = [\"*\"]\nstable = [\"{}\"]\n[service.web.split]\nsticky = \"cookie\"\n",
            certificates.join(", "),
            origin.address()
        );
        Self { serin: Serin::start(&config).await.unwrap(), authority, config, _origin: origin }
    }

    /// From now on clients must show a certificate.
    async fn ask_for_certificates(&self) {
        let asked = format!("tls.client_ca_file = {:?}\n\n[service.web]", self.authority.ca());
        self.serin.rewrite(&self.config.replace("\n[service.web]", &asked)).unwrap();
        self.serin.signal(Signal::HUP).unwrap();
        let reloaded = async || self.serin.logs().contains("Configuration reloaded").then_some(());
        eventually(PATIENCE, "the reload", reloaded).await;
    }

    /// curl to a host of this daemon.
    async fn curl(&self, host: &str, arguments: &[&str]) -> Output {
        let port = self.serin.http().port();
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--include", "--max-time", "20", "--cacert"]);
        command.arg(self.authority.ca()).arg("--resolve").arg(format!("{host}:{port}:127.0.0.1")).args(arguments);
        command.arg(format!("https://{host}:{port}/page?x=1")).output().await.expect("curl is installed")
    }

    /// What curl was answered.
    async fn page(&self, host: &str, arguments: &[&str]) -> String {
        let output = self.curl(host, arguments).await;
        assert!(output.status.success(), "{host}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// OpenSSL's client, connected as soon as it writes its first line.
    fn openssl(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new("openssl");
        command.arg("s_client").arg("-connect").arg(self.serin.http().to_string()).args(arguments);
        command.arg("-CAfile").arg(self.authority.ca()).kill_on_drop(true);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed")
    }

    /// All that OpenSSL says of a handshake.
    async fn handshake(&self, arguments: &[&str]) -> String {
        let mut client = self.openssl(arguments);
        drop(client.stdin.take());
        String::from_utf8_lossy(&client.wait_with_output().await.unwrap().stdout).into_owned()
    }

    /// All that OpenSSL says of a handshake and one request.
    async fn request(&self, arguments: &[&str]) -> String {
        let mut client = self.openssl(&[&["-ign_eof"], arguments].concat());
        let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
        // Who is refused may be gone already.
        let _what_it_says_tells = client.stdin.as_mut().unwrap().write_all(request).await;
        String::from_utf8_lossy(&client.wait_with_output().await.unwrap().stdout).into_owned()
    }
}

#[tokio::test]
async fn curl_is_served_by_tls_with_the_certificate_of_the_name_that_it_asks_for() {
    // given two certificates
    let scene = Scene::start(&[&["a.example"], &["b.example", "*.c.example"]], "tls.hsts = \"365d\"").await;
    for host in ["a.example", "b.example", "x.c.example"] {
        // when curl, which trusts their authority, comes by name
        let page = scene.page(host, &[]).await.to_lowercase();
        // then the application hears that the client came by https, and the client that it is to come back so
        assert!(page.starts_with("http/2 200"), "{page}");
        assert!(page.contains("x-forwarded-proto: https") && page.contains("get /page?x=1"), "{page}");
        assert!(page.contains("strict-transport-security: max-age=31536000"), "{page}");
        assert!(page.contains("; secure"), "the cookie may go over the clear: {page}");
    }
    // and a name that no certificate is for is shown the first, which curl doesn't take for it
    let refused = scene.curl("d.example", &[]).await;
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("no alternative certificate subject name"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn large_bodies_come_through_tls_whole() {
    let scene = Scene::start(&[&["a.example"]], "").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_be_bytes()[3] ^ n.to_be_bytes()[1]).collect();
    std::fs::write(file.path(), &body).unwrap();
    let at = format!("@{}", file.path().display());
    let output = scene.curl("a.example", &["--data-binary", &at, "--header", "Expect:"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The application answers with the body that it got.
    assert!(output.stdout.ends_with(&body), "{} bytes", output.stdout.len());
}

#[tokio::test]
async fn old_versions_are_refused_and_both_new_ones_spoken() {
    let scene = Scene::start(&[&["a.example"]], "").await;
    for version in ["-tls1_2", "-tls1_3"] {
        let said = scene.handshake(&[version, "-alpn", "http/1.1"]).await;
        assert!(said.contains("Verify return code: 0 (ok)") && said.contains("ALPN protocol: http/1.1"), "{said}");
    }
    let strict = Scene::start(&[&["a.example"]], "tls.min_version = \"1.3\"").await;
    for (scene, version) in [(&scene, "-tls1_1"), (&strict, "-tls1_2")] {
        // Security level 0 lets OpenSSL itself offer it.
        let said = scene.handshake(&[version, "-cipher", "ALL:@SECLEVEL=0"]).await;
        assert!(said.contains("Cipher is (NONE)"), "{said}");
        let failed = scene.serin.metric("serin_tls_handshakes_failed_total").await.unwrap();
        assert!(failed >= 1.0, "{failed}");
    }
}

#[tokio::test]
async fn a_session_is_resumed_also_after_its_certificate_was_renewed() {
    let scene = Scene::start(&[&["a.example"]], "").await;
    let file = scene.serin.dir().join("session");
    let session = file.to_str().unwrap();
    let first = scene.request(&["-sess_out", session]).await;
    assert!(first.contains("\nNew, TLSv1.3"), "{first}");
    renew(&scene).await;
    let second = scene.request(&["-sess_in", session]).await;
    assert!(second.contains("\nReused, TLSv1.3"), "{second}");
}

/// Renews the first certificate and waits until it is shown.
async fn renew(scene: &Scene) {
    let before = shown(scene).await;
    scene.authority.issue("0", &["a.example"], Valid::Now).unwrap();
    eventually(PATIENCE, "the new certificate", async || (shown(scene).await != before).then_some(())).await;
}

/// The certificate that a new client is shown.
async fn shown(scene: &Scene) -> String {
    let said = scene.handshake(&[]).await;
    let begin = said.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("no certificate: {said}"));
    said[begin..].split("-----END").next().unwrap().to_owned()
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_and_open_connections_stay() {
    // given a client that was served once
    let scene = Scene::start(&[&["a.example"]], "").await;
    let mut client = scene.openssl(&["-quiet"]);
    let (mut input, mut output) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    let mut ask = async |path: &str| {
        input.write_all(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains(&format!("GET {path} ")) {
            assert!(output.read_buf(&mut answer).await.unwrap() > 0, "the connection was closed");
        }
    };
    ask("/before").await;
    // when the files of the certificate are written anew
    renew(&scene).await;
    // then the client is served on its connection
    ask("/after").await;
}

#[tokio::test]
async fn a_certificate_without_its_key_replaces_nothing_until_the_key_is_there_too() {
    let scene = Scene::start(&[&["a.example"]], "").await;
    let before = shown(&scene).await;
    let dir = scene.authority.ca();
    let key = dir.with_file_name("0-key.pem");
    let kept = std::fs::read(&key).unwrap();
    // given a renewal of which only the certificate has arrived
    let files = scene.authority.issue("new", &["a.example"], Valid::Now).unwrap();
    std::fs::copy(&files.certificate, dir.with_file_name("0-cert.pem")).unwrap();
    eventually(PATIENCE, "the refusal", async || scene.serin.logs().contains("the old ones stay").then_some(())).await;
    assert!(scene.serin.logs().contains("isn't that of the certificate"), "{}", scene.serin.logs());
    assert_eq!((shown(&scene).await, std::fs::read(&key).unwrap()), (before.clone(), kept));
    // when the key comes
    std::fs::copy(&files.key, &key).unwrap();
    eventually(PATIENCE, "the new certificate", async || (shown(&scene).await != before).then_some(())).await;
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_the_authority_get_in_where_that_is_required() {
    let scene = Scene::start(&[&["a.example"]], "tls.client_ca_file = \"@ca@\"").await;
    let own = scene.authority.issue("client", &["client.example"], Valid::Now).unwrap();
    let strangers = Pki::new().unwrap();
    let stranger = strangers.issue("client", &["client.example"], Valid::Now).unwrap();
    let with = |files: &Identity| ["--cert", text(&files.certificate), "--key", text(&files.key)].map(str::to_owned);
    let page = scene.page("a.example", &with(&own).each_ref().map(String::as_str)).await;
    assert!(page.starts_with("HTTP/2 200"), "{page}");
    for refused in [
        scene.curl("a.example", &[]).await,
        scene.curl("a.example", &with(&stranger).each_ref().map(String::as_str)).await,
    ] {
        assert!(!refused.status.success(), "{}", String::from_utf8_lossy(&refused.stdout));
    }
}

#[tokio::test]
async fn nobody_gets_in_by_a_session_where_certificates_are_asked_for() {
    for version in ["-tls1_2", "-tls1_3"] {
        // given a client that was let in by its certificate, and one from before certificates were asked for
        let scene = Scene::start(&[&["a.example"]], "").await;
        let own = scene.authority.issue("client", &["client.example"], Valid::Now).unwrap();
        let certificate = ["-cert", text(&own.certificate), "-key", text(&own.key)];
        let (before, known) = (scene.serin.dir().join("before"), scene.serin.dir().join("known"));
        let anonymous = scene.request(&[version, "-sess_out", text(&before)]).await;
        assert!(anonymous.contains(SERVED) && before.exists(), "{anonymous}");
        scene.ask_for_certificates().await;
        let let_in = scene.request(&[&[version, "-sess_out", text(&known)], &certificate[..]].concat()).await;
        assert!(let_in.contains(SERVED), "{let_in}");
        // when they come back with their sessions and without a certificate
        for session in [&before, &known].into_iter().filter(|session| session.exists()) {
            let back = scene.request(&[version, "-sess_in", text(session)]).await;
            // then neither gets in
            assert!(!back.contains(SERVED) && !back.contains("\nReused"), "{version} {session:?}: {back}");
        }
        // and a certificate is shown by who comes back with both
        let back = scene.request(&[&[version, "-sess_in", text(&before)], &certificate[..]].concat()).await;
        assert!(back.contains(SERVED) && back.contains("\nNew"), "{back}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn who_never_finishes_a_handshake_is_cut_like_who_never_finishes_a_head() {
    let scene = Scene::start(&[&["a.example"]], "header_timeout = \"300ms\"").await;
    // One says nothing, one the beginning of a handshake, one something else.
    for words in [b"".as_slice(), b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"] {
        let mut client = Wire::connect(scene.serin.http()).await.unwrap();
        client.send(words).await.unwrap();
        let (said, _end) = client.rest().await.unwrap();
        // At most an alert, which has seven bytes.
        assert!(said.len() <= 7, "{said:?}");
    }
    assert_eq!(scene.serin.metric("serin_tls_handshakes_failed_total").await.unwrap(), 3.0);
    assert_eq!(scene.serin.metric("serin_connections").await.unwrap(), 0.0);
}

#[tokio::test]
async fn a_listener_without_tls_sends_clients_on_but_for_what_an_authority_asks() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("served in the clear"));
    let config = format!(
        "[[listener]]\nname = \"http\"\naddress = \"@http@\"\nredirect_to_https = 8443\n\
         [service.web]\nhosts = [\"a.example\"]\nstable = [\"{}\"]\n",
        origin.address()
    );
    let serin = Serin::start(&config).await.unwrap();
    let ask = async |request: &str| {
        let mut client = Wire::connect(serin.http()).await.unwrap();
        client.send(request).await.unwrap();
        client.response().await.unwrap()
    };
    for request in [
        "GET /a%20b?c=d HTTP/1.1\r\nHost: A.example:80\r\n\r\n",
        "POST /a%20b?c=d HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let answer = ask(request).await;
        assert_eq!((answer.status(), answer.get("location")), (308, Some("https://a.example:8443/a%20b?c=d")));
    }
    let challenge = ask("GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    assert_eq!(challenge.status(), 200);
    // A host that nobody answers for isn't sent anywhere.
    assert_eq!(ask("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").await.status(), 404);
    assert_eq!(origin.requests().unwrap().len(), 1);
}
