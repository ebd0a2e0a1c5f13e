//! The rules that are compared, each as its documentation has it by default, or kinder.

use serin::model::outcome::Signal;

use super::super::judged::{Bad, MANY_ADDRESSES, Trial, arm, weight};
use super::mann_whitney;
use super::traffic::Request;

/// A rule that watches requests and may pull.
pub(super) trait Rule {
    /// Sees a request; whether it pulls at once.
    fn see(&mut self, request: &Request) -> bool;
    /// How often it looks at what it saw, in seconds.
    fn interval(&self) -> f64 {
        f64::INFINITY
    }
    /// Looks; whether it pulls.
    fn look(&mut self) -> bool {
        false
    }
}

/// serin's own.
pub(super) struct Serin {
    trial: Trial,
    weight: f64,
}

impl Serin {
    pub(super) fn new(weight: f64) -> Self {
        Self { trial: Trial::new(0.001, MANY_ADDRESSES), weight }
    }
}

impl Rule for Serin {
    fn see(&mut self, request: &Request) -> bool {
        let Request { at, unit, address, canary, bad, .. } = *request;
        let (arm, weight) = (arm(canary), weight(self.weight));
        bad && self.trial.observe(&Bad { unit, arm, weight, signal: Signal::Errors, address, drawn_at: at })
    }
}

/// Requests and the bad ones among them.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    all: f64,
    bad: f64,
}

impl Count {
    fn see(&mut self, request: &Request) {
        self.all += 1.0;
        self.bad += f64::from(u8::from(request.bad));
    }

    /// The share of bad ones; none without requests.
    fn rate(self) -> Option<f64> {
        (self.all > 0.0).then(|| self.bad / self.all)
    }
}

/// Each minute the canary's success rate of that minute; below 99 %, or unknown, is a failed check.
pub(super) struct Flagger {
    minute: Count,
    failed: u32,
    threshold: u32,
}

impl Flagger {
    /// Pulls at so many failed checks.
    pub(super) fn new(threshold: u32) -> Self {
        Self { minute: Count::default(), failed: 0, threshold }
    }
}

impl Rule for Flagger {
    fn see(&mut self, request: &Request) -> bool {
        if request.canary {
            self.minute.see(request);
        }
        false
    }

    fn interval(&self) -> f64 {
        60.0
    }

    fn look(&mut self) -> bool {
        self.failed += u32::from(std::mem::take(&mut self.minute).rate().is_none_or(|bad| bad > 0.01));
        self.failed >= self.threshold
    }
}

/// Every 10 s, over all so far: two proportions, pooled variance, two-sided p < 0.05 with the canary the worse.
#[derive(Default)]
pub(super) struct ZTest {
    stable: Count,
    canary: Count,
}

impl Rule for ZTest {
    fn see(&mut self, request: &Request) -> bool {
        if request.canary { &mut self.canary } else { &mut self.stable }.see(request);
        false
    }

    fn interval(&self) -> f64 {
        10.0
    }

    fn look(&mut self) -> bool {
        let (Some(stable), Some(canary)) = (self.stable.rate(), self.canary.rate()) else { return false };
        let pooled = (self.stable.bad + self.canary.bad) / (self.stable.all + self.canary.all);
        let deviation = (pooled * (1.0 - pooled) * (1.0 / self.stable.all + 1.0 / self.canary.all)).sqrt();
        canary - stable > 1.959_964 * deviation
    }
}

/// Five bad answers in a row of the canary's only endpoint.
#[derive(Default)]
pub(super) struct Ejection {
    in_a_row: u32,
}

impl Rule for Ejection {
    fn see(&mut self, request: &Request) -> bool {
        if request.canary {
            self.in_a_row = if request.bad { self.in_a_row + 1 } else { 0 };
        }
        self.in_a_row >= 5
    }
}

/// Error rates minute by minute, canary against control, compared every ten minutes over all minutes so far.
#[derive(Default)]
pub(super) struct MannWhitney {
    canary: Count,
    control: Count,
    minutes: u32,
    points: [Vec<f64>; 2],
}

impl Rule for MannWhitney {
    fn see(&mut self, request: &Request) -> bool {
        if request.canary {
            self.canary.see(request);
        } else if request.control {
            self.control.see(request);
        }
        false
    }

    fn interval(&self) -> f64 {
        60.0
    }

    fn look(&mut self) -> bool {
        let minute = [std::mem::take(&mut self.canary), std::mem::take(&mut self.control)];
        for (points, count) in self.points.iter_mut().zip(minute) {
            points.extend(count.rate());
        }
        self.minutes += 1;
        self.minutes.is_multiple_of(10) && mann_whitney::is_high(&self.points[0], &self.points[1])
    }
}
