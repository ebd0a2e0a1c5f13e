//! The metrics of the verdict: evidence, units, and when a decision is to be expected.

use super::{Named, Scrape, ServiceView, gauge};
use crate::model::split::Arm;
use crate::model::verdict::Expected;

const EVIDENCE: Named = gauge(
    "serin_verdict_combined_evidence",
    "E: the evidence that the canary is worse, over all signals.",
    &["service"],
);
const SIGNAL_EVIDENCE: Named =
    gauge("serin_verdict_evidence", "The evidence that the canary is worse, by one signal.", &["service", "signal"]);
const PASS_EVIDENCE: Named =
    gauge("serin_verdict_pass_evidence", "The evidence that the canary is good enough.", &["service"]);
const EXPECTED: Named = gauge(
    "serin_verdict_expected_seconds",
    "Time to a decision at today's traffic; NaN where it can't be told.",
    &["service", "decision"],
);
const SPLIT_BROKEN: Named =
    gauge("serin_verdict_split_broken", "1 once the sample-ratio check says that the split is broken.", &["service"]);
const STABLE_FAILING: Named = gauge("serin_verdict_stable_failing", "1 while stable itself is failing.", &["service"]);
const UNITS: Named = gauge("serin_verdict_units", "Distinct units seen in the episode.", &["service", "arm"]);
const BAD_UNITS: Named = gauge("serin_verdict_bad_units", "Units of the episode that went bad.", &["service", "arm"]);
const SIGNAL_BAD_UNITS: Named = gauge(
    "serin_verdict_signal_bad_units",
    "Units of the episode that went bad for a signal.",
    &["service", "arm", "signal"],
);

pub(super) const ALL: &[&Named] = &[
    &EVIDENCE,
    &SIGNAL_EVIDENCE,
    &PASS_EVIDENCE,
    &EXPECTED,
    &SPLIT_BROKEN,
    &STABLE_FAILING,
    &UNITS,
    &BAD_UNITS,
    &SIGNAL_BAD_UNITS,
];

impl Scrape {
    pub(super) fn verdict(&mut self, view: &ServiceView) {
        let (service, verdict) = (view.spec.name.as_str(), view.live.verdict());
        for arm in Arm::BOTH {
            let evidence = verdict.evidence.arms.get(arm);
            self.number(&UNITS, &[service, arm.name()], evidence.units);
            self.number(&BAD_UNITS, &[service, arm.name()], evidence.bad);
        }
        self.value(&EVIDENCE, &[service], verdict.evidence.e);
        for (signal, evidence) in verdict.evidence.signals.iter() {
            let evidence = evidence.unwrap_or_default();
            self.value(&SIGNAL_EVIDENCE, &[service, signal.name()], evidence.e);
            for arm in Arm::BOTH {
                self.number(&SIGNAL_BAD_UNITS, &[service, arm.name(), signal.name()], *evidence.bad.get(arm));
            }
        }
        self.value(&PASS_EVIDENCE, &[service], verdict.pass.e);
        self.number(&SPLIT_BROKEN, &[service], verdict.sample_ratio.off.into());
        self.number(&STABLE_FAILING, &[service], verdict.stable_failing.into());
        let Expected { pull, pass } = verdict.expected;
        for (what, outlook) in [("pull", pull), ("pass", pass)] {
            let time = outlook.and_then(|outlook| outlook.time).map_or(f64::NAN, |time| time.as_secs_f64());
            self.value(&EXPECTED, &[service, what], time);
        }
    }
}
