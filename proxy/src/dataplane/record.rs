//! What became of a request, recorded exactly once, also when the client leaves:
//! the record is dropped with the request, whichever way that ends.

use std::net::IpAddr;
use std::rc::Rc;

use http::Method;
use http::uri::PathAndQuery;
use tokio::time::Instant;

use super::core::{Core, ServiceRef};
use super::sticky::Drawn;
use crate::live::Report;
use crate::live::service::Ending;
use crate::model::outcome::{BadOutcome, BadReason, BadSample};
use crate::model::split::{Arm, Unit};
use crate::model::verdict::addresses::ClientNet;
use crate::telemetry;

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
    request_id: Rc<str>,
    method: Method,
    target: Option<PathAndQuery>,
    start: Instant,
    head_at: Option<Instant>,
    status: Option<u16>,
    /// The endpoint tried first, and the one that has the request now: places in the arm's pool.
    first_endpoint: Option<usize>,
    with_endpoint: Option<usize>,
    attempts: u32,
    judged: bool,
}

/// What is known of a request when its record begins.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) arm: Arm,
    pub(crate) drawn: Option<Drawn>,
    pub(crate) address: IpAddr,
    pub(crate) request_id: Rc<str>,
    pub(crate) method: Method,
    pub(crate) target: Option<PathAndQuery>,
    pub(crate) start: Instant,
}

impl Record {
    /// Begins the record of a request to a service. `request.arm` is the arm that serves.
    pub(crate) fn begin(core: &Rc<Core>, service: ServiceRef, request: Request) -> Self {
        let own_arm = |drawn: &Drawn| drawn.unit.arm(drawn.weight) == request.arm;
        let evidence = request.drawn.filter(own_arm).filter(|_| !is_excluded(&service, request.target.as_ref()));
        if let (Some(drawn), Some(episode)) = (evidence, &service.episode) {
            episode.live.note(core.id, request.arm, drawn.unit);
            // A unit tells of the split only while both arms could serve: an arm that is away would look
            // like a split that is broken.
            let tells_of_split = drawn.returned && service.is_ready(request.arm.other());
            episode.step.note(core.id, request.arm, drawn.unit, tells_of_split);
            let net = ClientNet::from(request.address).bits();
            episode.live.note_address(core.id, Unit::of_key(episode.salt, &net.to_le_bytes()));
        }
        service.live.earn_retry(core.id);
        Self {
            core: Rc::clone(core),
            service,
            arm: request.arm,
            evidence,
            address: request.address,
            request_id: request.request_id,
            method: request.method,
            target: request.target,
            start: request.start,
            head_at: None,
            status: None,
            first_endpoint: None,
            with_endpoint: None,
            attempts: 0,
            judged: false,
        }
    }

    /// An attempt begins with the endpoint at this place in the arm's pool.
    pub(crate) fn attempt(&mut self, endpoint: usize) {
        self.leave_endpoint();
        self.service.pools.get(self.arm)[endpoint].live.begin(self.core.id);
        self.with_endpoint = Some(endpoint);
        self.first_endpoint.get_or_insert(endpoint);
        self.attempts += 1;
    }

    /// The response head that goes to the client is there.
    pub(crate) fn head(&mut self, status: u16, now: Instant) {
        self.status = Some(status);
        self.head_at = Some(now);
    }

    /// The attempt at hand was bad. Only the first attempt is scored, and only once.
    pub(crate) fn bad(&mut self, reason: BadReason, status: Option<u16>) {
        if std::mem::replace(&mut self.judged, true) || self.attempts > 1 {
            return;
        }
        if is_excluded(&self.service, self.target.as_ref()) {
            return;
        }
        self.service.live.count_bad(self.core.id, self.arm, reason);
        let Some(drawn) = self.evidence else { return };
        let at = telemetry::now();
        let sample = BadSample {
            request_id: self.request_id.to_string(),
            method: self.method.to_string(),
            path: self.target.as_ref().map_or("*", |target| target.path()).to_owned(),
            status,
            reason,
            endpoint: self.first_endpoint_id().unwrap_or_default().to_owned(),
            at,
        };
        let outcome = BadOutcome {
            arm: self.arm,
            unit: drawn.unit,
            drawn_at: at - self.start.elapsed(),
            weight: drawn.weight,
            address: self.address,
            sample,
        };
        self.core.live.report(Report { service: self.service.shared(), outcome });
    }

    /// The service that the request is for.
    pub(crate) const fn service(&self) -> &ServiceRef {
        &self.service
    }

    fn leave_endpoint(&mut self) {
        if let Some(endpoint) = self.with_endpoint.take() {
            self.service.pools.get(self.arm)[endpoint].live.end(self.core.id);
        }
    }

    fn first_endpoint_id(&self) -> Option<&str> {
        Some(&*self.service.pools.get(self.arm)[self.first_endpoint?].id)
    }

    fn log_access(&self) {
        tracing::info!(
            target: "access",
            service = %self.service.spec.name,
            arm = %self.arm,
            client = %self.address,
            method = %self.method,
            // The query may hold secrets: it is never logged.
            path = self.target.as_ref().map_or("*", |target| target.path()),
            status = self.status.unwrap_or(499),
            endpoint = self.first_endpoint_id().unwrap_or("-"),
            seconds = self.start.elapsed().as_secs_f64(),
            request_id = &*self.request_id,
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.leave_endpoint();
        let ending = self.status.map_or(Ending::ClientGone, Ending::Status);
        let head = self.head_at.map(|head| head.saturating_duration_since(self.start));
        self.service.live.count(self.core.id, self.arm, ending, head);
        if tracing::enabled!(target: "access", tracing::Level::INFO) {
            self.log_access();
        }
    }
}

/// Whether a path is no evidence: dead pages, scanners.
fn is_excluded(service: &ServiceRef, target: Option<&PathAndQuery>) -> bool {
    let excluded = &service.spec.verdict.errors.exclude_paths;
    let path = target.map_or("*", PathAndQuery::path);
    excluded.iter().any(|prefix| path == prefix || (prefix.ends_with('/') && path.starts_with(prefix.as_str())))
}
