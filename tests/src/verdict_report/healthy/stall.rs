//! Healthy episodes in which both arms fail and one answers its part late: the order of the answers then says
//! nothing of the dice. The pull waits for stable as `control/verdict.rs` of the daemon does.

use serin::model::outcome::Signal;
use serin::model::split::{Arm, Salt, Unit};

use super::super::dice::Dice;
use super::super::figures::upper_bound;
use super::super::judged::{Bad, ONE_ADDRESS, Trial, weight};
use super::super::plan::Plan;
use super::super::table::percent;
use super::{ALPHAS, EPISODES, Seen, Tally};

/// Requests to an episode, each from another user, all of which fail.
const REQUESTS: u32 = 300;
/// Requests a second.
const RATE: f64 = 200.0;
/// How long the daemon waits for stable before it pulls.
const WAIT: f64 = 0.6;
/// How often it looks again where no outcome comes.
const LOOK: f64 = 0.5;

/// Which arms stall in an outage, and for how long.
#[derive(Clone, Copy, Debug)]
struct Stall {
    name: &'static str,
    arms: &'static [Arm],
    seconds: f64,
}

const STALLS: [Stall; 3] = [
    Stall { name: "outage, stable stalls 0.5 s", arms: &[Arm::Stable], seconds: 0.5 },
    Stall { name: "outage, the canary stalls 0.5 s", arms: &[Arm::Canary], seconds: 0.5 },
    Stall { name: "outage, each arm stalls, at different times", arms: &[Arm::Stable, Arm::Canary], seconds: 0.4 },
];
/// Longer than the daemon waits.
const BEYOND: Stall = Stall { name: "outage, stable stalls 1.5 s", arms: &[Arm::Stable], seconds: 1.5 };
/// Episodes of the case in which no guarantee is given.
const FEW: u32 = 10_000;

pub(super) fn simulate(plan: &Plan, tally: &mut Tally) {
    for stall in STALLS {
        for percent in [1.0, 10.0, 50.0] {
            let label = format!("healthy stall {} {percent}", stall.name);
            let episodes = plan.episodes(&label, EPISODES, |dice| {
                let requests = requests(dice, stall, percent);
                Seen { bad: REQUESTS, pulled: ALPHAS.map(|alpha| pulled(&requests, alpha)) }
            });
            tally.add(stall.name, &format!("{percent} %"), &episodes);
        }
    }
}

/// A sentence on the case that is known to be outside the guarantee.
pub(super) fn beyond(plan: &Plan) -> String {
    let pulled = plan.episodes("healthy stall beyond", FEW, |dice| pulled(&requests(dice, BEYOND, 10.0), ALPHAS[0]));
    let pulls = pulled.iter().filter(|pulled| **pulled).count() as u64;
    let episodes = pulled.len() as u64;
    format!(
        "Outside the guarantee: where, in an outage of both arms, stable is silent for longer than the {WAIT} s for which a \
         pull waits. With {} s of silence, a weight of 10 % and α = 0.001, {pulls} of {episodes} healthy canaries were \
         pulled: {} (at most {}).",
        BEYOND.seconds,
        percent(pulls as f64 / episodes as f64, 2),
        percent(upper_bound(pulls, episodes), 2),
    )
}

/// A request and when it was answered.
struct Request {
    bad: Bad,
    answered_at: f64,
}

/// The requests of an outage, by when they were answered.
fn requests(dice: &mut Dice, stall: Stall, percent: f64) -> Vec<Request> {
    let (salt, weight) = (Salt(dice.wide()), weight(percent));
    let length = f64::from(REQUESTS) / RATE;
    let from: Vec<(Arm, f64)> = stall.arms.iter().map(|arm| (*arm, dice.uniform() * length)).collect();
    let mut drawn_at = 0.0;
    let request = |user: u32| {
        drawn_at += dice.exponential() / RATE;
        let unit = Unit::of_key(salt, &user.to_le_bytes());
        let bad = Bad { unit, arm: unit.arm(weight), weight, signal: Signal::Errors, address: 1, drawn_at };
        let stalled =
            from.iter().find(|(arm, from)| *arm == bad.arm && (*from..from + stall.seconds).contains(&drawn_at));
        let free_at = stalled.map_or(drawn_at, |(_, from)| from + stall.seconds);
        Request { bad, answered_at: free_at + 0.02 * dice.exponential() }
    };
    let mut requests: Vec<Request> = (0..REQUESTS).map(request).collect();
    requests.sort_unstable_by(|a, b| a.answered_at.total_cmp(&b.answered_at));
    requests
}

/// Whether the canary is pulled.
fn pulled(requests: &[Request], alpha: f64) -> bool {
    let mut court = Court { trial: Trial::new(alpha, ONE_ADDRESS), stable: InFlight::new(requests), waits_since: None };
    let mut looks = 1.0;
    requests.iter().any(|request| {
        while looks * LOOK <= request.answered_at {
            if court.rules(looks * LOOK) {
                return true;
            }
            looks += 1.0;
        }
        court.trial.observe(&request.bad);
        court.rules(request.answered_at)
    })
}

/// The daemon's court, of one service.
struct Court {
    trial: Trial,
    stable: InFlight,
    waits_since: Option<f64>,
}

impl Court {
    /// Whether the canary goes now.
    fn rules(&mut self, now: f64) -> bool {
        if !self.trial.asks() {
            self.waits_since = None;
            return false;
        }
        self.trial.stands_if_stable_errs(self.stable.at(now)) || now - *self.waits_since.get_or_insert(now) >= WAIT
    }
}

/// How many requests are with stable.
struct InFlight {
    drawn: Vec<f64>,
    answered: Vec<f64>,
}

impl InFlight {
    fn new(requests: &[Request]) -> Self {
        let stable = || requests.iter().filter(|request| request.bad.arm == Arm::Stable);
        let mut drawn: Vec<f64> = stable().map(|request| request.bad.drawn_at).collect();
        drawn.sort_unstable_by(f64::total_cmp);
        Self { drawn, answered: stable().map(|request| request.answered_at).collect() }
    }

    /// At this time.
    fn at(&self, now: f64) -> u64 {
        let drawn = self.drawn.partition_point(|at| *at <= now);
        let answered = self.answered.partition_point(|at| *at <= now);
        (drawn - answered) as u64
    }
}
