//! Certificates of a test's own: a CA, and what it signs, as files.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// A CA with its folder.
#[derive(Debug)]
pub struct Pki {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key, in PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Valid {
    /// For longer than any test runs.
    Now,
    /// Until long ago.
    Past,
}

impl Valid {
    fn limit(self, params: &mut CertificateParams) {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = match self {
            Self::Now => date_time_ymd(2099, 1, 1),
            Self::Past => date_time_ymd(2002, 1, 1),
        };
    }
}

impl Pki {
    /// A new CA.
    ///
    /// # Errors
    /// When its files can't be written.
    pub fn new() -> anyhow::Result<Self> {
        Self::valid(Valid::Now)
    }

    /// A new CA that is valid then.
    ///
    /// # Errors
    /// As [`Pki::new`].
    pub fn valid(valid: Valid) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("serin-pki-").tempdir()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("CA {:016x}", rand::random::<u64>()));
        valid.limit(&mut params);
        let key = KeyPair::generate()?;
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key)?.pem())?;
        Ok(Self { folder, issuer: Issuer::new(params, key) })
    }

    /// The CA's own certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A certificate for these names or addresses, in files that begin with `file`; those that are there are
    /// replaced, as a tool that renews certificates does it: each whole.
    ///
    /// # Errors
    /// When the files can't be written.
    pub fn issue(&self, file: &str, names: &[&str], valid: Valid) -> anyhow::Result<Identity> {
        let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
        valid.limit(&mut params);
        params.distinguished_name.push(DnType::CommonName, file);
        let key = KeyPair::generate()?;
        let path = |what: &str| self.folder.path().join(format!("{file}-{what}.pem"));
        let identity = Identity { certificate: path("cert"), key: path("key") };
        replace(&identity.certificate, &params.signed_by(&key, &self.issuer)?.pem())?;
        replace(&identity.key, &key.serialize_pem())?;
        Ok(identity)
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}
