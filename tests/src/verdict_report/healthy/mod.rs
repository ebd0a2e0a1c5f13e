//! How often a canary that is no worse is pulled: never oftener than α, however its service lives.

mod crowd;
mod slow;
mod stall;
mod units;

use std::fmt::Write as _;

use super::figures::{mean, upper_bound};
use super::judged::{Bad, ONE_ADDRESS, Trial};
use super::plan::Plan;
use super::table::{Table, kept, percent, units as show_units};

/// The default, and one so high that the check has power.
const ALPHAS: [f64; 2] = [0.001, 0.05];
/// Episodes of each scenario.
const EPISODES: u32 = 100_000;
/// A weight that is raised in equal parts of the episode, in percent.
const RAMP: &[f64] = &[1.0, 5.0, 10.0, 50.0];

/// What became of one healthy episode.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Newly bad units.
    bad: u32,
    /// Whether the canary was pulled at each α.
    pulled: [bool; 2],
}

/// Writes the section.
pub(super) fn write(plan: &Plan) -> String {
    let head = [
        "what goes on",
        "weight",
        ">bad units",
        ">pulls at 0.001",
        ">rate",
        ">at most",
        "goal",
        ">pulls at 0.05",
        ">rate",
        ">at most",
        "goal",
    ];
    let mut tally = Tally { table: Table::new(&head), rows: 0, not_met: 0 };
    units::simulate(plan, &mut tally);
    crowd::simulate(plan, &mut tally);
    slow::simulate(plan, &mut tally);
    stall::simulate(plan, &mut tally);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} episodes of a canary that is no worse to each row, each at α = 0.001 and at α = 0.05. `at most` is the upper \
         95 % bound on the rate (Clopper and Pearson). The goal is met when that bound, not just the rate, is no more \
         than α, missed when the lower 95 % bound is more, and open between. A ramp raises the weight in equal parts of \
         the episode: 1, 5, 10, 50 %.\n",
        plan.of(EPISODES)
    );
    let _ = writeln!(text, "{}", tally.table);
    let _ = writeln!(text, "Goals not met: {} of {}.\n\n{}", tally.not_met, 2 * tally.rows, stall::beyond(plan));
    text
}

/// The section's table as it grows.
struct Tally {
    table: Table,
    rows: u32,
    not_met: u32,
}

impl Tally {
    /// Adds a scenario's row.
    fn add(&mut self, what: &str, weight: &str, episodes: &[Seen]) {
        let bad: Vec<f64> = episodes.iter().map(|seen| f64::from(seen.bad)).collect();
        let mut cells = vec![what.to_owned(), weight.to_owned(), show_units(mean(&bad))];
        for (which, alpha) in ALPHAS.into_iter().enumerate() {
            let pulls = episodes.iter().filter(|seen| seen.pulled[which]).count() as u64;
            let trials = episodes.len() as u64;
            let bound = upper_bound(pulls, trials);
            let goal = kept(pulls, trials, alpha);
            self.not_met += u32::from(goal != "met");
            let rate = pulls as f64 / episodes.len() as f64;
            cells.extend([pulls.to_string(), percent(rate, 3), percent(bound, 3), goal]);
        }
        self.rows += 1;
        self.table.row(&cells);
    }
}

/// Whether the judge pulls, at each α. What is no pull at 5 % is none at 0.1 %, as long as outcomes come in
/// the order of their draws: the second judge is asked only if the first pulled.
fn pulled(outcomes: &[Bad]) -> [bool; 2] {
    let pulled = |alpha| {
        let mut trial = Trial::new(alpha, ONE_ADDRESS);
        outcomes.iter().any(|bad| trial.observe(bad))
    };
    let often = pulled(ALPHAS[1]);
    [often && pulled(ALPHAS[0]), often]
}

/// How a weight, or several in a row, is named.
fn name(weights: &[f64]) -> String {
    if let [only] = weights { format!("{only} %") } else { "ramp".to_owned() }
}

/// The weight at a part of the episode, 0 to 1.
fn weight_at(weights: &[f64], part: f64) -> f64 {
    let step = super::figures::whole(part * weights.len() as f64).min(weights.len() - 1);
    weights[step]
}
