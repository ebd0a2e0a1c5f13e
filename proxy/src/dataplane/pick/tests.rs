//! Who gets how much, by each policy: drawn with a seed that failures name, in time that stands still.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::live::{Health, Live, Standings, compile, sample};
use crate::model::balance::rendezvous::{capacity, point_of};
use crate::model::balance::{HashBy, HashSpec, StickinessSpec, host::HostSecret};
use crate::model::flag::FlagSet;
use crate::model::spec::ServiceSpec;
use crate::model::state::{Member, MemberSpec, ServiceState};
use crate::model::time::Timestamp;
use crate::telemetry;

/// A core and a service whose stable pool has endpoints of these weights.
struct World {
    core: Rc<Core>,
    spec: Arc<ServiceSpec>,
    state: ServiceState,
    view: Arc<ServiceView>,
}

impl World {
    fn new(weights: &[u16], change: impl FnOnce(&mut ServiceSpec)) -> Self {
        let (live, _reports) = Live::new(1);
        let mut spec = sample::service("test");
        spec.seeds = Default::default();
        change(&mut spec);
        let core = Core::new(0, Arc::clone(&live));
        let (spec, state) = (Arc::new(spec), ServiceState::default());
        let view = compile::service(&live, &spec, &state, &Standings::default(), &FlagSet::default());
        let mut world = Self { core, spec, state, view };
        for (index, weight) in weights.iter().enumerate() {
            world.set(index, Member::Ready(member(index, *weight)));
        }
        world
    }

    fn by(policy: Policy, weights: &[u16]) -> Self {
        Self::new(weights, |spec| spec.balance.policy = policy)
    }

    fn set(&mut self, index: usize, member: Member) {
        self.state.pools.stable.insert(format!("web-{index:03}"), member);
        let (live, none) = (&self.core.live, FlagSet::default());
        self.view = compile::service(live, &self.spec, &self.state, &Standings::default(), &none);
    }

    fn wish(&self) -> Wish {
        Wish { members: 0..self.view.pools.stable.len(), ..Wish::default() }
    }

    fn pick(&self, wish: &Wish) -> Option<usize> {
        pick(&self.core, &self.view, Arm::Stable, wish, None)
    }

    fn endpoint(&self, index: usize) -> &crate::live::EndpointLive {
        &self.view.pools.stable[index].live
    }

    /// The share of each endpoint, in percent, of requests that are over at once.
    fn shares(&self) -> Vec<usize> {
        let mut counts = vec![0; self.view.pools.stable.len()];
        for _ in 0..20_000 {
            counts[self.pick(&self.wish()).expect("one is ready")] += 1;
        }
        counts.into_iter().map(|count| (count + 100) / 200).collect()
    }
}

fn member(index: usize, weight: u16) -> MemberSpec {
    let port = u16::try_from(3_000 + index).expect("a small number");
    MemberSpec { weight, ..MemberSpec::new(([127, 0, 0, 1], port).into()) }
}

fn hash(bound: f64) -> Policy {
    Policy::ConsistentHash(HashSpec { by: HashBy::ClientIp, bound })
}

fn close(shares: &[usize], due: &[usize], what: &str) {
    assert!(shares.iter().zip(due).all(|(share, due)| share.abs_diff(*due) <= 2), "{what}: {shares:?}, not {due:?}");
}

#[test]
fn by_every_policy_idle_endpoints_share_by_weight() {
    for policy in [Policy::P2c, Policy::RoundRobin] {
        let name = format!("{policy:?}");
        close(&World::by(policy, &[1, 3, 6]).shares(), &[10, 30, 60], &name);
    }
    close(&World::by(Policy::LeastRequest, &[1, 1, 1, 1]).shares(), &[25; 4], "least_request");
}

