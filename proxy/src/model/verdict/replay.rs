//! An episode judged again from its log, by the judge and at the pace of one that runs.
//!
//! An outcome is known here at the line of its request, which is written when the request is over. The court
//! of a running daemon may hear of it some moments before; since facts count in the order of the
//! draws, that can shift the moment of a decision by the time that answers take to end, and never what
//! the same facts come to. What no log holds isn't judged: readiness, external alerts, people, and which
//! users came back with a key (the check of the split).

mod pulse;
mod step;

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use self::pulse::Pulse;
use self::step::Distinct;
pub use self::step::{Passed, Step};
use super::addresses::ClientNet;
use super::forecast::{self, Expected};
use super::pace::{LOOK, WAIT};
use super::{Decision, Guards, Judge, Ruling, Traffic};
use crate::model::circuit::{Cause, Evidence};
use crate::model::outcome::{BadOutcome, BadReason, BadSample, PerSignal, Signal};
use crate::model::spec::VerdictSpec;
use crate::model::split::{Arm, PerArm, Unit};
use crate::model::time::Timestamp;
use crate::model::weight::Weight;

/// Client addresses told apart in an episode; there are at least so many beyond.
const ADDRESSES: usize = 1 << 18;
/// Steps that are reported; what comes after is judged all the same.
const STEPS: usize = 1_000;

/// A request that is over, as its line tells of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it was over.
    pub at: Timestamp,
    /// When it came and its arm was drawn.
    pub drawn_at: Timestamp,
    /// Who served it.
    pub arm: Arm,
    /// Whose it was.
    pub unit: Unit,
    /// The weight of the draw.
    pub weight: Weight,
    /// The share of the fresh control at the draw.
    pub control: Weight,
    /// Its client.
    pub address: IpAddr,
    /// What it was bad for.
    pub bad: PerSignal<Option<BadReason>>,
    /// Its `X-Request-Id`.
    pub request_id: String,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// What the client got.
    pub status: u16,
    /// The endpoint that was tried first.
    pub endpoint: String,
}

impl Entry {
    fn outcome(&self, reason: BadReason) -> BadOutcome {
        let sample = BadSample {
            request_id: self.request_id.clone(),
            method: self.method.clone(),
            path: self.path.clone(),
            status: Some(self.status),
            reason,
            endpoint: self.endpoint.clone(),
            at: self.at,
        };
        BadOutcome {
            arm: self.arm,
            unit: self.unit,
            drawn_at: self.drawn_at,
            weight: self.weight,
            control: self.control,
            address: self.address,
            sample,
        }
    }
}

/// A moment of a log. `P` says where in the log that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment<P> {
    /// The line.
    pub place: P,
    /// Its time.
    pub at: Timestamp,
}

/// How the canary would have been pulled.
#[derive(Clone, Debug)]
pub struct Pulled<P> {
    /// The line whose outcome made the evidence enough.
    pub reached: Moment<P>,
    /// The request of that line.
    pub request_id: String,
    /// The line at which the pull stood: a later one where it waited for answers of stable.
    pub decided: Moment<P>,
    /// On what.
    pub cause: Cause,
    /// Requests of the canary that ended after it, and the bad ones among them.
    pub after: [u64; 2],
}

/// What a replay came to.
#[derive(Clone, Debug)]
pub struct Findings<P> {
    /// The first request and the last.
    pub span: Option<(Moment<P>, Moment<P>)>,
    /// Requests that are evidence, after the pull too.
    pub requests: u64,
    /// None where the canary would have stayed.
    pub pulled: Option<Pulled<P>>,
    /// The verdict: at the pull, or else at the end.
    pub decision: Decision,
    /// Why, as a sentence without a full stop.
    pub why: String,
    /// The evidence then.
    pub evidence: Evidence,
    /// What was expected then.
    pub expected: Expected,
    /// The steps until then.
    pub steps: Vec<Step<P>>,
    /// Whether stable itself was failing then.
    pub stable_failing: bool,
    /// Units that were served by both arms: 0 where a user stays on an arm.
    pub on_both: u64,
    /// One in how many units was counted: 1 until there were very many.
    pub one_in: u64,
}

/// An episode on its way through the log.
#[derive(Debug)]
pub struct Replay<P> {
    judge: Judge,
    signals: PerSignal<bool>,
    maturity: Duration,
    seen: Distinct,
    addresses: HashSet<ClientNet>,
    pulse: Pulse,
    step: Option<step::Running<P>>,
    steps: Vec<Step<P>>,
    latest_draw: Timestamp,
    span: Option<(Moment<P>, Moment<P>)>,
    requests: u64,
    looked: Option<Timestamp>,
    /// The outcome taken in last: its line and its request.
    heard: Option<(Moment<P>, String)>,
    /// The one that made the evidence enough: since then the pull waits.
    reached: Option<(Moment<P>, String)>,
    pulled: Option<Pulled<P>>,
}

impl<P: Copy> Replay<P> {
    /// An episode of which nothing was read yet. `maturity` is how long a unit's requests may take to fail.
    pub fn new(spec: &VerdictSpec, maturity: Duration) -> Self {
        Self {
            judge: Judge::new(spec),
            signals: PerSignal::from_fn(|signal| spec.signals.get(signal).enabled),
            maturity,
            seen: Distinct::default(),
            addresses: HashSet::new(),
            pulse: Pulse::default(),
            step: None,
            steps: Vec::new(),
            latest_draw: Timestamp::default(),
            span: None,
            requests: 0,
            looked: None,
            heard: None,
            reached: None,
            pulled: None,
        }
    }

