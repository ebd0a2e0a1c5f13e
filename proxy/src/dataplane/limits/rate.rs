//! Whether a client asks more often than it may.

use std::time::Duration;

use http::request::Parts;

use crate::dataplane::client::Client as Asker;
use crate::dataplane::core::Core;
use crate::dataplane::respond::ProxyError;
use crate::dataplane::sticky;
use crate::live::ServiceLimits;
use crate::model::gate::NormalPath;
use crate::model::limits::{ClientKey, RateKey};

/// A request that came too early.
#[derive(Debug)]
pub(crate) struct TooEarly {
    /// The name of the rate.
    pub(crate) limit: String,
    /// So many requests in so long a time are allowed.
    pub(crate) requests: u32,
    pub(crate) per: Duration,
    /// So long is left to wait.
    pub(crate) early: Duration,
}

/// Whose request it is, as a rate sees it.
#[derive(Hash)]
enum Client<'a> {
    Address(ClientKey),
    Header(&'a [u8]),
    Cookie([u8; 16]),
    Anybody,
}

/// Counts a request by each rate that is about it, up to the first by which it comes too early.
///
/// # Errors
/// Says which that is.
pub(crate) fn check_rates(core: &Core, limits: &ServiceLimits, parts: &Parts, asker: Asker) -> Result<(), ProxyError> {
    if limits.rates.is_empty() {
        return Ok(());
    }
    let path = NormalPath::of(parts.uri.path());
    let Asker { address, is_known } = asker;
    for rate in &limits.rates {
        let spec = &rate.spec;
        // Who can't be read behind a peer isn't that peer: see `dataplane/client.rs`.
        let is_exempt = || is_known && spec.exempt.iter().any(|range| range.contains(address));
        if !spec.is_about(&parts.method, &path) || is_exempt() {
            continue;
        }
        let by_address = || Client::Address(ClientKey::from(address));
        let client = match &spec.by {
            RateKey::Address => by_address(),
            RateKey::Header(name) => {
                parts.headers.get(name).map_or_else(by_address, |value| Client::Header(value.as_bytes()))
            }
            RateKey::Cookie => sticky::key_in_cookies(&parts.headers).map_or_else(by_address, Client::Cookie),
            RateKey::All => Client::Anybody,
        };
        if let Err(early) = rate.ask(client, core.clock.now()) {
            rate.count_refused(core.id);
            let (limit, requests, per) = (spec.name.clone(), spec.requests.get(), spec.per);
            return Err(ProxyError::TooEarly(Box::new(TooEarly { limit, requests, per, early })));
        }
    }
    Ok(())
}
