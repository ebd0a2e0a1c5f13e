//! TLS with the endpoints of a service: made once of what the configuration says, then used for every connection.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fault::Fault;
use super::pem::{self, Unusable};
use crate::model::spec::Spec;
use crate::model::tls::{CertificateSpec, EndpointTlsSpec, FileContent};
use crate::telemetry;

/// Sessions of one endpoint that can be taken up again, for each of the protocols.
const SESSIONS: usize = 32;
/// Endpoints of which sessions are kept; beyond that all are forgotten, and made anew.
const MAX_ENDPOINTS: usize = 4_096;
/// So seldom is the same trouble told, in milliseconds: it may come with every request.
const COMPLAINT_INTERVAL: u64 = 10_000;

/// Why TLS with the endpoints of a service can't be spoken.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file that can't be used.
    #[error("service `{service}`: `{key}` in its `tls`: {} {problem}", file.display())]
    File {
        /// The service.
        service: String,
        /// The key that names the file.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: Unusable,
    },
    /// Certificate and key don't belong together.
    #[error("service `{service}`: `certificate_file` and `key_file` in its `tls` can't be used together: {problem}")]
    Identity {
        /// The service.
        service: String,
        /// What rustls says.
        problem: Error,
    },
    /// There is nobody to believe.
    #[error("service `{0}`: this machine has no CA certificates: install them, or name a `ca_file` in its `tls`")]
    NoAuthorities(String),
    /// What rustls doesn't take.
    #[error("service `{service}`: its `tls` can't be set up: {problem}")]
    Rustls {
        /// The service.
        service: String,
        /// What rustls says.
        problem: String,
    },
}

/// What is to be spoken inside of TLS: offered by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Words {
    /// HTTP/1.1, which an endpoint needn't confirm.
    Http1,
    /// HTTP/2, which it must.
    Http2,
}

impl Words {
    const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// TLS with the endpoints of a service.
#[derive(Debug)]
pub struct Client {
    service: String,
    /// None where no name was said: then endpoints prove their own.
    name: Option<ServerName<'static>>,
    /// The names of endpoints that have any. Locked for a moment in a handshake, as below.
    names: Mutex<HashMap<SocketAddr, ServerName<'static>>>,
    config: Result<ClientConfig, ClientError>,
    /// As above, with the sessions of one endpoint: another one's aren't known to it. Locked for a moment in a handshake,
    /// which takes a thousand times as long.
    endpoints: Mutex<HashMap<(SocketAddr, Words), Arc<ClientConfig>>>,
    /// When trouble was last told, in milliseconds since the Unix epoch.
    told_at: AtomicU64,
}

impl PartialEq for Client {
    /// Only itself: another one may believe others.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Client {
    /// Makes one. Takes some milliseconds where the authorities of this machine are asked for.
    ///
    /// # Errors
    /// When a file can't be used.
    pub fn new(service: &str, spec: &EndpointTlsSpec) -> Result<Self, ClientError> {
        let config = configure(service, spec)?;
        let rustls = |_| ClientError::Rustls { service: service.to_owned(), problem: "no name of a server".to_owned() };
        let name = spec.server_name.clone().map(ServerName::try_from).transpose().map_err(rustls)?;
        Ok(Self::with(service, name, Ok(config)))
    }

    /// One that connects to nobody, for this reason. Never is a connection made in the clear instead.
    pub fn closed(service: &str, error: ClientError) -> Self {
        Self::with(service, None, Err(error))
    }

    fn with(service: &str, name: Option<ServerName<'static>>, config: Result<ClientConfig, ClientError>) -> Self {
        let (endpoints, names) = (Mutex::default(), Mutex::default());
        Self { service: service.to_owned(), name, names, config, endpoints, told_at: AtomicU64::new(0) }
    }

