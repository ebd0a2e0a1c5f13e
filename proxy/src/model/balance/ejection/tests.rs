//! Who is ejected, for how long, and who never is.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

fn spec() -> EjectionSpec {
    EjectionSpec {
        consecutive: 5,
        status: (500..600).collect(),
        peer_margin: 0.1,
        min_requests: 50,
        interval: Duration::from_secs(10),
        max_percent: 50,
        min_ready: 1,
        time: Duration::from_secs(30),
        max_time: Duration::from_secs(300),
        canary: false,
    }
}

/// A pool whose endpoints serve what a test says, looked at each 100 ms.
struct World {
    spec: EjectionSpec,
    watch: Watch,
    now: Duration,
    tallies: Vec<Tally>,
    up: Vec<bool>,
    out: Vec<bool>,
}

impl World {
    fn of(endpoints: usize, spec: EjectionSpec) -> Self {
        let (tallies, up, out) = (vec![Tally::default(); endpoints], vec![true; endpoints], vec![false; endpoints]);
        let mut world = Self { spec, watch: Watch::default(), now: Duration::from_secs(7), tallies, up, out };
        world.look();
        world
    }

    fn look(&mut self) -> Vec<Finding> {
        self.now += Duration::from_millis(100);
        let ids: Vec<String> = (0..self.tallies.len()).map(|place| place.to_string()).collect();
        let seen = |(place, id)| Seen { id, tally: self.tallies[place], is_up: self.up[place], eligible: true };
        let pool: Vec<Seen<'_>> = ids.iter().map(String::as_str).enumerate().map(seen).collect();
        let findings = self.watch.look(&self.spec, self.now, &pool);
        for finding in &findings {
            let (id, out) = match finding {
                Finding::Eject { id, .. } => (id, true),
                Finding::Return { id } => (id, false),
            };
            self.out[id.parse::<usize>().expect("a place")] = out;
        }
        findings
    }

    fn serves(&mut self, place: usize, good: u64, failed: u64) {
        self.tallies[place] += Tally { good, failed };
    }

    /// Looks until this endpoint is back, and says how long that took.
    fn until_back(&mut self, place: usize) -> Duration {
        let begin = self.now;
        while self.out[place] {
            assert!(self.now - begin < Duration::from_secs(3_600), "it never comes back");
            self.look();
        }
        self.now - begin
    }
}

#[test]
fn failures_in_a_row_eject_and_any_success_between_does_not() {
    let mut world = World::of(3, spec());
    for _ in 0..20 {
        world.serves(0, 0, 4);
        assert_eq!(world.look(), []);
        world.serves(0, 1, 0);
        assert_eq!(world.look(), []);
    }
    world.serves(0, 0, 4);
    world.look();
    world.serves(0, 0, 1);
    let findings = world.look();
    let why = Why::InARow(5);
    assert_eq!(findings, [Finding::Eject { id: "0".into(), why, time: Duration::from_secs(30) }]);
}

#[test]
fn the_time_grows_with_each_ejection_and_is_forgotten_after_a_long_time_in() {
    let mut world = World::of(3, spec());
    let mut times = Vec::new();
    for _ in 0..12 {
        world.serves(1, 0, 5);
        world.look();
        times.push(world.until_back(1).as_secs());
        assert_eq!(world.look(), [], "what it failed before counts again");
    }
    assert_eq!(times, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
    world.now += Duration::from_secs(300);
    world.serves(1, 0, 5);
    world.look();
    assert_eq!(world.until_back(1).as_secs(), 30);
}

#[test]
fn who_fails_more_than_its_peers_is_ejected_and_not_who_fails_as_they_do() {
    let run = |rates: [f64; 3], requests: u64| {
        let mut world = World::of(3, EjectionSpec { consecutive: 0, ..spec() });
        for (place, rate) in rates.into_iter().enumerate() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]
            let failed = (rate * 1_000.0) as u64 * requests / 1_000;
            world.serves(place, requests - failed, failed);
        }
        world.now += Duration::from_secs(10);
        world.look();
        world.out
    };
    assert_eq!(run([0.0, 0.3, 0.0], 200), [false, true, false]);
    assert_eq!(run([0.3, 0.3, 0.3], 200), [false; 3], "they all fail");
    assert_eq!(run([0.0, 0.05, 0.0], 2_000), [false; 3], "within the margin");
    assert_eq!(run([0.0, 0.3, 0.0], 40), [false; 3], "too few requests tell nothing");
    assert_eq!(run([1.0, 1.0, 1.0], 200), [false; 3]);
}

