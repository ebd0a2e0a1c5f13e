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
use crate::model::verdict::pace::{WINDOW, maturity};
use crate::model::verdict::{Guards, Judge, Ruling, SampleRatio, Traffic, decision, forecast, ratio};
use crate::model::weight::Weight;

/// Counting who was seen takes some 0.1 ms: not for each outcome of an outage.
const FRESH: Duration = Duration::from_millis(100);

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
        let maturity = maturity(service.spec.timeouts.header);
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

/// Adds a value to a window; the oldest that stays is the newest that is at least a window old.
fn remember<T>(values: &mut VecDeque<(Instant, T)>, now: Instant, value: T, window: Duration) {
    values.push_back((now, value));
    while values.get(1).is_some_and(|(at, _)| now - *at >= window) {
        values.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::live::Live;
    use crate::live::sample::{publish, service};
    use crate::live::service::Ending;
    use crate::model::split::{Episode, Salt, Unit};
    use crate::model::state::{ServiceState, State};
    use crate::model::verdict::Decision;

    /// A service whose episode runs at this weight.
    fn world(percent: f64) -> (Arc<Live>, Arc<ServiceView>) {
        let (live, _) = Live::new(2);
        let weight = Some(Weight::from_percent(percent).expect("a weight"));
        let episode = Some(Episode { id: EpisodeId(1), salt: Salt(2) });
        let state = State::from([("checkbox".to_owned(), ServiceState { weight, episode, ..Default::default() })]);
        publish(&live, &[Arc::new(service("checkbox"))], &state);
        let view = Arc::clone(live.snapshot().service("checkbox").expect("it was published"));
        (live, view)
    }

    /// So many users come, each back with its key; `arm_of` says where they end up.
    fn come(episode: &EpisodeView, users: std::ops::Range<u32>, arm_of: impl Fn(Unit) -> Arm) {
        for key in users {
            let unit = Unit::of_key(episode.salt, &key.to_le_bytes());
            episode.live.note((key % 2) as usize, arm_of(unit), unit);
            episode.step.note((key % 2) as usize, arm_of(unit), unit, true);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_healthy_canary_passes_once_its_users_had_time_to_fail() {
        let (_live, view) = world(50.0);
        let episode = view.episode.clone().expect("it runs");
        let mut case = Case::new(episode.id, &view.spec);
        come(&episode, 0..1_900, |unit| unit.arm(episode.step.weight()));
        assert_eq!(case.look(&view, &episode, Instant::now()), Found::Nothing);
        assert_eq!(case.status().decision, Decision::Hold, "its users may still fail");
        tokio::time::advance(view.spec.timeouts.header).await;
        case.look(&view, &episode, Instant::now());
        let status = case.status();
        assert_eq!(status.decision, Decision::Pass, "{}", status.why);
        assert_eq!(status.pass.exposed, 1_900);
        assert!(!status.sample_ratio.off && status.sample_ratio.returned.stable > 800);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_split_is_found_once_and_forbids_a_pass() {
        let (_live, view) = world(50.0);
        let episode = view.episode.clone().expect("it runs");
        let mut case = Case::new(episode.id, &view.spec);
        come(&episode, 0..1_900, |unit| if unit.lower() % 5 == 0 { Arm::Canary } else { Arm::Stable });
        assert_eq!(case.look(&view, &episode, Instant::now()), Found::BrokenSplit);
        tokio::time::advance(view.spec.timeouts.header).await;
        assert_eq!(case.look(&view, &episode, Instant::now()), Found::Nothing);
        let status = case.status();
        assert!(status.sample_ratio.off && status.pass.e >= status.pass.threshold);
        assert_eq!(status.decision, Decision::Hold);
    }

    #[tokio::test(start_paused = true)]
    async fn stable_that_fails_is_known_within_its_minute_and_recovers() {
        let (_live, view) = world(50.0);
        let episode = view.episode.clone().expect("it runs");
        let mut case = Case::new(episode.id, &view.spec);
        let mut failing_after = async |bad: bool| {
            for _ in 0..50 {
                view.live.count(0, Arm::Stable, Ending::Status(if bad { 500 } else { 200 }), None);
                if bad {
                    view.live.count_bad(0, Arm::Stable, BadReason::Status);
                }
            }
            tokio::time::advance(Duration::from_secs(20)).await;
            case.look(&view, &episode, Instant::now());
            case.status().stable_failing
        };
        let mut seen = Vec::new();
        for bad in [false, false, true, true, false, false, false, false] {
            seen.push(failing_after(bad).await);
        }
        assert_eq!(seen, [false, false, true, true, true, true, false, false]);
    }
}
