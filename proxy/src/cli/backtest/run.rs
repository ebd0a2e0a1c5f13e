//! From lines to episodes: each is given its requests in the order of the lines, and may look ahead for
//! those that were with stable at the time.

use std::collections::VecDeque;
use std::time::Duration;

use super::BacktestError;
use super::combined::Reader;
use super::input::{Logs, Next, Place};
use super::line::{Read, Request};
use super::options::{Judged, Options};
use super::own;
use crate::model::split::{Arm, EpisodeId};
use crate::model::verdict::replay::{Findings, Replay};

/// How far the log is read ahead, in its own time: a request that takes longer isn't known to be under way.
const AHEAD: Duration = Duration::from_secs(30);
/// And in requests.
const AHEAD_REQUESTS: usize = 32_768;
/// Episodes held at once. Lines of one that was closed for another open it anew.
const OPEN: usize = 16;
/// Episodes that are reported.
const REPORTED: usize = 1_000;
/// Broken lines that are named.
const NAMED: usize = 5;

/// An episode of a service, judged.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) service: String,
    pub(super) episode: EpisodeId,
    pub(super) judged: Judged,
    pub(super) findings: Findings<Place>,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) lines: u64,
    /// Requests of the services asked for.
    pub(super) requests: u64,
    pub(super) other: u64,
    pub(super) broken: u64,
    /// The first broken lines, and why.
    pub(super) named: Vec<(Place, String)>,
    /// Episodes beyond those reported.
    pub(super) unreported: u64,
}

struct Open {
    service: String,
    episode: EpisodeId,
    judged: Judged,
    replay: Replay<Place>,
    /// How many requests had been read when it had its latest.
    latest: u64,
}

struct Run {
    ahead: VecDeque<(Place, Request)>,
    open: Vec<Open>,
    done: Vec<Case>,
    tally: Tally,
}

/// Replays the logs.
pub(super) fn replay(options: &Options) -> Result<(Vec<Case>, Tally, Vec<String>), BacktestError> {
    let settings = options.settings()?;
    let columns = options.columns(&settings)?;
    let assumed = options.assumed(columns.as_ref());
    let mut foreign = columns.map(Reader::new);
    let unreadable = |(path, source)| BacktestError::Unreadable { path, source };
    let mut logs = Logs::new(options.logs.clone()).map_err(unreadable)?;
    let mut run = Run { ahead: VecDeque::new(), open: Vec::new(), done: Vec::new(), tally: Tally::default() };
    let judged = |service: &str| options.judged(&settings, service);
    while let Some((place, next)) = logs.next() {
        let read = match next {
            Next::Line(line) => match String::from_utf8(line) {
                Ok(line) => foreign.as_mut().map_or_else(|| own::read(&line), |reader| reader.read(&line)),
                Err(_) => Read::Broken("it is no UTF-8".to_owned()),
            },
            Next::TooLong => Read::Broken("it is longer than 256 KiB".to_owned()),
            Next::Cut(error) => Read::Broken(format!("the file can't be read on: {error}")),
        };
        run.tally.lines += 1;
        match read {
            Read::Request(request) if options.service.as_ref().is_none_or(|only| *only == request.service) => {
                run.tally.requests += 1;
                run.push(place, request, &judged);
            }
            Read::Request(_) | Read::Other => run.tally.other += 1,
            Read::Broken(why) => run.tally.broken(place, why),
        }
    }
    while run.take_next(&judged) {}
    while run.close_one() {}
    run.done.sort_by_key(|case| case.findings.span.map(|(first, _)| (first.place.file, first.place.line)));
    Ok((run.done, run.tally, assumed))
}

impl Tally {
    fn broken(&mut self, place: Place, why: String) {
        self.broken += 1;
        if self.named.len() < NAMED {
            self.named.push((place, why));
        }
    }
}

impl Run {
    fn push(&mut self, place: Place, request: Request, judged: &impl Fn(&str) -> Judged) {
        let now = request.entry.at;
        self.ahead.push_back((place, request));
        while self.ahead.front().is_some_and(|(_, first)| now.since(first.entry.at) >= AHEAD)
            || self.ahead.len() > AHEAD_REQUESTS
        {
            self.take_next(judged);
        }
    }

    /// Judges the next request; false where there is none.
    fn take_next(&mut self, judged: &impl Fn(&str) -> Judged) -> bool {
        let Some((place, request)) = self.ahead.pop_front() else { return false };
        let Some(episode) = request.episode else { return true };
        let is_it = |open: &Open| open.episode == episode && open.service == request.service;
        if !self.open.iter().any(is_it) {
            if self.open.len() == OPEN {
                self.close_one();
            }
            let how = judged(&request.service);
            let replay = Replay::new(&how.verdict, how.maturity);
            self.open.push(Open { service: request.service.clone(), episode, judged: how, replay, latest: 0 });
        }
        let (ahead, at) = (&self.ahead, request.entry.at);
        let awaited = || {
            let is_with_stable = |later: &Request| {
                later.entry.arm == Arm::Stable && later.entry.drawn_at <= at && later.service == request.service
            };
            ahead.iter().filter(|(_, later)| is_with_stable(later)).count() as u64
        };
        if let Some(open) = self.open.iter_mut().find(|open| is_it(open)) {
            open.latest = self.tally.requests;
            open.replay.take(place, &request.entry, awaited);
        }
        true
    }

    /// Closes the episode that had no request for longest; false where none is open.
    fn close_one(&mut self) -> bool {
        let oldest = self.open.iter().enumerate().min_by_key(|(_, open)| open.latest);
        let Some((at, _)) = oldest else { return false };
        let open = self.open.swap_remove(at);
        if self.done.len() == REPORTED {
            self.tally.unreported += 1;
        } else {
            let Open { service, episode, judged, replay, .. } = open;
            self.done.push(Case { service, episode, judged, findings: replay.finish() });
        }
        true
    }
}
