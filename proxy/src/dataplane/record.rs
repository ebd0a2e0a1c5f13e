//! What became of a request, recorded exactly once, also when the client leaves:
//! the record is dropped with the request, whichever way that ends.

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{Method, Version};
use tokio::time::Instant;

use super::core::{Core, ServiceRef};
use super::limits::Pass;
use super::matcher;
use super::pick::Wish;
use super::request_id::RequestId;
use super::sticky::Drawn;
use super::tunnel::OpenTunnel;
use crate::live::service::Ending;
use crate::live::{EndpointView, Report};
use crate::model::balance::Policy;
use crate::model::outcome::{BadOutcome, BadReason, BadSample, LONGEST_ID, LONGEST_METHOD, LONGEST_PATH, PerSignal};
use crate::model::split::{Arm, EpisodeId, Unit};
use crate::model::text::short;
use crate::model::time::Timestamp;
use crate::model::verdict::addresses::ClientNet;
use crate::telemetry;

/// In microseconds: what breaks counts as an answer that took so long, else who breaks at once would be the fastest.
const BROKEN: u64 = 1_000_000;

/// The record of one request.
#[derive(Debug)]
pub(crate) struct Record {
    core: Rc<Core>,
    service: ServiceRef,
    /// The arm whose endpoint serves.
    arm: Arm,
    /// What was drawn, unless the other arm had to serve.
    evidence: Option<Drawn>,
    address: IpAddr,
    request_id: RequestId,
    method: Method,
    version: Version,
    target: Option<PathAndQuery>,
    start: Instant,
    /// Since when its arm is waited for: from the start on, but where the arm's endpoints had no room.
    asked_at: Instant,
    /// Its right to be inside, which ends with it.
    pass: Pass,
    /// The start by the wall clock; asked when it is first needed.
    drawn_at: Option<Timestamp>,
    /// When an answer that hasn't begun is slow; none where that isn't asked, or no more.
    slow_at: Option<Instant>,
    /// Whether what becomes of it counts: not on paths that the service excludes.
    counts: bool,
    /// Whether the time to its head is the endpoint's doing.
    is_timed: bool,
    /// How long its arm took to the head that goes to the client.
    head_after: Option<Duration>,
    status: Option<u16>,
    /// Whether the head is an endpoint's, or a gate's that is on trial, and not serin's own.
    answered: bool,
    /// The endpoint tried first, and the one that has the request now: places in the arm's pool.
    first_endpoint: Option<usize>,
    with_endpoint: Option<usize>,
    attempts: u32,
    /// Whether the attempt at hand broke.
    broke: bool,
    /// What was found bad, once for each signal.
    bad: PerSignal<Option<BadReason>>,
}

/// The client that a connection met last, by [`ClientNet::short`], and in which episode: who is known needs no second
/// note.
pub(crate) type Met = Cell<Option<(EpisodeId, u64)>>;

/// What is known of a request when its record begins.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) arm: Arm,
    pub(crate) drawn: Option<Drawn>,
    pub(crate) pass: Pass,
    pub(crate) address: IpAddr,
    pub(crate) met: &'a Met,
    pub(crate) request_id: RequestId,
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) target: Option<PathAndQuery>,
    pub(crate) start: Instant,
    /// Whether its body, if any, is so short that it takes no time to send.
    pub(crate) is_short: bool,
}

impl Record {
    /// Begins the record of a request to a service. `request.arm` is the arm that serves.
    pub(crate) fn begin(core: &Rc<Core>, service: ServiceRef, request: Request<'_>) -> Self {
        let verdict = &service.spec.verdict;
        let counts = !matcher::lists(&verdict.errors.exclude_paths, request.target.as_ref());
        // How long a long body takes is the client's doing.
        let is_timed = counts && request.is_short;
        let slow_after = if is_timed { service.live.slow_threshold(verdict.slow) } else { None };
        let own_arm = |drawn: &Drawn| drawn.unit.arm(drawn.weight) == request.arm;
        let evidence = request.drawn.filter(own_arm).filter(|_| counts);
        if let (Some(drawn), Some(episode)) = (evidence, &service.episode) {
            episode.live.note(core.id, request.arm, drawn.unit);
            // A unit tells of the split only while both arms could serve: an arm that is away would look
            // like a split that is broken.
            let tells_of_split = drawn.returned && service.can_serve(request.arm.other());
            episode.step.note(core.id, request.arm, drawn.unit, tells_of_split);
            let net = ClientNet::from(request.address);
            let client = Some((episode.id, net.short()));
            if request.met.replace(client) != client {
                episode.live.note_address(core.id, Unit::of_key(episode.salt, &net.bits().to_le_bytes()));
            }
        }
        service.live.earn_retry(core.id);
        let asked_at = request.pass.since().unwrap_or(request.start);
        Self {
            core: Rc::clone(core),
            service,
            arm: request.arm,
            evidence,
            address: request.address,
            request_id: request.request_id,
            method: request.method,
            version: request.version,
            target: request.target,
            start: request.start,
            asked_at,
            pass: request.pass,
            drawn_at: None,
            slow_at: slow_after.and_then(|after| asked_at.checked_add(after)),
            counts,
            is_timed,
            head_after: None,
            status: None,
            answered: false,
            first_endpoint: None,
            with_endpoint: None,
            attempts: 0,
            broke: false,
            bad: PerSignal::default(),
        }
    }

