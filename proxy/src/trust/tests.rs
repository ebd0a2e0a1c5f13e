//! Files as operators have them, and handshakes with a server in the same process.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::model::tls::{CertificateSpec, EndpointTlsSpec, FileContent};

/// An authority, and certificates that it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
struct Pair {
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        Self::called("the authority")
    }

    fn called(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, name: &str) -> Pair {
        self.issue_for(name, 2000..4000)
    }

    /// With a time that begins and ends with these years.
    fn issue_for(&self, name: &str, years: std::ops::Range<i32>) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(years.start, 1, 1), date_time_ymd(years.end, 1, 1));
        let key = KeyPair::generate().expect("a key");
        let chain = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Pair { chain, key: key.serialize_pem() }
    }
}

fn file(content: &str) -> FileContent {
    FileContent { file: "/etc/serin/x.pem".into(), content: content.as_bytes().into() }
}

fn identity(chain: &str, key: &str) -> Option<CertificateSpec> {
    Some(CertificateSpec { chain: file(chain), key: file(key), ocsp: None })
}

/// Believes an authority, and asks for `app.internal`.
fn spec(authority: &str) -> EndpointTlsSpec {
    let server_name = Some("app.internal".to_owned());
    EndpointTlsSpec { server_name, authorities: Some(file(authority)), identity: None, verify: true }
}

/// A server that agrees to one protocol, or with none given says nothing of protocols, greets whoever comes, and may want certificates of an authority.
async fn server(own: &Pair, alpn: &str, clients: Option<&Authority>) -> std::net::SocketAddr {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let chain = pem::chain(authority.pem.as_bytes()).expect("a certificate");
            let roots = Arc::new(pem::authorities(chain).expect("an authority"));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().expect("a verifier");
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (chain, key) = (pem::chain(own.chain.as_bytes()), pem::key(own.key.as_bytes()));
    let mut config = builder.with_single_cert(chain.expect("a chain"), key.expect("a key")).expect("a pair");
    config.alpn_protocols = Some(alpn.as_bytes().to_vec()).filter(|alpn| !alpn.is_empty()).into_iter().collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _who_left_needs_no_greeting = stream.write_all(b"hello").await;
                let _and_no_farewell = stream.shutdown().await;
            }
        }
    });
    address
}

/// A server that takes whatever comes for HTTP without TLS.
async fn who_speaks_no_tls() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _who_left_needs_no_answer = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _until_it_leaves = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    address
}

/// What a server says to a client, and whether they knew each other.
async fn greeting(client: &Client, at: std::net::SocketAddr, words: Words) -> Result<(String, HandshakeKind), Fault> {
    let stream = TcpStream::connect(at).await.expect("it listens");
    let mut stream = client.connect(stream, at, words).await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await.map_err(|error| Fault::of(&error).expect("it is about TLS"))?;
    Ok((said, stream.get_ref().1.handshake_kind().expect("it is over")))
}

#[tokio::test]
async fn a_server_of_the_authority_is_believed_and_known_again() {
    let authority = Authority::new();
    let client = Client::new("web", &spec(&authority.pem)).expect("a client");
    let (one, other) = (authority.issue("app.internal"), authority.issue("app.internal"));
    let (one, other) = (server(&one, "http/1.1", None).await, server(&other, "http/1.1", None).await);
    let kind = async |at| {
        let (said, kind) = greeting(&client, at, Words::Http1).await.expect("it is believed");
        assert_eq!(said, "hello");
        kind
    };
    assert_eq!((kind(one).await, kind(one).await), (HandshakeKind::Full, HandshakeKind::Resumed));
    // Sessions are an endpoint's own: another one knows nothing of them.
    assert_eq!((kind(other).await, kind(one).await), (HandshakeKind::Full, HandshakeKind::Resumed));
}