#[test]
fn with_long_requests_in_flight_follows_the_weights() {
    for policy in [Policy::P2c, Policy::LeastRequest] {
        let world = World::by(policy.clone(), &[1, 3, 6]);
        for _ in 0..1_000 {
            world.endpoint(world.pick(&world.wish()).expect("one is ready")).begin(0);
        }
        let in_flight: Vec<usize> =
            (0..3).map(|index| usize::try_from(world.endpoint(index).in_flight() / 10).expect("few")).collect();
        let close = in_flight.iter().zip([10, 30, 60]).all(|(share, due)| share.abs_diff(due) <= 4);
        assert!(close, "{policy:?}: {in_flight:?}");
    }
}

#[test]
fn p2c_gives_a_busy_endpoint_less() {
    let world = World::by(Policy::P2c, &[1, 1]);
    world.endpoint(0).begin(0);
    close(&world.shares(), &[25, 75], "one in flight against none");
}

#[test]
fn p2c_gives_a_slow_endpoint_less_and_a_little_slower_one_its_share() {
    let world = World::by(Policy::P2c, &[1, 1]);
    world.endpoint(0).note_latency(0, 12_000, 0, false);
    close(&world.shares(), &[50, 50], "one is not known");
    world.endpoint(1).note_latency(0, 10_000, 0, false);
    close(&world.shares(), &[50, 50], "a fifth slower");
    world.endpoint(0).note_latency(0, 20_000, 0, false);
    close(&world.shares(), &[25, 75], "twice as slow");
    // Ten times as slow is worth ten in flight.
    world.endpoint(0).note_latency(0, 100_000, 0, false);
    (0..6).for_each(|_| world.endpoint(1).begin(0));
    close(&world.shares(), &[25, 75], "ten times as slow, and seven times as busy");
    (0..12).for_each(|_| world.endpoint(1).begin(0));
    close(&world.shares(), &[75, 25], "nineteen times as busy");
}

/// As the verdict lives from first attempts: of a canary that is dead in one of several places it must see some.
#[test]
fn p2c_leaves_a_broken_endpoint_the_square_of_its_share() {
    for (pool, due) in [(2, 25), (3, 11), (4, 6)] {
        let world = World::by(Policy::P2c, &vec![1; pool]);
        world.endpoint(0).note_latency(0, 1_000_000, 0, true);
        (1..pool).for_each(|index| world.endpoint(index).note_latency(0, 20_000, 0, false));
        let share = world.shares()[0];
        assert!(share.abs_diff(due) <= 1, "one of {pool}: {share} %, not {due} %");
    }
}

#[tokio::test(start_paused = true)]
async fn p2c_tries_an_endpoint_again_that_was_slow_long_ago() {
    let world = World::by(Policy::P2c, &[1, 1]);
    world.endpoint(0).note_latency(0, 200_000, 0, false);
    for _ in 0..60 {
        tokio::time::advance(Duration::from_secs(1)).await;
        world.core.clock.refresh();
        world.endpoint(1).note_latency(0, 10_000, world.core.clock.micros(), false);
    }
    close(&world.shares(), &[75, 25], "after a minute what it did is forgotten, and what it does now isn't known");
}

#[test]
fn turns_go_around_and_who_is_away_has_its_turn_passed_over() {
    let world = World::by(Policy::RoundRobin, &[1, 1, 1]);
    let turns: Vec<_> = (0..9).map(|_| world.pick(&world.wish()).expect("all are ready")).collect();
    assert_eq!(turns[..3], turns[3..6]);
    assert_eq!(turns[..3], turns[6..]);
    let world = World::by(Policy::RoundRobin, &[1, 3, 2, 2]);
    world.endpoint(1).set_health(Health::Down);
    close(&world.shares(), &[20, 0, 40, 40], "the others keep their shares");
}

#[test]
fn least_request_finds_the_one_idle_endpoint_of_many() {
    let world = World::by(Policy::LeastRequest, &[1; 40]);
    (0..40).filter(|index| *index != 23).for_each(|index| world.endpoint(index).begin(0));
    assert!((0..100).all(|_| world.pick(&world.wish()) == Some(23)));
}

