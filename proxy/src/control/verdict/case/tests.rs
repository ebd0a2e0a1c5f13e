//! A case by itself, and cases of several proxies that tell each other.

use std::sync::Arc;

use super::*;
use crate::live::Live;
use crate::live::sample::{publish, service};
use crate::live::service::Ending;
use crate::model::outcome::BadSample;
use crate::model::split::{Episode, Salt, Unit};
use crate::model::state::{ServiceState, State};
use crate::model::verdict::Decision;
use crate::model::verdict::addresses::ClientNet;

/// A service whose episode runs at this weight.
fn world(percent: f64) -> (Arc<Live>, Arc<ServiceView>) {
    let (live, _) = Live::new(2);
    let weight = Some(Weight::from_percent(percent).expect("a weight"));
    let episode = Some(Episode { id: EpisodeId(1), salt: Salt(2) });
    let state = State::from([("checkbox".to_owned(), ServiceState { weight, episode, ..Default::default() })]);
    publish(&live, &[Arc::new(service("checkbox"))], &state);
    let view = Arc::clone(live.snapshot().service("checkbox").expect("it was published"));
    (live, view)
}

/// So many users come, each back with its key; `arm_of` says where they end up.
fn come(episode: &EpisodeView, users: std::ops::Range<u32>, arm_of: impl Fn(Unit) -> Arm) {
    for key in users {
        let unit = Unit::of_key(episode.salt, &key.to_le_bytes());
        episode.live.note((key % 2) as usize, arm_of(unit), unit);
        episode.step.note((key % 2) as usize, arm_of(unit), unit, true);
    }
}

#[tokio::test(start_paused = true)]
async fn a_healthy_canary_passes_once_its_users_had_time_to_fail() {
    let (_live, view) = world(50.0);
    let episode = view.episode.clone().expect("it runs");
    let mut case = Case::new(episode.id, &view.spec);
    come(&episode, 0..1_900, |unit| unit.arm(episode.step.weight()));
    assert_eq!(case.look(&view, &episode, Instant::now()), Found::Nothing);
    assert_eq!(case.status().decision, Decision::Hold, "its users may still fail");
    tokio::time::advance(view.spec.timeouts.header).await;
    case.look(&view, &episode, Instant::now());
    let status = case.status();
    assert_eq!(status.decision, Decision::Pass, "{}", status.why);
    assert_eq!(status.pass.exposed, 1_900);
    assert!(!status.sample_ratio.off && status.sample_ratio.returned.stable > 800);
}

#[tokio::test(start_paused = true)]
async fn a_broken_split_is_found_once_and_forbids_a_pass() {
    let (_live, view) = world(50.0);
    let episode = view.episode.clone().expect("it runs");
    let mut case = Case::new(episode.id, &view.spec);
    come(&episode, 0..1_900, |unit| if unit.lower() % 5 == 0 { Arm::Canary } else { Arm::Stable });
    assert_eq!(case.look(&view, &episode, Instant::now()), Found::BrokenSplit);
    tokio::time::advance(view.spec.timeouts.header).await;
    assert_eq!(case.look(&view, &episode, Instant::now()), Found::Nothing);
    let status = case.status();
    assert!(status.sample_ratio.off && status.pass.e >= status.pass.threshold);
    assert_eq!(status.decision, Decision::Hold);
}

#[tokio::test(start_paused = true)]
async fn stable_that_fails_is_known_within_its_minute_and_recovers() {
    let (_live, view) = world(50.0);
    let episode = view.episode.clone().expect("it runs");
    let mut case = Case::new(episode.id, &view.spec);
    let mut failing_after = async |bad: bool| {
        for _ in 0..50 {
            view.live.count(0, Arm::Stable, Ending::Status(if bad { 500 } else { 200 }), None);
            if bad {
                view.live.count_bad(0, Arm::Stable, BadReason::Status);
            }
        }
        tokio::time::advance(Duration::from_secs(20)).await;
        case.look(&view, &episode, Instant::now());
        case.status().stable_failing
    };
    let mut seen = Vec::new();
    for bad in [false, false, true, true, false, false, false, false] {
        seen.push(failing_after(bad).await);
    }
    assert_eq!(seen, [false, false, true, true, true, true, false, false]);
}

