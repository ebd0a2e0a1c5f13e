//! What the API sends about the verdict.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::control::{ComparisonsJson, ControlJson};
use crate::live::{ServiceView, VerdictStatus};
use crate::model::circuit::{Evidence, SignalEvidence};
use crate::model::outcome::{BadReason, BadSample, PerSignal, Signal};
use crate::model::split::{Arm, PerArm};
use crate::model::verdict::{Decision, Outlook};

/// The verdict on the running episode.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VerdictJson {
    /// `pass`, `hold` or `pull`.
    pub decision: Decision,
    /// Why, in a sentence.
    pub why: String,
    /// The episode it speaks of.
    pub episode: Option<String>,
    /// The evidence that the canary is worse, over all signals.
    #[serde(default)]
    pub e: f64,
    /// What `e` must reach for a pull.
    #[serde(default)]
    pub threshold: f64,
    /// Stable's units, bad for any signal.
    #[serde(default)]
    pub stable: UnitsJson,
    /// The canary's units, bad for any signal.
    #[serde(default)]
    pub canary: UnitsJson,
    /// Each signal's part in it.
    pub signals: SignalsJson,
    /// The evidence that the canary is good enough, in the running step.
    #[serde(default)]
    pub pass: PassJson,
    /// Whether the split itself works.
    #[serde(default)]
    pub sample_ratio: RatioJson,
    /// Whether stable itself is failing.
    #[serde(default)]
    pub stable_failing: bool,
    /// How far away a decision is.
    #[serde(default)]
    pub expected: ExpectedJson,
    /// The comparisons with the control; absent where the service has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlJson>,
}

/// Each signal's evidence; `errors` is always there, the others where they count.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignalsJson {
    /// Bad answers, or none.
    pub errors: SignalJson,
    /// Late answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<SignalJson>,
    /// 4xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_errors: Option<SignalJson>,
    /// Clients that left before a late answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<SignalJson>,
}

/// The evidence of one signal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignalJson {
    /// The evidence that the canary is worse, by this signal alone.
    pub e: f64,
    /// What `e` must reach for a pull.
    pub threshold: f64,
    /// Stable's units.
    pub stable: UnitsJson,
    /// The canary's units.
    pub canary: UnitsJson,
    /// Distinct client addresses seen in the episode.
    pub addresses: u64,
    /// The smallest evidence over all signals with any one address left out.
    pub e_without_any_address: Option<f64>,
    /// When the canary's first bad response of the episode was seen, RFC 3339.
    pub first_bad: Option<String>,
    /// The latest bad outcomes of the canary for this signal, the oldest first.
    pub samples: Vec<SampleJson>,
}

/// The proof of a pull, over all signals.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProofJson {
    /// What is known of all signals together: in the form of one.
    #[serde(flatten)]
    pub whole: SignalJson,
    /// Each signal's part in it; none in what older versions wrote.
    #[serde(default)]
    pub signals: PerSignal<Option<ShareJson>>,
    /// The signals that were enough, the strongest first.
    #[serde(default)]
    pub decided_by: Vec<Signal>,
    /// The comparisons with the control, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ComparisonsJson>,
}

/// One signal's part in a proof.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ShareJson {
    /// The evidence by this signal alone.
    pub e: f64,
    /// What it had to reach.
    pub threshold: f64,
    /// How many times stable's risk the canary's might be.
    pub tolerance: f64,
    /// Units that went bad.
    pub bad: PerArm<u64>,
}

/// The units of an arm.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct UnitsJson {
    /// Distinct units seen, by estimate.
    pub units: u64,
    /// Units that went bad.
    pub bad: u64,
}

/// The evidence for a pass.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct PassJson {
    /// The evidence that the canary is good enough.
    pub e: f64,
    /// What `e` must reach for a pass.
    pub threshold: f64,
    /// The share of its units that the canary may turn bad beyond stable's.
    pub margin: f64,
    /// The weight of the step, in percent.
    pub weight: f64,
    /// Distinct units of the step that had time to fail.
    pub units: u64,
    /// Units of the step that went bad.
    pub bad: PerArm<u64>,
}

/// The sample-ratio check.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct RatioJson {
    /// The evidence that the split itself is broken.
    pub e: f64,
    /// What `e` must reach.
    pub threshold: f64,
    /// Whether it did, in this episode.
    pub off: bool,
    /// Units of the step that came back with their key, in the sample looked at.
    pub returned: PerArm<u64>,
}

/// How far away a decision is; null where it can't be told.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ExpectedJson {
    /// A pull, if the excess that the canary shows is real.
    pub pull: Option<OutlookJson>,
    /// A pass, if the canary is no worse.
    pub pass: Option<OutlookJson>,
}

/// How far away one decision is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct OutlookJson {
    /// Users more that the canary must see.
    pub canary_units: u64,
    /// How long that takes at today's traffic; null without any.
    pub seconds: Option<f64>,
}

/// A bad outcome.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SampleJson {
    /// Its moment, RFC 3339.
    pub at: String,
    /// What came of it, for people and programs.
    #[serde(flatten)]
    pub what: SampleOf,
}

/// What was asked, and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SampleOf {
    /// The request's `X-Request-Id`.
    pub request_id: String,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// The endpoint's status, where there was one.
    pub status: Option<u16>,
    /// Why it was bad.
    pub reason: BadReason,
    /// The endpoint tried first.
    pub endpoint: String,
}

