//! Tables of what becomes of a lease that ran out, and what holds whatever happens.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::model::state::ServiceState;

const TTL: u64 = 15;
const SHOP: &str = "shop";

/// A proxy that looks once a second at members that beat or don't.
struct World {
    roster: Roster,
    now: u64,
    state: State,
    checks: Checks,
    news: Vec<News>,
}

fn key(id: &str) -> Key {
    Key { service: SHOP.into(), arm: Arm::Stable, id: id.into() }
}

fn spec() -> MemberSpec {
    MemberSpec { ttl_ms: Some(TTL * 1_000), ..MemberSpec::new(([10, 0, 0, 1], 80).into()) }
}

impl World {
    /// These members beat, and what active checks say of all of them.
    fn of(ids: &[&str], checks: Checks) -> Self {
        let state = State::from([(SHOP.to_owned(), ServiceState::default())]);
        let mut world = Self { roster: Roster::default(), now: 1_000, state, checks, news: Vec::new() };
        ids.iter().for_each(|id| world.beats(id));
        world.look(Reading::Fresh);
        world
    }

    fn pool(&mut self) -> &mut BTreeMap<String, Member> {
        self.state.get_mut(SHOP).expect("it is there").pools.get_mut(Arm::Stable)
    }

    fn beats(&mut self, id: &str) {
        self.pool().insert(id.to_owned(), Member::Ready(spec()));
    }

    fn silent(&mut self, id: &str) {
        self.pool().remove(id);
    }

    fn look(&mut self, reading: Reading) {
        let checks = self.checks;
        let now = Timestamp::from_millis(self.now * 1_000);
        let look = Look { now, state: &self.state, scope: Scope::Whole, reading, mass_share: 0.5 };
        self.news = self.roster.look(&look, |_| checks);
    }

    /// Lets seconds pass, with a look at the end of each.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1;
            self.look(Reading::Fresh);
        }
    }

    /// Whether it may get work.
    fn serves(&self, id: &str) -> bool {
        let is_there = self.roster.fill(SHOP, &self.state[SHOP]).pools.stable.contains_key(id);
        is_there && self.roster.standing(&key(id)) != Standing::Returning
    }

    /// For how many more seconds it stays as it is, at most this many.
    fn seconds_until(&mut self, serves: bool, id: &str, most: u64) -> Option<u64> {
        for passed in 0..=most {
            if self.serves(id) == serves {
                return Some(passed);
            }
            self.pass(1);
        }
        None
    }
}

/// One of three falls silent; the others are so many that it is no mass.
fn one_of_three(checks: Checks) -> World {
    let mut world = World::of(&["a", "b", "c"], checks);
    world.silent("a");
    world.pass(1);
    world
}

#[test]
fn a_lease_that_ran_out_costs_its_member_its_work_unless_checks_vouch_for_it() {
    for (checks, serves_on) in
        [(Checks::Absent, 0), (Checks::Undecided, 0), (Checks::Failing, 0), (Checks::Passing, TTL)]
    {
        let mut world = one_of_three(checks);
        assert_eq!(world.seconds_until(false, "a", 1_000), Some(serves_on), "{checks:?}");
    }
}

#[test]
fn a_late_heartbeat_is_no_flap() {
    let mut world = one_of_three(Checks::Passing);
    assert_eq!(world.news, [News::Lapsed(key("a"), Some(Standing::Late))]);
    world.pass(TTL - 2);
    world.beats("a");
    world.pass(1);
    assert_eq!((world.roster.standing(&key("a")), world.serves("a")), (Standing::Steady, true));
}

#[test]
fn checks_that_fail_end_the_wait_for_a_late_one() {
    let mut world = one_of_three(Checks::Passing);
    world.checks = Checks::Failing;
    world.pass(1);
    assert_eq!(world.news, [News::Gone(key("a"))]);
    assert!(!world.serves("a"));
}

