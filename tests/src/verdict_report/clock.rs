//! How soon, by the clock: from the break to the judge's decision, for traffic of every size.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;

use serin::model::outcome::Signal;
use serin::model::split::Unit;

use super::detection::Case;
use super::dice::Dice;
use super::figures::quantile;
use super::judged::{Bad, MANY_ADDRESSES, Trial, arm, weight};
use super::plan::Plan;
use super::table::{Table, seconds};

const ALPHA: f64 = 0.001;
const EPISODES: u32 = 400;
const WEIGHTS: [f64; 4] = [1.0, 5.0, 10.0, 50.0];
const PER_SECOND: [f64; 6] = [1.0, 5.0, 20.0, 100.0, 200.0, 1_000.0];
/// The bad rates of stable and canary, in percent.
const RATES: [(f64, f64); 4] = [(0.5, 100.0), (0.5, 50.0), (0.5, 5.0), (1.0, 2.0)];
/// Requests of a user in the second table, and the mean time between two of them, in seconds.
const VISIT: u32 = 10;
const PAUSE: f64 = 5.0;

/// Writes the section.
pub(super) fn write(plan: &Plan) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "From the break to the judge's decision, median (95 %) of {} episodes, α = {ALPHA}, the address rule on, each user at \
         an address of its own. The canary is bad from the episode's begin. What the daemon adds is in \
         [performance.md](performance.md#time-to-pull).\n\nEach request from another user:\n",
        plan.of(EPISODES)
    );
    let _ = writeln!(
        text,
        "{}",
        table(|case| {
            // Twice the traffic is the same draws in half the time.
            let times = plan.episodes(&label("users", case), EPISODES, |dice| at_one_a_second(dice, case));
            PER_SECOND.map(|rate| times.iter().map(|time| time / rate).collect())
        })
    );
    let _ = writeln!(text, "Each user makes {VISIT} requests, {PAUSE} s apart in the mean, and counts once:\n");
    let _ = write!(
        text,
        "{}",
        table(|case| {
            PER_SECOND.map(|rate| {
                let label = label(&format!("visits {rate}"), case);
                plan.episodes(&label, EPISODES, |dice| with_visits(dice, case, rate))
            })
        })
    );
    text
}

fn label(experiment: &str, case: &Case) -> String {
    format!("clock {experiment} {} {} {}", case.weight, case.stable, case.canary)
}

/// A row to each weight and severity, a column to each size of traffic.
fn table(times: impl Fn(&Case) -> [Vec<f64>; PER_SECOND.len()]) -> Table {
    let mut head = vec!["stable → canary".to_owned(), "weight".to_owned()];
    head.extend(PER_SECOND.iter().map(|rate| format!(">{rate} requests/s")));
    let mut table = Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
    for (stable, canary) in RATES {
        for weight in WEIGHTS {
            let mut cells = vec![format!("{stable} → {canary} %"), format!("{weight} %")];
            cells.extend(times(&Case { weight, stable, canary }).map(|times| {
                let at = |share| seconds(quantile(&times, share).unwrap_or(f64::INFINITY));
                format!("{} ({})", at(0.5), at(0.95))
            }));
            table.row(&cells);
        }
    }
    table
}

/// The judge of one episode.
struct Court {
    trial: Trial,
    users: u32,
}

impl Court {
    fn new() -> Self {
        Self { trial: Trial::new(ALPHA, MANY_ADDRESSES), users: 0 }
    }

    /// Another user goes bad; whether the canary must go.
    fn observe(&mut self, dice: &mut Dice, case: &Case, canary: bool, at: f64) -> bool {
        self.users += 1;
        let (unit, arm, weight) = (Unit(dice.wide()), arm(canary), weight(case.weight));
        self.trial.observe(&Bad { unit, arm, weight, signal: Signal::Errors, address: self.users, drawn_at: at })
    }
}

/// Seconds to the pull at one request a second.
fn at_one_a_second(dice: &mut Dice, case: &Case) -> f64 {
    let weight = case.weight / 100.0;
    let bad_per_second = (weight * case.canary + (1.0 - weight) * case.stable) / 100.0;
    let (mut court, mut now) = (Court::new(), 0.0);
    loop {
        now += dice.exponential() / bad_per_second;
        let canary = dice.flip(case.share());
        if court.observe(dice, case, canary, now) {
            return now;
        }
    }
}

/// Seconds to the pull where users make several requests. Visits that began before the break count with what
/// is left of them.
fn with_visits(dice: &mut Dice, case: &Case, per_second: f64) -> f64 {
    let visits_per_second = per_second / f64::from(VISIT);
    // Long enough that the visits under way at the break are as many as ever.
    let mut begun = -3.0 * f64::from(VISIT) * PAUSE;
    let mut court = Court::new();
    // First bad requests to come, by microsecond, with whether they are the canary's.
    let mut to_come: BinaryHeap<Reverse<(u64, bool)>> = BinaryHeap::new();
    loop {
        begun += dice.exponential() / visits_per_second;
        while let Some(Reverse((micros, canary))) =
            to_come.peek().copied().filter(|next| next.0.0 as f64 <= begun * 1e6)
        {
            to_come.pop();
            let now = micros as f64 / 1e6;
            if court.observe(dice, case, canary, now) {
                return now;
            }
        }
        let canary = dice.flip(case.weight / 100.0);
        let risk = if canary { case.canary } else { case.stable } / 100.0;
        if let Some(at) = first_bad(dice, begun, risk) {
            to_come.push(Reverse((super::figures::whole(at * 1e6) as u64, canary)));
        }
    }
}

/// When a visit that begins at this time meets its first bad answer after the break, at 0.
fn first_bad(dice: &mut Dice, begun: f64, risk: f64) -> Option<f64> {
    let mut now = begun;
    for _ in 0..VISIT {
        if now >= 0.0 && dice.flip(risk) {
            return Some(now);
        }
        now += PAUSE * dice.exponential();
    }
    None
}
