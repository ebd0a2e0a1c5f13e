//! Names of endpoints: looks up those that members in the snapshot have, again and again, and says what is known of
//! them.
//!
//! What an answer means is [`Name`]'s to say. Here it gets its clock, whom to ask, and somebody to tell. No request
//! waits for any of this: what is found out comes to them with a snapshot.

mod lookup;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use rand::RngExt as _;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

pub use self::lookup::SystemLookup;
use crate::live::Live;
use crate::model::naming::{Answer, Name, NameFacts, News};
use crate::model::spec::Spec;
use crate::model::split::Arm;
use crate::model::time::Timestamp;
use crate::telemetry;

/// Lookups under way at once.
const AT_ONCE: usize = 32;

/// Who can be asked for the addresses of a name.
#[async_trait::async_trait]
pub trait Lookup: Send + Sync {
    /// Asks, for as long as it takes: there is an end to it by itself.
    async fn look_up(&self, host: &str) -> Answer;

    /// A new configuration counts from now on.
    fn renew(&self, spec: &Spec);
}

/// Keeps what is known of names up to date.
pub struct Naming {
    live: Arc<Live>,
    lookup: Arc<dyn Lookup>,
    spec: watch::Receiver<Arc<Spec>>,
    names: BTreeMap<Arc<str>, Followed>,
    lookups: JoinSet<Answer>,
    /// Which name each of them is about.
    asked: BTreeMap<Id, Arc<str>>,
    /// One moment by both clocks: the wall clock may jump, what is believed for a minute must not.
    begin: (Instant, Timestamp),
}

impl std::fmt::Debug for Naming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Naming").field("names", &self.names).finish_non_exhaustive()
    }
}

/// A name that a member has.
#[derive(Debug)]
struct Followed {
    name: Name,
    is_asked_now: bool,
}

impl Naming {
    /// One that knows what is remembered from before, if anything is.
    pub fn new(live: Arc<Live>, lookup: Arc<dyn Lookup>, spec: watch::Receiver<Arc<Spec>>) -> Self {
        let begin = (Instant::now(), telemetry::now());
        Self { live, lookup, spec, names: BTreeMap::new(), lookups: JoinSet::new(), asked: BTreeMap::new(), begin }
    }

    /// Follows the snapshots, for ever.
    pub async fn run(mut self, mut published: watch::Receiver<u64>) {
        loop {
            self.follow_snapshot();
            let next = self.ask_and_tell();
            tokio::select! {
                changed = published.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Ok(()) = self.spec.changed() => {
                    let spec = Arc::clone(&self.spec.borrow_and_update());
                    self.lookup.renew(&spec);
                }
                Some(ended) = self.lookups.join_next_with_id() => self.hear(ended),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    fn now(&self) -> Timestamp {
        let (start, wall) = self.begin;
        wall + start.elapsed()
    }

    /// Begins to follow names that came, and forgets those that went.
    fn follow_snapshot(&mut self) {
        let snapshot = self.live.snapshot();
        let pools = snapshot.services().iter().flat_map(|service| Arm::BOTH.map(|arm| service.names.get(arm)));
        let wanted: BTreeMap<_, ()> = pools.flatten().map(|name| (Arc::clone(&name.host), ())).collect();
        self.names.retain(|host, _| wanted.contains_key(host));
        // What is known from before this process: later, of a name that comes, nothing is.
        let known = self.live.names().known();
        for host in wanted.into_keys() {
            self.names.entry(host).or_insert_with_key(|host| {
                let facts = known.get(host).map(|facts| NameFacts::clone(facts)).unwrap_or_default();
                Followed { name: Name::known(facts), is_asked_now: false }
            });
        }
    }

    /// Asks for what is due, tells what is known, and returns when something has to be done again.
    fn ask_and_tell(&mut self) -> Option<Instant> {
        let now = self.now();
        let mut next: Option<Timestamp> = None;
        for (host, followed) in &mut self.names {
            followed.name.pass_time(now);
            if !followed.is_asked_now && followed.name.due() <= now && self.lookups.len() < AT_ONCE {
                followed.is_asked_now = true;
                let (lookup, name) = (Arc::clone(&self.lookup), Arc::clone(host));
                let task = self.lookups.spawn(async move { lookup.look_up(&name).await });
                self.asked.insert(task.id(), Arc::clone(host));
            }
            // What is asked now, or waits for its turn to be, ends with an answer.
            let due = (!followed.is_asked_now && followed.name.due() > now).then(|| followed.name.due());
            next = [next, due, followed.name.alters_at()].into_iter().flatten().min();
        }
        let facts = self.names.iter().map(|(host, followed)| (Arc::clone(host), followed.name.facts().clone().into()));
        self.live.names().set(facts.collect());
        let (start, wall) = self.begin;
        next.map(|next| start + next.since(wall))
    }

    /// A lookup has ended.
    fn hear(&mut self, ended: Result<(Id, Answer), JoinError>) {
        let (id, answer) = match ended {
            Ok(ended) => ended,
            // The log of panics tells more of it; the name is asked for again as after any failure.
            Err(error) => (error.id(), Answer::Failed("its lookup broke off".to_owned())),
        };
        if let Some(host) = self.asked.remove(&id) {
            self.take(&host, answer);
        }
    }

    fn take(&mut self, host: &Arc<str>, answer: Answer) {
        self.live.names().count(&answer);
        let now = self.now();
        // Nobody has it any more, or somebody has it anew: then it is asked for anew.
        let Entry::Occupied(mut followed) = self.names.entry(Arc::clone(host)) else { return };
        let Followed { name, is_asked_now } = followed.get_mut();
        *is_asked_now = false;
        let news = name.take(now, answer, &self.spec.borrow().naming, rand::rng().random_range(0.0..1.0));
        let (facts, name) = (name.facts(), &**host);
        let why = facts.trouble.as_ref().map(|trouble| trouble.why.as_str()).unwrap_or_default();
        let addresses = &*facts.addresses;
        match news {
            None => {}
            Some(News::Moved) => tracing::info!(name, ?addresses, "The addresses of a name changed"),
            Some(News::Recovered) => tracing::info!(name, ?addresses, "A name answers again"),
            Some(News::Fails) if addresses.is_empty() => {
                tracing::warn!(name, why, "A name has no addresses: its endpoints are down until it has some");
            }
            Some(News::Fails) => tracing::warn!(name, why, ?addresses, "A name fails: its last known addresses stay"),
            Some(News::Given) => {
                tracing::error!(name, why, "A name was denied for too long: its addresses are given up");
            }
        }
    }
}

#[cfg(test)]
mod tests;