/// A user of this key goes bad for the errors signal, from an address of its own.
fn outcome(episode: &EpisodeView, key: u32) -> BadOutcome {
    let unit = Unit::of_key(episode.salt, &key.to_le_bytes());
    let weight = episode.step.weight();
    let sample = BadSample {
        request_id: key.to_string(),
        method: "GET".into(),
        path: "/".into(),
        status: Some(500),
        reason: BadReason::Status,
        endpoint: "a".into(),
        at: Timestamp::from_millis(1_000 + u64::from(key)),
    };
    let (drawn_at, address) = (sample.at, key.to_be_bytes().into());
    BadOutcome { arm: unit.arm(weight), unit, drawn_at, weight, control: Weight::ZERO, address, sample }
}

/// One proxy: its world, its case, and what it told.
struct Proxy {
    live: Arc<Live>,
    view: Arc<ServiceView>,
    case: Case,
    told: Vec<Post>,
}

impl Proxy {
    fn new(percent: f64) -> Self {
        let (live, view) = world(percent);
        let case = Case::new(EpisodeId(1), &view.spec);
        Self { live, view, case, told: Vec::new() }
    }

    fn episode(&self) -> EpisodeView {
        self.view.episode.clone().expect("it runs")
    }

    /// These users go bad here.
    fn sees(&mut self, keys: impl IntoIterator<Item = u32>) {
        let episode = self.episode();
        for key in keys {
            self.told.extend(self.case.observe(&outcome(&episode, key), &episode, Instant::now()));
        }
    }

    fn hears(&mut self, posts: &[Post]) {
        let episode = self.episode();
        self.case.take_in(posts, false, &episode, Instant::now());
    }

    fn looks(&mut self) {
        let episode = self.episode();
        self.case.look(&self.view, &episode, Instant::now());
        self.told.extend(self.case.tell());
    }

    /// What everybody must agree on.
    fn evidence(&mut self) -> (f64, Option<f64>, PerArm<u64>) {
        self.case.judge.put_in_order();
        let evidence = self.case.status().evidence;
        (evidence.e, evidence.e_without_any_address, evidence.arms.map(|arm| arm.bad))
    }
}

/// The keys of users of an arm.
fn users_of(arm: Arm, percent: f64) -> impl Iterator<Item = u32> {
    let weight = Weight::from_percent(percent).expect("a weight");
    (0..).filter(move |key: &u32| Unit::of_key(Salt(2), &key.to_le_bytes()).arm(weight) == arm)
}

#[tokio::test(start_paused = true)]
async fn proxies_that_heard_of_each_other_find_the_same_and_count_nobody_twice() {
    // given three hundred bad users, a third of whom meet both proxies, and one proxy that sees all
    let (mut one, mut other, mut all) = (Proxy::new(20.0), Proxy::new(20.0), Proxy::new(20.0));
    one.sees((0..200).rev());
    other.sees(100..300);
    all.sees(0..300);
    // when they hear of each other in other orders, in other pieces, and partly twice
    let (of_one, of_other) = (one.told.clone(), other.told.clone());
    of_other.chunks(7).rev().for_each(|posts| one.hears(posts));
    other.hears(&of_one);
    other.hears(&of_other[..50]);
    other.hears(&of_one[150..]);
    // then all find what one would that saw all
    let expected = all.evidence();
    assert_eq!((one.evidence(), other.evidence()), (expected, expected));
    assert_eq!(expected.2.stable + expected.2.canary, 300);
    // and what was heard isn't told again
    assert_eq!((one.told.len(), other.told.len()), (200, 200));
}

