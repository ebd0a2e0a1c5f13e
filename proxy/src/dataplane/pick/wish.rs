//! To whom a request would rather go: which members shall serve it, who has its session, where its key belongs.

use std::net::IpAddr;
use std::ops::Range;

use http::HeaderMap;

use crate::dataplane::{host, sticky};
use crate::live::ServiceView;
use crate::model::balance::rendezvous::point_of;
use crate::model::balance::{HashBy, Policy};
use crate::model::spec::Sticky;
use crate::model::split::Arm;

/// What of a request matters to who gets it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// The members of the pool that shall serve it, as long as one of them is ready.
    pub(super) members: Range<usize>,
    /// The one of them that has its session.
    pub(super) host: Option<usize>,
    /// What a consistent hash is taken of; none where it has no key.
    pub(super) key: Option<u64>,
}

impl Wish {
    /// The members of the pool that shall serve it, as long as one of them is ready.
    pub(crate) const fn members(&self) -> &Range<usize> {
        &self.members
    }

    /// Whether this endpoint has its session, so that no other will do.
    pub(crate) fn is_for(&self, endpoint: usize) -> bool {
        self.host == Some(endpoint)
    }

    /// Of a request with these fields from a client at `address`, which was given to these members of an arm's pool, and
    /// this new key if it had none.
    pub(crate) fn of(
        service: &ServiceView,
        arm: Arm,
        members: Range<usize>,
        headers: &HeaderMap,
        address: IpAddr,
        new_key: Option<[u8; 16]>,
    ) -> Self {
        let balance = &service.spec.balance;
        let host =
            if balance.stickiness.is_some() { host::named(service.serving(arm), &members, headers) } else { None };
        let key = match &balance.policy {
            Policy::ConsistentHash(hash) => key(service, &hash.by, headers, address, new_key),
            _ => None,
        };
        Self { members, host, key }
    }
}

fn key(
    service: &ServiceView,
    by: &HashBy,
    headers: &HeaderMap,
    address: IpAddr,
    new_key: Option<[u8; 16]>,
) -> Option<u64> {
    let of_header = |name| headers.get(name).map(|value: &http::HeaderValue| point_of(value.as_bytes()));
    let of_address = || match address.to_canonical() {
        IpAddr::V4(v4) => point_of(&v4.octets()),
        IpAddr::V6(v6) => point_of(&v6.octets()),
    };
    match by {
        HashBy::Header(name) => of_header(name),
        HashBy::ClientIp => Some(of_address()),
        HashBy::Sticky => match &service.spec.split.as_ref()?.sticky {
            Sticky::Cookie => sticky::key_in_cookies(headers).or(new_key).map(|key| point_of(&key)),
            Sticky::Header(name) => of_header(name),
            Sticky::ClientIp => Some(of_address()),
            Sticky::None => None,
        },
    }
}
