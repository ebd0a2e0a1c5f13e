//! TLS to Redis: by rustls, with the server's certificate and name always checked.
//!
//! Files are read for each connection, so that a renewed certificate counts from the next one on.
//! May know: where the files are.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::model::redis::{IdentityFiles, TlsSpec};
use crate::telemetry;

/// How a server says that it doesn't know or believe who serin is.
const ABOUT_IDENTITY: [AlertDescription; 5] = [
    AlertDescription::CertificateRequired,
    AlertDescription::BadCertificate,
    AlertDescription::CertificateExpired,
    AlertDescription::UnknownCA,
    AlertDescription::HandshakeFailure,
];

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
        None => cas_of_this_machine()?,
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
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|_| TlsError::BadCa { path: path.to_owned() })?;
    }
    Ok(roots)
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

const fn is_about_time(problem: &CertificateError) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(problem, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
}

fn cas_of_this_machine() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if usable == 0 { Err(TlsError::NoCas) } else { Ok(roots) }
}

fn identity(files: &IdentityFiles) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates("certificate_file", &files.certificate)?;
    let (key, path) = ("key_file", &files.key);
    let private = PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(key, path, "private key", &error))?;
    Ok((chain, private))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unusable = |error| unusable(key, path, "certificate", &error);
    let read = CertificateDer::pem_file_iter(path).map_err(unusable)?;
    let certificates = read.collect::<Result<Vec<_>, _>>().map_err(unusable)?;
    if certificates.is_empty() { Err(unusable(pem::Error::NoItemsFound)) } else { Ok(certificates) }
}

/// What a PEM reader's error means. Its own text may quote the file.
fn unusable(key: &'static str, path: &Path, wanted: &'static str, error: &pem::Error) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(problem) => TlsError::Unreadable { key, path, problem: problem.to_string() },
        _ => TlsError::Empty { key, path, wanted },
    }
}

/// What a failed dialogue means for whoever set it up.
fn explain(error: &io::Error) -> TlsError {
    TlsError::Handshake(match reason(error) {
        Some(Error::InvalidCertificate(problem)) => explain_certificate(problem),
        Some(alert) if is_about_identity(alert) => return TlsError::NoIdentity,
        Some(Error::InvalidMessage(_)) => "what listens there speaks no TLS: give its TLS port in the URL".to_owned(),
        Some(other) => other.to_string(),
        None => error.to_string(),
    })
}

fn reason(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>())
}

/// Whether a server that was greeted well asks for another client certificate: with TLS 1.3 it says so only then, and
/// who talks to it by then passes on no more than the text.
pub(super) fn asks_for_certificate(text: &str) -> bool {
    ABOUT_IDENTITY.iter().any(|alert| text.ends_with(&Error::AlertReceived(*alert).to_string()))
}

fn is_about_identity(error: &Error) -> bool {
    matches!(error, Error::AlertReceived(alert) if ABOUT_IDENTITY.contains(alert))
}

fn explain_certificate(problem: &CertificateError) -> String {
    use CertificateError::{BadSignature, NotValidForName, NotValidForNameContext, UnknownIssuer};
    match problem {
        problem if is_about_time(problem) => {
            "its certificate has run out, or isn't valid yet: renew it, and look at the clock".to_owned()
        }
        // The latter where a CA was made anew with the name of the old one.
        UnknownIssuer | BadSignature => {
            "no known CA signed its certificate: name that CA's as `ca_file` in [store.tls]".to_owned()
        }
        NotValidForName | NotValidForNameContext { .. } => {
            "its certificate is for another name than the host in the URL: give the name that it holds".to_owned()
        }
        other => format!("its certificate can't be believed: {other}"),
    }
}