#[test]
fn who_went_must_be_steady_twice_as_long_each_time_and_no_longer_than_the_cap() {
    let mut world = one_of_three(Checks::Absent);
    for trial in [15, 30, 60, 120, 240, 300, 300, 300, 300, 300] {
        world.beats("a");
        world.pass(1);
        assert_eq!(world.news, [News::Returns(key("a"), Duration::from_secs(trial))]);
        assert_eq!(world.seconds_until(true, "a", 1_000), Some(trial));
        world.silent("a");
        world.pass(1);
        assert!(!world.serves("a"), "it went again");
    }
    // and what is long ago is forgotten
    world.pass(3_700);
    world.beats("a");
    world.pass(1);
    assert!(world.serves("a") && world.news.is_empty());
}

#[test]
fn a_trial_that_is_broken_begins_anew_and_longer() {
    let mut world = one_of_three(Checks::Passing);
    world.pass(TTL);
    world.beats("a");
    world.pass(10);
    world.silent("a");
    world.pass(1);
    assert_eq!(world.news, [News::Lapsed(key("a"), None)], "nobody waits for one that wasn't back yet");
    world.beats("a");
    world.pass(1);
    assert_eq!(world.seconds_until(true, "a", 1_000), Some(2 * TTL));
}

#[test]
fn who_left_on_purpose_is_neither_missed_nor_held_back() {
    type Leave = fn(&mut World);
    let ways: [(&str, Leave); 4] = [
        ("drained, and gone", |world| {
            world.pool().insert("a".into(), Member::Draining(spec()));
            world.pass(1);
            world.silent("a");
        }),
        ("taken out", |world| drop(world.pool().insert("a".into(), Member::Removed))),
        ("there for good now", |world| {
            world.pool().insert("a".into(), Member::Ready(MemberSpec { ttl_ms: None, ..spec() }));
        }),
        ("moved to the other pool", |world| {
            world.silent("a");
            let pools = &mut world.state.get_mut(SHOP).expect("it is there").pools;
            pools.canary.insert("a".into(), Member::Ready(spec()));
        }),
    ];
    for (how, leave) in ways {
        let mut world = World::of(&["a", "b", "c"], Checks::Passing);
        leave(&mut world);
        world.pass(1);
        assert!(world.news.is_empty(), "{how}: {:?}", world.news);
        assert_eq!(world.roster.standing(&key("a")), Standing::Steady, "{how}");
        world.beats("a");
        world.pass(1);
        assert!(world.serves("a"), "{how}: it can't come back");
    }
}

#[test]
fn a_service_that_left_the_configuration_takes_its_members_along() {
    let mut world = World::of(&["a", "b"], Checks::Passing);
    world.state.clear();
    world.pass(1);
    assert!(world.news.is_empty() && world.roster.unsteady().next().is_none());
}

#[test]
fn when_most_fall_silent_together_all_are_kept_until_enough_beat_again() {
    let all = ["a", "b", "c", "d"];
    let mut world = World::of(&all, Checks::Absent);
    // two of four aren't most of them
    world.silent("a");
    world.silent("b");
    world.pass(1);
    assert!(!world.serves("a") && !world.serves("b"));
    // a third within the time of a lease makes it most, and the first two come back
    world.pass(5);
    world.silent("c");
    world.pass(1);
    let kept: Vec<Key> = ["a", "b", "c"].map(key).to_vec();
    assert_eq!(world.news[0], News::MassExpiry { kept, of: 4 });
    assert_eq!(world.news[1], News::Lapsed(key("c"), Some(Standing::Kept)));
    assert!(all.iter().all(|id| world.serves(id)));
    // for as long as it takes, and whoever falls silent meanwhile too
    world.pass(3_600);
    world.silent("d");
    world.pass(3_600);
    assert!(all.iter().all(|id| world.serves(id)) && world.roster.mass_since().is_some());
    // until half of them beat: the others are then late
    world.beats("a");
    world.beats("b");
    world.pass(1);
    assert_eq!(world.news, [News::MassOver]);
    assert_eq!(world.roster.standing(&key("a")), Standing::Steady, "nothing is held against it");
    assert_eq!(world.roster.standing(&key("c")), Standing::Late);
    assert_eq!(world.seconds_until(false, "c", 1_000), Some(TTL));
}