#[test]
fn a_bounded_hash_keeps_its_bound_and_moves_little() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let weights: Vec<u16> = (0..random.random_range(2..12)).map(|_| random.random_range(1..=9)).collect();
        let bound = random.random_range(1.01..2.0);
        let world = World::by(hash(bound), &weights);
        let total = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut open = Vec::new();
        for _ in 0..800 {
            if random.random_bool(0.3) && !open.is_empty() {
                let done: usize = open.swap_remove(random.random_range(0..open.len()));
                world.endpoint(done).end(0);
                continue;
            }
            // A few keys are very popular.
            let key = point_of(&[random.random_range(0..20u8)]);
            let all = open.len() as u64;
            let picked = world.pick(&Wish { key: Some(key), ..world.wish() }).expect("there is always room");
            world.endpoint(picked).begin(0);
            open.push(picked);
            let most = capacity(bound, all, weights[picked], total);
            assert!(world.endpoint(picked).in_flight() <= most, "seed {seed}: {picked} has more than {most}");
        }
    }
}

#[test]
fn a_hash_moves_only_the_keys_of_who_comes_or_goes() {
    let mut world = World::by(hash(1.25), &[1, 2, 3, 1]);
    let owners = |world: &World| -> Vec<Option<usize>> {
        let wish = |key: u32| Wish { key: Some(point_of(&key.to_le_bytes())), ..world.wish() };
        (0..5_000).map(|key| world.pick(&wish(key))).collect()
    };
    let before = owners(&world);
    assert_eq!(before, owners(&world), "a key has two owners");
    world.endpoint(2).set_health(Health::Down);
    let without = owners(&world);
    assert!(before.iter().zip(&without).all(|(was, is)| was == is || *was == Some(2)));
    world.endpoint(2).set_health(Health::Up);
    world.set(4, Member::Ready(member(4, 1)));
    let with = owners(&world);
    let moved = before.iter().zip(&with).filter(|(was, is)| was != is).count();
    assert!(before.iter().zip(&with).all(|(was, is)| was == is || *is == Some(4)));
    assert!((450..800).contains(&moved), "{moved} of 5000 moved to an eighth of the weights");
}

