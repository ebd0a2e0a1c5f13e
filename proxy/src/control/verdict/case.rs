//! One episode before the court: its judge, and what the judge is told of the traffic.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::heard::Heard;
use crate::live::{EpisodeView, PassStatus, RatioStatus, ServiceView, VerdictStatus};
use crate::model::circuit::Cause;
use crate::model::outcome::{BadOutcome, BadReason, Signal};
use crate::model::spec::ServiceSpec;
use crate::model::split::{Arm, EpisodeId, PerArm};
use crate::model::time::Timestamp;
use crate::model::verdict::judge::ADDRESSES;
use crate::model::verdict::pace::{WAIT, WINDOW, maturity};
use crate::model::verdict::{Fact, Guards, Judge, Post, Ruling, SampleRatio, Seen, Traffic, decision, forecast, ratio};
use crate::model::weight::Weight;
use crate::telemetry;

/// Counting who was seen takes some 0.1 ms: not for each outcome of an outage.
const FRESH: Duration = Duration::from_millis(100);

/// How often evidence that stable might refute is held against older requests alone.
const DOUBT: Duration = Duration::from_millis(50);

/// One episode before the court.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) episode: EpisodeId,
    /// Of all facts, whoever saw them.
    pub(super) judge: Judge,
    /// Of the facts that this process saw itself; none while there are no others.
    own: Option<Judge>,
    heard: Heard,
    /// When another proxy's fact was heard last.
    heard_at: Option<Instant>,
    /// When evidence that stable might refute was last held against older requests alone.
    doubted_at: Option<Instant>,
    /// What was told of the traffic last.
    told: Seen,
    ratio: SampleRatio,
    guards: Guards,
    /// The step looked at last, as it began here.
    step: Option<(Weight, Timestamp)>,
    /// The step of which the judge gathers what speaks for a pass.
    passing: Option<(Weight, Timestamp)>,
    /// Distinct units of the step, at each look.
    units: VecDeque<(Instant, u64)>,
    /// Stable's first attempts and errors among them, at each look.
    stable: VecDeque<(Instant, [u64; 2])>,
    traffic: Traffic,
    /// Who was seen here, and when that was counted.
    seen: (Option<Instant>, Seen),
    /// What the cores had learnt of client addresses when these were counted.
    learnt: u64,
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
            own: None,
            heard: Heard::default(),
            heard_at: None,
            doubted_at: None,
            told: Seen::default(),
            ratio: SampleRatio::default(),
            guards: Guards::default(),
            step: None,
            passing: None,
            units: VecDeque::new(),
            stable: VecDeque::new(),
            traffic: Traffic::default(),
            seen: (None, Seen::default()),
            learnt: 0,
        }
    }

    /// Begins a step where the weight is another than before.
    fn keep_step(&mut self, episode: &EpisodeView) {
        let (weight, begun_at) = (episode.step.weight(), episode.step.begun_at());
        if self.step != Some((weight, begun_at)) {
            if self.step.replace((weight, begun_at)).is_some() {
                self.ratio.begin_step();
            }
            self.units.clear();
            self.seen.1.exposed = 0;
            self.heard.note(&Seen { weight, begun_at, ..Seen::default() });
        }
        // Another proxy's step, or this one's before a restart, may have begun earlier.
        let passing = (weight, self.heard.since(weight));
        if self.passing.replace(passing) != Some(passing) {
            self.judge.begin_step(passing.0, passing.1);
        }
    }

    /// Judges an outcome of the episode. Returns what other proxies must be told.
    pub(super) fn observe(&mut self, outcome: &BadOutcome, episode: &EpisodeView, now: Instant) -> Option<Post> {
        self.keep_step(episode);
        let is_fresh = self.seen.0.is_some_and(|at| now - at < FRESH);
        if !is_fresh {
            self.count_seen(episode, now);
        } else if self.addresses() < ADDRESSES {
            self.count_new_addresses(episode);
        }
        let fact = Fact::from(outcome);
        let fact = Fact { address: fact.address.hidden(episode.salt), ..fact };
        self.judge.show(&fact, &outcome.sample);
        let addresses = self.addresses();
        if let Some(own) = &mut self.own {
            own.take_in(&fact, addresses);
        }
        let sample = (fact.arm == Arm::Canary).then(|| outcome.sample.clone());
        self.judge.take_in(&fact, addresses).then_some(Post::Bad { fact, sample })
    }

    /// Takes in what was posted, by whomever. `is_recall` says that it is from before a restart: then no answers to
    /// requests of that time are awaited any more.
    pub(super) fn take_in(&mut self, posts: &[Post], is_recall: bool, episode: &EpisodeView, now: Instant) {
        // First of all which steps there were: facts of earlier ones say nothing of a pass.
        for post in posts {
            if let Post::Seen(seen) = post {
                self.heard.note(seen);
            }
        }
        self.keep_step(episode);
        self.count_seen(episode, now);
        let addresses = self.addresses();
        for post in posts {
            let Post::Bad { fact, sample } = post else { continue };
            if !is_recall && !self.judge.knows(fact) {
                self.heard_at = Some(now);
                self.own.get_or_insert_with(|| self.judge.clone());
            }
            if self.judge.take_in(fact, addresses)
                && let Some(sample) = sample
            {
                self.judge.show(fact, sample);
            }
        }
    }

    /// Whether evidence for a pull would stand also if so many more units of stable went bad, those whose
    /// answers are awaited here. Of those that other proxies await nothing is known: evidence that needs
    /// their facts stands once they had their time.
    ///
    /// What stable doesn't say of a request within [`WAIT`] isn't waited for: evidence on older requests
    /// alone stands. That is looked at now and then only, since it weighs them all again.
    pub(super) fn stands(&mut self, awaited: u64, now: Instant) -> bool {
        self.would_stand(awaited, now) || self.stood(now)
    }

    fn stood(&mut self, now: Instant) -> bool {
        if self.doubted_at.is_some_and(|at| now - at < DOUBT) {
            return false;
        }
        self.doubted_at = Some(now);
        self.judge.stands_until(telemetry::now() - WAIT)
    }

    fn would_stand(&self, awaited: u64, now: Instant) -> bool {
        let had_time = self.heard_at.is_none_or(|at| now - at >= WAIT);
        let own = self.own.as_ref().filter(|own| own.ruling() == Ruling::Pull(Cause::Evidence));
        own.is_some_and(|own| own.stands_if_stable_errs(awaited))
            || (had_time && self.judge.stands_if_stable_errs(awaited))
    }

    /// What other proxies must be told of the traffic here, if there is news.
    pub(super) fn tell(&mut self) -> Option<Post> {
        let seen = self.seen.1;
        let is_news = seen.is_news_after(&self.told);
        if is_news {
            self.told = seen;
        }
        is_news.then_some(Post::Seen(seen))
    }

    /// While there are few addresses each one matters, and counts at once.
    fn count_new_addresses(&mut self, episode: &EpisodeView) {
        if episode.live.addresses_learnt() != self.learnt {
            self.count_addresses(episode);
        }
    }

    fn count_addresses(&mut self, episode: &EpisodeView) {
        // Asked before: one that comes meanwhile is counted again, rather than not at all.
        self.learnt = episode.live.addresses_learnt();
        self.seen.1.addresses = episode.live.addresses();
    }

    fn count_seen(&mut self, episode: &EpisodeView, now: Instant) {
        self.count_addresses(episode);
        let units = episode.live.units();
        let seen = Seen {
            weight: episode.step.weight(),
            begun_at: episode.step.begun_at(),
            exposed: self.seen.1.exposed,
            addresses: self.seen.1.addresses,
            units: PerArm::from_fn(|arm| units.units(arm)),
        };
        self.seen = (Some(now), seen);
    }

    /// Distinct client addresses of the episode, by the proxy that saw most.
    fn addresses(&self) -> u64 {
        self.seen.1.addresses.max(self.heard.addresses())
    }

    /// Distinct units of the episode, by the proxy that saw most.
    fn units_seen(&self) -> PerArm<u64> {
        PerArm::from_fn(|arm| *self.seen.1.units.get(arm).max(self.heard.units().get(arm)))
    }

    /// Looks at the traffic: who was seen, and how stable does.
    pub(super) fn look(&mut self, service: &ServiceView, episode: &EpisodeView, now: Instant) -> Found {
        self.keep_step(episode);
        self.count_seen(episode, now);
        self.judge.put_in_order();
        self.look_at_stable(service, now);
        let seen = episode.step.units();
        let maturity = maturity(service.spec.longest_header_timeout());
        remember(&mut self.units, now, seen.at_least(), WINDOW.max(maturity));
        let mature = self.units.iter().rev().find(|(at, _)| now - *at >= maturity);
        self.seen.1.exposed = mature.map_or(0, |(_, units)| *units).max(self.seen.1.exposed);
        self.heard.note(&self.seen.1);
        self.judge.expose(self.heard.exposed(episode.step.weight()));
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
            evidence: self.judge.evidence(self.units_seen()),
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
mod tests;
