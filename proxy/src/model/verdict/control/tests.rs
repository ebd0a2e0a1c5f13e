//! A control by simulation: cold is never blamed on the release, and a release that is worse is still pulled.

use super::*;
use crate::model::outcome::Signal;
use crate::model::spec::{SignalSpec, VerdictSpec};
use crate::model::split::{Unit, control_share};
use crate::model::time::Timestamp;
use crate::model::verdict::addresses::ClientNet;
use crate::model::verdict::{Expected, Guards, Judge, Ruling};
use crate::model::weight::Weight;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Where a unit is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Canary,
    Control,
    Rest,
}

/// An episode, and those who use the service in it.
struct World {
    rng: StdRng,
    users: Vec<Unit>,
    /// What the split asks for.
    most: Weight,
    /// Whether the judge is told of the control.
    told: bool,
    judge: Judge,
    clock: u64,
}

fn weight(percent: f64) -> Weight {
    Weight::from_percent(percent).expect("a weight")
}

impl World {
    fn new(seed: u64, most: f64, false_pull_rate: f64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let users = (0..2_000).map(|_| Unit(rng.random())).collect();
        let judge = Judge::new(&VerdictSpec { false_pull_rate, ..VerdictSpec::default() });
        Self { rng, users, most: weight(most), told: true, judge, clock: 0 }
    }

    /// So many requests of random users at this weight, until the canary is pulled; `risk` is each one's
    /// chance of an error, by who asks and where. Returns whether it was pulled.
    fn serve(&mut self, percent: f64, requests: u32, mut risk: impl FnMut(usize, Place) -> f64) -> bool {
        let weight = weight(percent);
        let share = control_share(weight, self.most);
        (0..requests).any(|_| {
            let user = self.rng.random_range(0..self.users.len());
            let unit = self.users[user];
            let place = match unit.arm(weight) {
                Arm::Canary => Place::Canary,
                Arm::Stable if unit.is_control(share) => Place::Control,
                Arm::Stable => Place::Rest,
            };
            self.clock += 1;
            let errs = self.rng.random_bool(risk(user, place));
            errs && self.judge.observe_fact(&self.fact(unit, weight, share), 0) != Ruling::Hold
        })
    }

    fn fact(&self, unit: Unit, weight: Weight, share: Weight) -> Fact {
        Fact {
            unit,
            arm: unit.arm(weight),
            weight,
            control: if self.told { share } else { Weight::ZERO },
            signal: Signal::Errors,
            drawn_at: Timestamp::from_millis(self.clock),
            address: ClientNet::from(std::net::IpAddr::from([127, 0, 0, 1])),
        }
    }
}

/// In how many of so many episodes at α = 5 %, so that the check has power, a canary like its control is pulled.
fn pulled(episodes: u32, told: bool, mut episode: impl FnMut(&mut World) -> bool) -> u32 {
    (0..episodes)
        .map(|seed| {
            let mut world = World { told, ..World::new(seed.into(), 10.0, 0.05) };
            u32::from(episode(&mut world))
        })
        .sum()
}

/// Both hosts err twenty times as often as the rest while they are cold: for the first requests of each step.
fn cold_at_each_step(world: &mut World) -> bool {
    [1.0, 5.0, 10.0, 30.0, 60.0].into_iter().any(|percent| {
        let mut to_come = 600;
        world.serve(percent, 2_000, |_, place| {
            to_come -= i32::from(to_come > 0);
            if place != Place::Rest && to_come > 0 { 0.2 } else { 0.01 }
        })
    })
}

/// A user's first request on a host that doesn't know it errs, and a few users err a lot everywhere.
fn new_to_its_host(world: &mut World) -> bool {
    let mut last = vec![Place::Rest; world.users.len()];
    [5.0, 10.0, 30.0, 60.0].into_iter().any(|percent| {
        world.serve(percent, 3_000, |user, place| {
            let is_new = std::mem::replace(&mut last[user], place) != place;
            if is_new && place != Place::Rest {
                0.9
            } else if user % 20 == 0 {
                0.2
            } else {
                0.001
            }
        })
    })
}

#[test]
fn a_canary_as_cold_as_its_control_is_pulled_no_oftener_than_alpha() {
    // three standard errors above 5 % of 200 are 19
    for episode in [cold_at_each_step as fn(&mut World) -> bool, new_to_its_host] {
        let false_pulls = pulled(200, true, episode);
        assert!(false_pulls <= 19, "{false_pulls} of 200");
        // without the control the same is blamed on the release
        let blamed = pulled(20, false, episode);
        assert!(blamed >= 19, "{blamed} of 20");
    }
}