    /// The endpoint to try, other than `avoid`: its place in the pool of the arm that serves.
    pub(crate) fn pick(&mut self, wish: &Wish, avoid: Option<usize>) -> Option<usize> {
        self.pass.pick(&self.core, &self.service, self.arm, wish, avoid)
    }

    /// An attempt begins with the endpoint at this place in the arm's pool.
    pub(crate) fn attempt(&mut self, endpoint: usize) {
        self.leave_endpoint();
        self.service.serving(self.arm)[endpoint].live.begin(self.core.id);
        self.with_endpoint = Some(endpoint);
        self.first_endpoint.get_or_insert(endpoint);
        self.attempts += 1;
        self.broke = false;
    }

    /// When the answer that is awaited is slow, as long as it isn't said to be.
    pub(crate) fn slow_at(&self) -> Option<Instant> {
        if self.attempts == 1 && self.bad.slow.is_none() { self.slow_at } else { None }
    }

    /// The head of an answer by which the arm is judged is there, and goes to the client.
    pub(crate) fn answered(&mut self, status: u16, now: Instant) {
        self.answered = true;
        self.head(status, now);
        self.note_latency(status, now);
        if self.slow_at().is_some_and(|at| at < now) {
            self.bad(BadReason::Slow);
        }
    }

    /// A head goes to the client that serin made itself.
    pub(crate) fn head(&mut self, status: u16, now: Instant) {
        self.status = Some(status);
        self.head_after = Some(now.saturating_duration_since(self.asked_at));
    }

    /// The attempt at hand was bad. Only the first attempt is scored, and once for each signal.
    pub(crate) fn bad(&mut self, reason: BadReason) {
        self.broke |= reason.is_broken();
        let signal = reason.signal();
        if self.attempts > 1 || !self.counts || self.bad.get(signal).is_some() {
            return;
        }
        *self.bad.get_mut(signal) = Some(reason);
        self.service.live.count_bad(self.core.id, self.arm, reason);
        match self.evidence {
            Some(drawn) if self.service.spec.verdict.signals.get(signal).enabled => self.report(reason, drawn),
            _ => {}
        }
    }

    fn report(&mut self, reason: BadReason, drawn: Drawn) {
        let sample = BadSample {
            request_id: short(&self.request_id, LONGEST_ID),
            method: short(self.method.as_str(), LONGEST_METHOD),
            path: short(self.target.as_ref().map_or("*", |target| target.path()), LONGEST_PATH),
            status: self.status.filter(|_| self.answered),
            reason,
            endpoint: short(self.first_endpoint_id().unwrap_or_default(), LONGEST_ID),
            at: telemetry::now(),
        };
        let outcome = BadOutcome {
            arm: self.arm,
            unit: drawn.unit,
            drawn_at: self.drawn_at(),
            weight: drawn.weight,
            control: drawn.control,
            address: self.address,
            sample,
        };
        self.core.live.report(Report { service: self.service.shared(), outcome });
    }

    /// The client's address.
    pub(crate) const fn address(&self) -> IpAddr {
        self.address
    }

    /// The service that the request is for.
    pub(crate) const fn service(&self) -> &ServiceRef {
        &self.service
    }

    /// Ends the record of a request whose connection becomes a tunnel, which is with the endpoint from now on. None if
    /// no endpoint has the request.
    pub(crate) fn into_tunnel(mut self) -> Option<OpenTunnel> {
        let recalls = self.service.recalls();
        let endpoint = &self.service.serving(self.arm)[self.with_endpoint.take()?].live;
        Some(OpenTunnel::begin(&self.core, &self.service.live, endpoint, self.arm, recalls, &self.request_id))
    }

    fn leave_endpoint(&mut self) {
        let Some(place) = self.with_endpoint.take() else { return };
        let (endpoint, balance) = (&self.service.serving(self.arm)[place].live, &self.service.spec.balance);
        endpoint.end(self.core.id);
        if self.broke && balance.policy == Policy::P2c {
            endpoint.note_latency(self.core.id, BROKEN, self.core.clock.micros(), true);
        }
        if let Some(ejection) = &balance.ejection
            && (self.broke || self.answered)
        {
            let failed = self.broke || self.status.is_some_and(|status| ejection.status.contains(status));
            endpoint.note_end(self.core.id, failed);
        }
    }

