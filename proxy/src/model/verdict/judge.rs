//! One episode's judge: takes bad outcomes, says whether the canary must go, or may go on.

use std::collections::VecDeque;

use super::addresses::ClientNet;
use super::control::Comparisons;
use super::ledger::Ledger;
use super::pass::Pass;
use super::signals::{Fact, Processes};
use super::units::{BadUnits, News};
use crate::model::circuit::{ArmEvidence, Cause, ControlEvidence, Evidence, SignalEvidence};
use crate::model::outcome::{BadOutcome, BadSample, PerSignal, Signal};
use crate::model::spec::VerdictSpec;
use crate::model::split::{Arm, PerArm};
use crate::model::time::Timestamp;
use crate::model::weight::Weight;

/// Bad units remembered in one episode; see [`BadUnits`].
const UNITS: usize = 65_536;

/// Bad outcomes of the canary kept for people: the latest, since those are the ones that decide. After
/// a long healthy time the first ones would be of everyday errors, and prove nothing.
const SAMPLES: usize = 10;

/// Below this many client addresses seen in the episode, leaving one out can't be asked:
/// internal callers, an untrusted proxy in front, a test on loopback.
pub const ADDRESSES: u64 = 8;

/// What the judge says of a pull after an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Not enough evidence to say that the canary is worse.
    Hold,
    /// The canary must go, for this cause.
    Pull(Cause),
}

/// The judge of one service's running episode.
#[derive(Clone, Debug)]
pub struct Judge {
    threshold: f64,
    max_excess: u64,
    ledger: Ledger,
    units: BadUnits,
    /// Bad units by arm: for each signal, and for any.
    bad: PerSignal<PerArm<u64>>,
    bad_in_any: PerArm<u64>,
    /// The canary's units with errors beyond what stable's let expect.
    excess: f64,
    addresses_seen: u64,
    pass: Pass,
    samples: VecDeque<BadSample>,
    first_bad: Option<Timestamp>,
}

impl Judge {
    /// A judge with no evidence yet.
    pub fn new(spec: &VerdictSpec) -> Self {
        Self {
            threshold: 1.0 / spec.false_pull_rate,
            max_excess: spec.max_excess_errors,
            ledger: Ledger::new(Processes::new(&spec.signals)),
            units: BadUnits::new(UNITS),
            bad: PerSignal::default(),
            bad_in_any: PerArm::default(),
            excess: 0.0,
            addresses_seen: 0,
            pass: Pass::new(spec),
            samples: VecDeque::with_capacity(SAMPLES),
            first_bad: None,
        }
    }

    // === what is told ===

    /// Takes in one bad outcome, `addresses_seen` being the distinct client addresses of the
    /// episode's whole traffic so far, good outcomes included.
    pub fn observe(&mut self, outcome: &BadOutcome, addresses_seen: u64) -> Ruling {
        let fact = Fact::from(outcome);
        self.show(&fact, &outcome.sample);
        self.observe_fact(&fact, addresses_seen)
    }

    /// Takes in one fact, of this proxy or another. Told again it changes nothing, unless the draw was
    /// earlier: then that one stands.
    pub fn observe_fact(&mut self, fact: &Fact, addresses_seen: u64) -> Ruling {
        self.take_in(fact, addresses_seen);
        self.ruling()
    }