#[tokio::test(start_paused = true)]
async fn the_share_of_who_comes_later_grows() {
    for policy in [Policy::P2c, Policy::RoundRobin, Policy::LeastRequest, hash(10.0)] {
        let name = format!("{policy:?}");
        let window = Duration::from_secs(10);
        let mut world = World::new(&[1, 1], |spec| {
            spec.balance.policy = policy;
            spec.balance.slow_start = SlowStart { window, aggression: 1.0 };
        });
        let shares = |world: &World| {
            world.core.clock.refresh();
            let mut random = StdRng::seed_from_u64(7);
            let mut counts = [0; 3];
            for _ in 0..20_000 {
                let wish = Wish { key: Some(random.random()), ..world.wish() };
                counts[world.pick(&wish).expect("one is ready")] += 1;
            }
            counts.map(|count| (count + 100) / 200)
        };
        close(&shares(&world), &[50, 50, 0], &format!("{name}: the pool's first have their shares at once"));
        tokio::time::advance(Duration::from_secs(20)).await;
        world.set(2, Member::Ready(member(2, 1)));
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(shares(&world)[2]);
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        // A tenth, a half, all of a share of one in three.
        assert!(
            (3..9).contains(&seen[0]) && (14..27).contains(&seen[1]) && (30..37).contains(&seen[2]),
            "{name}: {seen:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_warms_up_serves_everybody_where_it_is_the_only_one() {
    for policy in [Policy::P2c, Policy::RoundRobin, Policy::LeastRequest, hash(10.0)] {
        let name = format!("{policy:?}");
        let mut world = World::new(&[1, 1], |spec| {
            spec.balance.policy = policy;
            spec.balance.slow_start = SlowStart { window: Duration::from_secs(10), aggression: 1.0 };
        });
        tokio::time::advance(Duration::from_secs(20)).await;
        world.core.clock.refresh();
        world.set(2, Member::Ready(member(2, 1)));
        (0..2).for_each(|index| world.endpoint(index).set_health(Health::Down));
        for key in 0..=u8::MAX {
            assert_eq!(world.pick(&Wish { key: Some(point_of(&[key])), ..world.wish() }), Some(2), "{name}");
        }
    }
}

#[test]
fn a_new_user_goes_where_the_key_of_its_first_cookie_belongs() {
    let world = World::by(Policy::ConsistentHash(HashSpec { by: HashBy::Sticky, bound: 2.0 }), &[1]);
    let (none, address) = (http::HeaderMap::new(), std::net::IpAddr::from([127, 0, 0, 1]));
    let wish = |new_key| Wish::of(&world.view, Arm::Stable, 0..1, &none, address, new_key);
    assert_eq!(wish(Some([7; 16])).key, Some(point_of(&[7; 16])));
    assert_eq!(wish(None).key, None);
}

#[test]
fn what_is_down_draining_ejected_or_avoided_gets_nothing() {
    for policy in [Policy::P2c, Policy::RoundRobin, Policy::LeastRequest, hash(1.25)] {
        let mut world = World::by(policy, &[100, 100, 1, 100, 100]);
        world.set(1, Member::Draining(member(1, 100)));
        world.endpoint(0).set_health(Health::Down);
        world.endpoint(4).eject(String::new(), telemetry::now());
        let wish = Wish { key: Some(7), ..world.wish() };
        let other = || pick(&world.core, &world.view, Arm::Stable, &wish, Some(3));
        assert!((0..1_000).all(|_| other() == Some(2)), "{:?}", world.spec.balance.policy);
        world.endpoint(2).set_health(Health::Down);
        assert_eq!(other(), None);
        assert_eq!(world.pick(&wish), Some(3));
        assert_eq!(
            World::by(world.spec.balance.policy.clone(), &[]).pick(&Wish { key: Some(7), ..Wish::default() }),
            None
        );
    }
}

#[test]
fn members_share_by_weight_and_the_others_serve_only_when_no_member_can() {
    for policy in [Policy::P2c, Policy::RoundRobin] {
        let name = format!("{policy:?}");
        let mut world = World::new(&[5, 7], |spec| {
            spec.balance.policy = policy;
            let split = spec.split.as_mut().expect("it has one");
            split.control = crate::model::weight::Weight::from_percent(10.0).expect("a weight");
        });
        for (index, weight) in [(2, 1), (3, 3)] {
            world.set(index, Member::Ready(MemberSpec { control: true, ..member(index, weight) }));
        }
        assert_eq!(world.view.control_from, 2);
        let control = Wish { members: 2..4, ..Wish::default() };
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            counts[world.pick(&control).expect("one is ready")] += 1;
            counts[world.pick(&Wish { members: 0..2, ..Wish::default() }).expect("one is ready")] += 1;
        }
        close(&counts.map(|count| count / 100), &[42, 58, 25, 75], &name);
        world.endpoint(2).set_health(Health::Down);
        assert!((0..1_000).all(|_| world.pick(&control) == Some(3)));
        world.endpoint(3).set_health(Health::Down);
        assert!((0..1_000).all(|_| matches!(world.pick(&control), Some(0 | 1))));
    }
}

#[test]
fn in_panic_and_with_fail_open_who_is_down_is_tried_but_never_who_drains() {
    let set = |all_down, panic_percent| {
        let mut world = World::new(&[1, 1, 1], |spec| {
            spec.balance.all_down = all_down;
            spec.balance.panic_percent = panic_percent;
        });
        world.set(2, Member::Draining(member(2, 1)));
        world.endpoint(0).set_health(Health::Down);
        world
    };
    let picks = |world: &World| -> Vec<Option<usize>> {
        let mut picks: Vec<_> = (0..200).map(|_| world.pick(&world.wish())).collect();
        picks.sort_unstable();
        picks.dedup();
        picks
    };
    assert_eq!(picks(&set(AllDown::FailOpen, 0)), [Some(1)], "one is ready");
    let open = set(AllDown::FailOpen, 0);
    open.endpoint(1).eject(String::new(), telemetry::now());
    assert_eq!(picks(&open), [Some(0), Some(1)]);
    let closed = set(AllDown::Refuse, 60);
    assert_eq!(picks(&closed), [Some(1)]);
    closed.view.live.set_panics(Arm::Stable, true);
    assert_eq!(picks(&closed), [Some(0), Some(1)]);
    closed.view.live.set_panics(Arm::Stable, false);
    closed.endpoint(1).set_health(Health::Down);
    assert_eq!(picks(&closed), [None]);
}

#[test]
fn a_session_stays_with_its_host_also_while_that_drains_for_a_time() {
    let at = |millis| telemetry::simulated::set_clock(Some(Timestamp::from_millis(millis)));
    at(1_000_000);
    let mut world = World::new(&[1, 1, 1], |spec| {
        spec.balance.stickiness = Some(StickinessSpec {
            session_cookies: vec!["SID".to_owned()],
            secret: HostSecret { file: None, value: b"x".as_slice().into() },
            drain: Duration::from_secs(30),
        });
    });
    let named = |world: &World, index: usize| {
        let name = crate::model::sticky::cookie_text(world.view.pools.stable[index].host.0);
        format!("a=b; serin_host={name}; SID=1")
    };
    let picks = |world: &World, cookie: &str, members: Range<usize>| {
        let headers = [(http::header::COOKIE, cookie.parse().expect("text"))].into_iter().collect();
        let address = std::net::IpAddr::from([127, 0, 0, 1]);
        let wish = Wish::of(&world.view, Arm::Stable, members, &headers, address, None);
        let mut picks: Vec<_> = (0..100).filter_map(|_| world.pick(&wish)).collect();
        picks.sort_unstable();
        picks.dedup();
        picks
    };
    let cookie = named(&world, 1);
    assert_eq!(picks(&world, &cookie, 0..3), [1]);
    for forged in ["serin_host=AAAAAAAAAAAAAAAAAAAAAA", "serin_host=canary", "serin_host=", &cookie[..20]] {
        assert_eq!(picks(&world, forged, 0..3), [0, 1, 2], "{forged}");
    }
    assert_eq!(picks(&world, &cookie, 0..1), [0], "who is sent to other members goes there");
    let again = Wish { host: Some(1), ..world.wish() };
    let other = pick(&world.core, &world.view, Arm::Stable, &again, Some(1));
    assert!(other.is_some_and(|other| other != 1), "one that failed the request gets it again: {other:?}");
    world.set(1, Member::Draining(member(1, 1)));
    assert_eq!(picks(&world, &cookie, 0..3), [1]);
    assert_eq!(picks(&world, "x=y", 0..3), [0, 2], "new work for one that drains");
    at(1_030_000);
    assert_eq!(picks(&world, &cookie, 0..3), [0, 2]);
    world.set(1, Member::Ready(member(1, 1)));
    assert_eq!(picks(&world, &cookie, 0..3), [1]);
    // An ejection by itself doesn't prove that it is gone; without active checks nothing else could.
    world.endpoint(1).eject(String::new(), telemetry::now());
    assert_eq!(picks(&world, &cookie, 0..3), [0, 2]);
    world.endpoint(1).readmit();
    world.endpoint(1).set_health(Health::Down);
    assert_eq!(picks(&world, &cookie, 0..3), [0, 2]);
    telemetry::simulated::set_clock(None);
}
