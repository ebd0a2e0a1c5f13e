//! Names of endpoints in simulated time, before a DNS that says what a test says.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::live::sample;
use crate::model::naming::Remembered;
use crate::model::spec::ServiceSpec;
use crate::model::state::State;

const SECOND: Duration = Duration::from_secs(1);

/// A DNS that says what a test says, and counts who asks.
#[derive(Default)]
struct Told {
    answers: Mutex<BTreeMap<String, Answer>>,
    asked: Mutex<Vec<String>>,
    /// The next lookup panics.
    panics: AtomicBool,
}

#[async_trait::async_trait]
impl Lookup for Told {
    async fn look_up(&self, host: &str) -> Answer {
        self.asked.lock().expect("no panic").push(host.to_owned());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!self.panics.swap(false, Ordering::Relaxed), "on purpose");
        self.answers.lock().expect("no panic").get(host).cloned().unwrap_or_else(|| Answer::Failed("gone".into()))
    }

    fn renew(&self, _: &Spec) {}
}

struct World {
    live: Arc<Live>,
    told: Arc<Told>,
    published: watch::Sender<u64>,
    _spec: watch::Sender<Arc<Spec>>,
    naming: tokio::task::JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        let (live, _reports) = Live::new(1);
        let (spec, receiver) = watch::channel(Arc::new(sample::spec()));
        let (published, watching) = watch::channel(0);
        let told = Arc::new(Told::default());
        let naming = Naming::new(Arc::clone(&live), Arc::<Told>::clone(&told), receiver);
        let naming = tokio::spawn(naming.run(watching));
        Self { live, told, published, _spec: spec, naming }
    }

    /// A snapshot is published in which a service has these names.
    fn publish(&self, hosts: &[&str]) {
        let stable = hosts.iter().map(|host| format!("{host}:80").parse().expect("a name")).collect();
        let mut service = sample::service("shop");
        service.seeds.stable = stable;
        sample::publish(&self.live, &[Arc::<ServiceSpec>::new(service)], &State::default());
        self.published.send_modify(|revision| *revision += 1);
    }

    fn answers(&self, host: &str, last: u8, ttl: Duration) {
        let answer = Answer::Addresses(vec![IpAddr::from([10, 0, 0, last])], ttl);
        self.told.answers.lock().expect("no panic").insert(host.to_owned(), answer);
    }

    fn asked(&self) -> usize {
        std::mem::take(&mut *self.told.asked.lock().expect("no panic")).len()
    }

    fn knows(&self, host: &str) -> Option<Vec<String>> {
        let known = self.live.names().known();
        known.get(host).map(|facts| facts.addresses.iter().map(ToString::to_string).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_asked_at_once_and_again_when_its_ttl_is_nearly_over() {
    let world = World::new();
    world.answers("a", 1, SECOND * 60);
    world.publish(&["a"]);
    tokio::time::sleep(SECOND).await;
    assert_eq!((world.knows("a"), world.asked()), (Some(vec!["10.0.0.1".into()]), 1));
    world.answers("a", 2, SECOND * 60);
    tokio::time::sleep(SECOND * 52).await;
    assert_eq!(world.asked(), 0, "it was asked again too soon");
    tokio::time::sleep(SECOND * 8).await;
    assert_eq!((world.knows("a"), world.asked()), (Some(vec!["10.0.0.2".into()]), 1));
    world.naming.abort();
}

#[tokio::test(start_paused = true)]
async fn names_that_nobody_has_any_more_are_forgotten_and_new_ones_asked_for() {
    let world = World::new();
    world.answers("a", 1, SECOND * 60);
    world.publish(&["a", "b"]);
    tokio::time::sleep(SECOND).await;
    assert_eq!(world.knows("b"), Some(Vec::new()), "one that fails is known to have none");
    assert!(world.live.names().known()["b"].is_asked);
    world.publish(&["a"]);
    tokio::time::sleep(SECOND).await;
    assert_eq!(world.knows("b"), None);
    let before = world.asked();
    tokio::time::sleep(SECOND * 40).await;
    assert_eq!((before, world.asked()), (2, 0), "somebody asks for what nobody has");
    assert_eq!(world.live.names().lookups(), [1, 0, 1]);
    world.naming.abort();
}

#[tokio::test(start_paused = true)]
async fn what_fails_keeps_its_addresses_and_is_asked_again_and_again() {
    let world = World::new();
    world.answers("a", 1, SECOND * 5);
    world.publish(&["a"]);
    tokio::time::sleep(SECOND).await;
    world.told.answers.lock().expect("no panic").clear();
    tokio::time::sleep(SECOND * 600).await;
    let known = world.live.names().known();
    assert_eq!(world.knows("a"), Some(vec!["10.0.0.1".into()]));
    assert!(known["a"].trouble.as_ref().is_some_and(|trouble| !trouble.denied && trouble.why == "gone"));
    assert!((20..60).contains(&world.asked()), "it is asked too often or too seldom");
    world.answers("a", 2, SECOND * 5);
    tokio::time::sleep(SECOND * 31).await;
    assert_eq!(world.knows("a"), Some(vec!["10.0.0.2".into()]));
    assert!(world.live.names().known()["a"].trouble.is_none());
    world.naming.abort();
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_panics_has_failed_and_is_made_again() {
    let world = World::new();
    world.answers("a", 1, SECOND * 5);
    world.publish(&["a"]);
    tokio::time::sleep(SECOND).await;
    world.answers("a", 2, SECOND * 300);
    world.told.panics.store(true, Ordering::Relaxed);
    tokio::time::sleep(SECOND * 5).await;
    let known = world.live.names().known();
    assert_eq!(world.knows("a"), Some(vec!["10.0.0.1".into()]));
    assert!(known["a"].trouble.as_ref().is_some_and(|trouble| !trouble.denied), "{known:?}");
    tokio::time::sleep(SECOND * 31).await;
    assert_eq!(world.knows("a"), Some(vec!["10.0.0.2".into()]));
    world.naming.abort();
}

#[tokio::test(start_paused = true)]
async fn those_that_left_are_told_of_for_a_moment_only() {
    let world = World::new();
    world.answers("a", 1, SECOND * 5);
    world.publish(&["a"]);
    tokio::time::sleep(SECOND).await;
    world.answers("a", 2, SECOND * 300);
    tokio::time::sleep(SECOND * 5).await;
    assert_eq!(world.live.names().known()["a"].left.len(), 1);
    tokio::time::sleep(SECOND * 11).await;
    assert!(world.live.names().known()["a"].left.is_empty());
    world.naming.abort();
}

#[tokio::test(start_paused = true)]
async fn what_the_process_before_knew_serves_until_dns_answers() {
    let world = World::new();
    let told = Remembered { addresses: vec![IpAddr::from([10, 0, 0, 1])], trouble: None };
    world.live.names().remember([("a".to_owned(), told.clone()), ("b".to_owned(), told)].into());
    world.publish(&["a"]);
    tokio::time::sleep(SECOND).await;
    assert_eq!((world.knows("a"), world.knows("b")), (Some(vec!["10.0.0.1".into()]), None));
    assert_eq!(world.asked(), 1, "it is asked for at once");
    world.answers("a", 2, SECOND * 60);
    tokio::time::sleep(SECOND * 31).await;
    assert_eq!(world.knows("a"), Some(vec!["10.0.0.2".into()]));
    assert_eq!(world.live.names().remembered()["a"].addresses, [IpAddr::from([10, 0, 0, 2])]);
    world.naming.abort();
}
