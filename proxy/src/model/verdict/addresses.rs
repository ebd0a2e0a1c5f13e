//! Would the evidence stand without any one client address?
//!
//! A hostile client can try keys until it holds canary ones, keep only those,
//! and err on purpose. So a pull must survive leaving out any single address:
//! for each address with bad units on the canary, a process runs along that
//! never saw that address's units. It only withholds pulls, so the guarantee stands.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::signals::{Fact, Processes};
use crate::model::split::{Arm, Salt, Unit, from_hex};

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

    /// The same in half the room: which network it is, and nothing to be kept or told to others.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an IPv4 network is in its low half, an IPv6 one has nothing there"
    )]
    pub const fn short(self) -> u64 {
        let high = (self.0 >> 64) as u64;
        // All 48 bits of an IPv6 network, and its mark on top.
        (high >> 16) | (high << 63) | self.0 as u64
    }

    /// The network of these bits.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The same client in a disguise that only who knows the salt can see through: all that the verdict asks
    /// is whether two are the same, so this is what is kept and told to other proxies.
    #[must_use]
    pub fn hidden(self, salt: Salt) -> Self {
        let mut named = *b"address:0123456789abcdef";
        named[8..].copy_from_slice(&self.0.to_le_bytes());
        Self(Unit::of_key(salt, &named).0)
    }
}

/// 32 hex digits.
impl Serialize for ClientNet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for ClientNet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text, 32).map(Self).map_err(serde::de::Error::custom)
    }
}

/// For each followed address, the evidence without it.
#[derive(Clone, Debug, Default)]
pub(super) struct WithoutOne {
    followed: Vec<(ClientNet, Processes)>,
}

impl WithoutOne {
    /// Takes in one newly bad unit, which had this chance of the canary. `all` is the evidence with every
    /// address, before this unit.
    pub(super) fn observe(&mut self, fact: &Fact, chance: f64, all: &Processes) {
        let canary = fact.arm == Arm::Canary;
        if canary && !self.followed.iter().any(|(client, _)| *client == fact.address) {
            self.make_room();
            self.followed.push((fact.address, all.clone()));
        }
        for (client, without) in &mut self.followed {
            if *client != fact.address {
                without.observe(fact.signal, canary, chance);
            }
        }
    }

    /// The smallest evidence with any one address left out; none before the canary's first bad unit.
    pub(super) fn least(&self) -> Option<f64> {
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
    use crate::model::outcome::Signal;
    use crate::model::spec::SignalSpec;
    use crate::model::split::Unit;
    use crate::model::time::Timestamp;
    use crate::model::weight::Weight;

    #[test]
    fn networks_that_differ_differ_in_short() {
        let v6 = |text: &str| ClientNet::from(text.parse::<IpAddr>().expect("an address"));
        let texts = ["::", "0:0:1::", "2001:db8::", "2001:db8:1::", "2001:db9::", "8001:db8::", "ffff:ffff:ffff::"];
        let mut known: Vec<u64> = texts.map(|text| v6(text).short()).to_vec();
        known.extend([0, 1, 0x2001_0db8, 0xffff_ffff, 0x8000_0000].map(|n| client(n).short()));
        known.sort_unstable();
        known.dedup();
        assert_eq!(known.len(), 12);
        assert_eq!(v6("2001:db8::1").short(), v6("2001:db8::2").short(), "one network");
    }

    fn client(n: u32) -> ClientNet {
        ClientNet::from(IpAddr::from(n.to_be_bytes()))
    }

    fn empty() -> (Processes, WithoutOne) {
        (Processes::new(&SignalSpec::DEFAULT), WithoutOne::default())
    }

    fn observe(all: &mut Processes, without: &mut WithoutOne, from: ClientNet, canary: bool) {
        let fact = Fact {
            unit: Unit(0),
            arm: if canary { Arm::Canary } else { Arm::Stable },
            weight: Weight::from_percent(10.0).expect("a weight"),
            control: Weight::ZERO,
            signal: Signal::Errors,
            drawn_at: Timestamp::default(),
            address: from,
        };
        without.observe(&fact, 0.1, all);
        all.observe(fact.signal, canary, 0.1);
    }

    #[test]
    fn one_address_that_errs_alone_leaves_nothing_behind() {
        let (mut all, mut without) = empty();
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
        let (mut all, mut without) = empty();
        for n in 0..8 {
            observe(&mut all, &mut without, client(n), true);
        }
        let least = without.least().expect("the canary erred");
        assert!(least >= 1_000.0 && least < all.value(), "{least}");
    }

    #[test]
    fn a_full_table_still_follows_the_address_that_matters() {
        let (mut all, mut without) = empty();
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
