//! What is known of a name: which addresses it has, for how long that is believed, and what happens when nobody can
//! say.
//!
//! An answer with addresses replaces what was known. Trouble takes nothing away: a resolver that fails says nothing of
//! the endpoints, so their addresses stay for as long as it fails. Who says that there are none may be right, and may be
//! a zone that was published by mistake, so that is believed only after it was said for [`NamingSpec::keep_denied`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::place::is_connectable;
use super::time::Timestamp;

/// Addresses of one name; what is beyond is passed over.
pub const MOST_ADDRESSES: usize = 64;
/// Addresses that left are told of for so long: whoever has nobody else yet may go on with them.
pub const LINGER: Duration = Duration::from_secs(10);
/// The longest pause after trouble.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamingSpec {
    /// Who is asked; none = whoever `/etc/resolv.conf` names.
    pub servers: Vec<SocketAddr>,
    /// An answer counts for at least so long.
    pub min_ttl: Duration,
    /// And for at most so long.
    pub max_ttl: Duration,
    /// How long a server may take to answer.
    pub timeout: Duration,
    /// How long the addresses of a name are kept that, it is said, has none.
    pub keep_denied: Duration,
}

impl Default for NamingSpec {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            min_ttl: Duration::from_secs(5),
            max_ttl: Duration::from_secs(300),
            timeout: Duration::from_secs(2),
            keep_denied: Duration::from_secs(3_600),
        }
    }
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has addresses, for so long.
    Addresses(Vec<IpAddr>, Duration),
    /// There is no such name, or it has no address; in words.
    Denied(String),
    /// Nobody could say; in words.
    Failed(String),
}

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What that is, in words.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// Whether somebody says that it has no address, rather than nobody anything.
    pub denied: bool,
}

/// What a process tells the one that replaces it of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Its last known addresses.
    pub addresses: Vec<IpAddr>,
    /// What is wrong, if anything is.
    #[serde(default)]
    pub trouble: Option<Trouble>,
}

impl Remembered {
    /// What is worth telling: a name without addresses is asked for anew.
    pub fn of(facts: &NameFacts) -> Option<Self> {
        let known = !facts.addresses.is_empty();
        known.then(|| Self { addresses: facts.addresses.to_vec(), trouble: facts.trouble.clone() })
    }
}

impl From<Remembered> for NameFacts {
    fn from(told: Remembered) -> Self {
        let addresses = in_order(told.addresses).into();
        Self { is_asked: true, addresses, left: Arc::default(), trouble: told.trouble }
    }
}

/// What others see of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameFacts {
    /// Whether anything came of asking yet.
    pub is_asked: bool,
    /// Its addresses, in order.
    pub addresses: Arc<[IpAddr]>,
    /// Addresses that it had until a moment ago, in order.
    pub left: Arc<[IpAddr]>,
    /// What is wrong, if anything is.
    pub trouble: Option<Trouble>,
}

/// What came of an answer that is worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Other addresses than before.
    Moved,
    /// It fails; what is known stays.
    Fails,
    /// It answers again.
    Recovered,
    /// It was denied for too long: its addresses are gone.
    Given,
}

/// A name over time.
#[derive(Clone, Debug, Default)]
pub struct Name {
    facts: NameFacts,
    /// When to ask again; at once while nobody asked.
    due: Timestamp,
    /// Until when addresses that left are told of.
    left_until: Timestamp,
    failures: u32,
}

impl Name {
    /// One of which this is known from before. It is asked for at once all the same.
    pub fn known(facts: NameFacts) -> Self {
        Self { facts, ..Self::default() }
    }

    /// What others see of it.
    pub const fn facts(&self) -> &NameFacts {
        &self.facts
    }

    /// When to ask again.
    pub const fn due(&self) -> Timestamp {
        self.due
    }

    /// When time alone alters it, if it does.
    pub fn alters_at(&self) -> Option<Timestamp> {
        (!self.facts.left.is_empty()).then_some(self.left_until)
    }

    /// Takes in an answer. `draw`, from 0 to 1, spreads those who ask over time.
    pub fn take(&mut self, now: Timestamp, answer: Answer, spec: &NamingSpec, draw: f64) -> Option<News> {
        self.facts.is_asked = true;
        match answer {
            Answer::Addresses(addresses, ttl) => {
                let addresses = in_order(addresses);
                if addresses.is_empty() {
                    let why = "its addresses are none to connect to".to_owned();
                    return self.fail(now, why, true, spec, draw);
                }
                self.failures = 0;
                let believed = ttl.min(spec.max_ttl).max(spec.min_ttl);
                // A little early, so that what it says is never older than it may be by more than a lookup takes.
                self.due = now + believed.mul_f64(1.0 - draw / 10.0);
                let recovered = self.facts.trouble.take().is_some();
                let moved = self.move_to(now, addresses);
                (moved.then_some(News::Moved)).or_else(|| recovered.then_some(News::Recovered))
            }
            Answer::Denied(why) => self.fail(now, why, true, spec, draw),
            Answer::Failed(why) => self.fail(now, why, false, spec, draw),
        }
    }

