//! A client that errs on purpose, and one that floods: neither may decide.

use serin::model::outcome::Signal;
use serin::model::split::{Arm, Salt, Unit};

use super::dice::Dice;
use super::judged::{Bad, MANY_ADDRESSES, ONE_ADDRESS, Trial, weight};
use super::peers::flood;
use super::plan::Plan;
use super::table::{Table, met, percent};

const ALPHA: f64 = 0.001;
const EPISODES: u32 = 3_000;
/// Bad outcomes to an episode, and the share of them that the attacker makes.
const OUTCOMES: u32 = 400;
const SHARES: [f64; 3] = [0.1, 0.5, 0.9];
const ATTACKER: u32 = u32::MAX;
/// Keys of an attacker that keeps some.
const KEPT: u32 = 100;

/// Writes the section.
pub(super) fn write(plan: &Plan) -> String {
    let mut table =
        Table::new(&["weight", "bad outcomes", "keys", ">pulls", ">caused by it", "goal: none", ">without the rule"]);
    for weight in [1.0, 10.0, 50.0] {
        for share in SHARES {
            for keys in [Keys::Kept, Keys::Fresh] {
                let attack = Attack { weight, share, keys };
                let ends = plan.episodes(&format!("hostile {attack:?}"), EPISODES, |dice| attack.run(dice));
                let count = |of: fn(&End) -> bool| ends.iter().filter(|end| of(end)).count();
                let caused = count(|end| end.pulled && !end.pulled_by_honest);
                table.row(&[
                    format!("{weight} %"),
                    percent(share, 0),
                    keys.name().to_owned(),
                    count(|end| end.pulled).to_string(),
                    caused.to_string(),
                    met(caused == 0),
                    count(|end| end.pulled_without_rule).to_string(),
                ]);
            }
        }
    }
    format!(
        "A healthy canary, honest users from an address each, and one address that only errs and knows which keys are \
         on the canary. {} episodes of {OUTCOMES} bad outcomes to a row, of which the attacker makes a share; α = {ALPHA}. \
         `caused by it`: pulls of canaries that the honest users' errors alone, in the same episode, would not have \
         pulled. `without the rule`: pulls if the evidence needn't stand without any one address.\n\n{table}\n{}",
        plan.of(EPISODES),
        flood::write(plan)
    )
}

/// How the attacker uses the keys that it found to be on the canary.
#[derive(Clone, Copy, Debug)]
enum Keys {
    /// A hundred, again and again.
    Kept,
    /// A new one each time.
    Fresh,
}

impl Keys {
    const fn name(self) -> &'static str {
        match self {
            Self::Kept => "100, kept",
            Self::Fresh => "always new",
        }
    }
}

/// One client against a healthy canary.
#[derive(Clone, Copy, Debug)]
struct Attack {
    /// Of the canary, in percent.
    weight: f64,
    /// The attacker's part of all bad outcomes.
    share: f64,
    keys: Keys,
}

/// What became of one episode, and of its like.
struct End {
    pulled: bool,
    pulled_by_honest: bool,
    pulled_without_rule: bool,
}

impl Attack {
    fn run(&self, dice: &mut Dice) -> End {
        let outcomes = self.outcomes(dice);
        let pulled = |addresses, counts: fn(&Bad) -> bool| {
            let mut trial = Trial::new(ALPHA, addresses);
            outcomes.iter().filter(|bad| counts(bad)).any(|bad| trial.observe(bad))
        };
        End {
            pulled: pulled(MANY_ADDRESSES, |_| true),
            pulled_by_honest: pulled(ONE_ADDRESS, |bad| bad.address != ATTACKER),
            pulled_without_rule: pulled(ONE_ADDRESS, |_| true),
        }
    }

    fn outcomes(&self, dice: &mut Dice) -> Vec<Bad> {
        let (salt, weight) = (Salt(dice.wide()), weight(self.weight));
        let on_canary = (0_u64..).map(|key| unit(salt, ATTACKER, key)).filter(|unit| unit.arm(weight) == Arm::Canary);
        let distinct = if let Keys::Kept = self.keys { KEPT } else { OUTCOMES };
        let keys: Vec<Unit> = on_canary.take(distinct as usize).collect();
        let outcome = |n: u32| {
            let attacks = dice.flip(self.share);
            let unit = if attacks { keys[(n % distinct) as usize] } else { unit(salt, n, 0) };
            let address = if attacks { ATTACKER } else { n };
            Bad { unit, arm: unit.arm(weight), weight, signal: Signal::Errors, address, drawn_at: n.into() }
        };
        (0..OUTCOMES).map(outcome).collect()
    }
}

fn unit(salt: Salt, address: u32, key: u64) -> Unit {
    Unit::of_key(salt, format!("{address}/{key}").as_bytes())
}
