//! How many connections each client of a listener has open: shared by all cores without a lock, in memory that never grows.
//!
//! There is room for four times as many clients as connections may be open. Where the eight places of a client are taken
//! by others all the same (one in a thousand, when every connection is another client's), its connections aren't counted:
//! nobody is refused for what others do.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::sets::Sets;
use crate::model::limits::ClientKey;

/// The bits of a count: more than a listener may have connections.
const COUNT_BITS: u32 = 24;
const COUNT: u64 = Sets::<COUNT_BITS>::VALUE;
/// Clients that are remembered for each connection that may be open.
const ROOM: usize = 4;
/// More than this is never set aside: 32 MiB.
const MOST: usize = 1 << 22;

/// The open connections of clients.
#[derive(Debug)]
pub struct Crowd {
    sets: Sets<COUNT_BITS>,
    limit: NonZeroU32,
}

/// One open connection of a client, until this is dropped.
#[derive(Debug)]
pub struct Member {
    /// None where the client isn't counted.
    of: Option<(Arc<Crowd>, ClientKey)>,
}

impl Crowd {
    /// Nobody yet, of whom each may have so many connections where so many are open in all.
    pub fn new(limit: NonZeroU32, connections: usize) -> Arc<Self> {
        Arc::new(Self { sets: Sets::new(connections.saturating_mul(ROOM).min(MOST)), limit })
    }

    /// A connection of a client opens; none if it has as many as it may.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Member> {
        let key = ClientKey::from(address);
        let (places, tag) = self.sets.of(key);
        loop {
            let mut known = None;
            let mut free = None;
            for place in places {
                let word = place.load(Ordering::Relaxed);
                match word & COUNT {
                    0 => free = free.or(Some((place, word))),
                    open if tag.is_of(word) => {
                        known = Some((place, word, open));
                        break;
                    }
                    _ => {}
                }
            }
            let (place, word, open) = match (known, free) {
                (Some((_, _, open)), _) if open >= u64::from(self.limit.get()) => return None,
                (Some(known), _) => known,
                (None, Some((place, word))) => (place, word, 0),
                (None, None) => return Some(Member { of: None }),
            };
            // Another core may have been faster: then look again.
            if place.compare_exchange(word, tag.with(open + 1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Some(Member { of: Some((Arc::clone(self), key)) });
            }
        }
    }

    fn leave(&self, key: ClientKey) {
        let (places, tag) = self.sets.of(key);
        for place in places {
            let less = |word| (tag.is_of(word) && word & COUNT > 0).then(|| word - 1);
            if place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
                return;
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some((crowd, key)) = self.of.take() {
            crowd.leave(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};
    use std::collections::HashMap;
    use std::net::Ipv4Addr;
    use std::sync::atomic::AtomicUsize;

    fn crowd(limit: u32, connections: usize) -> Arc<Crowd> {
        Crowd::new(NonZeroU32::new(limit).expect("some"), connections)
    }

    fn client(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 | n).into()
    }

    #[test]
    fn each_client_has_as_many_connections_as_it_may_and_no_more() {
        for seed in 0..50 {
            let mut dice = StdRng::seed_from_u64(seed);
            let (limit, crowd) = (3, crowd(3, 1_000));
            let mut open: HashMap<u32, Vec<Member>> = HashMap::new();
            for _ in 0..3_000 {
                let number = dice.random_range(0..200);
                let own = open.entry(number).or_default();
                if dice.random_bool(0.6) {
                    let member = crowd.enter(client(number));
                    assert_eq!(member.is_some(), own.len() < limit, "seed {seed}, client {number}");
                    own.extend(member);
                } else {
                    own.pop();
                }
            }
            drop(open);
            for number in 0..200 {
                let again: Vec<_> = (0..limit).map(|_| crowd.enter(client(number))).collect();
                assert!(again.iter().all(Option::is_some), "seed {seed}: client {number} left something behind");
            }
        }
    }

    #[test]
    fn who_finds_no_place_is_let_in_and_leaves_no_count_of_others() {
        let crowd = crowd(1, 1);
        let members: Vec<_> = (0..12).map(|number| crowd.enter(client(number))).collect();
        assert!(members.iter().all(Option::is_some));
        let counted = members.iter().flatten().filter(|member| member.of.is_some()).count();
        assert_eq!(counted, 8);
        drop(members);
        let (places, _) = crowd.sets.of(ClientKey::from(client(0)));
        assert!(places.iter().all(|place| place.load(Ordering::Relaxed) & COUNT == 0));
    }

    #[test]
    fn cores_that_count_at_once_count_right() {
        let crowd = crowd(5, 1_000);
        let (open, first) = (AtomicUsize::new(0), crowd.enter(client(1)).expect("the first"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let Some(member) = crowd.enter(client(1)) else { continue };
                        assert!(open.fetch_add(1, Ordering::SeqCst) < 4, "five with the first");
                        open.fetch_sub(1, Ordering::SeqCst);
                        drop(member);
                    }
                });
            }
        });
        drop(first);
        assert_eq!((0..6).map(|_| crowd.enter(client(1))).collect::<Vec<_>>().iter().flatten().count(), 5);
    }
}
