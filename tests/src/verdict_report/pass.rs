//! How soon a healthy canary passes, beside a test of fixed size, and how often one does that is worse.

use serin::model::outcome::Signal;
use serin::model::spec::VerdictSpec;
use serin::model::split::Unit;
use serin::model::time::Timestamp;
use serin::model::verdict::{Fact, Pass};

use super::dice::Dice;
use super::figures::{quantile, upper_bound, whole};
use super::judged::{Bad, arm, weight};
use super::plan::Plan;
use super::table::{Table, kept, met, percent};

const EPISODES: u32 = 1_000;
/// Bad rates of stable, in percent.
const RATES: [f64; 5] = [0.0, 0.1, 0.5, 1.0, 5.0];
/// An episode ends without a pass after so many times the units of the test of fixed size.
const PATIENCE: f64 = 6.0;
/// One-sided normal quantiles: of β = 5 %, and of a power of 80 %.
const QUANTILES: [f64; 2] = [1.644_853_6, 0.841_621_2];

/// Writes the section.
pub(super) fn write(plan: &Plan) -> String {
    let spec = VerdictSpec::default();
    let mut table = Table::new(&[
        "errors",
        "weight",
        ">fixed size",
        ">median",
        ">95 %",
        ">× fixed",
        "goal",
        ">margin worse, passed",
        ">at most",
        "goal",
        ">2 margins worse, passed",
        ">at most",
        "goal",
    ]);
    for rate in RATES {
        for percent_weight in [10.0, 50.0] {
            let case = Case { stable: rate / 100.0, weight: percent_weight / 100.0, spec: &spec };
            table.row(&case.cells(plan));
        }
    }
    format!(
        "{} episodes of each kind at β = {} and a margin of {}, which end without a pass after {PATIENCE} times the fixed \
         size. All sizes are canary units: of a one-sided non-inferiority test of two shares with the same margin and β, a \
         power of 80 % and knowledge of the rates, `(z_β + z_0.8)² · p (1 − p) / (margin² · (1 − w))`, and never fewer than \
         `ln(1/β) / margin`, which a test needs that sees no error. Goals: the median is at most 3 × that; a canary that is \
         worse by the margin, or by twice the margin, passes in at most β of the episodes, by the upper 95 % bound. Each \
         bad unit is bad at its first request, and no unit is waited for.\n\n{table}",
        plan.of(EPISODES),
        percent(spec.pass_error, 0),
        percent(spec.pass_margin, 1),
    )
}

/// One service at one weight.
struct Case<'a> {
    stable: f64,
    weight: f64,
    spec: &'a VerdictSpec,
}

impl Case<'_> {
    fn cells(&self, plan: &Plan) -> Vec<String> {
        let fixed = self.fixed_size();
        let times = self.canary_units(plan, 0.0);
        let at = |share| quantile(&times, share).unwrap_or(f64::INFINITY);
        let shown = |units: f64| if units.is_finite() { format!("{units:.0}") } else { "none".to_owned() };
        let mut cells = vec![
            percent(self.stable, 1),
            percent(self.weight, 0),
            shown(fixed),
            shown(at(0.5)),
            shown(at(0.95)),
            format!("{:.2}", at(0.5) / fixed),
            met(at(0.5) <= 3.0 * fixed),
        ];
        for margins in [1.0, 2.0] {
            let times = self.canary_units(plan, margins);
            let passed = times.iter().filter(|units| units.is_finite()).count() as u64;
            let episodes = times.len() as u64;
            cells.extend([
                percent(passed as f64 / episodes as f64, 1),
                percent(upper_bound(passed, episodes), 1),
                kept(passed, episodes, self.spec.pass_error),
            ]);
        }
        cells
    }

    /// Canary units of a test of fixed size.
    fn fixed_size(&self) -> f64 {
        let (p, margin) = (self.stable, self.spec.pass_margin);
        let normal = (QUANTILES[0] + QUANTILES[1]).powi(2) * p * (1.0 - p) / (margin.powi(2) * (1.0 - self.weight));
        normal.max(-self.spec.pass_error.ln() / margin)
    }

    /// Canary units to the pass of a canary that is worse by so many margins, in each episode.
    fn canary_units(&self, plan: &Plan, margins: f64) -> Vec<f64> {
        let label = format!("pass {} {} {margins}", self.stable, self.weight);
        let canary = self.stable + margins * self.spec.pass_margin;
        plan.episodes(&label, EPISODES, |dice| self.units_to_pass(dice, canary) * self.weight)
    }

    /// Units of both arms to the pass; infinite if there is none.
    fn units_to_pass(&self, dice: &mut Dice, canary: f64) -> f64 {
        let most = PATIENCE * self.fixed_size() / self.weight;
        let of_canary = self.weight * canary;
        let any = of_canary + (1.0 - self.weight) * self.stable;
        let mut pass = self.step(&[]);
        let (mut facts, mut before) = (Vec::new(), 0.0);
        loop {
            // Good units up to the next bad one, of which none may be enough.
            let good = if any > 0.0 { (dice.exponential() / -(-any).ln_1p()).floor() } else { most };
            let until = (before + good).min(most);
            pass.expose(whole(until) as u64);
            if pass.value() >= pass.threshold() {
                let before_these = self.step(&facts);
                return least(before, until, |units| passes(&before_these, units));
            }
            if until >= most {
                return f64::INFINITY;
            }
            before = until + 1.0;
            let fact = self.bad(dice, of_canary / any, before);
            pass.observe(&fact);
            facts.push(fact);
        }
    }

    /// A step in which these units went bad.
    fn step(&self, facts: &[Fact]) -> Pass {
        let mut pass = Pass::new(self.spec);
        pass.begin(weight(self.weight * 100.0), Timestamp::default());
        for fact in facts {
            pass.observe(fact);
        }
        pass
    }

    fn bad(&self, dice: &mut Dice, share: f64, at: f64) -> Fact {
        let (unit, arm, weight) = (Unit(dice.wide()), arm(dice.flip(share)), weight(self.weight * 100.0));
        Fact::from(&Bad { unit, arm, weight, signal: Signal::Errors, address: 1, drawn_at: at })
    }
}

/// Whether the canary passes once so many units had time to fail.
fn passes(pass: &Pass, units: f64) -> bool {
    let mut pass = pass.clone();
    pass.expose(whole(units) as u64);
    pass.value() >= pass.threshold()
}

/// The least whole number between these for which something holds that, once it does, goes on to.
fn least(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    while high - low > 1.0 {
        let middle = f64::midpoint(low, high).floor();
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_number_is_found() {
        assert!((least(0.0, 1_000.0, |units| units >= 717.0) - 717.0).abs() < 1e-9);
        assert!((least(5.0, 6.0, |_| true) - 6.0).abs() < 1e-9);
    }
}