    /// What time alone does. Returns whether that is anything.
    pub fn pass_time(&mut self, now: Timestamp) -> bool {
        let over = self.alters_at().is_some_and(|at| now >= at);
        if over {
            self.facts.left = Arc::default();
        }
        over
    }

    fn move_to(&mut self, now: Timestamp, addresses: Vec<IpAddr>) -> bool {
        if *self.facts.addresses == *addresses {
            return false;
        }
        let stays = |address: &IpAddr| addresses.contains(address);
        let before = self.facts.addresses.iter().chain(&*self.facts.left).copied();
        self.facts.left = in_order(before.filter(|address| !stays(address)).collect()).into();
        self.left_until = now + LINGER;
        self.facts.addresses = addresses.into();
        true
    }

    fn fail(&mut self, now: Timestamp, why: String, denied: bool, spec: &NamingSpec, draw: f64) -> Option<News> {
        let doubled = spec.min_ttl.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        self.due = now + doubled.min(LONGEST_PAUSE.max(spec.min_ttl)).mul_f64(1.0 - draw / 2.0);
        let is_new = self.facts.trouble.as_ref().is_none_or(|trouble| trouble.denied != denied);
        if is_new {
            self.facts.trouble = Some(Trouble { why, since: now, denied });
        }
        let since = self.facts.trouble.as_ref().map_or(now, |trouble| trouble.since);
        if denied && !self.facts.addresses.is_empty() && now.since(since) >= spec.keep_denied {
            self.facts.addresses = Arc::default();
            self.facts.left = Arc::default();
            return Some(News::Given);
        }
        is_new.then_some(News::Fails)
    }
}

