//! TLS towards clients: what a listener needs for its handshakes, replaced whole when its files change.
//!
//! `identity.rs` makes certificates of files, `resolver.rs` chooses one by what a client asks for. A connection
//! keeps what it was opened with; only later ones see a change.

mod identity;
mod resolver;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::{Accept, TlsAcceptor};

use self::identity::Identity;
use self::resolver::Resolver;
use crate::model::spec::ListenerSpec;
use crate::model::time::Timestamp;
use crate::model::tls::{Certificate, ClientsSpec, TlsSpec, TlsVersion};

/// What HTTP/2 is called in ALPN.
pub(crate) const HTTP2: &[u8] = b"h2";

/// Why the TLS of a listener can't be used. Never holds anything of a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file without a certificate.
    #[error("{} holds no certificate: it must be PEM, the server's own first, then those between it and the root", .0.display())]
    NoCertificate(PathBuf),
    /// A certificate that isn't one.
    #[error("{} holds a certificate that can't be read", .0.display())]
    Certificate(PathBuf),
    /// A file without a private key.
    #[error("{} holds no private key: it must be PEM, PKCS#8, PKCS#1 or SEC1, and not encrypted", .0.display())]
    NoKey(PathBuf),
    /// A key of another certificate, or of a kind that isn't known.
    #[error("the key in {} isn't that of the certificate in {}", .key.display(), .chain.display())]
    Mismatch {
        /// The certificate's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// A certificate whose time is over, where one is to be replaced by it.
    #[error("the certificate in {} expired at {expired}", .chain.display())]
    Expired {
        /// The certificate's file.
        chain: PathBuf,
        /// Its end.
        expired: Timestamp,
    },
    /// Authorities that aren't any.
    #[error("{} holds no usable certificate of an authority", .0.display())]
    Authorities(PathBuf),
    /// What rustls doesn't take.
    #[error("TLS can't be set up")]
    Rustls(#[from] rustls::Error),
}

/// The handshakes of a listener.
#[derive(Debug)]
pub(crate) struct Acceptor {
    config: ArcSwap<ServerConfig>,
    provider: Arc<CryptoProvider>,
    /// Whether clients may choose HTTP/2.
    http2: bool,
    /// Outlives a change of certificates, so that clients may resume their sessions after it: those who needn't say who
    /// they are. Rotates by itself.
    tickets: Arc<dyn ProducesTickets>,
}

impl Acceptor {
    /// Handshakes as the listener wants them, and its certificates. One that has expired is used: no other is there.
    pub(crate) fn new(spec: &TlsSpec, http2: bool) -> Result<(Self, Vec<Certificate>), TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tickets = aws_lc_rs::Ticketer::new()?;
        let identities = identity::read_all(spec, &provider)?;
        let certificates = describe(&identities);
        let config = configure(spec, identities, &provider, &tickets, http2)?;
        Ok((Self { config: ArcSwap::from_pointee(config), provider, http2, tickets }, certificates))
    }

    /// From the next connection on, handshakes as this wants them. On an error all stays as it was.
    pub(crate) fn replace(&self, spec: &TlsSpec, now: Timestamp) -> Result<Vec<Certificate>, TlsError> {
        let identities = identity::read_all(spec, &self.provider)?;
        if let Some(expired) = identities.iter().find(|identity| identity.about.expires <= now) {
            return Err(TlsError::Expired { chain: expired.file.clone(), expired: expired.about.expires });
        }
        let certificates = describe(&identities);
        let config = configure(spec, identities, &self.provider, &self.tickets, self.http2)?;
        self.config.store(Arc::new(config));
        Ok(certificates)
    }

    /// Begins the handshake of a connection.
    pub(crate) fn accept(&self, stream: TcpStream) -> Accept<TcpStream> {
        TlsAcceptor::from(self.config.load_full()).accept(stream)
    }
}

/// The certificates of a listener, read as for use.
///
/// # Errors
/// When they can't be used.
pub fn examine(listener: &ListenerSpec) -> Result<Vec<Certificate>, TlsError> {
    let Some(tls) = &listener.tls else { return Ok(Vec::new()) };
    Acceptor::new(tls, listener.http2.is_some()).map(|(_, certificates)| certificates)
}

/// Whether one of these certificates is for a host.
pub fn is_covered(host: &str, certificates: &[Certificate]) -> bool {
    certificates.iter().flat_map(|one| &one.names).any(|name| covers(name, host))
}

/// Whether a certificate's name is for a host: RFC 6125, 6.4.3, with a wildcard as the whole first label only.
fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
        None => name.eq_ignore_ascii_case(host),
    }
}

fn describe(identities: &[Identity]) -> Vec<Certificate> {
    identities.iter().map(|identity| identity.about.clone()).collect()
}

fn configure(
    spec: &TlsSpec,
    identities: Vec<Identity>,
    provider: &Arc<CryptoProvider>,
    tickets: &Arc<dyn ProducesTickets>,
    http2: bool,
) -> Result<ServerConfig, TlsError> {
    const SPOKEN: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    let versions = match spec.oldest {
        TlsVersion::V1_2 => &SPOKEN[..],
        TlsVersion::V1_3 => &SPOKEN[..1],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(versions)?;
    let builder = match &spec.clients {
        Some(clients) => builder.with_client_cert_verifier(verifier(clients, provider)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Resolver::new(identities)));
    if spec.clients.is_none() {
        config.ticketer = Arc::clone(tickets);
    } else {
        // Who takes a session up again shows no certificate, and the one shown at its beginning isn't held against the
        // authorities of today: so nobody may, by no ticket from before either (RFC 8446, 4.6.1 and C.4).
        config.send_tls13_tickets = 0;
    }
    // If anywhere, sessions are in the clients' tickets: no memory, and no lock between cores.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // In the order of our preference.
    let spoken: &[&[u8]] = if http2 { &[HTTP2, b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = spoken.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn verifier(clients: &ClientsSpec, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = || TlsError::Authorities(clients.authorities.file.clone());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&clients.authorities.content) {
        roots.add(authority.map_err(|_| unusable())?).map_err(|_| unusable())?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let verifier = if clients.required { verifier } else { verifier.allow_unauthenticated() };
    verifier.build().map_err(|_| unusable())
}
