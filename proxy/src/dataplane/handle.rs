//! A request, top to bottom: load the snapshot once, route, admit, draw the arm, ask its flags, wait for room where
//! that is limited, pick an endpoint and forward, record exactly once.

use std::convert::Infallible;
use std::rc::Rc;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;

use super::authority;
use super::body::Body;
use super::client::Client;
use super::core::ServiceRef;
use super::downstream::Downstream;
use super::flags::Said;
use super::forward::{Outgoing, Repeats, forward, framing, relay};
use super::head::{self, Forwarded};
use super::http2;
use super::http2::websocket;
use super::limits::Pass;
use super::lookup;
use super::lot::{self, Lot};
use super::matcher;
use super::pick::Wish;
use super::record::{self, Record};
use super::request_id::RequestId;
use super::respond::{self, ProxyError};
use super::route::{self, Routed};
use super::sticky;
use super::tunnel;
use super::upstream::{Answer, Call, ClientBody, Outbound, Sender};
use crate::model::spec::Protocol;

/// A request body up to this size takes no time to send that would matter to how soon an answer begins.
const SHORT_BODY: u64 = 64 * 1024;

/// Where an authority asks, without TLS, whether a name is ours (RFC 8555, 8.3): served also where all else is
/// sent on to `https`.
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Answers one request; never fails.
pub(crate) async fn handle(
    downstream: Rc<Downstream>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (mut parts, body) = request.into_parts();
    downstream.request_began(!body.is_end_stream());
    let request_id = RequestId::of(&downstream, &parts.headers);
    let routed =
        route(&downstream, &mut parts).and_then(|routed| admit(&routed.service, &parts, &body).map(|()| routed));
    let Routed { service, rewritten } = match routed {
        Ok(routed) => routed,
        Err(error) => return Ok(refused(&downstream, &request_id, &error)),
    };
    if let Some(response) = sent_on(&downstream, &parts, &service, rewritten.as_ref(), !body.is_end_stream()) {
        return Ok(response);
    }
    let client = Client::of(downstream.peer, &parts.headers, |hop| downstream.trusts(hop));
    let asker = lot::Asker { parts: &parts, client, rewritten: rewritten.as_ref() };
    let (lot, pass) = if service.limits.is_none() {
        (Lot::draw(&downstream, service, &asker), Pass::default())
    } else {
        // What only a service with limits needs isn't held for the requests of others.
        match Box::pin(lot::draw_and_wait(&downstream, service, asker)).await {
            Ok(let_in) => let_in,
            Err(error) => return Ok(refused(&downstream, &request_id, &error)),
        }
    };
    let Lot { service, arm, drawn, new_key, said, wish, .. } = lot;
    let mut record = Record::begin(
        &downstream.core,
        service,
        record::Request {
            arm,
            drawn,
            pass,
            address: client.address,
            met: &downstream.met,
            request_id: request_id.clone(),
            method: parts.method.clone(),
            version: parts.version,
            target: parts.uri.path_and_query().cloned(),
            start: downstream.core.clock.now(),
            is_short: body.size_hint().exact().is_some_and(|length| length <= SHORT_BODY),
        },
    );
    let mut response = match said {
        Said::Closed(gate) => turn_away(&downstream, record, &parts, &request_id, gate),
        Said::Open(told) => {
            let asked = Asked { request_id: &request_id, told: told.as_deref(), target: rewritten.as_ref() };
            let mut outgoing = outgoing(&downstream, &record, &parts, body, wish, &asked);
            let answer = forward(&downstream, &mut record, arm, &mut outgoing).await;
            pass_on(&downstream, record, &parts, &request_id, answer)
        }
    };
    if let Some(key) = new_key {
        let cookie = sticky::set_cookie(key, downstream.is_secure(&parts.headers));
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    protect(&downstream, &mut response);
    Ok(response)
}

/// The answer to a request that is to come another way: by `https`, or to another place.
#[inline]
fn sent_on(
    downstream: &Rc<Downstream>,
    parts: &Parts,
    service: &ServiceRef,
    rewritten: Option<&PathAndQuery>,
    has_body: bool,
) -> Option<Response<Body>> {
    if let Some(port) = downstream.listener().redirect_to_https
        && !parts.uri.path().starts_with(CHALLENGES)
    {
        return Some(respond::to_https(downstream, parts, port, has_body));
    }
    let redirect = service.policy()?.redirect.as_ref()?;
    let location = route::location(redirect, parts, rewritten);
    let mut response = respond::redirect(downstream, redirect.status, location, has_body);
    protect(downstream, &mut response);
    Some(response)
}

/// Makes the client's response of what came of asking endpoints.
#[inline]
fn pass_on(
    downstream: &Rc<Downstream>,
    mut record: Record,
    parts: &Parts,
    request_id: &RequestId,
    mut answer: Result<Answer, ProxyError>,
) -> Response<Body> {
    if websocket::is_asked_for(parts) {
        answer = answer.and_then(|answer| websocket::let_pass(parts, &mut record, answer));
    }
    match answer {
        Ok(answer) if answer.status == StatusCode::SWITCHING_PROTOCOLS => {
            tunnel::open(downstream, record, parts, answer)
        }
        Ok(answer) => relay(downstream, record, parts, answer),
        Err(error) => {
            if error.is_heard() {
                record.head(error.status().as_u16(), downstream.core.clock.refresh());
            }
            respond::error(downstream, request_id, &error)
        }
    }
}

/// Answers a request that is served by nobody.
fn refused(downstream: &Rc<Downstream>, request_id: &str, error: &ProxyError) -> Response<Body> {
    let mut response = respond::error(downstream, request_id, error);
    protect(downstream, &mut response);
    response
}

/// Adds that clients are to come by `https` only, where the listener says so and the application doesn't.
#[inline]
fn protect(downstream: &Downstream, response: &mut Response<Body>) {
    if let Some(hsts) = downstream.listener().tls.as_ref().and_then(|tls| tls.hsts.as_ref()) {
        response.headers_mut().entry(header::STRICT_TRANSPORT_SECURITY).or_insert_with(|| hsts.clone());
    }
}

/// The service that a request is for, in the one snapshot that this request will ever see. The path is brought into
/// its one form on the way.
fn route(downstream: &Downstream, parts: &mut Parts) -> Result<Routed, ProxyError> {
    if parts.method == Method::CONNECT {
        websocket::translate(parts, downstream.core.random())?;
    }
    http2::check(parts).map_err(ProxyError::BadRequest)?;
    check_framing(&parts.headers)?;
    let settled = route::settle(parts)?;
    let host = authority::host(&parts.uri, &parts.headers, parts.version).map_err(ProxyError::BadRequest)?;
    Routed::find(downstream.core.id, downstream.core.snapshot(), &host, parts, settled)
}

/// Refuses what the HTTP reader in front of us takes though it has two readings.
fn check_framing(headers: &HeaderMap) -> Result<(), ProxyError> {
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    match lookup::only(headers, &header::TRANSFER_ENCODING) {
        Ok(None) => return Ok(()),
        Ok(Some(coding)) if is_chunked(coding) => {}
        _ => return Err(ProxyError::BadRequest("a Transfer-Encoding that isn't chunked alone")),
    }
    if headers.contains_key(header::CONTENT_LENGTH) {
        return Err(ProxyError::BadRequest("both Content-Length and Transfer-Encoding"));
    }
    Ok(())
}

/// Whether the service takes the request at all.
fn admit(service: &ServiceRef, parts: &Parts, body: &Incoming) -> Result<(), ProxyError> {
    if service.spec.protocol.is_http2() && websocket::is_asked_for(parts) {
        return Err(ProxyError::NotImplemented("the endpoints of this service speak HTTP/2, and no WebSocket by it"));
    }
    match body.size_hint().exact() {
        Some(length) if length > service.max_body_bytes() => Err(ProxyError::BodyTooLarge),
        _ => Ok(()),
    }
}

/// Answers a request that stands before a closed gate: the one at this place in the service's list.
fn turn_away(
    downstream: &Rc<Downstream>,
    mut record: Record,
    parts: &Parts,
    request_id: &str,
    gate: usize,
) -> Response<Body> {
    let service = record.service().clone();
    if let Some(flags) = &service.flags {
        flags.turned_away[gate].count(downstream.core.id);
    }
    let gate = &service.spec.gates[gate];
    let mut response = respond::closed(downstream, request_id, gate);
    websocket::refuse(parts, &mut response);
    let (status, now) = (response.status().as_u16(), downstream.core.clock.refresh());
    if service.tries(&gate.flag) {
        // Whether the gate is closed is what is tried: its answer counts as one of the application.
        record.answered(status, now);
        let body = gate.answer.body.as_deref().unwrap_or_default();
        if let Some(reason) = matcher::judge_whole(&service.spec.verdict.errors, status, response.headers(), body) {
            record.bad(reason);
        }
    } else {
        record.head(status, now);
    }
    response
}

/// What an endpoint is asked beside what the client says.
struct Asked<'a> {
    request_id: &'a RequestId,
    /// What it is told of flags.
    told: Option<&'a str>,
    /// The target, where it isn't the client's.
    target: Option<&'a PathAndQuery>,
}

