//! A certificate with its key, made of what their files held.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::TlsError;
use crate::model::time::Timestamp;
use crate::model::tls::{Certificate, CertificateSpec, TlsSpec};

/// What serin can show a client.
#[derive(Debug)]
pub(super) struct Identity {
    /// Where the certificate came from.
    pub(super) file: PathBuf,
    /// What it says.
    pub(super) about: Certificate,
    /// It, and its key.
    pub(super) key: Arc<CertifiedKey>,
}

/// All certificates of a listener.
pub(super) fn read_all(spec: &TlsSpec, provider: &CryptoProvider) -> Result<Vec<Identity>, TlsError> {
    spec.certificates.iter().map(|one| read(one, provider)).collect()
}

fn read(spec: &CertificateSpec, provider: &CryptoProvider) -> Result<Identity, TlsError> {
    let (file, key_file) = (&spec.chain.file, &spec.key.file);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&spec.chain.content)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::NoCertificate(file.clone()))?;
    let own = chain.first().ok_or_else(|| TlsError::NoCertificate(file.clone()))?;
    let about = describe(own).ok_or_else(|| TlsError::Certificate(file.clone()))?;
    let key = PrivateKeyDer::from_pem_slice(&spec.key.content).map_err(|_| TlsError::NoKey(key_file.clone()))?;
    let mut key = CertifiedKey::from_der(chain, key, provider).map_err(|source| TlsError::Mismatch {
        chain: file.clone(),
        key: key_file.clone(),
        source,
    })?;
    key.ocsp = spec.ocsp.as_ref().map(|response| response.content.to_vec());
    Ok(Identity { file: file.clone(), about, key: Arc::new(key) })
}

/// What a certificate says: nothing where it can't be read.
fn describe(certificate: &CertificateDer<'_>) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let alternatives = certificate.subject_alternative_name().ok()?;
    let names = alternatives.map_or_else(Vec::new, |extension| {
        let names = extension.value.general_names.iter();
        names
            .filter_map(|name| if let GeneralName::DNSName(name) = name { Some((*name).to_owned()) } else { None })
            .collect()
    });
    let seconds = certificate.validity().not_after.timestamp().max(0);
    Some(Certificate { names, expires: Timestamp::from_millis(u64::try_from(seconds).ok()?.checked_mul(1_000)?) })
}