#[test]
fn two_of_two_are_a_mass_and_one_of_one_is_none() {
    for (ids, kept) in [(&["a", "b"][..], true), (&["a"][..], false)] {
        let mut world = World::of(ids, Checks::Absent);
        ids.iter().for_each(|id| world.silent(id));
        world.pass(1);
        assert_eq!(world.serves("a"), kept, "{ids:?}");
    }
}

#[test]
fn those_who_go_one_by_one_are_no_mass() {
    let mut world = World::of(&["a", "b", "c", "d"], Checks::Absent);
    for id in ["a", "b", "c"] {
        world.silent(id);
        world.pass(TTL + 1);
        assert!(!world.serves(id));
    }
    assert_eq!(world.roster.mass_since(), None);
}

#[test]
fn an_outage_of_the_store_is_held_against_nobody() {
    for reading in [Reading::Stale, Reading::Emptied] {
        // given a lone member, which can be no mass
        let mut world = World::of(&["a"], Checks::Absent);
        world.now += 300;
        world.look(reading);
        // when its lease is gone after the store was away, or was emptied
        world.silent("a");
        world.look(if reading == Reading::Stale { Reading::Fresh } else { reading });
        // then it has the time of a lease to beat again
        assert_eq!(world.roster.standing(&key("a")), Standing::Late, "{reading:?}");
        assert_eq!(world.seconds_until(false, "a", 1_000), Some(TTL), "{reading:?}");
    }
}

#[test]
fn while_the_store_is_away_nothing_moves() {
    let mut world = one_of_three(Checks::Passing);
    for _ in 0..100 {
        world.now += 60;
        world.look(Reading::Stale);
        assert!(world.news.is_empty() && world.serves("a"));
    }
}

/// Members that beat, fall silent and come back as a seed says, and what must hold at every look.
fn story(seed: u64) {
    let mut draws = StdRng::seed_from_u64(seed);
    let ids: Vec<String> = (0..draws.random_range(2..9)).map(|n| format!("m{n}")).collect();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let checks = [Checks::Absent, Checks::Passing, Checks::Failing].into_iter().choose(&mut draws).expect("one");
    let mut world = World::of(&names, checks);
    let faithful = names[0];
    let mut beating: BTreeSet<&str> = names.iter().copied().collect();
    let mut silent_for: BTreeMap<&str, u64> = BTreeMap::new();
    let mut steady_for: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..400 {
        let served: BTreeSet<&str> = names.iter().copied().filter(|id| world.serves(id)).collect();
        let before = beating.clone();
        for id in &names[1..] {
            let turns = draws.random_bool(if before.contains(id) { 0.02 } else { 0.05 });
            if turns && before.contains(id) {
                beating.remove(id);
                world.silent(id);
            } else if turns {
                beating.insert(id);
                world.beats(id);
            }
        }
        world.pass(1);
        for id in &names {
            let (silent, steady) = (silent_for.entry(id).or_default(), steady_for.entry(id).or_default());
            (*silent, *steady) = if beating.contains(id) { (0, *steady + 1) } else { (*silent + 1, 0) };
            let standing = world.roster.standing(&key(id));
            let context = format!("seed {seed}: {id} {standing:?}, silent for {silent}, steady for {steady}");
            // Who always beats is never doubted.
            assert!(*id != faithful || (standing == Standing::Steady && world.serves(id)), "{context}");
            // Nobody is out for ever who beats.
            assert!(*steady <= 301 || world.serves(id), "{context}");
            // Outside of a mass nobody is kept, and without checks nobody is waited for who never was.
            assert!(world.roster.mass_since().is_some() || standing != Standing::Kept, "{context}");
            // Who was out doesn't get work by one beat.
            assert!(served.contains(id) || !world.serves(id) || *steady != 1, "{context}");
        }
        // When most of those who served fall silent in one moment, all of them serve on.
        let fell: Vec<&&str> = before.difference(&beating).filter(|id| served.contains(**id)).collect();
        if fell.len() >= FEWEST && fell.len() * 2 > names.len() {
            assert!(fell.iter().all(|id| world.serves(id)), "seed {seed}: {fell:?} were let go");
        }
    }
}

#[test]
fn whatever_members_do_the_faithful_serve_and_the_fickle_wait() {
    (0..100).for_each(story);
}