    /// Notes how soon the endpoint answered, for the next picks. A retry's time isn't its own.
    fn note_latency(&self, status: u16, now: Instant) {
        let Some(place) = self.with_endpoint.filter(|_| self.attempts == 1 && self.is_timed) else { return };
        if self.service.spec.balance.policy == Policy::P2c {
            // Whoever didn't wait for room began when its arm was asked.
            let own = || now.saturating_duration_since(self.start);
            let time = self.head_after.filter(|_| self.pass.since().is_none()).unwrap_or_else(own);
            let micros = time.as_secs() * 1_000_000 + u64::from(time.subsec_micros());
            let endpoint = &self.service.serving(self.arm)[place].live;
            endpoint.note_latency(self.core.id, micros, self.core.clock.micros(), status >= 500);
        }
    }

    /// The endpoint that has the request now.
    pub(crate) fn endpoint(&self) -> Option<&EndpointView> {
        Some(&self.service.serving(self.arm)[self.with_endpoint?])
    }

    fn first_endpoint_id(&self) -> Option<&str> {
        Some(&*self.service.serving(self.arm)[self.first_endpoint?].id)
    }

    /// When the request came: the same in the log and in every outcome.
    fn drawn_at(&mut self) -> Timestamp {
        *self.drawn_at.get_or_insert_with(|| telemetry::now() - self.start.elapsed())
    }

    /// What only the end of a request says.
    fn conclude(&mut self) {
        match self.status {
            // What is cut when serin itself goes is nobody's fault.
            None if !self.core.draining.get() => {
                let now = self.core.clock.refresh();
                if self.attempts == 1 && self.slow_at.is_some_and(|at| at < now) {
                    self.bad(BadReason::Missing);
                }
            }
            // Any other rule had its say: the body's was the last.
            Some(400..=499) if self.answered && self.bad.errors.is_none() => self.bad(BadReason::ClientError),
            _ => {}
        }
    }

    fn count(&self) {
        let live = &self.service.live;
        let ending = self.status.map_or(Ending::ClientGone, Ending::Status);
        live.count(self.core.id, self.arm, ending, self.head_after);
        if let Some(time) = self.head_after
            && !(self.answered && self.attempts == 1 && self.is_timed)
        {
            live.count_untimed(self.core.id, time);
        }
    }

    /// One line for programs and people: `docs/access-log.md` says what is in it.
    fn log_access(&mut self) {
        let evidence = self.evidence.zip(self.service.episode.as_ref().map(|episode| episode.id));
        let (unit, episode) = evidence.map_or_else(dashes, |(drawn, id)| (drawn.unit.to_string(), id.to_string()));
        let drawn_at = self.drawn_at();
        tracing::info!(
            target: "access",
            service = %self.service.spec.name,
            episode,
            unit,
            weight = evidence.map_or(0.0, |(drawn, _)| drawn.weight.percent()),
            control = evidence.map_or(0.0, |(drawn, _)| drawn.control.percent()),
            arm = %self.arm,
            bad = names(&self.bad),
            drawn_ms = drawn_at.as_millis(),
            client = %self.address,
            method = %self.method,
            protocol = ?self.version,
            // The query may hold secrets: it is never logged.
            path = self.target.as_ref().map_or("*", |target| target.path()),
            status = self.status.unwrap_or(499),
            route = self.service.route().and_then(|route| route.name.as_deref()),
            endpoint = self.first_endpoint_id().unwrap_or("-"),
            head_seconds = self.head_after.map(|head| head.as_secs_f64()),
            seconds = self.asked_at.elapsed().as_secs_f64(),
            request_id = &*self.request_id,
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.leave_endpoint();
        self.conclude();
        self.count();
        if tracing::enabled!(target: "access", tracing::Level::INFO) {
            self.log_access();
        }
    }
}

fn dashes() -> (String, String) {
    ("-".to_owned(), "-".to_owned())
}

/// The reasons, by commas.
fn names(bad: &PerSignal<Option<BadReason>>) -> String {
    let mut names = String::new();
    for reason in bad.iter().filter_map(|(_, reason)| *reason) {
        let comma = if names.is_empty() { "" } else { "," };
        // Writing to a string can't fail.
        let _ = write!(names, "{comma}{reason}", reason = reason.name());
    }
    if names.is_empty() { "-".to_owned() } else { names }
}

#[cfg(test)]
mod tests;