/// The mean number of the canary's units, among those that erred, at which it is pulled at weight 10 %.
fn units_to_pull(told: bool, canary: f64, others: f64) -> f64 {
    let units: Vec<u64> = (0..40)
        .map(|seed| {
            let mut world = World { told, ..World::new(seed, 10.0, 0.001) };
            let is_pulled = world.serve(10.0, 200_000, |_, place| if place == Place::Canary { canary } else { others });
            assert!(is_pulled, "episode {seed}, {canary} against {others}");
            world.judge.bad().canary
        })
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let mean = units.iter().sum::<u64>() as f64 / units.len() as f64;
    mean
}

#[test]
fn a_worse_canary_is_pulled_beside_its_control_after_more_units() {
    // fully broken: every unit doubles the evidence instead of multiplying it by ten
    let (beside, without) = (units_to_pull(true, 1.0, 0.0), units_to_pull(false, 1.0, 0.0));
    assert!(beside <= 16.0 && without <= 6.0, "broken: {beside} beside a control, {without} without");
    // five times stable's errors
    let (beside, without) = (units_to_pull(true, 0.05, 0.01), units_to_pull(false, 0.05, 0.01));
    assert!(beside <= 40.0 && without <= 20.0, "five times: {beside} beside a control, {without} without");
}

#[test]
fn the_sentence_says_that_it_is_cold_and_that_it_is_worse() {
    let mut world = World::new(1, 10.0, 0.001);
    assert!(!world.serve(10.0, 1_000, |_, place| if place == Place::Rest { 0.0 } else { 0.5 }));
    let control = world.judge.control().expect("there is one");
    assert!(control.canary_vs_stable >= 1_000.0 && control.control_vs_rest >= 1_000.0, "{control:?}");
    assert_eq!(control.bad_canary, world.judge.bad().canary);
    assert_eq!(control.bad_control, world.judge.bad().stable);
    assert!(control.canary_vs_control == world.judge.e() && control.canary_vs_control < 1_000.0);
    let why = |world: &World| world.judge.why(Guards::default(), &Expected::default());
    assert_eq!(
        why(&world),
        "the canary errs more than stable, and so does the freshly restarted control: cold, not worse"
    );
    // the users of before went bad already: others come
    let mut worse = World { judge: world.judge, clock: world.clock, ..World::new(2, 10.0, 0.001) };
    assert!(worse.serve(10.0, 20_000, |_, place| if place == Place::Canary { 1.0 } else { 0.0 }));
    assert_eq!(
        why(&worse),
        "the canary is worse than stable, by evidence, and worse than the control restarted with it (errors)"
    );
}

#[test]
fn without_a_ready_control_the_canary_is_compared_with_stable_as_ever() {
    let units = |told| {
        let mut world = World { told, ..World::new(3, if told { 0.0 } else { 10.0 }, 0.001) };
        assert!(world.serve(10.0, 10_000, |_, place| if place == Place::Canary { 1.0 } else { 0.0 }));
        (world.judge.bad().canary, world.judge.control())
    };
    assert_eq!(units(true), units(false));
}

#[test]
fn facts_with_and_without_a_control_are_one_product() {
    let mut world = World::new(4, 10.0, 0.001);
    let on = |percent| move |unit: &Unit| unit.arm(weight(percent)) == Arm::Canary;
    let canary: Vec<Unit> = world.users.iter().copied().filter(on(10.0)).take(9).collect();
    let far = world.users.iter().copied().find(|unit| on(40.0)(unit) && !on(20.0)(unit)).expect("one of 2,000");
    let mut facts: Vec<Fact> = Vec::new();
    for (index, unit) in canary.iter().enumerate() {
        world.clock += 1;
        facts.push(world.fact(*unit, weight(10.0), if index < 4 { Weight::ZERO } else { weight(10.0) }));
    }
    // what is drawn to the canary beyond the control's mirror image says nothing beside a control
    facts.push(world.fact(far, weight(40.0), weight(10.0)));
    assert_eq!(facts.last().and_then(Fact::chance), None);
    let mut expected = Processes::new(&SignalSpec::DEFAULT);
    for (index, fact) in facts.iter().take(9).enumerate() {
        expected.observe(fact.signal, true, if index < 4 { 0.1 } else { 0.5 });
        world.judge.observe_fact(fact, 0);
    }
    world.judge.observe_fact(&facts[9], 0);
    assert!((world.judge.e() / expected.value() - 1.0).abs() < 1e-9);
    // the same in the order of the draws, however they arrived
    let mut other = Judge::new(&VerdictSpec::default());
    for fact in facts.iter().rev() {
        other.observe_fact(fact, 0);
    }
    other.put_in_order();
    assert_eq!((other.e(), other.control()), (world.judge.e(), world.judge.control()));
}
