//! How many bad units it takes to see a canary that is worse, beside the least that any test needs.

use std::fmt::Write as _;

use serin::model::outcome::Signal;
use serin::model::split::Unit;

use super::dice::Dice;
use super::figures::{mean, quantile};
use super::judged::{Bad, Errors, MANY_ADDRESSES, Trial, arm, weight};
use super::plan::Plan;
use super::table::{Table, met, units};

/// What the whole section is judged at.
const ALPHA: f64 = 0.001;
/// The bad rates of stable and canary, in percent.
const RATES: [(f64, f64); 6] = [(0.1, 1.0), (0.1, 5.0), (0.5, 5.0), (1.0, 2.0), (0.1, 100.0), (1.0, 50.0)];
/// Episodes of a fresh canary, of one that breaks late, and with the address rule.
const EPISODES: [u32; 3] = [10_000, 2_000, 1_000];
/// No canary of the table is this hard to tell from stable.
const UNITS: u32 = 1_000_000;

/// One row: a weight, and how bad the arms are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) weight: f64,
    pub(super) stable: f64,
    pub(super) canary: f64,
}

impl Case {
    /// The chance that a newly bad unit is on the canary.
    pub(super) fn share(&self) -> f64 {
        let (w, canary, stable) = (self.weight / 100.0, self.canary, self.stable);
        w * canary / (w * canary + (1.0 - w) * stable)
    }

    /// Wald's bound on the mean number of bad units to a decision.
    fn bound(&self) -> f64 {
        let (w, q) = (self.weight / 100.0, self.share());
        let divergence = q * (q / w).ln() + (1.0 - q) * ((1.0 - q) / (1.0 - w)).ln();
        (1.0 / ALPHA).ln() / divergence
    }

    fn label(&self, experiment: &str) -> String {
        format!("detection {experiment} {} {} {}", self.weight, self.stable, self.canary)
    }
}

/// Writes the section.
pub(super) fn write(plan: &Plan) -> String {
    let mut table = Table::new(&[
        "weight",
        "stable → canary",
        ">bound",
        ">mean",
        ">median",
        ">× bound",
        "goal",
        ">after 1,000",
        ">after 10,000",
        ">allowed late",
        "goal",
        ">with addresses",
    ]);
    let (mut worst, mut missed) = (0.0_f64, 0);
    for percent in [1.0, 5.0, 10.0, 50.0] {
        for (stable, canary) in RATES {
            let case = Case { weight: percent, stable, canary };
            let row = Row::simulate(plan, case);
            worst = worst.max(row.times_bound());
            missed += u32::from(!row.fresh_met()) + u32::from(!row.late_met());
            table.row(&row.cells());
        }
    }
    let mut text = String::new();
    let _ = writeln!(
        text,
        "α = {ALPHA}; {} fresh and {} late episodes to a row. Goals: a fresh canary is pulled after at most \
        1.5 × Wald's bound `ln(1/α) / KL(q‖w)` newly bad units in the mean (bound + 2 where it is below 4); one that breaks \
        after 1,000 or 10,000 newly bad units of a healthy time, after at most 3 × the fresh figure + 8. `with addresses`: \
        the fresh mean through the judge with each unit from an address of its own, so that the evidence has to stand \
        without any one of them. The evidence is that of `errors`, which have a share of α only.\n",
        plan.of(EPISODES[0]),
        plan.of(EPISODES[1])
    );
    let _ = writeln!(text, "{table}");
    let _ = writeln!(text, "Worst ratio where the bound is 4 or more: {worst:.2}. Goals missed: {missed} of 48.");
    text
}

/// What one case gave.
struct Row {
    case: Case,
    bound: f64,
    fresh: f64,
    median: f64,
    late: [f64; 2],
    with_addresses: f64,
}

impl Row {
    fn simulate(plan: &Plan, case: Case) -> Self {
        let fresh = plan.episodes(&case.label("fresh"), EPISODES[0], |dice| units_to_pull(dice, &case, 0));
        let fresh: Vec<f64> = fresh.into_iter().flatten().collect();
        let late = [1_000, 10_000].map(|healthy| {
            let label = case.label(&format!("late {healthy}"));
            let late = plan.episodes(&label, EPISODES[1], |dice| units_to_pull(dice, &case, healthy));
            mean(&late.into_iter().flatten().collect::<Vec<f64>>())
        });
        let judged = plan.episodes(&case.label("addresses"), EPISODES[2], |dice| units_by_judge(dice, &case));
        Self {
            case,
            bound: case.bound(),
            fresh: mean(&fresh),
            median: quantile(&fresh, 0.5).unwrap_or(f64::INFINITY),
            late,
            with_addresses: mean(&judged),
        }
    }

    /// The ratio to the bound; 0 where the bound is so small that another goal holds.
    fn times_bound(&self) -> f64 {
        if self.bound < 4.0 { 0.0 } else { self.fresh / self.bound }
    }

    fn fresh_met(&self) -> bool {
        self.fresh <= if self.bound < 4.0 { self.bound + 2.0 } else { 1.5 * self.bound }
    }

    fn allowed_late(&self) -> f64 {
        3.0 * self.fresh + 8.0
    }

    fn late_met(&self) -> bool {
        self.late.iter().all(|late| *late <= self.allowed_late())
    }

    fn cells(&self) -> [String; 12] {
        [
            format!("{} %", self.case.weight),
            format!("{} → {} %", self.case.stable, self.case.canary),
            units(self.bound),
            units(self.fresh),
            units(self.median),
            format!("{:.2}", self.fresh / self.bound),
            met(self.fresh_met()),
            units(self.late[0]),
            units(self.late[1]),
            units(self.allowed_late()),
            met(self.late_met()),
            units(self.with_addresses),
        ]
    }
}

/// Newly bad units from the break to the pull; none if it was pulled in its healthy time.
fn units_to_pull(dice: &mut Dice, case: &Case, healthy: u32) -> Option<f64> {
    let (w, q, threshold) = (case.weight / 100.0, case.share(), Errors::threshold(ALPHA));
    let mut evidence = Errors::default();
    for _ in 0..healthy {
        evidence.observe(dice.flip(w), w);
        if evidence.value() >= threshold {
            return None;
        }
    }
    let mut after = 0;
    while evidence.value() < threshold && after < UNITS {
        evidence.observe(dice.flip(q), w);
        after += 1;
    }
    Some(after.into())
}

/// The same for a fresh canary through the whole judge, each unit from another address.
fn units_by_judge(dice: &mut Dice, case: &Case) -> f64 {
    let (weight, q) = (weight(case.weight), case.share());
    let mut trial = Trial::new(ALPHA, MANY_ADDRESSES);
    let pulled = (1..UNITS).find(|unit| {
        let (arm, at) = (arm(dice.flip(q)), f64::from(*unit));
        trial.observe(&Bad {
            unit: Unit(dice.wide()),
            arm,
            weight,
            signal: Signal::Errors,
            address: *unit,
            drawn_at: at,
        })
    });
    pulled.unwrap_or(UNITS).into()
}
