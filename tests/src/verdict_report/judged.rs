//! The one place where the report meets the verdict: everything else says [`Bad`], [`Trial`] and [`Errors`].

use std::net::{IpAddr, Ipv4Addr};

use serin::model::circuit::Cause;
use serin::model::outcome::Signal;
use serin::model::spec::VerdictSpec;
use serin::model::split::{Arm, PerArm, Unit};
use serin::model::time::Timestamp;
use serin::model::verdict::addresses::ClientNet;
use serin::model::verdict::eprocess::EProcess;
use serin::model::verdict::{Fact, Judge, Ruling};
use serin::model::weight::Weight;

use super::figures::whole;

/// With fewer client addresses than this seen, the verdict doesn't ask whether one of them errs on purpose.
pub(super) const ONE_ADDRESS: u64 = 1;
/// So many that it does.
pub(super) const MANY_ADDRESSES: u64 = 1_000;

/// A bad outcome.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bad {
    /// Who had it.
    pub(super) unit: Unit,
    /// On which arm.
    pub(super) arm: Arm,
    /// The weight when its arm was drawn.
    pub(super) weight: Weight,
    /// For what it is bad.
    pub(super) signal: Signal,
    /// From which address, as a number.
    pub(super) address: u32,
    /// When its arm was drawn, in seconds of the episode.
    pub(super) drawn_at: f64,
}

impl From<&Bad> for Fact {
    fn from(bad: &Bad) -> Self {
        let Bad { unit, arm, weight, signal, address, drawn_at } = *bad;
        let drawn_at = Timestamp::from_millis(whole(drawn_at * 1e3) as u64);
        let address = ClientNet::from(IpAddr::V4(Ipv4Addr::from_bits(address)));
        Self { unit, arm, weight, signal, drawn_at, address, control: Weight::ZERO }
    }
}

/// One episode before the judge, all else as by default.
#[derive(Debug)]
pub(super) struct Trial {
    judge: Judge,
    addresses: u64,
}

impl Trial {
    /// A fresh episode at this α, in which so many client addresses are seen.
    pub(super) fn new(alpha: f64, addresses: u64) -> Self {
        Self { judge: Judge::new(&spec(alpha)), addresses }
    }

    /// Takes in a bad outcome; whether the evidence asks for the pull.
    pub(super) fn observe(&mut self, bad: &Bad) -> bool {
        self.judge.observe_fact(&Fact::from(bad), self.addresses) == Ruling::Pull(Cause::Evidence)
    }

    /// Whether the evidence asks for the pull now.
    pub(super) fn asks(&self) -> bool {
        self.judge.ruling() == Ruling::Pull(Cause::Evidence)
    }

    /// Whether it would still ask should so many requests that are with stable fail too.
    pub(super) fn stands_if_stable_errs(&self, requests: u64) -> bool {
        self.judge.stands_if_stable_errs(requests)
    }
}

/// The evidence by errors alone, without what the judge has around it: much quicker.
#[derive(Debug, Default)]
pub(super) struct Errors(EProcess);

impl Errors {
    /// What the evidence must reach at this α: errors have a share of it only.
    pub(super) fn threshold(alpha: f64) -> f64 {
        let evidence = Judge::new(&spec(alpha)).evidence(PerArm::default());
        evidence.signals.errors.map_or(f64::INFINITY, |errors| errors.threshold)
    }

    /// Takes in a newly bad unit.
    pub(super) fn observe(&mut self, canary: bool, weight: f64) {
        self.0.observe(canary, weight);
    }

    /// The evidence.
    pub(super) fn value(&self) -> f64 {
        self.0.value()
    }
}

fn spec(alpha: f64) -> VerdictSpec {
    VerdictSpec { false_pull_rate: alpha, ..VerdictSpec::default() }
}

/// A weight that the report itself chose.
pub(super) fn weight(percent: f64) -> Weight {
    #[expect(clippy::expect_used, reason = "all weights of the report are constants with at most two decimals")]
    Weight::from_percent(percent).expect("a weight")
}

/// The arm that a unit is on.
pub(super) const fn arm(canary: bool) -> Arm {
    if canary { Arm::Canary } else { Arm::Stable }
}
