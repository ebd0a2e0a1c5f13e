//! Would the evidence stand without any one client address?
//!
//! A hostile client can try keys until it holds canary ones, keep only those,
//! and err on purpose. So a pull must survive leaving out any single address:
//! for each address with bad units on the canary, a process runs along that
//! never saw that address's units. It only withholds pulls, so the guarantee stands.

use std::net::IpAddr;

use super::eprocess::EProcess;

/// Addresses followed at once. When one more is needed, the one whose absence costs the
/// evidence least makes room: it is the one that matters least.
const FOLLOWED: usize = 256;

/// What counts as one client: an IPv4 address, or an IPv6 /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientNet(u128);

impl From<IpAddr> for ClientNet {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            // IPv4 lives where no IPv6 /48 can: below 2^32.
            IpAddr::V4(v4) => Self(u128::from(v4.to_bits())),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 80 << 80) | (1 << 64)),
        }
    }
}

impl ClientNet {
    /// The network as one number, for sketches and tables.
    pub const fn bits(self) -> u128 {
        self.0
    }
}

/// For each followed address, the evidence without it.
#[derive(Clone, Debug, Default)]
pub struct WithoutOne {
    followed: Vec<(ClientNet, EProcess)>,
}

impl WithoutOne {
    /// Takes in one newly bad unit. `all` is the evidence with every address, before this unit.
    pub fn observe(&mut self, from: ClientNet, canary: bool, weight: f64, all: &EProcess) {
        if canary && !self.followed.iter().any(|(client, _)| *client == from) {
            self.make_room();
            self.followed.push((from, all.clone()));
        }
        for (client, without) in &mut self.followed {
            if *client != from {
                without.observe(canary, weight);
            }
        }
    }

    /// The smallest evidence with any one address left out; none before the canary's first bad unit.
    pub fn least(&self) -> Option<f64> {
        self.followed.iter().map(|(_, without)| without.value()).reduce(f64::min)
    }

    fn make_room(&mut self) {
        if self.followed.len() < FOLLOWED {
            return;
        }
        let values = self.followed.iter().map(|(_, without)| without.value()).enumerate();
        if let Some((dearest, _)) = values.reduce(|most, next| if next.1 > most.1 { next } else { most }) {
            self.followed.swap_remove(dearest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u32) -> ClientNet {
        ClientNet::from(IpAddr::from(n.to_be_bytes()))
    }

    fn observe(all: &mut EProcess, without: &mut WithoutOne, from: ClientNet, canary: bool) {
        without.observe(from, canary, 0.1, all);
        all.observe(canary, 0.1);
    }

    #[test]
    fn one_address_that_errs_alone_leaves_nothing_behind() {
        let (mut all, mut without) = (EProcess::default(), WithoutOne::default());
        for n in 0..1_000 {
            observe(&mut all, &mut without, client(n), n % 10 == 0);
        }
        for _ in 0..50 {
            observe(&mut all, &mut without, client(7), true);
        }
        assert!(all.value() > 1e6);
        assert!(without.least().expect("the canary erred") < 1_000.0);
    }

    #[test]
    fn what_many_addresses_saw_stands_without_any_of_them() {
        let (mut all, mut without) = (EProcess::default(), WithoutOne::default());
        for n in 0..8 {
            observe(&mut all, &mut without, client(n), true);
        }
        let least = without.least().expect("the canary erred");
        assert!(least >= 1_000.0 && least < all.value(), "{least}");
    }

    #[test]
    fn a_full_table_still_follows_the_address_that_matters() {
        let (mut all, mut without) = (EProcess::default(), WithoutOne::default());
        for n in 0..5_000 {
            observe(&mut all, &mut without, client(n), n % 10 == 0);
        }
        for n in 0..200 {
            observe(&mut all, &mut without, client(1_000_000), true);
            observe(&mut all, &mut without, client(2_000_000 + n), n % 10 == 0);
        }
        assert!(without.followed.len() <= FOLLOWED);
        assert!(without.least().expect("the canary erred") < 1_000.0);
    }

    #[test]
    fn an_ipv6_client_is_its_48() {
        let net = |text: &str| ClientNet::from(text.parse::<IpAddr>().expect(text));
        assert_eq!(net("2001:db8:1::1"), net("2001:db8:1:ffff::2"));
        assert_ne!(net("2001:db8:1::1"), net("2001:db8:2::1"));
        assert_eq!(net("::ffff:10.0.0.1"), net("10.0.0.1"));
        assert_ne!(net("10.0.0.1"), net("10.0.0.2"));
    }
}
