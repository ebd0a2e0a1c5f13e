//! The TLS with a service's endpoints, kept from one snapshot to the next as long as its files say the same: with it
//! stay its sessions, and the connections that were made by it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::model::tls::EndpointTlsSpec;
use crate::trust::Client;

/// What was made last, and of what.
#[derive(Debug, Default)]
pub(super) struct EndpointTls(Mutex<Option<(EndpointTlsSpec, Arc<Client>)>>);

impl EndpointTls {
    /// What a configuration asks for. Of files that can't be used comes what was there before; where nothing was, a
    /// client that connects to nobody.
    pub(super) fn client(&self, service: &str, spec: Option<&EndpointTlsSpec>) -> Option<Arc<Client>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(spec) = spec else {
            *kept = None;
            return None;
        };
        if let Some((known, client)) = kept.as_ref()
            && known == spec
        {
            return Some(Arc::clone(client));
        }
        let before = kept.take();
        let client = match Client::new(service, spec) {
            Ok(client) => {
                if before.is_some() {
                    tracing::info!(service, "TLS with endpoints renewed");
                }
                if !spec.verify {
                    tracing::warn!(service, "Endpoints are NOT verified: whoever answers there gets users' requests");
                }
                Arc::new(client)
            }
            Err(error) => {
                let told = &error as &dyn std::error::Error;
                tracing::error!(error = told, "The new files for TLS with endpoints are refused: the old ones stay");
                before.map_or_else(|| Arc::new(Client::closed(service, error)), |(_, client)| client)
            }
        };
        *kept = Some((spec.clone(), Arc::clone(&client)));
        Some(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tls::FileContent;

    fn spec(server_name: &str, authorities: Option<&str>) -> EndpointTlsSpec {
        let file = |content: &str| FileContent { file: "/ca".into(), content: content.as_bytes().into() };
        let (server_name, authorities) = (Some(server_name.to_owned()), authorities.map(file));
        EndpointTlsSpec { server_name, verify: authorities.is_some(), authorities, identity: None }
    }

    #[test]
    fn it_stays_as_long_as_it_says_the_same_and_when_what_comes_next_cannot_be_used() {
        let kept = EndpointTls::default();
        let client = |spec: &EndpointTlsSpec| kept.client("web", Some(spec)).expect("a client");
        let first = client(&spec("a", None));
        assert!(Arc::ptr_eq(&first, &client(&spec("a", None))), "it says the same");
        let second = client(&spec("b", None));
        assert!(!Arc::ptr_eq(&first, &second));
        for _ in 0..2 {
            assert!(Arc::ptr_eq(&second, &client(&spec("b", Some("no certificate")))), "what is broken replaced it");
        }
        assert!(!Arc::ptr_eq(&second, &client(&spec("b", None))), "what was mended didn't");
        assert!(kept.client("web", None).is_none());
    }
}
