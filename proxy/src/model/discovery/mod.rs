//! Leased members, as one proxy sees them: who beats, who is late, who flaps, and when so many fall silent at once
//! that it isn't them.
//!
//! The store only says who has a lease now. What follows from one that is gone is said here, with the clock passed
//! in, and in each proxy by itself: [`Roster::look`] is shown what the store holds, several times a second.
//!
//! 1. A member that drains before it goes, is taken out, or moves, left on purpose: it is forgotten.
//! 2. One that just stops beating may be late. It stays while its active checks pass, for one more time of its lease;
//!    without active checks it goes at once.
//! 3. One that went and beats again gets work after a time of steady beats, which doubles with each time it went
//!    lately.
//! 4. Where more than a share of all fall silent together, that is the store or a clock, not they: all are kept as
//!    they were until enough beat again.
//! 5. Nothing is held against a member while the store couldn't be read, nor right after.

mod lease;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use super::split::Arm;
use super::state::{Member, MemberSpec, Scope, ServiceState, State};
use super::time::Timestamp;
use lease::Lease;

/// So many silent members are the fewest that can be a fault of the store.
const FEWEST: usize = 2;

/// Which member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its service.
    pub service: String,
    /// Its pool.
    pub arm: Arm,
    /// Its id.
    pub id: String,
}

/// How a member stands with this proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It beats, or has no need to.
    #[default]
    Steady,
    /// Its lease ran out, and it is believed to be late: it serves on.
    Late,
    /// Its lease ran out with too many others: it serves on.
    Kept,
    /// It went and beats again: it gets work when it has been steady for long enough.
    Returning,
}

impl Standing {
    /// Its name in the API, in metrics and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Late => "late",
            Self::Kept => "kept",
            Self::Returning => "returning",
        }
    }

    /// All of them.
    pub const ALL: [Self; 4] = [Self::Steady, Self::Late, Self::Kept, Self::Returning];
}

/// What active checks say of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Its service has none.
    Absent,
    /// They came to no conclusion yet.
    Undecided,
    /// It answers as it should.
    Passing,
    /// It doesn't.
    Failing,
}

/// How the store was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Read, just now.
    Fresh,
    /// Read, and it had lost what it held.
    Emptied,
    /// Not read: the state is an older one.
    Stale,
}

/// What the proxy sees at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Now, by a clock that is never set.
    pub now: Timestamp,
    /// The state of services, without members whose lease ran out.
    pub state: &'a State,
    /// Of which. A part of them is only ever read, just now.
    pub scope: Scope,
    /// How it was come by.
    pub reading: Reading,
    /// The share of leased members beyond which falling silent together is no fault of theirs.
    pub mass_share: f64,
}

/// What came of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A lease ran out; how its member stands now, and none if it went at once.
    Lapsed(Key, Option<Standing>),
    /// A member that was held after its lease ran out is out now.
    Gone(Key),
    /// A member that went beats again, and gets work after so long.
    Returns(Key, Duration),
    /// Too many leases ran out together: so many of so many members are kept.
    MassExpiry {
        /// The members that are kept.
        kept: Vec<Key>,
        /// All leased members.
        of: usize,
    },
    /// Enough members beat again.
    MassOver,
}

/// What is known of leased members.
#[derive(Clone, Debug)]
pub struct Roster {
    leases: BTreeMap<Key, Lease>,
    /// Since when the store was read without a break; none while it isn't.
    read_since: Option<Timestamp>,
    /// Since when too many are silent.
    mass_since: Option<Timestamp>,
}

impl Default for Roster {
    fn default() -> Self {
        // No outage is known before the first look.
        Self { leases: BTreeMap::new(), read_since: Some(Timestamp::default()), mass_since: None }
    }
}

impl Look<'_> {
    fn tells_of(&self, key: &Key) -> bool {
        self.state.contains_key(&key.service)
    }
}

impl Roster {
    /// Takes in what the proxy sees, and what active checks say of members.
    pub fn look(&mut self, look: &Look<'_>, checks: impl Fn(&Key) -> Checks) -> Vec<News> {
        if look.reading == Reading::Stale {
            self.read_since = None;
            return Vec::new();
        }
        if look.reading == Reading::Emptied {
            self.read_since = None;
        }
        let read_since = *self.read_since.get_or_insert(look.now);
        let mut news = Vec::new();
        self.forget_who_left(look);
        self.take_in_beats(look, &mut news);
        let mut lapsed = Vec::new();
        for (key, lease) in &mut self.leases {
            if look.tells_of(key) && find(look.state, key).is_none() && lease.is_beating() {
                lease.lapse(look.now, read_since, checks(key));
                lapsed.push(key.clone());
            }
        }
        self.judge_mass(look, &mut news);
        let standing = |key: Key| News::Lapsed(key.clone(), self.leases.get(&key).and_then(Lease::standing));
        news.extend(lapsed.into_iter().map(standing));
        for (key, lease) in &mut self.leases {
            if lease.pass_time(look.now, || checks(key)) {
                news.push(News::Gone(key.clone()));
            }
        }
        self.leases.retain(|_, lease| !lease.is_forgotten(look.now));
        news
    }

