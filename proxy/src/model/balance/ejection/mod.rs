//! Ejection: which endpoints of a pool fail so many requests that they are left out for a while. A rule over counts;
//! who counts, and who acts on what is found, is elsewhere.
//!
//! Two kinds of evidence: failures in a row, and a share of failures that is larger than the peers' by more than chance
//! explains. Never more are out than the limits allow, whatever they do: a pool that fails as a whole is not made smaller.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::model::spec::StatusSet;

/// How endpoints that fail requests are left out for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct EjectionSpec {
    /// Failures in a row after which an endpoint is ejected; 0 = they don't matter.
    pub consecutive: u32,
    /// Statuses that are failures, beside what breaks on the way.
    pub status: StatusSet,
    /// By how much more of its requests than its peers an endpoint may fail; 0 = that doesn't matter.
    pub peer_margin: f64,
    /// So many requests in an interval tell of an endpoint.
    pub min_requests: u64,
    /// How often an endpoint is compared with its peers.
    pub interval: Duration,
    /// The largest part of a pool that is out at a time, but always one endpoint.
    pub max_percent: u8,
    /// So many endpoints stay ready in any case.
    pub min_ready: usize,
    /// For how long an endpoint is out the first time; the second time for twice as long, and so on.
    pub time: Duration,
    /// For how long at most; who stays in for so long begins anew.
    pub max_time: Duration,
    /// Whether the canary's endpoints, and those of the control, are ejected as well.
    pub canary: bool,
}

/// What became of requests with an endpoint since it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that it answered.
    pub good: u64,
    /// Those that it failed.
    pub failed: u64,
}

impl Tally {
    fn since(self, before: Self) -> Self {
        Self { good: self.good.saturating_sub(before.good), failed: self.failed.saturating_sub(before.failed) }
    }

    const fn all(self) -> u64 {
        self.good + self.failed
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.good += other.good;
        self.failed += other.failed;
    }
}

/// An endpoint as a look finds it. Those that drain aren't shown.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its id.
    pub id: &'a str,
    /// What became of its requests.
    pub tally: Tally,
    /// Whether it would get work, but for an ejection.
    pub is_up: bool,
    /// Whether it may be ejected.
    pub eligible: bool,
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// It failed so many in a row.
    InARow(u64),
    /// It failed this share of its requests, its peers that of theirs.
    Peers {
        /// Its own share.
        own: f64,
        /// Its peers'.
        peers: f64,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InARow(count) => write!(f, "{count} failures in a row"),
            Self::Peers { own, peers } => {
                write!(f, "{:.1} % of its requests failed, of its peers' {:.1} %", own * 100.0, peers * 100.0)
            }
        }
    }
}

/// What is to be done with an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// It is left out.
    Eject {
        /// Which.
        id: String,
        /// Why.
        why: Why,
        /// For how long.
        time: Duration,
    },
    /// Its time is over.
    Return {
        /// Which.
        id: String,
    },
}

/// Who watches one pool.
#[derive(Debug, Default)]
pub struct Watch {
    known: HashMap<String, Known>,
    /// When the interval at hand began.
    compared: Option<Duration>,
}

/// What is known of one endpoint.
#[derive(Debug, Default)]
struct Known {
    tally: Tally,
    /// Its tally when the interval began.
    at_start: Tally,
    /// Failures since the last look at which something had succeeded.
    in_a_row: u64,
    /// Until when it is out.
    out_until: Option<Duration>,
    /// How many times it was ejected, without a long time between.
    times: u32,
    returned: Option<Duration>,
}

/// Beyond this a difference isn't chance: one in a thousand, by the normal distribution.
const UNLIKELY: f64 = 3.29;