    /// Keeps a bad outcome for people to see.
    pub fn show(&mut self, fact: &Fact, sample: &BadSample) {
        if fact.arm == Arm::Stable || !self.is_evidence(fact) {
            return;
        }
        self.first_bad = Some(self.first_bad.map_or(sample.at, |first| first.min(sample.at)));
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample.clone());
    }

    /// As [`Self::observe_fact`], and returns whether it was news: something that other judges of the
    /// episode must be told too, if they don't know it yet.
    pub fn take_in(&mut self, fact: &Fact, addresses_seen: u64) -> bool {
        self.addresses_seen = addresses_seen;
        if !self.is_evidence(fact) {
            return false;
        }
        let mut is_news = self.pass.observe(fact);
        let is_known_bad = self.units.contains(fact.unit);
        match self.units.insert(fact.unit, mark(fact.signal)) {
            News::New => {
                is_news = true;
                self.ledger.note(*fact);
                self.count(fact, 1);
                if !is_known_bad {
                    *self.bad_in_any.get_mut(fact.arm) += 1;
                }
            }
            News::Known => {
                if let Some(replaced) = self.ledger.note_again(*fact) {
                    is_news = true;
                    self.count(&replaced, -1);
                    self.count(fact, 1);
                }
            }
            News::Thinned => {}
        }
        if self.ruling() == Ruling::Pull(Cause::Evidence) {
            self.ledger.put_in_order();
        }
        is_news
    }

    /// Whether the unit is known to be bad for this signal.
    pub fn knows(&self, fact: &Fact) -> bool {
        self.units.has(fact.unit, mark(fact.signal))
    }

    /// A step begins: arms are drawn at this weight from now on, and what speaks for a pass is
    /// gathered anew. The evidence for a pull goes on.
    pub fn begin_step(&mut self, weight: Weight, at: Timestamp) {
        self.pass.begin(weight, at);
    }

    /// Says how many distinct units of the step had time to fail by now: a lower estimate.
    pub fn expose(&mut self, units: u64) {
        self.pass.expose(units);
    }

    /// Puts the evidence in the order of the draws, as is done by itself before a pull: so that
    /// proxies that know the same facts show the same figures.
    pub fn put_in_order(&mut self) {
        self.ledger.put_in_order();
    }

    /// At weight 0 or 100 nothing was drawn, and not every signal counts.
    fn is_evidence(&self, fact: &Fact) -> bool {
        fact.weight != Weight::ZERO && fact.weight != Weight::FULL && self.ledger.processes().counts(fact.signal)
    }

    /// Counts a fact, or takes it back.
    fn count(&mut self, fact: &Fact, times: i8) {
        let bad = self.bad.get_mut(fact.signal).get_mut(fact.arm);
        *bad = bad.saturating_add_signed(times.into());
        if fact.signal == Signal::Errors {
            let weight = fact.weight.fraction();
            self.excess += f64::from(times) * if fact.arm == Arm::Canary { 1.0 } else { -weight / (1.0 - weight) };
        }
    }

    // === what follows ===

    /// What the evidence so far says of a pull.
    #[expect(clippy::cast_precision_loss, reason = "a limit far below 2^52")]
    pub fn ruling(&self) -> Ruling {
        let stands = self.is_against() && self.least_without_one().is_none_or(|least| least >= self.threshold);
        if stands {
            Ruling::Pull(Cause::Evidence)
        } else if self.max_excess > 0 && self.excess > self.max_excess as f64 {
            Ruling::Pull(Cause::MaxExcessErrors)
        } else {
            Ruling::Hold
        }
    }

    /// Whether the evidence reaches 1/α, be it by one address alone.
    pub fn is_against(&self) -> bool {
        self.e() >= self.threshold
    }

    /// The evidence that the canary is worse, over all signals.
    pub fn e(&self) -> f64 {
        self.ledger.processes().value()
    }

    /// What [`Self::e`] must reach: 1/α.
    pub const fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The evidence that the canary is good enough, of the step.
    pub const fn pass(&self) -> &Pass {
        &self.pass
    }

    /// Bad units of the episode by arm, whatever they went bad for.
    pub const fn bad(&self) -> PerArm<u64> {
        self.bad_in_any
    }

    /// Whether the evidence would stand also if so many more units of stable went bad: those whose
    /// answers are still awaited.
    pub fn stands_if_stable_errs(&self, units: u64) -> bool {
        self.ledger.stands_if_stable_errs(self.threshold, units)
    }

    /// Whether the evidence stands on those requests alone that came until then: of these stable had its
    /// time to answer.
    pub fn stands_until(&self, then: Timestamp) -> bool {
        let (e, least) = self.ledger.until(then, self.threshold);
        let can_be_asked = self.addresses_seen >= ADDRESSES;
        e >= self.threshold && least.filter(|_| can_be_asked).is_none_or(|least| least >= self.threshold)
    }

    /// The evidence, `units` being how many of each arm were seen.
    pub fn evidence(&self, units: PerArm<u64>) -> Evidence {
        Evidence {
            e: self.e(),
            threshold: self.threshold,
            // An estimate may read low: there are never fewer units than bad ones.
            arms: PerArm::from_fn(|arm| {
                let bad = *self.bad_in_any.get(arm);
                ArmEvidence { units: (*units.get(arm)).max(bad), bad }
            }),
            addresses: self.addresses_seen,
            e_without_any_address: self.least_without_one(),
            samples: self.samples.iter().cloned().collect(),
            first_bad: self.first_bad,
            signals: PerSignal::from_fn(|signal| self.signal(signal)),
            control: self.control(),
        }
    }

    /// The comparisons with the control, if there was one in the episode.
    pub fn control(&self) -> Option<ControlEvidence> {
        self.ledger.comparisons().map(Comparisons::evidence)
    }

    fn signal(&self, signal: Signal) -> Option<SignalEvidence> {
        let processes = self.ledger.processes();
        processes.counts(signal).then(|| SignalEvidence {
            e: processes.of(signal),
            threshold: self.threshold / processes.share(signal),
            tolerance: processes.tolerance(signal),
            bad: *self.bad.get(signal),
        })
    }

    /// None where it can't be asked.
    pub(super) fn least_without_one(&self) -> Option<f64> {
        (self.addresses_seen >= ADDRESSES).then(|| self.ledger.least_without_one()).flatten()
    }
}

impl From<&BadOutcome> for Fact {
    fn from(outcome: &BadOutcome) -> Self {
        Self {
            unit: outcome.unit,
            arm: outcome.arm,
            weight: outcome.weight,
            control: outcome.control,
            signal: outcome.sample.reason.signal(),
            drawn_at: outcome.drawn_at,
            address: ClientNet::from(outcome.address),
        }
    }
}

const fn mark(signal: Signal) -> u8 {
    match signal {
        Signal::Errors => 1,
        Signal::Slow => 2,
        Signal::ClientErrors => 4,
        Signal::Missing => 8,
    }
}

#[cfg(test)]
mod tests;
