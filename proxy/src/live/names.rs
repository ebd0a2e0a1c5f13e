//! Members that have names: what is known of the names, and the endpoints that follow from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::model::member::{Member, MemberSpec};
use crate::model::naming::{Answer, NameFacts, Remembered};
use crate::model::place::{Place, id_at, member_of};
use crate::model::spec::ServiceSpec;
use crate::model::split::Arm;
use crate::model::state::ServiceState;

/// What is known of every name that a member has.
pub type Names = BTreeMap<Arc<str>, Arc<NameFacts>>;

/// The outcomes of lookups, as they are counted.
pub const OUTCOMES: [&str; 3] = ["answered", "denied", "failed"];

/// What is known of names, for the snapshots to come.
#[derive(Debug, Default)]
pub struct NamesLive {
    known: ArcSwap<Names>,
    /// By outcome.
    lookups: [AtomicU64; OUTCOMES.len()],
    /// Rung when something else is known than before.
    pub changed: Notify,
}

impl NamesLive {
    /// What is known now.
    pub fn known(&self) -> Arc<Names> {
        self.known.load_full()
    }

    /// Says what is known from now on.
    pub fn set(&self, names: Names) {
        if **self.known.load() != names {
            self.known.store(Arc::new(names));
            self.changed.notify_one();
        }
    }

    /// What a process that replaces this one is to know.
    pub fn remembered(&self) -> BTreeMap<String, Remembered> {
        let known = self.known();
        known.iter().filter_map(|(host, facts)| Some((host.to_string(), Remembered::of(facts)?))).collect()
    }

    /// Takes in what the process that this one replaces knew.
    pub fn remember(&self, told: BTreeMap<String, Remembered>) {
        self.set(told.into_iter().map(|(host, told)| (Arc::from(host), Arc::new(told.into()))).collect());
    }

    /// Counts what came of a lookup.
    pub fn count(&self, answer: &Answer) {
        let outcome = match answer {
            Answer::Addresses(..) => 0,
            Answer::Denied(_) => 1,
            Answer::Failed(_) => 2,
        };
        self.lookups[outcome].fetch_add(1, Ordering::Relaxed);
    }

    /// How often each of [`OUTCOMES`] came.
    pub fn lookups(&self) -> [u64; OUTCOMES.len()] {
        self.lookups.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

/// The names of which two accounts tell differently.
pub fn differing<'a>(one: &'a Names, other: &'a Names) -> BTreeSet<&'a str> {
    let differ = |names: &'a Names, others: &'a Names| {
        names.iter().filter(|(host, facts)| others.get(*host) != Some(facts)).map(|(host, _)| &**host)
    };
    differ(one, other).chain(differ(other, one)).collect()
}

/// Whether a service has a member of one of these names.
pub fn concern(hosts: &BTreeSet<&str>, spec: &ServiceSpec, state: &ServiceState) -> bool {
    let held = |arm| state.pools.get(arm).values().filter_map(Member::spec).map(|member| &member.address);
    let mut places = Arm::BOTH.into_iter().flat_map(|arm| spec.seeds.get(arm).iter().chain(held(arm)));
    places.any(|place| place.host().is_some_and(|host| hosts.contains(&**host)))
}

/// A member that has a name, as a snapshot knows it.
#[derive(Clone, Debug)]
pub struct NameView {
    /// The member's id.
    pub id: Arc<str>,
    /// The name.
    pub host: Arc<str>,
    /// What it was registered as.
    pub member: Arc<MemberSpec>,
    /// What was known of the name.
    pub facts: Arc<NameFacts>,
}

impl NameView {
    /// How it stands with the name, in a word.
    pub fn state(&self) -> &'static str {
        match (&self.facts.trouble, self.facts.addresses.is_empty()) {
            (None, false) => "resolved",
            (Some(_), false) => "failing",
            (_, true) => "unresolved",
        }
    }

    /// What is wrong, in words, if anything is.
    pub fn why(&self) -> Option<String> {
        let kept = if self.facts.addresses.is_empty() { "" } else { ": its last known addresses stay" };
        match &self.facts.trouble {
            Some(trouble) => Some(format!("{} since {}: {}{kept}", self.host, trouble.since, trouble.why)),
            None if !self.facts.is_asked => Some(format!("{} wasn't looked up yet", self.host)),
            None => None,
        }
    }
}

/// A member at one address.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) member: MemberSpec,
    pub(super) address: SocketAddr,
    pub(super) draining: bool,
    /// The name that has the address.
    pub(super) name: Option<Arc<NameView>>,
}

/// Members by id: each at its address; one that has a name at each of its addresses, which may drain by itself.
///
/// `may_leave` says whether one of the endpoints can do without those that the name had until a moment ago.
pub(super) fn resolve(
    members: BTreeMap<String, (MemberSpec, bool)>,
    names: &Names,
    held: &BTreeMap<String, Member>,
    may_leave: impl Fn(&str) -> bool,
) -> (BTreeMap<String, Found>, Vec<Arc<NameView>>) {
    let (mut found, mut views) = (BTreeMap::new(), Vec::new());
    for (id, (member, draining)) in members {
        match &member.address {
            // What was said of an address of a name counts as long as the name has it: see below.
            Place::At(_) if member_of(&id).is_some() => {}
            Place::At(address) => {
                let address = *address;
                found.insert(id, Found { member, address, draining, name: None });
            }
            Place::Named { host, port } => {
                let port = *port;
                let facts = names.get(host).cloned().unwrap_or_default();
                let (view_id, host) = (Arc::from(id.as_str()), Arc::clone(host));
                let view = Arc::new(NameView { id: view_id, host, member: Arc::new(member), facts });
                for ip in addresses(&view, may_leave_all(&view, &may_leave)) {
                    let (id, address) = (id_at(&id, ip), SocketAddr::new(ip, port));
                    let drained = matches!(held.get(&id), Some(Member::Draining(_) | Member::Removed));
                    let member = MemberSpec { address: address.into(), ..MemberSpec::clone(&view.member) };
                    let (draining, name) = (draining || drained, Some(Arc::clone(&view)));
                    found.insert(id, Found { member, address, draining, name });
                }
                views.push(view);
            }
        }
    }
    (found, views)
}

/// Whether one of a name's addresses serves, so that those it had before may go.
fn may_leave_all(view: &NameView, may_leave: impl Fn(&str) -> bool) -> bool {
    view.facts.addresses.iter().any(|ip| may_leave(&id_at(&view.id, *ip)))
}

fn addresses(view: &NameView, may_leave: bool) -> impl Iterator<Item = IpAddr> + '_ {
    let left: &[IpAddr] = if may_leave { &[] } else { &view.facts.left };
    view.facts.addresses.iter().chain(left).copied()
}

#[cfg(test)]
mod tests;