    /// Says which endpoints have names, and which: where no other name was said, they must prove these. Of two names with
    /// the same address and port the first counts.
    pub fn know_names<'a>(&self, named: impl Iterator<Item = (SocketAddr, &'a str)>) {
        let mut names = HashMap::new();
        for (address, host) in named {
            if let Ok(name) = ServerName::try_from(host.trim_end_matches('.').to_owned()) {
                names.entry(address).or_insert(name);
            }
        }
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    fn name_of(&self, endpoint: SocketAddr) -> Option<ServerName<'static>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).get(&endpoint).cloned()
    }

    /// The service whose endpoints these are.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Agrees on keys with an endpoint.
    ///
    /// # Errors
    /// When that fails, or it doesn't prove who it is.
    pub async fn connect(
        &self,
        stream: TcpStream,
        endpoint: SocketAddr,
        words: Words,
    ) -> Result<TlsStream<TcpStream>, Fault> {
        let config = self.config_for(endpoint, words)?;
        let name =
            self.name.clone().or_else(|| self.name_of(endpoint)).unwrap_or_else(|| ServerName::from(endpoint.ip()));
        let connected = TlsConnector::from(config).connect(name, stream).await;
        let stream = connected.map_err(|error| Fault::of_handshake(&error))?;
        let agreed = stream.get_ref().1.alpn_protocol();
        if words == Words::Http2 && agreed != Some(words.alpn()) {
            return Err(Fault::NoHttp2);
        }
        Ok(stream)
    }

    /// Whether trouble shall be told now: not again and again.
    pub fn may_complain(&self) -> bool {
        let now = telemetry::now().as_millis();
        let told_at = self.told_at.load(Ordering::Relaxed);
        now.saturating_sub(told_at) >= COMPLAINT_INTERVAL
            && self.told_at.compare_exchange(told_at, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn config_for(&self, endpoint: SocketAddr, words: Words) -> Result<Arc<ClientConfig>, Fault> {
        let config = self.config.as_ref().map_err(|error| Fault::Own(error.to_string()))?;
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = endpoints.get(&(endpoint, words)) {
            return Ok(Arc::clone(known));
        }
        if endpoints.len() >= MAX_ENDPOINTS {
            endpoints.clear();
        }
        let mut own = config.clone();
        own.resumption = Resumption::in_memory_sessions(SESSIONS);
        own.alpn_protocols = vec![words.alpn().to_vec()];
        let own = Arc::new(own);
        endpoints.insert((endpoint, words), Arc::clone(&own));
        Ok(own)
    }
}

/// Looks at all TLS with endpoints and Engines that a configuration asks for: what can't be used now is a mistake in it.
///
/// # Errors
/// When something can't be used.
pub fn examine(spec: &Spec) -> Result<(), ClientError> {
    let asked = spec.services.iter().filter_map(|service| Some((&service.name, service.tls.as_deref()?)));
    let engines = spec.services.iter().filter_map(|service| {
        let driver = service.autoscale.as_ref()?.driver.as_ref()?;
        Some((&service.name, driver.docker()?.tls()?))
    });
    asked.chain(engines).map(|(name, tls)| Client::new(name, tls)).try_for_each(|made| made.map(drop))
}

fn configure(service: &str, spec: &EndpointTlsSpec) -> Result<ClientConfig, ClientError> {
    let rustls = |error: Error| ClientError::Rustls { service: service.to_owned(), problem: error.to_string() };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(rustls)?;
    let unusable = |key, file: &FileContent| {
        let (service, file) = (service.to_owned(), file.file.clone());
        move |problem| ClientError::File { service, key, file, problem }
    };
    let builder = match &spec.authorities {
        _ if !spec.verify => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        Some(file) => {
            let roots = pem::chain(&file.content).and_then(pem::authorities);
            builder.with_root_certificates(roots.map_err(unusable("ca_file", file))?)
        }
        None => {
            let roots = pem::authorities_of_this_machine();
            builder.with_root_certificates(roots.ok_or_else(|| ClientError::NoAuthorities(service.to_owned()))?)
        }
    };
    let Some(CertificateSpec { chain, key, .. }) = &spec.identity else { return Ok(builder.with_no_client_auth()) };
    let own = pem::chain(&chain.content).map_err(unusable("certificate_file", chain))?;
    let its_key = pem::key(&key.content).map_err(unusable("key_file", key))?;
    let identity = |problem| ClientError::Identity { service: service.to_owned(), problem };
    builder.with_client_auth_cert(own, its_key).map_err(identity)
}

/// Believes whoever answers. Only where an operator says so.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _its_own: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
