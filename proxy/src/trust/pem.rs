//! What PEM files hold, as rustls has it. Nothing of a file gets into an error: it may be a key.

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why what a file holds can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// There is no certificate, or something else beside.
    #[error("holds no certificate in PEM form")]
    NoCertificate,
    /// There is no key, or an encrypted one.
    #[error("holds no private key in PEM form: it must be PKCS#8, PKCS#1 or SEC1, and not encrypted")]
    NoKey,
    /// A certificate that isn't one of an authority, or can't be read.
    #[error("holds a certificate that makes no sense")]
    Senseless,
}

/// The certificates in a file, in its order: one at the least.
///
/// # Errors
/// When there is none, or something can't be read.
pub fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok().filter(|chain| !chain.is_empty()).ok_or(Unusable::NoCertificate)
}

/// The first private key in a file.
///
/// # Errors
/// When there is none.
pub fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Unusable> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| Unusable::NoKey)
}

/// These certificates as the only authorities that are believed.
///
/// # Errors
/// When one of them can't be an authority.
pub fn authorities(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|_| Unusable::Senseless)?;
    }
    Ok(roots)
}

/// The authorities of this machine; none where it has no usable one. Reads files: takes some milliseconds.
pub fn authorities_of_this_machine() -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    (usable > 0).then_some(roots)
}