    /// Takes in the next request. `awaited` says how many requests were with stable when it was over.
    pub fn take(&mut self, place: P, entry: &Entry, awaited: impl Fn() -> u64) {
        let now = self.span.as_ref().map_or(entry.at, |(_, last)| last.at.max(entry.at));
        let moment = Moment { place, at: now };
        self.span = Some((self.span.map_or(moment, |(first, _)| first), moment));
        self.requests += 1;
        if let Some(pulled) = &mut self.pulled {
            if entry.arm == Arm::Canary {
                pulled.after[0] += 1;
                pulled.after[1] +=
                    u64::from(entry.bad.iter().any(|(signal, bad)| bad.is_some() && *self.signals.get(signal)));
            }
            return;
        }
        self.note(moment, entry);
        self.hear(moment, entry, &awaited);
        if self.pulled.is_none() && self.looked.is_none_or(|at| now.since(at) >= LOOK) {
            self.look(moment);
            self.follow(moment, &awaited);
        }
    }

    /// Who was seen, and in which step.
    fn note(&mut self, moment: Moment<P>, entry: &Entry) {
        let is_new = self.step.as_ref().is_none_or(|step| step.is_over(entry));
        if is_new {
            let begun_at = if self.step.is_some() { self.latest_draw.min(entry.drawn_at) } else { entry.drawn_at };
            self.end_step();
            self.judge.begin_step(entry.weight, begun_at);
            self.step = Some(step::Running::new(moment, entry));
        }
        self.latest_draw = self.latest_draw.max(entry.drawn_at);
        self.seen.note(entry.unit, entry.arm);
        if let Some(step) = &mut self.step {
            step.note(entry);
        }
        if self.addresses.len() < ADDRESSES {
            self.addresses.insert(ClientNet::from(entry.address));
        }
        if entry.arm == Arm::Stable {
            self.pulse.count(entry.bad.errors.is_some());
        }
    }

    /// The outcomes of a request.
    fn hear(&mut self, moment: Moment<P>, entry: &Entry, awaited: &impl Fn() -> u64) {
        for reason in entry.bad.iter().filter_map(|(_, reason)| *reason) {
            if self.pulled.is_some() || !self.signals.get(reason.signal()) {
                continue;
            }
            self.judge.observe(&entry.outcome(reason), self.addresses.len() as u64);
            self.heard = Some((moment, entry.request_id.clone()));
            self.follow(moment, awaited);
        }
    }

    /// Does as the judge says, once stable had its chance to speak.
    fn follow(&mut self, now: Moment<P>, awaited: &impl Fn() -> u64) {
        let (Ruling::Pull(cause), Some(heard)) = (self.judge.ruling(), &self.heard) else {
            self.reached = None;
            return;
        };
        let (since, request_id) = self.reached.get_or_insert_with(|| heard.clone()).clone();
        let must_wait = cause == Cause::Evidence
            && !self.judge.stands_if_stable_errs(awaited())
            && !self.judge.stands_until(now.at - WAIT);
        if !must_wait {
            self.pulled = Some(Pulled { reached: since, request_id, decided: now, cause, after: [0; 2] });
        }
    }

    /// Looks at the traffic: who had time to fail, and how stable does.
    fn look(&mut self, now: Moment<P>) {
        self.looked = Some(now.at);
        self.judge.put_in_order();
        self.pulse.look(now.at);
        let guards = self.guards();
        let Some(step) = &mut self.step else { return };
        self.judge.expose(step.look(now.at, self.maturity));
        if self.judge.decision(guards) == Decision::Pass {
            step.pass(now, self.judge.pass().exposed());
        }
    }

    fn guards(&self) -> Guards {
        Guards { split_broken: false, stable_failing: self.pulse.is_failing() }
    }

    fn end_step(&mut self) {
        let ended = self.step.take().map(|step| step.end(self.judge.pass()));
        self.steps.extend(ended.filter(|_| self.steps.len() < STEPS));
    }

    /// The end of the log, or of the episode.
    pub fn finish(mut self) -> Findings<P> {
        if let (None, Some((_, last))) = (&self.pulled, self.span) {
            self.look(last);
            self.follow(last, &|| 0);
        }
        let traffic = self.step.as_ref().map_or_else(Traffic::default, |step| step.traffic(self.maturity));
        let expected = forecast::expected(&self.judge, &traffic);
        self.end_step();
        Findings {
            span: self.span,
            requests: self.requests,
            decision: self.judge.decision(self.guards()),
            why: self.judge.why(self.guards(), &expected),
            evidence: self.judge.evidence(PerArm::from_fn(|arm| self.seen.units(arm))),
            expected,
            steps: self.steps,
            stable_failing: self.pulse.is_failing(),
            on_both: self.seen.on_both(),
            one_in: self.seen.one_in(),
            pulled: self.pulled,
        }
    }
}

/// The signals that a log of statuses can tell of.
pub const BY_STATUS: [Signal; 2] = [Signal::Errors, Signal::ClientErrors];

#[cfg(test)]
mod tests;