#[test]
fn one_of_two_can_be_told_from_the_other() {
    let mut world = World::of(2, EjectionSpec { consecutive: 0, ..spec() });
    world.serves(0, 100, 0);
    world.serves(1, 60, 40);
    world.now += Duration::from_secs(10);
    world.look();
    assert_eq!(world.out, [false, true]);
}

#[test]
fn what_only_chance_explains_ejects_nobody() {
    let mut ejected = 0;
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::of(4, EjectionSpec { consecutive: 0, peer_margin: 0.001, ..spec() });
        for place in 0..4 {
            let failed = (0..500).filter(|_| random.random_bool(0.05)).count() as u64;
            world.serves(place, 500 - failed, failed);
        }
        world.now += Duration::from_secs(10);
        world.look();
        ejected += world.out.iter().filter(|out| **out).count();
    }
    assert!(ejected <= 6, "{ejected} of 1200");
}

#[test]
fn limits_hold_whatever_endpoints_do() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let (count, percent) = (random.random_range(1..9), random.random_range(0..=100));
        let min_ready = random.random_range(0..4);
        let mut world = World::of(count, EjectionSpec { max_percent: percent, min_ready, ..spec() });
        for _ in 0..400 {
            for place in 0..count {
                world.serves(place, u64::from(random.random_bool(0.2)), random.random_range(0..6));
                if random.random_bool(0.02) {
                    world.up[place] = !world.up[place];
                }
            }
            let before = world.out.clone();
            world.now += Duration::from_millis(random.random_range(0..2_000));
            world.look();
            let out = world.out.iter().filter(|out| **out).count();
            let ready = (0..count).filter(|place| world.up[*place] && !world.out[*place]).count();
            assert!(out <= (count * usize::from(percent) / 100).max(1), "seed {seed}: {out} of {count}");
            let ejects = (0..count).any(|place| world.out[place] && !before[place]);
            assert!(!ejects || ready >= min_ready.max(1), "seed {seed}: {ready} are left");
        }
    }
}

#[test]
fn who_may_not_be_ejected_any_more_comes_back_at_once() {
    let mut watch = Watch::default();
    let mut look = |seconds: u64, failed, eligible| {
        let seen = |id, failed| Seen { id, tally: Tally { good: 0, failed }, is_up: true, eligible };
        watch.look(&spec(), Duration::from_secs(seconds), &[seen("a", failed), seen("b", 0)])
    };
    look(1, 0, true);
    assert_eq!(look(2, 5, true).len(), 1);
    assert_eq!(look(3, 5, false), [Finding::Return { id: "a".into() }]);
    assert_eq!(look(4, 50, false), []);
}

#[test]
fn peers_are_compared_when_an_interval_is_over_and_not_before() {
    let mut world = World::of(3, EjectionSpec { consecutive: 0, ..spec() });
    (0..3).for_each(|place| world.serves(place, 100, if place == 1 { 100 } else { 0 }));
    world.now += Duration::from_secs(9);
    assert_eq!(world.look(), []);
    world.now += Duration::from_secs(1);
    world.look();
    assert_eq!(world.out, [false, true, false]);
}

#[test]
fn peers_with_too_few_requests_are_nobody_to_compare_with() {
    let mut world = World::of(2, EjectionSpec { consecutive: 0, ..spec() });
    world.serves(0, 49, 0);
    world.serves(1, 0, 200);
    world.now += Duration::from_secs(10);
    assert_eq!(world.look(), []);
}

#[test]
fn who_comes_by_the_id_of_another_has_failed_nothing() {
    let mut world = World::of(3, spec());
    world.serves(0, 0, 4);
    world.look();
    world.tallies[0] = Tally::default();
    world.look();
    world.serves(0, 0, 4);
    assert_eq!(world.look(), []);
    world.serves(0, 0, 1);
    assert_eq!(world.look().len(), 1);
}
