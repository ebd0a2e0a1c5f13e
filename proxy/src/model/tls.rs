//! TLS of a listener, and with endpoints: what the configuration says, with what the files held that it names.
//!
//! The contents are only carried here; what a certificate means is the data plane's to know.
//! Nothing of a key is ever shown.

use std::path::PathBuf;
use std::sync::Arc;

use http::header::HeaderValue;

use super::time::Timestamp;

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSpec {
    /// One at least. The first is for clients that ask for a name which none of them has, or for no name.
    pub certificates: Vec<CertificateSpec>,
    /// The oldest version that is spoken.
    pub oldest: TlsVersion,
    /// Which certificates clients must show; none = they aren't asked.
    pub clients: Option<ClientsSpec>,
    /// The `Strict-Transport-Security` of responses; none = only what the application says.
    pub hsts: Option<HeaderValue>,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSpec {
    /// The chain in PEM, the server's own certificate first.
    pub chain: FileContent,
    /// Its private key in PEM.
    pub key: FileContent,
    /// A response of the authority that the certificate isn't revoked, in DER, which is stapled.
    pub ocsp: Option<FileContent>,
}

/// Certificates that clients show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientsSpec {
    /// Authorities whose certificates count, in PEM.
    pub authorities: FileContent,
    /// Whether a client without one is refused.
    pub required: bool,
}

/// TLS with the endpoints of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTlsSpec {
    /// The name that they are asked for (SNI), and that their certificate must hold; none only where that isn't verified.
    pub server_name: Option<String>,
    /// The only authorities that are believed, in PEM; none = those of this machine.
    pub authorities: Option<FileContent>,
    /// What serin shows them; none = nothing.
    pub identity: Option<CertificateSpec>,
    /// Whether they must prove who they are.
    pub verify: bool,
}

impl EndpointTlsSpec {
    /// Every file that it names.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut FileContent> {
        let identity = self.identity.iter_mut().flat_map(|own| [&mut own.chain, &mut own.key]);
        identity.chain(&mut self.authorities)
    }

    /// Every file that it names, with the key that names it and whether it is secret.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &FileContent, bool)> {
        let identity = self.identity.iter();
        let identity = identity.flat_map(|own| [("certificate_file", &own.chain, false), ("key_file", &own.key, true)]);
        identity.chain(self.authorities.as_ref().map(|file| ("ca_file", file, false)))
    }
}

/// A certificate as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The names that it is for, as they stand in it.
    pub names: Vec<String>,
    /// When its time is over.
    pub expires: Timestamp,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// A file and what it held. Only the name is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct FileContent {
    /// The file.
    pub file: PathBuf,
    /// What it held; empty until it is read.
    pub content: Arc<[u8]>,
}

impl FileContent {
    /// A file that wasn't read yet.
    pub fn unread(file: PathBuf) -> Self {
        Self { file, content: Arc::default() }
    }
}

impl std::fmt::Debug for FileContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.file)
    }
}

impl TlsSpec {
    /// Every file that it names.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut FileContent> {
        let of_certificates = self.certificates.iter_mut();
        let certificates =
            of_certificates.flat_map(|one| [&mut one.chain, &mut one.key].into_iter().chain(&mut one.ocsp));
        certificates.chain(self.clients.as_mut().map(|clients| &mut clients.authorities))
    }

    /// Every file that it names, with the key that names it and whether it is secret.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &FileContent, bool)> {
        let certificates = self.certificates.iter().flat_map(|one| {
            let ocsp = one.ocsp.as_ref().map(|ocsp| ("ocsp_file", ocsp, false));
            [("cert_file", &one.chain, false), ("key_file", &one.key, true)].into_iter().chain(ocsp)
        });
        certificates.chain(self.clients.as_ref().map(|clients| ("client_ca_file", &clients.authorities, false)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_held_is_never_shown() {
        let file = FileContent { file: "/etc/serin/key.pem".into(), content: b"hunter2".as_slice().into() };
        assert_eq!(format!("{file:?}"), "\"/etc/serin/key.pem\"");
    }
}