fn outgoing(
    downstream: &Rc<Downstream>,
    record: &Record,
    parts: &Parts,
    body: Incoming,
    wish: Wish,
    asked: &Asked<'_>,
) -> Outgoing {
    let framing = framing(parts, &body);
    let policy = record.service().policy();
    let forwarded = Forwarded {
        for_: downstream.peer,
        trusted: downstream.trusted,
        secure: downstream.is_secure(&parts.headers),
        request_id: asked.request_id.as_bytes(),
        flags: asked.told,
        target: asked.target,
        changes: policy.map(|policy| &policy.request_headers).filter(|changes| !changes.is_empty()),
    };
    let max_body_bytes = record.service().max_body_bytes();
    let service = &record.service().spec;
    let has_body = !body.is_end_stream();
    let body = ClientBody::new(body, parts.version, max_body_bytes).by_route_of(record.service(), &parts.headers);
    let mut offer = None;
    let sender = match service.protocol {
        Protocol::Http1 => {
            offer = tunnel::offered(parts, has_body);
            let head = head::write(&downstream.core, parts, framing, &forwarded, offer.as_ref());
            // A call by gRPC may well say a word now and then.
            let body = body.at(downstream.upload_pace(parts.version), &downstream.core.clock);
            let body = if service.tls.is_none() { body.past_memory(downstream) } else { body };
            Outbound::Http1(Sender::new(head, body, framing))
        }
        Protocol::H2 | Protocol::H2c => {
            let scheme = if service.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
            Outbound::Http2(Box::new(Call::new(head::request(parts, framing, &forwarded, scheme), body)))
        }
    };
    let repeats = Repeats::of(&parts.method, policy.map(|policy| policy.retries).unwrap_or_default());
    Outgoing { sender, wish, repeats, to_head: parts.method == Method::HEAD, offer }
}