#[tokio::test]
async fn a_server_that_is_not_believed_is_told_apart_by_why() {
    let (authority, made_anew, stranger) = (Authority::new(), Authority::new(), Authority::called("a stranger"));
    let client = Client::new("web", &spec(&authority.pem)).expect("a client");
    let good = authority.issue("app.internal");
    let (old, early) =
        (authority.issue_for("app.internal", 1990..2001), authority.issue_for("app.internal", 3000..3001));
    for (server, words, fault) in [
        (server(&stranger.issue("app.internal"), "http/1.1", None).await, Words::Http1, Fault::UnknownAuthority),
        (server(&made_anew.issue("app.internal"), "http/1.1", None).await, Words::Http1, Fault::UnknownAuthority),
        (server(&old, "http/1.1", None).await, Words::Http1, Fault::OutOfTime),
        (server(&early, "http/1.1", None).await, Words::Http1, Fault::OutOfTime),
        (server(&good, "", None).await, Words::Http2, Fault::NoHttp2),
        (who_speaks_no_tls().await, Words::Http1, Fault::NotTls),
        (server(&authority.issue("other.internal"), "http/1.1", None).await, Words::Http1, Fault::OtherName),
        (server(&good, "http/1.1", None).await, Words::Http2, Fault::NoHttp2),
        (server(&good, "http/1.1", Some(&authority)).await, Words::Http1, Fault::IdentityWanted),
    ] {
        assert_eq!(greeting(&client, server, words).await, Err(fault));
    }
}

#[tokio::test]
async fn what_a_client_shows_is_what_its_files_hold() {
    let authority = Authority::new();
    let own = authority.issue("serin");
    let spec = EndpointTlsSpec { identity: identity(&own.chain, &own.key), ..spec(&authority.pem) };
    let client = Client::new("web", &spec).expect("a client");
    let server = server(&authority.issue("app.internal"), "h2", Some(&authority)).await;
    assert_eq!(greeting(&client, server, Words::Http2).await.expect("it is believed").0, "hello");
}

#[tokio::test]
async fn anybody_is_believed_only_where_that_is_said() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = server(&stranger.issue("other.internal"), "http/1.1", None).await;
    let careless = EndpointTlsSpec { verify: false, authorities: None, server_name: None, ..spec(&authority.pem) };
    let client = Client::new("web", &careless).expect("a client");
    assert_eq!(greeting(&client, server, Words::Http1).await.expect("anybody is").0, "hello");
}

#[tokio::test]
async fn a_client_without_usable_files_connects_to_nobody() {
    let authority = Authority::new();
    let server = server(&authority.issue("app.internal"), "http/1.1", None).await;
    let error = Client::new("web", &spec("nothing")).expect_err("no certificate");
    let closed = Client::closed("web", error);
    let Err(Fault::Own(why)) = greeting(&closed, server, Words::Http1).await else { panic!("it connected") };
    assert!(why.contains("`ca_file`"), "{why}");
}

#[test]
fn files_that_cannot_be_used_are_refused_by_service_key_and_path_and_never_shown() {
    let authority = Authority::new();
    let (own, other) = (authority.issue("serin"), authority.issue("serin"));
    let with = |chain: &str, key: &str| EndpointTlsSpec { identity: identity(chain, key), ..spec(&authority.pem) };
    for (spec, reason) in [
        (spec(""), "`ca_file` in its `tls`: /etc/serin/x.pem holds no certificate"),
        (spec(&own.key), "`ca_file` in its `tls`: /etc/serin/x.pem holds no certificate"),
        (with("", &own.key), "`certificate_file` in its `tls`: /etc/serin/x.pem holds no certificate"),
        (with(&own.chain, &own.chain), "`key_file` in its `tls`: /etc/serin/x.pem holds no private key"),
        (with(&own.chain, &other.key), "can't be used together"),
    ] {
        let refused = Client::new("web", &spec).expect_err(reason);
        let told = format!("{refused} {refused:?}");
        assert!(told.contains("service `web`") && told.contains(reason), "{told}");
        assert!(!told.contains("BEGIN"), "{told}");
    }
}

#[test]
fn trouble_is_told_once_and_not_again_at_once() {
    let client = Client::new("web", &spec(&Authority::new().pem)).expect("a client");
    assert!(client.may_complain() && !client.may_complain());
}

#[test]
fn a_fault_is_found_within_what_others_made_of_it_and_only_there() {
    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapped(#[source] std::io::Error);
    let wanted = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
    assert_eq!(Fault::within(&Wrapped(std::io::Error::other(wanted))), Some(Fault::IdentityWanted));
    assert_eq!(Fault::within(&Wrapped(std::io::Error::other("reset"))), None);
}