impl VerdictJson {
    pub(super) fn of(view: &ServiceView) -> Self {
        let VerdictStatus { episode, decision, why, evidence, pass, sample_ratio, stable_failing, expected } =
            &*view.live.verdict();
        let spec = &view.spec.verdict;
        // The verdict may not have spoken yet; what it will ask for is known all the same.
        let known_or = |known: f64, spec: f64| if known > 0.0 { finite(known) } else { spec };
        let threshold = known_or(evidence.threshold, 1.0 / spec.false_pull_rate);
        Self {
            decision: *decision,
            why: why.clone(),
            episode: episode.map(|episode| episode.to_string()),
            e: finite(evidence.e),
            threshold,
            stable: UnitsJson::of(evidence, Arm::Stable),
            canary: UnitsJson::of(evidence, Arm::Canary),
            signals: SignalsJson::of(evidence, threshold),
            pass: PassJson {
                e: finite(pass.e),
                threshold: known_or(pass.threshold, 1.0 / spec.pass_error),
                margin: spec.pass_margin,
                weight: pass.weight.percent(),
                units: pass.exposed,
                bad: pass.bad,
            },
            sample_ratio: RatioJson {
                e: finite(sample_ratio.e),
                threshold: sample_ratio.threshold,
                off: sample_ratio.off,
                returned: sample_ratio.returned,
            },
            stable_failing: *stable_failing,
            expected: ExpectedJson {
                pull: expected.pull.map(OutlookJson::of),
                pass: expected.pass.map(OutlookJson::of),
            },
            control: ControlJson::of(view, evidence),
        }
    }
}

impl UnitsJson {
    fn of(evidence: &Evidence, arm: Arm) -> Self {
        let arm = evidence.arms.get(arm);
        Self { units: arm.units, bad: arm.bad }
    }
}

impl OutlookJson {
    pub(crate) fn of(outlook: Outlook) -> Self {
        Self { canary_units: outlook.canary_units, seconds: outlook.time.map(|time| time.as_secs_f64()) }
    }

    /// As the rule knows it.
    pub fn outlook(self) -> Outlook {
        let time = self.seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Outlook { canary_units: self.canary_units, time }
    }
}

impl SignalsJson {
    fn of(evidence: &Evidence, threshold: f64) -> Self {
        let of = |signal| evidence.signals.get(signal).as_ref().map(|part| SignalJson::part(evidence, signal, part));
        let none = SignalEvidence { threshold, ..SignalEvidence::default() };
        Self {
            errors: of(Signal::Errors).unwrap_or_else(|| SignalJson::part(evidence, Signal::Errors, &none)),
            slow: of(Signal::Slow),
            client_errors: of(Signal::ClientErrors),
            missing: of(Signal::Missing),
        }
    }

    /// The signals that count.
    pub fn iter(&self) -> impl Iterator<Item = (Signal, &SignalJson)> {
        let others = [
            (Signal::Slow, self.slow.as_ref()),
            (Signal::ClientErrors, self.client_errors.as_ref()),
            (Signal::Missing, self.missing.as_ref()),
        ];
        let others = others.into_iter().filter_map(|(signal, part)| Some((signal, part?)));
        std::iter::once((Signal::Errors, &self.errors)).chain(others)
    }
}

impl SignalJson {
    /// All signals together.
    fn whole(evidence: &Evidence) -> Self {
        let bad = PerArm::from_fn(|arm| evidence.arms.get(arm).bad);
        Self::new(evidence, evidence.e, evidence.threshold, bad, |_| true)
    }

    /// One of them.
    fn part(evidence: &Evidence, signal: Signal, part: &SignalEvidence) -> Self {
        let is_of_it = |sample: &BadSample| sample.reason.signal() == signal;
        Self::new(evidence, part.e, part.threshold, part.bad, is_of_it)
    }

    fn new(
        evidence: &Evidence,
        e: f64,
        threshold: f64,
        bad: PerArm<u64>,
        is_of_it: impl Fn(&BadSample) -> bool,
    ) -> Self {
        let units = |arm: Arm| UnitsJson { units: evidence.arms.get(arm).units, bad: *bad.get(arm) };
        Self {
            e: finite(e),
            threshold: finite(threshold),
            stable: units(Arm::Stable),
            canary: units(Arm::Canary),
            addresses: evidence.addresses,
            e_without_any_address: evidence.e_without_any_address.map(finite),
            first_bad: evidence.first_bad.map(|at| at.to_string()),
            samples: evidence.samples.iter().filter(|sample| is_of_it(sample)).map(SampleJson::of).collect(),
        }
    }
}

impl ProofJson {
    pub(crate) fn of(evidence: &Evidence) -> Self {
        let share = |part: SignalEvidence| ShareJson {
            e: finite(part.e),
            threshold: finite(part.threshold),
            tolerance: part.tolerance,
            bad: part.bad,
        };
        Self {
            whole: SignalJson::whole(evidence),
            signals: PerSignal::from_fn(|signal| evidence.signals.get(signal).map(share)),
            decided_by: evidence.decisive(),
            control: evidence.control.as_ref().map(ComparisonsJson::of),
        }
    }
}

/// JSON has no infinity; evidence may grow beyond any number.
pub(super) fn finite(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(f64::MIN, f64::MAX) }
}

impl SampleJson {
    fn of(sample: &BadSample) -> Self {
        let BadSample { request_id, method, path, status, reason, endpoint, at } = sample.clone();
        Self { at: at.to_string(), what: SampleOf { request_id, method, path, status, reason, endpoint } }
    }
}