    /// The state that the proxy serves by: with the members that serve on without a lease put back.
    pub fn fill<'a>(&self, service: &str, state: &'a ServiceState) -> Cow<'a, ServiceState> {
        let mut filled = Cow::Borrowed(state);
        for (key, lease) in self.of(service) {
            let serves_on = matches!(lease.standing(), Some(Standing::Late | Standing::Kept));
            if serves_on && !state.pools.get(key.arm).contains_key(&key.id) {
                let pool = filled.to_mut().pools.get_mut(key.arm);
                pool.insert(key.id.clone(), Member::Ready(lease.member().clone()));
            }
        }
        filled
    }

    /// The leases of one service.
    fn of(&self, service: &str) -> impl Iterator<Item = (&Key, &Lease)> {
        let first = Key { service: service.to_owned(), arm: Arm::Stable, id: String::new() };
        self.leases.range(first..).take_while(move |(key, _)| key.service == service)
    }

    /// How a member stands; steady is also who is not leased.
    pub fn standing(&self, key: &Key) -> Standing {
        self.leases.get(key).and_then(Lease::standing).unwrap_or_default()
    }

    /// Members that don't stand as usual.
    pub fn unsteady(&self) -> impl Iterator<Item = (&Key, Standing)> {
        let standings = self.leases.iter().filter_map(|(key, lease)| Some((key, lease.standing()?)));
        standings.filter(|(_, standing)| *standing != Standing::Steady)
    }

    /// Since when too many are silent at once, if they are.
    pub const fn mass_since(&self) -> Option<Timestamp> {
        self.mass_since
    }

    /// Who left on purpose, or is of no service any more.
    fn forget_who_left(&mut self, look: &Look<'_>) {
        self.leases.retain(|key, lease| {
            let Some(service) = look.state.get(&key.service) else { return look.scope == Scope::Part };
            match service.pools.get(key.arm).get(&key.id) {
                Some(member) => member.spec().is_some_and(|spec| spec.ttl_ms.is_some()),
                None => {
                    let elsewhere = service.pools.get(key.arm.other()).get(&key.id).and_then(Member::spec);
                    !lease.is_draining() && elsewhere.is_none()
                }
            }
        });
    }

    fn take_in_beats(&mut self, look: &Look<'_>, news: &mut Vec<News>) {
        for (key, member, draining) in leased(look.state) {
            match self.leases.get_mut(&key) {
                Some(lease) => {
                    if let Some(wait) = lease.beat(look.now, member, draining) {
                        news.push(News::Returns(key, wait));
                    }
                }
                None => drop(self.leases.insert(key, Lease::new(member.clone(), draining))),
            }
        }
    }

    /// Whether so many are silent that it isn't they; then all of them are kept.
    fn judge_mass(&mut self, look: &Look<'_>, news: &mut Vec<News>) {
        let silent = self.leases.values().filter(|lease| lease.is_silent(look.now)).count();
        let all = silent + self.leases.values().filter(|lease| lease.is_beating()).count();
        #[expect(clippy::cast_precision_loss, reason = "pools are far below 2^52 members")]
        let too_many = silent >= FEWEST && silent as f64 > all as f64 * look.mass_share;
        let began = too_many && self.mass_since.is_none();
        if too_many {
            self.mass_since.get_or_insert(look.now);
            self.leases.values_mut().filter(|lease| lease.is_silent(look.now)).for_each(Lease::keep);
        } else if self.mass_since.take().is_some() {
            self.leases.values_mut().for_each(|lease| lease.release(look.now));
            news.push(News::MassOver);
        }
        if began {
            let kept = self.leases.iter().filter(|(_, lease)| lease.standing() == Some(Standing::Kept));
            news.push(News::MassExpiry { kept: kept.map(|(key, _)| key.clone()).collect(), of: all });
        }
    }
}

/// Every member that has a lease, and whether it drains.
fn leased(state: &State) -> impl Iterator<Item = (Key, &MemberSpec, bool)> {
    state.iter().flat_map(|(service, held)| {
        Arm::BOTH.into_iter().flat_map(move |arm| {
            held.pools.get(arm).iter().filter_map(move |(id, member)| {
                let spec = member.spec().filter(|spec| spec.ttl_ms.is_some())?;
                let key = Key { service: service.clone(), arm, id: id.clone() };
                Some((key, spec, matches!(member, Member::Draining(_))))
            })
        })
    })
}

fn find<'a>(state: &'a State, key: &Key) -> Option<&'a Member> {
    state.get(&key.service)?.pools.get(key.arm).get(&key.id)
}
