//! One episode before the court: its judge, and what the judge is told of the traffic.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::live::{EpisodeView, PassStatus, RatioStatus, ServiceView, VerdictStatus};
use crate::model::outcome::{BadOutcome, BadReason, Signal};
use crate::model::spec::ServiceSpec;
use crate::model::split::{Arm, EpisodeId, PerArm};
use crate::model::time::Timestamp;
use crate::model::verdict::judge::ADDRESSES;
use crate::model::verdict::{Guards, Judge, Ruling, SampleRatio, Traffic, decision, forecast, ratio};
use crate::model::weight::Weight;

/// How far back the rate of new units and stable's health are looked at.
const WINDOW: Duration = Duration::from_secs(60);
/// Counting who was seen takes some 0.1 ms: not for each outcome of an outage.
const FRESH: Duration = Duration::from_millis(100);
/// However long a service lets an answer take, its units count for a pass after this long.
const LONGEST_MATURITY: Duration = Duration::from_secs(30);

/// One episode before the court.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) episode: EpisodeId,
    pub(super) judge: Judge,
    ratio: SampleRatio,
    guards: Guards,
    /// The step looked at last.
    step: Option<(Weight, Timestamp)>,
    /// Distinct units of the step, at each look.
    units: VecDeque<(Instant, u64)>,
    /// Stable's first attempts and errors among them, at each look.
    stable: VecDeque<(Instant, [u64; 2])>,
    traffic: Traffic,
    seen: Seen,
}

/// Who was seen in the episode, counted a moment ago.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    at: Option<Instant>,
    addresses: u64,
    units: PerArm<u64>,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing that people must be told.
    Nothing,
    /// The split itself is broken, as was found just now.
    BrokenSplit,
}

impl Case {
    pub(super) fn new(episode: EpisodeId, spec: &ServiceSpec) -> Self {
        Self {
            episode,
            judge: Judge::new(&spec.verdict),
            ratio: SampleRatio::default(),
            guards: Guards::default(),
            step: None,
            units: VecDeque::new(),
            stable: VecDeque::new(),
            traffic: Traffic::default(),
            seen: Seen::default(),
        }
    }

    /// Begins a step where the weight is another than before.
    fn keep_step(&mut self, episode: &EpisodeView) {
        let now = (episode.step.weight(), episode.step.begun_at());
        if self.step == Some(now) {
            return;
        }
        if self.step.replace(now).is_some() {
            self.ratio.begin_step();
        }
        self.units.clear();
        self.judge.begin_step(now.0, now.1);
    }

    /// Judges an outcome of the episode.
    pub(super) fn observe(&mut self, outcome: &BadOutcome, episode: &EpisodeView, now: Instant) -> Ruling {
        self.keep_step(episode);
        let is_fresh = self.seen.at.is_some_and(|at| now - at < FRESH);
        // While there are few they are quickly counted, and each one matters.
        if !is_fresh || self.seen.addresses < ADDRESSES {
            self.count_seen(episode, now);
        }
        self.judge.observe(outcome, self.seen.addresses)
    }

    fn count_seen(&mut self, episode: &EpisodeView, now: Instant) {
        let units = episode.live.units();
        let units = PerArm::from_fn(|arm| units.units(arm));
        self.seen = Seen { at: Some(now), addresses: episode.live.addresses(), units };
    }

    /// Looks at the traffic: who was seen, and how stable does.
    pub(super) fn look(&mut self, service: &ServiceView, episode: &EpisodeView, now: Instant) -> Found {
        self.keep_step(episode);
        self.count_seen(episode, now);
        self.judge.put_in_order();
        self.look_at_stable(service, now);
        let seen = episode.step.units();
        let maturity = maturity(&service.spec);
        remember(&mut self.units, now, seen.at_least(), WINDOW.max(maturity));
        let mature = self.units.iter().rev().find(|(at, _)| now - *at >= maturity);
        self.judge.expose(mature.map_or(0, |(_, units)| *units));
        self.traffic = Traffic { units: seen.total(), units_per_second: self.new_units_per_second(), maturity };
        let speaks = self.ratio.look(episode.step.weight(), seen.returned());
        self.guards.split_broken = self.ratio.is_off();
        if speaks { Found::BrokenSplit } else { Found::Nothing }
    }

    fn look_at_stable(&mut self, service: &ServiceView, now: Instant) {
        let totals = service.live.totals(Arm::Stable);
        let errors = BadReason::ALL.iter().zip(totals.bad).filter(|(reason, _)| reason.signal() == Signal::Errors);
        let counts = [totals.requests(), errors.map(|(_, count)| count).sum()];
        remember(&mut self.stable, now, counts, WINDOW);
        let [requests, errors] = self.stable.front().map_or([0, 0], |(_, [requests, errors])| {
            [counts[0].saturating_sub(*requests), counts[1].saturating_sub(*errors)]
        });
        self.guards.stable_failing = decision::is_failing(requests, errors);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn new_units_per_second(&self) -> f64 {
        let (Some((from, before)), Some((to, after))) = (self.units.front(), self.units.back()) else { return 0.0 };
        let seconds = (*to - *from).as_secs_f64();
        if seconds > 0.0 { after.saturating_sub(*before) as f64 / seconds } else { 0.0 }
    }

    /// How things stand.
    pub(super) fn status(&self) -> VerdictStatus {
        let expected = forecast::expected(&self.judge, &self.traffic);
        let pass = self.judge.pass();
        VerdictStatus {
            episode: Some(self.episode),
            decision: self.judge.decision(self.guards),
            why: self.judge.why(self.guards, &expected),
            evidence: self.judge.evidence(self.seen.units),
            pass: PassStatus {
                e: pass.value(),
                threshold: pass.threshold(),
                weight: pass.weight(),
                exposed: pass.exposed(),
                bad: pass.bad(),
            },
            sample_ratio: RatioStatus {
                e: self.ratio.e(),
                threshold: ratio::THRESHOLD,
                off: self.ratio.is_off(),
                returned: self.ratio.returned().units,
            },
            stable_failing: self.guards.stable_failing,
            expected,
        }
    }
}

/// How long requests of a service may take to fail.
fn maturity(spec: &ServiceSpec) -> Duration {
    // Zero means no limit.
    if spec.timeouts.header.is_zero() { LONGEST_MATURITY } else { spec.timeouts.header.min(LONGEST_MATURITY) }
}

/// Adds a value to a window; the oldest that stays is the newest that is at least a window old.
fn remember<T>(values: &mut VecDeque<(Instant, T)>, now: Instant, value: T, window: Duration) {
    values.push_back((now, value));
    while values.get(1).is_some_and(|(at, _)| now - *at >= window) {
        values.pop_front();
    }
}
