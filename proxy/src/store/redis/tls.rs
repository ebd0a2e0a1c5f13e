//! TLS to Redis: by rustls, with the server's certificate and name always checked.
//!
//! Files are read for each connection, so that a renewed certificate counts from the next one on.
//! May know: where the files are.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, Error, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::model::redis::{IdentityFiles, TlsSpec};
use crate::telemetry;
use crate::trust::fault::{ABOUT_IDENTITY, Fault, is_about_time};
use crate::trust::pem::{self, Unusable};

/// Why TLS can't be spoken, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    /// A file can't be read.
    #[error("`{key}` in [store.tls]: {} can't be read ({problem})", path.display())]
    Unreadable { key: &'static str, path: PathBuf, problem: String },
    /// A file holds something else.
    #[error("`{key}` in [store.tls]: {} holds no {wanted} in PEM form", path.display())]
    Empty { key: &'static str, path: PathBuf, wanted: &'static str },
    /// Nothing in the file of CAs can be used today.
    #[error("`ca_file` in [store.tls]: every certificate in {} has run out, or isn't valid yet: put today's CA there, \
             and look at the clock", path.display())]
    Expired { path: PathBuf },
    /// A CA makes no sense.
    #[error("`ca_file` in [store.tls]: a certificate in {} makes no sense", path.display())]
    BadCa { path: PathBuf },
    /// Certificate and key don't belong together, or can't be used.
    #[error("`certificate_file` and `key_file` in [store.tls] can't be used together: {0}")]
    BadIdentity(Error),
    /// This machine has no CAs.
    #[error("this machine has no CA certificates: install them, or name those of Redis as `ca_file` in [store.tls]")]
    NoCas,
    /// The server wants to know who serin is.
    #[error(
        "TLS to Redis failed: it asks for a client certificate that its CA signed: set `certificate_file` and \
             `key_file` in [store.tls]"
    )]
    NoIdentity,
    /// The dialogue failed.
    #[error("TLS to Redis failed: {0}")]
    Handshake(String),
}

/// Speaks TLS over a connection to this host.
pub(super) async fn wrap(stream: TcpStream, host: &str, spec: &TlsSpec) -> Result<TlsStream<TcpStream>, TlsError> {
    let owned = spec.clone();
    let gone = |_| TlsError::Handshake("serin ends".to_owned());
    let config = tokio::task::spawn_blocking(move || settings(&owned)).await.map_err(gone)??;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| TlsError::Handshake("the host in the URL is no name that a certificate could hold".to_owned()))?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| explain(&error))
}

/// What to say and to believe, from the files as they are now. Takes a few milliseconds.
pub(super) fn settings(spec: &TlsSpec) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = match &spec.ca_file {
        Some(path) => named_cas(path, &provider)?,
        None => pem::authorities_of_this_machine().ok_or(TlsError::NoCas)?,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::BadIdentity)?
        .with_root_certificates(roots);
    match &spec.identity {
        None => Ok(builder.with_no_client_auth()),
        Some(files) => {
            let (chain, key) = identity(files)?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::BadIdentity)
        }
    }
}

fn named_cas(path: &Path, provider: &CryptoProvider) -> Result<RootCertStore, TlsError> {
    let certificates = certificates("ca_file", path)?;
    if certificates.iter().all(|certificate| is_out_of_time(certificate, provider)) {
        return Err(TlsError::Expired { path: path.to_owned() });
    }
    pem::authorities(certificates).map_err(|problem| unusable("ca_file", path, problem))
}

/// Whether a CA has run out. Rustls takes a trusted CA for valid at any time, and one that is read as a server's
/// certificate for what it is: the time is the first that it looks at.
fn is_out_of_time(ca: &CertificateDer<'_>, provider: &CryptoProvider) -> bool {
    let Ok(parsed) = ParsedCertificate::try_from(ca) else { return false };
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_millis(telemetry::now().as_millis()));
    let nobody = RootCertStore::empty();
    let algorithms = provider.signature_verification_algorithms.all;
    let verdict = verify_server_cert_signed_by_trust_anchor(&parsed, &nobody, &[], now, algorithms);
    matches!(verdict, Err(Error::InvalidCertificate(problem)) if is_about_time(&problem))
}

fn identity(files: &IdentityFiles) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates("certificate_file", &files.certificate)?;
    let (key, path) = ("key_file", &files.key);
    let private = pem::key(&read(key, path)?).map_err(|problem| unusable(key, path, problem))?;
    Ok((chain, private))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem::chain(&read(key, path)?).map_err(|problem| unusable(key, path, problem))
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error: io::Error| TlsError::Unreadable { key, path: path.to_owned(), problem: error.to_string() };
    std::fs::read(path).map_err(unreadable)
}

fn unusable(key: &'static str, path: &Path, problem: Unusable) -> TlsError {
    let path = path.to_owned();
    match problem {
        Unusable::NoCertificate => TlsError::Empty { key, path, wanted: "certificate" },
        Unusable::NoKey => TlsError::Empty { key, path, wanted: "private key" },
        Unusable::Senseless => TlsError::BadCa { path },
    }
}

/// What a failed dialogue means for whoever set it up.
fn explain(error: &io::Error) -> TlsError {
    TlsError::Handshake(match Fault::of(error) {
        Some(Fault::IdentityWanted) => return TlsError::NoIdentity,
        Some(Fault::NotTls) => "what listens there speaks no TLS: give its TLS port in the URL".to_owned(),
        Some(Fault::UnknownAuthority) => {
            "no known CA signed its certificate: name that CA's as `ca_file` in [store.tls]".to_owned()
        }
        Some(Fault::OtherName) => {
            "its certificate is for another name than the host in the URL: give the name that it holds".to_owned()
        }
        Some(Fault::Other(what)) => what,
        Some(fault) => fault.to_string(),
        None => error.to_string(),
    })
}

/// Whether a server that was greeted well asks for another client certificate: with TLS 1.3 it says so only then, and
/// who talks to it by then passes on no more than the text.
pub(super) fn asks_for_certificate(text: &str) -> bool {
    ABOUT_IDENTITY.iter().any(|alert| text.ends_with(&Error::AlertReceived(*alert).to_string()))
}
