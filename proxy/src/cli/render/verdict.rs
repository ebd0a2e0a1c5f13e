//! What people see of the verdict.

use super::{Cell, Tone, header, number, plain};
use crate::admin::view::{CircuitJson, UnitsJson, VerdictJson};
use crate::model::outcome::Signal;
use crate::model::verdict::{Decision, decision};

/// The verdict in a word.
pub(super) fn decision(verdict: &VerdictJson) -> Cell {
    let tone = match verdict.decision {
        Decision::Pass => Tone::Good,
        Decision::Hold => Tone::Plain,
        Decision::Pull => Tone::Bad,
    };
    (verdict.decision.name().to_owned(), tone)
}

/// The verdict in full: what it is, why, and how far away the next one is.
pub(super) fn facts(verdict: &VerdictJson) -> Vec<Vec<Cell>> {
    let (word, tone) = decision(verdict);
    let why = if verdict.why.is_empty() { word } else { format!("{word}: {}", verdict.why) };
    let mut rows = vec![vec![plain("verdict"), (why, tone)]];
    rows.push(vec![plain("for a pull"), evidence(verdict.e, verdict.threshold)]);
    if let Some(control) = &verdict.control {
        let than = &control.comparisons;
        let bad = format!("; bad: canary {}, control {}", than.bad_canary, than.bad_control);
        for (what, e, bad) in [
            ("  vs control", than.canary_vs_control, bad.as_str()),
            ("  vs stable", than.canary_vs_stable, ""),
            ("control vs rest", than.control_vs_rest, ""),
        ] {
            rows.push(vec![plain(what), plain(format!("E {}{bad}", number(e)))]);
        }
        let share = format!("{} % of the users", control.share);
        rows.push(vec![
            plain("control"),
            control.note.as_deref().map_or_else(|| plain(&share), |note| (format!("{share}: {note}"), Tone::Warn)),
        ]);
    }
    let pass = &verdict.pass;
    let of_step =
        format!("E {} of {}, from {} users at {} %", number(pass.e), number(pass.threshold), pass.units, pass.weight);
    rows.push(vec![plain("for a pass"), plain(of_step)]);
    for (what, outlook) in [(Decision::Pull, verdict.expected.pull), (Decision::Pass, verdict.expected.pass)] {
        if let Some(outlook) = outlook.filter(|_| verdict.decision == Decision::Hold) {
            rows.push(vec![plain("expected"), (decision::more(outlook.outlook(), what), Tone::Faint)]);
        }
    }
    if verdict.sample_ratio.off {
        let returned = verdict.sample_ratio.returned;
        let text = format!("BROKEN: {} on stable and {} on the canary came back", returned.stable, returned.canary);
        rows.push(vec![plain("split"), (text, Tone::Bad)]);
    }
    if verdict.stable_failing {
        rows.push(vec![plain("stable"), ("failing itself: no step goes on".to_owned(), Tone::Bad)]);
    }
    rows
}

/// Each signal's evidence.
pub(super) fn signals(verdict: &VerdictJson) -> Vec<Vec<Cell>> {
    let mut rows = vec![header(&["SIGNAL", "EVIDENCE", "BAD STABLE", "BAD CANARY"])];
    rows.extend(verdict.signals.iter().map(|(name, signal)| {
        let evidence = evidence(signal.e, signal.threshold);
        vec![plain(name.name()), evidence, plain(units(signal.stable)), plain(units(signal.canary))]
    }));
    rows
}

/// What opened a circuit.
pub(super) fn circuit_details(circuit: &CircuitJson) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    if let Some(reason) = &circuit.reason {
        rows.push(vec![plain(""), plain(reason)]);
    }
    let Some(proof) = &circuit.evidence else { return rows };
    let whole = &proof.whole;
    let (stable, canary) = (units(whole.stable), units(whole.canary));
    let (e, _) = evidence(whole.e, whole.threshold);
    let by: Vec<&str> = proof.decided_by.iter().map(|signal| Signal::name(*signal)).collect();
    let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
    rows.push(vec![plain(""), plain(format!("{e}{by}; bad: stable {stable}, canary {canary}"))]);
    for sample in whole.samples.iter().take(3) {
        let what = &sample.what;
        let status = what.status.map_or_else(String::new, |status| format!(" → {status}"));
        let line = format!(
            "{} {}{status} ({}) by {} at {}",
            what.method,
            what.path,
            what.reason.name(),
            what.endpoint,
            sample.at
        );
        rows.push(vec![plain(""), (line, Tone::Faint)]);
    }
    rows
}

pub(super) fn units(units: UnitsJson) -> String {
    format!("{} of {}", units.bad, units.units)
}

/// Evidence and what it must reach. A third of the way on the log scale is worth a look.
pub(in crate::cli) fn evidence(e: f64, threshold: f64) -> Cell {
    let tone = if e >= threshold {
        Tone::Bad
    } else if e > threshold.cbrt() {
        Tone::Warn
    } else {
        Tone::Plain
    };
    (format!("E {} of {}", number(e), number(threshold)), tone)
}