#[tokio::test(start_paused = true)]
async fn evidence_that_needs_others_waits_for_their_answers_and_ones_own_does_not() {
    let canary: Vec<u32> = users_of(Arm::Canary, 20.0).take(16).collect();
    let (mut one, mut other) = (Proxy::new(20.0), Proxy::new(20.0));
    other.sees(canary[..4].to_vec());
    one.sees(canary[4..8].to_vec());
    assert_eq!(one.case.judge.ruling(), Ruling::Hold);
    one.hears(&other.told);
    assert_eq!(one.case.judge.ruling(), Ruling::Pull(Cause::Evidence), "{:?}", one.evidence());
    assert!(!one.case.would_stand(0, Instant::now()), "other proxies may still hear from stable");
    tokio::time::advance(WAIT).await;
    assert!(one.case.would_stand(0, Instant::now()) && !one.case.would_stand(1_000, Instant::now()));
    // and as soon as what was seen here is enough by itself
    other.sees(canary[8..9].to_vec());
    one.hears(&other.told);
    assert!(!one.case.would_stand(0, Instant::now()));
    assert!(one.case.stands(0, Instant::now()), "all these requests came long ago: nobody still hears of them");
    one.sees(canary[9..].to_vec());
    assert!(one.case.would_stand(0, Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn no_address_leaves_the_proxy_in_clear() {
    let mut proxy = Proxy::new(20.0);
    proxy.sees([0x0a00_0001]);
    let clear = ClientNet::from(std::net::IpAddr::from([10, 0, 0, 1]));
    let Post::Bad { fact, .. } = &proxy.told[0] else { panic!("a bad unit was told") };
    assert!(fact.address != clear && fact.address == clear.hidden(Salt(2)) && fact.address != clear.hidden(Salt(3)));
}

#[tokio::test(start_paused = true)]
async fn a_pass_rests_on_the_most_that_any_proxy_saw_and_on_the_bad_users_of_all() {
    // given a proxy whose users had time to fail, and a restarted one that saw nobody yet
    let (mut busy, mut fresh) = (Proxy::new(50.0), Proxy::new(50.0));
    let episode = busy.episode();
    come(&episode, 0..1_900, |unit| unit.arm(episode.step.weight()));
    busy.sees(users_of(Arm::Stable, 50.0).take(4));
    busy.looks();
    tokio::time::advance(busy.view.spec.timeouts.header).await;
    busy.looks();
    fresh.looks();
    // when the one hears of the other, also twice
    fresh.hears(&busy.told);
    fresh.hears(&busy.told);
    fresh.looks();
    let (known, heard) = (busy.case.status(), fresh.case.status());
    assert_eq!(heard.pass, known.pass);
    assert_eq!((heard.pass.exposed, heard.decision), (1_900, Decision::Pass));
    assert_eq!(heard.pass.bad.stable + heard.pass.bad.canary, 4);
    // and a step at another weight somewhere ends what was learnt at this one
    let later = Timestamp::from_millis(episode.step.begun_at().as_millis() + 1);
    let seen = Seen { weight: Weight::from_hundredths(9_000), begun_at: later, ..Seen::default() };
    fresh.hears(&[Post::Seen(seen)]);
    fresh.looks();
    assert_eq!((fresh.case.status().pass.exposed, fresh.case.status().decision), (0, Decision::Hold));
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_few_addresses_see_is_taken_in_without_counting_everybody_each_time() {
    let mut proxy = Proxy::new(20.0);
    let episode = proxy.episode();
    let address = |n: u32| Unit::of_key(episode.salt, &n.to_be_bytes());
    episode.live.note_address(0, address(0));
    // given a second in which a user goes bad each millisecond, all behind one address
    let mut counted = std::collections::HashSet::new();
    for key in 0..1_000 {
        tokio::time::advance(Duration::from_millis(1)).await;
        proxy.sees([key]);
        counted.extend(proxy.case.seen.0);
    }
    assert!(counted.len() <= 11, "everybody was counted {} times", counted.len());
    // then an address that is new counts all the same with the very next outcome
    for n in 1..10 {
        episode.live.note_address((n % 2) as usize, address(n));
        proxy.sees([1_000 + n]);
        assert_eq!(proxy.case.addresses(), u64::from(n + 1).min(ADDRESSES));
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_was_bad_before_is_told_again_in_the_next_step() {
    let weight_of = |percent| Some(Weight::from_percent(percent).expect("a weight"));
    let mut proxy = Proxy::new(20.0);
    proxy.sees([1, 1]);
    assert_eq!(proxy.told.len(), 1);
    let episode = Some(Episode { id: EpisodeId(1), salt: Salt(2) });
    let raised = ServiceState { weight: weight_of(50.0), episode, ..Default::default() };
    publish(&proxy.live, &[Arc::new(service("checkbox"))], &State::from([("checkbox".to_owned(), raised)]));
    proxy.view = Arc::clone(proxy.live.snapshot().service("checkbox").expect("it was published"));
    let mut later = outcome(&proxy.episode(), 1);
    later.drawn_at = Timestamp::from_millis(u64::MAX);
    let post = proxy.case.observe(&later, &proxy.episode(), Instant::now());
    assert!(matches!(post, Some(Post::Bad { fact, .. }) if fact.weight == later.weight));
    assert_eq!(proxy.case.observe(&later, &proxy.episode(), Instant::now()), None);
    let bad = proxy.evidence().2;
    assert_eq!(bad.stable + bad.canary, 1);
}
