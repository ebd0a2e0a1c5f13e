//! Which certificate a client is shown: by the name that it asks for, then by what it can verify.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::identity::Identity;

/// Certificates for one name, in the order of the configuration: mostly one, or one for each kind of key.
type Alternatives = Vec<Arc<CertifiedKey>>;

/// All certificates of a listener, by name.
#[derive(Debug)]
pub(super) struct Resolver {
    exact: HashMap<String, Alternatives>,
    /// By what follows `*.`
    wildcard: HashMap<String, Alternatives>,
    /// For names that none of them has.
    first: Alternatives,
}

impl Resolver {
    /// By the names that the certificates have.
    pub(super) fn new(identities: Vec<Identity>) -> Self {
        let mut resolver = Self { exact: HashMap::new(), wildcard: HashMap::new(), first: Vec::new() };
        let first_names = identities.first().map(|identity| identity.about.names.clone()).unwrap_or_default();
        for Identity { about, key, .. } in identities {
            if resolver.first.is_empty() || about.names == first_names {
                resolver.first.push(Arc::clone(&key));
            }
            for name in about.names {
                let name = name.to_ascii_lowercase();
                let alternatives = match name.strip_prefix("*.") {
                    Some(parent) => resolver.wildcard.entry(parent.to_owned()).or_default(),
                    None => resolver.exact.entry(name).or_default(),
                };
                alternatives.push(Arc::clone(&key));
            }
        }
        resolver
    }

    /// The certificate for a name, signed with something that the client knows if that can be.
    pub(super) fn choose(&self, name: Option<&str>, known: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let alternatives = name.and_then(|name| self.named(name)).unwrap_or(&self.first);
        let known = alternatives.iter().find(|one| one.key.choose_scheme(known).is_some());
        known.or(alternatives.first()).cloned()
    }

    /// rustls gives names in lower case.
    fn named(&self, name: &str) -> Option<&Alternatives> {
        self.exact.get(name).or_else(|| self.wildcard.get(name.split_once('.')?.1))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}