/// What can be connected to, each once.
fn in_order(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.retain(|address| is_connectable(*address));
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A name and its clock.
    struct World {
        name: Name,
        now: Timestamp,
        spec: NamingSpec,
    }

    fn ips(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect()
    }

    impl World {
        fn new() -> Self {
            Self { name: Name::default(), now: Timestamp::from_millis(1_000), spec: NamingSpec::default() }
        }

        fn hears(&mut self, answer: Answer) -> Option<News> {
            self.name.take(self.now, answer, &self.spec, 0.0)
        }

        fn has(&mut self, last: &[u8], ttl: u64) -> Option<News> {
            self.hears(Answer::Addresses(ips(last), SECOND * u32::try_from(ttl).expect("small")))
        }

        fn pause(&self) -> Duration {
            self.name.due().since(self.now)
        }
    }

    #[test]
    fn an_answer_counts_for_its_ttl_within_bounds() {
        let mut world = World::new();
        for (ttl, pause) in [(0, 5), (5, 5), (60, 60), (86_400, 300)] {
            world.has(&[1], ttl);
            assert_eq!(world.pause(), Duration::from_secs(pause), "of a TTL of {ttl} s");
        }
        world.name.take(world.now, Answer::Addresses(ips(&[1]), SECOND * 60), &world.spec, 1.0);
        assert_eq!(
            world.pause(),
            Duration::from_secs(54),
            "who asks at the same moment again and again, does so in step"
        );
    }

    #[test]
    fn the_order_of_an_answer_and_what_it_says_twice_is_no_news() {
        let mut world = World::new();
        assert_eq!(world.has(&[2, 1], 60), Some(News::Moved));
        assert_eq!(world.has(&[1, 2, 1], 60), None);
        assert_eq!(*world.name.facts().addresses, *ips(&[1, 2]));
        assert_eq!(world.has(&[2, 3], 60), Some(News::Moved));
        assert_eq!(*world.name.facts().left, *ips(&[1]));
    }

    #[test]
    fn who_left_is_told_of_for_a_moment_unless_it_comes_back() {
        let mut world = World::new();
        world.has(&[1, 2], 60);
        world.has(&[3], 60);
        assert_eq!(*world.name.facts().left, *ips(&[1, 2]));
        world.now = world.now + SECOND * 5;
        world.has(&[2], 60);
        assert_eq!(*world.name.facts().left, *ips(&[1, 3]));
        assert!(!world.name.pass_time(world.now + SECOND * 9), "it went too soon");
        assert!(world.name.pass_time(world.now + LINGER) && world.name.facts().left.is_empty());
        assert_eq!(world.name.alters_at(), None);
    }

    #[test]
    fn what_fails_keeps_its_addresses_for_good_and_is_asked_less_and_less_often() {
        let mut world = World::new();
        world.has(&[1], 60);
        let failed = || Answer::Failed("SERVFAIL".into());
        assert_eq!(world.hears(failed()), Some(News::Fails));
        let since = world.now;
        for pause in [10, 20, 30, 30] {
            world.now = world.name.due();
            assert_eq!(world.hears(failed()), None);
            assert_eq!(world.pause(), Duration::from_secs(pause));
        }
        world.now = world.now + SECOND * 1_000_000;
        world.hears(failed());
        let facts = world.name.facts();
        assert_eq!(*facts.addresses, *ips(&[1]));
        assert_eq!(facts.trouble, Some(Trouble { why: "SERVFAIL".into(), since, denied: false }));
        // then one answer mends it
        assert_eq!(world.has(&[1], 60), Some(News::Recovered));
        assert_eq!(world.name.facts().trouble, None);
        world.hears(failed());
        assert_eq!(world.pause(), SECOND * 5, "old failures count against it");
    }

    #[test]
    fn what_is_denied_keeps_its_addresses_only_for_so_long() {
        let mut world = World::new();
        world.has(&[1], 60);
        let denied = || Answer::Denied("no such name".into());
        assert_eq!(world.hears(denied()), Some(News::Fails));
        world.now = world.now + SECOND * 3_599;
        assert_eq!((world.hears(denied()), world.name.facts().addresses.len()), (None, 1));
        // A failure in between says nothing, and the time begins anew.
        assert_eq!(world.hears(Answer::Failed("timeout".into())), Some(News::Fails));
        world.hears(denied());
        world.now = world.now + SECOND * 3_599;
        assert_eq!((world.hears(denied()), world.name.facts().addresses.len()), (None, 1));
        world.now = world.now + SECOND;
        assert_eq!((world.hears(denied()), world.name.facts().addresses.len()), (Some(News::Given), 0));
        assert_eq!(world.has(&[1], 60), Some(News::Moved));
    }

    #[test]
    fn what_is_told_of_a_name_is_all_that_counts_while_dns_is_gone() {
        let mut before = World::new();
        before.has(&[2, 1], 60);
        before.hears(Answer::Denied("no such name".into()));
        let told = Remembered::of(before.name.facts()).expect("it has addresses");
        let told = serde_json::to_string(&told).expect("JSON");
        let told: Remembered = serde_json::from_str(&told).expect("the same");
        let mut after = World { name: Name::known(told.into()), ..World::new() };
        assert_eq!(after.name.facts(), &NameFacts { left: Arc::default(), ..before.name.facts().clone() });
        assert_eq!(after.name.due(), Timestamp::default(), "it is asked for at once");
        // The hour of grace of what is denied goes on.
        after.now = after.now + SECOND * 3_600;
        assert_eq!(after.hears(Answer::Denied("no such name".into())), Some(News::Given));
        assert_eq!(Remembered::of(after.name.facts()), None);
        let strange = Remembered { addresses: vec![[0, 0, 0, 0].into(), [10, 0, 0, 1].into()], trouble: None };
        assert_eq!(*NameFacts::from(strange).addresses, *ips(&[1]));
    }

    #[test]
    fn who_failed_asks_again_at_a_moment_of_its_own_and_no_sooner_than_answers_would_count() {
        let mut world = World::new();
        world.name.take(world.now, Answer::Failed("SERVFAIL".into()), &world.spec, 1.0);
        assert_eq!(world.pause(), Duration::from_millis(2_500), "all ask in step");
        world.spec.min_ttl = SECOND * 60;
        world.hears(Answer::Failed("SERVFAIL".into()));
        assert_eq!(world.pause(), SECOND * 60);
    }

    #[test]
    fn what_is_given_up_leaves_nothing_behind() {
        let mut world = World::new();
        world.spec.keep_denied = Duration::ZERO;
        world.has(&[1], 60);
        world.has(&[2], 60);
        assert_eq!(world.hears(Answer::Denied("no such name".into())), Some(News::Given));
        assert!(world.name.facts().addresses.is_empty() && world.name.facts().left.is_empty());
    }

    #[test]
    fn addresses_that_nobody_can_connect_to_are_as_none() {
        let mut world = World::new();
        world.has(&[1], 60);
        let blocked = vec![IpAddr::from([0, 0, 0, 0]), IpAddr::from([224, 0, 0, 1])];
        assert_eq!(world.hears(Answer::Addresses(blocked, SECOND)), Some(News::Fails));
        assert_eq!(*world.name.facts().addresses, *ips(&[1]));
        let many = (0..=255).map(|last| IpAddr::from([10, 0, 0, last])).collect();
        world.hears(Answer::Addresses(many, SECOND));
        assert_eq!(world.name.facts().addresses.len(), MOST_ADDRESSES);
    }
}
