//! The one place where the report meets the verdict: everything else says [`Bad`] and [`Trial`].

use std::net::{IpAddr, Ipv4Addr};

use serin::model::circuit::Cause;
use serin::model::outcome::{BadOutcome, BadReason, BadSample};
use serin::model::spec::VerdictSpec;
use serin::model::split::{Arm, Unit};
use serin::model::time::Timestamp;
use serin::model::verdict::{Judge, Ruling};
use serin::model::weight::Weight;

pub(super) use serin::model::verdict::eprocess::EProcess;

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
    /// From which address, as a number.
    pub(super) address: u32,
    /// When its arm was drawn, in seconds of the episode.
    pub(super) drawn_at: f64,
}

/// One episode before the judge.
#[derive(Debug)]
pub(super) struct Trial {
    judge: Judge,
    addresses: u64,
}

impl Trial {
    /// A fresh episode at this α, in which so many client addresses are seen.
    pub(super) fn new(alpha: f64, addresses: u64) -> Self {
        let spec = VerdictSpec { false_pull_rate: alpha, ..VerdictSpec::default() };
        Self { judge: Judge::new(&spec), addresses }
    }

    /// Takes in a bad outcome; whether the evidence asks for the pull.
    pub(super) fn observe(&mut self, bad: &Bad) -> bool {
        let drawn_at = Timestamp::from_millis(super::figures::whole(bad.drawn_at * 1e3) as u64);
        let sample = BadSample {
            request_id: String::new(),
            method: String::new(),
            path: String::new(),
            status: None,
            reason: BadReason::Status,
            endpoint: String::new(),
            at: drawn_at,
        };
        let address = IpAddr::V4(Ipv4Addr::from_bits(bad.address));
        let Bad { unit, arm, weight, .. } = *bad;
        let outcome = BadOutcome { arm, unit, drawn_at, weight, control: Weight::ZERO, address, sample };
        self.judge.observe(&outcome, self.addresses) == Ruling::Pull(Cause::Evidence)
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

/// A weight that the report itself chose.
pub(super) fn weight(percent: f64) -> Weight {
    #[expect(clippy::expect_used, reason = "all weights of the report are constants with at most two decimals")]
    Weight::from_percent(percent).expect("a weight")
}

/// The arm that a unit is on.
pub(super) const fn arm(canary: bool) -> Arm {
    if canary { Arm::Canary } else { Arm::Stable }
}