impl Watch {
    /// Looks at all endpoints of the pool, at an instant by a clock that begins anywhere.
    pub fn look(&mut self, spec: &EjectionSpec, now: Duration, pool: &[Seen<'_>]) -> Vec<Finding> {
        self.known.retain(|id, _| pool.iter().any(|seen| seen.id == id));
        let mut findings = Vec::new();
        for seen in pool {
            let known = self.known.entry(seen.id.to_owned()).or_insert_with(|| Known::new(seen.tally));
            known.take_in(seen.tally);
            if known.out_until.is_some_and(|until| until <= now || !seen.eligible) {
                known.come_back(now);
                findings.push(Finding::Return { id: seen.id.to_owned() });
            }
        }
        let begin = *self.compared.get_or_insert(now);
        let compares = spec.peer_margin > 0.0 && now >= begin + spec.interval;
        let in_a_row = self.longest(spec, pool).map(|(id, count)| (id, Why::InARow(count)));
        let suspect = in_a_row.or_else(|| if compares { self.worst(spec, pool) } else { None });
        if compares {
            self.compared = Some(now);
            self.known.values_mut().for_each(|known| known.at_start = known.tally);
        }
        // One at a look: after it the limits are others.
        if let Some((id, why)) = suspect.filter(|_| self.may_eject(spec, pool))
            && let Some(known) = self.known.get_mut(&id)
        {
            findings.push(Finding::Eject { id, why, time: known.eject(spec, now) });
        }
        findings
    }

    /// Whether the limits allow one more.
    fn may_eject(&self, spec: &EjectionSpec, pool: &[Seen<'_>]) -> bool {
        let out = pool.iter().filter(|seen| self.is_out(seen.id)).count();
        let most = (pool.len() * usize::from(spec.max_percent) / 100).max(1);
        let ready = pool.iter().filter(|seen| seen.is_up && !self.is_out(seen.id)).count();
        out < most && ready > spec.min_ready.max(1)
    }

    /// Whether an endpoint of the pool is out, as far as this watch knows.
    pub fn is_out(&self, id: &str) -> bool {
        self.known.get(id).is_some_and(|known| known.out_until.is_some())
    }

    /// Those that serve, and may be ejected or not.
    fn serving<'a>(&'a self, pool: &'a [Seen<'a>]) -> impl Iterator<Item = (&'a Seen<'a>, &'a Known)> {
        let known = |seen: &'a Seen<'a>| self.known.get(seen.id).map(|known| (seen, known));
        pool.iter().filter(|seen| seen.is_up).filter_map(known).filter(|(_, known)| known.out_until.is_none())
    }

    /// Who failed the most in a row, if that is too many.
    fn longest(&self, spec: &EjectionSpec, pool: &[Seen<'_>]) -> Option<(String, u64)> {
        let limit = u64::from(spec.consecutive);
        let too_many = |(seen, known): &(&Seen<'_>, &Known)| seen.eligible && limit > 0 && known.in_a_row >= limit;
        let longest = self.serving(pool).filter(too_many).max_by_key(|(_, known)| known.in_a_row);
        longest.map(|(seen, known)| (seen.id.to_owned(), known.in_a_row))
    }

    /// Who failed more than its peers by the margin and by more than chance explains; of several the least likely one.
    fn worst(&self, spec: &EjectionSpec, pool: &[Seen<'_>]) -> Option<(String, Why)> {
        let mut all = Tally::default();
        self.serving(pool).for_each(|(_, known)| all += known.in_interval());
        let judged = self.serving(pool).filter(|(seen, _)| seen.eligible).filter_map(|(seen, known)| {
            let own = known.in_interval();
            let peers = all.since(own);
            let enough = own.all() >= spec.min_requests && peers.all() >= spec.min_requests;
            let (unlikely, why) = compare(own, peers).filter(|_| enough)?;
            let Why::Peers { own, peers } = why else { return None };
            (unlikely >= UNLIKELY && own - peers >= spec.peer_margin).then(|| (unlikely, seen.id.to_owned(), why))
        });
        judged.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, id, why)| (id, why))
    }
}

/// By how many standard deviations the first fails more, were both the same; none where neither fails or succeeds.
#[expect(clippy::cast_precision_loss, reason = "numbers of requests in seconds")]
fn compare(own: Tally, peers: Tally) -> Option<(f64, Why)> {
    let (all, other) = (own.all() as f64, peers.all() as f64);
    let (own, peers, both) =
        (own.failed as f64 / all, peers.failed as f64 / other, (own.failed + peers.failed) as f64 / (all + other));
    let deviation = (both * (1.0 - both) * (1.0 / all + 1.0 / other)).sqrt();
    (deviation > 0.0).then(|| ((own - peers) / deviation, Why::Peers { own, peers }))
}

impl Known {
    fn new(tally: Tally) -> Self {
        Self { tally, at_start: tally, ..Self::default() }
    }

    fn take_in(&mut self, tally: Tally) {
        if tally.good < self.tally.good || tally.failed < self.tally.failed {
            // Another endpoint came by this id, which has yet to fail.
            *self = Self::new(tally);
        }
        let new = tally.since(self.tally);
        self.tally = tally;
        // In which order they came within a look isn't known: any success ends the row.
        self.in_a_row = if new.good > 0 { 0 } else { self.in_a_row + new.failed };
    }

    fn in_interval(&self) -> Tally {
        self.tally.since(self.at_start)
    }

    fn eject(&mut self, spec: &EjectionSpec, now: Duration) -> Duration {
        if self.returned.is_none_or(|returned| now.saturating_sub(returned) >= spec.max_time) {
            self.times = 0;
        }
        self.times += 1;
        let time = (spec.time.saturating_mul(self.times)).min(spec.max_time.max(spec.time));
        self.out_until = Some(now + time);
        time
    }

    /// What it failed before says nothing of it any more.
    fn come_back(&mut self, now: Duration) {
        (self.out_until, self.returned) = (None, Some(now));
        (self.in_a_row, self.at_start) = (0, self.tally);
    }
}
